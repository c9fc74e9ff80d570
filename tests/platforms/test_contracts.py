"""What cannot run here is read by the platform's own package, or checked against the schema that it publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, Project
from containers import TOOLS, define, tool
from ruamel.yaml import YAML

STAGES = list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])
SCRIPTS = Path(__file__).parent / "scripts"

# a cluster that nobody asks
NOWHERE = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {}}]
"""


def test_airflow_makes_pods_of_the_tasks(project: Project, tmp_path: Path) -> None:
    path = define(project, "airflow", airflow="kubernetes")
    environment = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "KUBECONFIG": str(tmp_path / "nowhere.yaml")}
    Path(environment["KUBECONFIG"]).write_text(NOWHERE, encoding="utf-8")
    pods = json.loads(tool("airflow", "python", SCRIPTS / "pods.py", path, **environment).stdout.splitlines()[-1])
    assert list(pods) == STAGES
    (container,) = pods["tune"]["spec"]["containers"]
    assert container["args"][:2] == ["tune", "--run"]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "8Gi"}
    assert container["envFrom"] == [{"secretRef": {"name": "model-pipeline"}}]


def test_argo_s_schema_accepts_the_workflow(project: Project) -> None:
    text = define(project, "argo", schedule="0 5 * * MON").read_text(encoding="utf-8")
    schema = json.loads((TOOLS / "argo.json").read_text(encoding="utf-8"))
    kinds = {
        "WorkflowTemplate": "io.argoproj.workflow.v1alpha1.WorkflowTemplate",
        "CronWorkflow": "io.argoproj.workflow.v1alpha1.CronWorkflow",
    }
    closed(schema)
    for document in YAML(typ="safe").load_all(text):
        if not document["apiVersion"].startswith("argoproj.io/"):
            continue  # of Kubernetes itself; tests/k8s applies them
        reference = {"$ref": f"#/definitions/{kinds.pop(document['kind'])}", "definitions": schema["definitions"]}
        jsonschema.validate(document, reference)
        document["spec"]["shedule"] = "0 5 * * *"
        with pytest.raises(jsonschema.ValidationError, match="shedule"):
            jsonschema.validate(document, reference)
    assert not kinds


def closed(schema: dict[str, dict[str, dict[str, object]]]) -> None:
    """Let a schema reject keys that it does not name."""
    for definition in schema["definitions"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False


def looked_at(platform: str, script: str, path: Path, before: str, after: str) -> tuple[Any, Any]:
    """What a platform's own package says of a definition, and of the same one with a mistake in its first task."""
    text = path.read_text(encoding="utf-8")
    assert before in text
    wrong = path.with_name(f"wrong{path.suffix}")
    wrong.write_text(text.replace(before, after, 1), encoding="utf-8")
    said = tool(platform, "python", SCRIPTS / script, path, wrong, AWS_DEFAULT_REGION="eu-west-1").stdout
    right, found = said.splitlines()[-2:]
    return json.loads(right), json.loads(found)


def test_kubeflow_reads_the_pipeline_as_its_compiler_would_write_it(project: Project) -> None:
    path = define(project, "kubeflow")
    caching = "cachingOptions: {}", "cachingOptions: {enableCache: true}"
    right, wrong = looked_at("kubeflow", "compiled.py", path, *caching)
    assert right == []
    assert wrong == ["/root/dag/tasks/ingest/cachingOptions/enableCache: ours True, theirs None"]


def test_vertex_s_client_takes_the_compiled_pipeline(project: Project) -> None:
    path = define(project, "vertex")
    right, wrong = looked_at("vertex", "vertex_job.py", path, "componentRef:", "component:")
    assert {*right} == {*STAGES}
    assert right["split"] == ["ingest", "validate"]
    assert wrong.endswith('PipelineTaskSpec" has no field named "component" at "PipelineSpec.root.dag.tasks[ingest]".')


def test_sagemaker_s_sdk_writes_the_same_definition(project: Project) -> None:
    path = define(project, "sagemaker")
    rate = '"BackoffRate": 2.0', '"BackoffRate": 3.0'
    right, wrong = looked_at("sagemaker", "processing_steps.py", path, *rate)
    assert right == []
    assert wrong == ["/Steps/0/RetryPolicies/0/BackoffRate: ours 3.0, theirs 2.0"]


def test_azure_ml_loads_the_job(project: Project) -> None:
    path = define(project, "azureml")
    right, wrong = looked_at("azureml", "pipeline_job.py", path, "limits: {timeout:", "limits: {hours:")
    assert {*right} == {*STAGES}
    assert right["split"] == {"inputs": ["ingest", "validate"], "timeout": "PT1H"}
    assert [each for each in wrong if "Unknown" in each] == ["jobs.ingest.limits.hours: Unknown field."]
