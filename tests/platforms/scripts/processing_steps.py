"""Whether SageMaker's SDK writes, for the same steps in its own language, what each file says. It needs no account.

Each step is also checked as a request of a processing job, by the description of the API that AWS publishes.
"""

import json
import sys
from pathlib import Path

import boto3
import botocore.session
from botocore.validate import ParamValidator
from sagemaker.core.processing import Processor
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.parameters import ParameterString
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import ProcessingStep

account = boto3.Session("key", "secret", region_name="eu-west-1")
session = PipelineSession(boto_session=account, default_bucket="bucket")
role = ParameterString("Role")
retry = {"interval_seconds": 30, "backoff_rate": 2.0}
request = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateProcessingJob")


def step(wanted):
    """A step in the SDK's language."""
    arguments = wanted["Arguments"]
    cluster = arguments["ProcessingResources"]["ClusterConfig"]
    application = arguments["AppSpecification"]
    processor = Processor(
        role=role,
        image_uri=application["ImageUri"],
        instance_count=cluster["InstanceCount"],
        instance_type=cluster["InstanceType"],
        volume_size_in_gb=cluster["VolumeSizeInGB"],
        entrypoint=application["ContainerEntrypoint"],
        max_runtime_in_seconds=arguments["StoppingCondition"]["MaxRuntimeInSeconds"],
        sagemaker_session=session,
        env=arguments["Environment"],
    )
    given = [
        ExecutionVariables.PIPELINE_EXECUTION_ID if isinstance(each, dict) else each
        for each in application["ContainerArguments"]
    ]
    attempts = wanted["RetryPolicies"][0]["MaxAttempts"]
    return ProcessingStep(
        name=wanted["Name"],
        step_args=processor.run(arguments=given),
        depends_on=wanted.get("DependsOn"),
        retry_policies=[
            StepRetryPolicy(
                [StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING], max_attempts=attempts, **retry
            ),
            SageMakerJobStepRetryPolicy(
                [
                    SageMakerJobExceptionTypeEnum.INTERNAL_ERROR,
                    SageMakerJobExceptionTypeEnum.CAPACITY_ERROR,
                    SageMakerJobExceptionTypeEnum.RESOURCE_LIMIT,
                ],
                max_attempts=attempts,
                **retry,
            ),
        ],
    )


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}/{number}")
    elif one != other:
        yield f"{path}: ours {one!r}, theirs {other!r}"


def invalid(step):
    """What the API would reject."""
    text = json.dumps(step["Arguments"])
    text = text.replace('{"Get": "Parameters.Role"}', '"arn:aws:iam::111122223333:role/model"')
    text = text.replace('{"Get": "Execution.PipelineExecutionId"}', '"run"')
    report = ParamValidator().validate({"ProcessingJobName": step["Name"], **json.loads(text)}, request.input_shape)
    return [report.generate_report()] if report.has_errors() else []


for path in sys.argv[1:]:
    ours = json.loads(Path(path).read_text())
    steps = [step(each) for each in ours["Steps"]]
    pipeline = Pipeline("model-pipeline", parameters=[role], steps=steps, sagemaker_session=session)
    found = [*differences(ours, json.loads(pipeline.definition()))]
    for each in ours["Steps"]:
        found += invalid(each)
    print(json.dumps(found))
