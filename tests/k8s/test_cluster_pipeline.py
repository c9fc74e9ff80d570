"""Argo Workflows runs the pipeline on the cluster, as `make platform TO=argo` writes it, with S3 between the stages."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, copied
from images.making import BASE, serving
from k8s.cluster import ADMINISTRATOR, NODES, PROGRAMS, SERVER, Cluster, network, wait_for
from k8s.nodes import ctr, publish
from k8s.released import Releases
from k8s.watched import define
from platforms.containers import define as write_definition
from platforms.containers import taken_over
from ruamel.yaml import YAML
from services.stores import files, s3_server

from mlops.release import builder

NAME = "model-pipeline"
CONTROLLER = "workflow-controller"
PATIENCE = 600  # seconds for ten stages


@pytest.fixture(scope="module")
def unrun(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A commit that nobody has run yet, so no stage finds its result in it."""
    project = copied(done, tmp_path_factory.mktemp("pipeline"))
    (project.folder / "dvc.lock").unlink()
    shutil.rmtree(project.folder / "reports")
    project.commit("start again")
    return project


@pytest.fixture(scope="module")
def image(
    built: Releases,
    cluster: Cluster,
    unrun: Project,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The image of `make pipeline-image`, by its name and digest in a registry that the nodes reach."""
    with network(cluster.outside):  # where packages come from
        unrun.run(sys.executable, "-m", "mlops.release.pipeline_image", BUILDER="podman", BASE_IMAGE=BASE)
    local = f"{NAME}:{unrun.git('rev-parse', 'HEAD')[:12]}"
    with serving(tmp_path_factory.mktemp("registry")) as address:
        name = f"{address}/ada/{NAME}"
        reference = f"{name}@{builder.push('podman', local, f'{name}:1')}"
        node = next(iter(NODES))
        cluster.kubectl("cordon", node)  # only the other one fetches the image, which takes a while
        yield reference
        cluster.kubectl("uncordon", node)
        builder.tool("podman", "rmi", "--force", local)


@pytest.fixture(scope="module")
def storage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A namespace that enforces the strictest standard, with S3 as a service in it, and the Secret of its keys."""
    cluster.kubectl("create", "namespace", NAME)
    cluster.kubectl("label", "namespace", NAME, "pod-security.kubernetes.io/enforce=restricted")
    with s3_server(tmp_path_factory.mktemp("s3"), SERVER) as server:
        files(server).mkdir("dvc")
        port = int(server["AWS_ENDPOINT_URL"].rpartition(":")[2])
        publish(cluster, {"name": "s3", "namespace": NAME}, [{"port": port}])
        keys = [f"--from-literal={key}={server[key]}" for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
        cluster.kubectl("create", "secret", "generic", NAME, f"--namespace={NAME}", *keys)
        yield server
    cluster.kubectl("delete", "namespace", NAME, "--wait=false")


@pytest.fixture(scope="module")
def argo(cluster: Cluster) -> None:
    """The resources and the controller of Argo Workflows, which runs beside the nodes until these stop."""
    define(cluster, "argo")
    cluster.kubectl("create", "namespace", "argo")
    settings = "--from-literal=metricsConfig={enabled: false}"  # its port is that of Prometheus
    cluster.kubectl("create", "configmap", f"{CONTROLLER}-configmap", "--namespace=argo", settings)
    for node in NODES:
        ctr(cluster, node, "images", "import", PROGRAMS / "argoexec.tar")
    cluster.start(
        CONTROLLER,
        CONTROLLER,
        f"--kubeconfig={cluster.folder / ADMINISTRATOR}.kubeconfig",
        "--namespace=argo",
        "--executor-image=localhost/argoexec:1",
        "--executor-image-pull-policy=Never",
        LEADER_ELECTION_DISABLE="true",
    )


class Run:
    """A run of the workflow on the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        workflow = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": "run"},
            "spec": {"workflowTemplateRef": {"name": NAME}},
        }
        self.kubectl("create", "--filename=-", text=json.dumps(workflow))

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={NAME}", *arguments, text=text)

    def get(self, *arguments: str) -> Any:
        return self.cluster.get(f"--namespace={NAME}", *arguments)

    def attempts(self) -> dict[str, str]:
        """What became of each attempt, as `stage(number)`."""
        nodes = self.get("workflow", "run").get("status", {}).get("nodes", {}).values()
        return {node["displayName"]: node["phase"] for node in nodes if node["type"] == "Pod"}

    def pod(self, stage: str, gone: str = "") -> Any:
        """The pod of a stage, once its own container runs, and not the one with the identifier that is gone."""

        def running() -> Any:
            assert self.cluster.started[CONTROLLER].poll() is None, self.cluster.log(CONTROLLER)[-3000:]
            assert not self.ended(), self.said()
            for pod in self.get("pods", "--selector=workflows.argoproj.io/workflow=run"):
                states = {c["name"]: c["state"] for c in pod["status"].get("containerStatuses", [])}
                new = f"-{stage}-" in pod["metadata"]["name"] and pod["metadata"]["uid"] != gone
                if new and "running" in states.get("main", {}):
                    return pod
            time.sleep(1)
            return None

        return wait_for(f"{stage} runs", running, PATIENCE)

    def ended(self) -> Any:
        return self.get("workflow", "run").get("status", {}).get("finishedAt")

    def said(self) -> str:
        """What there is to read where a run has failed."""
        nodes = self.get("workflow", "run")["status"].get("nodes", {}).values()
        lines = [f"{node['displayName']}: {node['phase']} {node.get('message', '')}" for node in nodes]
        pods = self.get("pods")
        options = (f"--namespace={NAME}", "--all-containers", "--tail=30")
        logs = [self.cluster.kubectl("logs", pod["metadata"]["name"], *options, check=False) for pod in pods]
        return "\n".join([*lines, *logs, self.kubectl("get", "events")])[-8000:]


def test_argo_workflows_runs_the_pipeline_and_repeats_a_task_whose_pod_is_gone(
    cluster: Cluster, argo: None, image: str, storage: dict[str, str], unrun: Project, done: Project, tmp_path: Path
) -> None:
    port = storage["AWS_ENDPOINT_URL"].rpartition(":")[2]
    inside = {"AWS_ENDPOINT_URL": f"http://s3.{NAME}.svc.cluster.local:{port}"}
    written = write_definition(
        unrun,
        "argo",
        image=image,
        remote="s3://dvc/argo",
        environment={"AWS_DEFAULT_REGION": storage["AWS_DEFAULT_REGION"], **inside},
        default={"cpu": 1, "memory": 2},
        stages={},
    )
    cluster.kubectl("apply", f"--namespace={NAME}", f"--filename={written}")
    run = Run(cluster)
    # it runs for seconds, so it is still running when its pod goes
    pod = run.pod("evaluate")
    (main,) = (each for each in pod["spec"]["containers"] if each["name"] == "main")
    assert "serviceaccount" not in json.dumps(main["volumeMounts"])
    run.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")  # as when a machine is lost
    run.pod("evaluate", gone=pod["metadata"]["uid"])
    run.kubectl("wait", "workflow/run", "--for=condition=Completed", f"--timeout={PATIENCE}s")
    succeeded = sorted(name.partition("(")[0] for name, phase in run.attempts().items() if phase == "Succeeded")
    assert succeeded == sorted(YAML(typ="safe").load(unrun.read("dvc.yaml"))["stages"]), run.said()
    uid = run.get("workflow", "run")["metadata"]["uid"]
    assert taken_over(unrun, "s3://dvc/argo", uid, storage, tmp_path) == done.read("dvc.lock")
