"""What Vertex AI's client would submit for each file: each task, and what it waits for; or what is wrong.

The client passes a pipeline on as it is, so it is also read as the message that Vertex AI receives.
"""

import json
import sys

from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec


def submitted(path):
    job = aiplatform.PipelineJob(
        display_name="model-pipeline",
        template_path=path,
        pipeline_root="gs://bucket/pipelines",
        enable_caching=False,
        project="project",
        location="europe-west1",
        credentials=AnonymousCredentials(),
    )
    sent = MessageToDict(job._gca_resource._pb)["pipelineSpec"]
    try:
        ParseDict(sent, PipelineSpec())
    except ParseError as error:
        return str(error).splitlines()[0]
    return {name: task.get("dependentTasks", []) for name, task in sent["root"]["dag"]["tasks"].items()}


for path in sys.argv[1:]:
    print(json.dumps(submitted(path)))
