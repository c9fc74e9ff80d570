"""Engines run the definition from end to end, in the image of the commit, with S3 between the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, Project, copied
from containers import Engine, define, engine, taken_over, tool
from services.stores import files, s3_server
from workflows.machine import GitHub


class Commit(NamedTuple):
    """A commit whose parameters nobody has run yet."""

    project: Project
    engine: Engine
    server: dict[str, str]
    lock: str
    """What `dvc repro` on one machine makes of it."""
    pool: ThreadPoolExecutor
    """In which the engines run side by side."""


def another_split(project: Project) -> None:
    project.edit_params(lambda params: params["split"].update(seed=params["split"]["seed"] + 1))


@pytest.fixture(scope="module")
def commit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commit]:
    folder = tmp_path_factory.mktemp("platforms")
    with pytest.MonkeyPatch.context() as here:
        here.setenv("CONTAINERS_CONF", str(ROOT / "build/tools/images/containers.conf"))
        github = GitHub(folder / "github", another_split)
        (folder / "s3").mkdir()
        with (
            ThreadPoolExecutor() as pool,
            s3_server(folder / "s3") as server,
            engine(github, folder) as running,
        ):
            files(server).mkdir("dvc")
            one_machine = copied(github.work, folder / "one machine")
            one_machine.run("dvc", "repro")
            yield Commit(github.work, running, server, one_machine.read("dvc.lock"), pool)


@pytest.fixture(scope="module")
def airflow(commit: Commit, tmp_path_factory: pytest.TempPathFactory) -> Future[str]:
    """What Airflow says of a run."""
    return commit.pool.submit(run_by_airflow, commit, tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def kubeflow(commit: Commit, tmp_path_factory: pytest.TempPathFactory) -> Future[str]:
    """What Kubeflow's runner on one machine says of a run."""
    return commit.pool.submit(run_by_kubeflow, commit, tmp_path_factory.mktemp("kubeflow"))


def settings(commit: Commit, platform: str) -> dict[str, object]:
    shared = {key: commit.server[key] for key in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
    return {"image": commit.engine.image, "remote": f"s3://dvc/{platform}", "environment": shared, "airflow": "docker"}


def run_of(said: str) -> str:
    """The run that the tasks name in the log."""
    names = {line.partition("under run ")[2].split()[0] for line in said.splitlines() if "under run " in line}
    assert len(names) == 1, said[-8000:]
    return names.pop()


# containers share the network of this machine, because the S3 server listens on loopback only
POLICY = """
def task_policy(task):
    task.network_mode = "host"
"""


def run_by_airflow(commit: Commit, folder: Path) -> str:
    project = copied(commit.project, folder / "a project")
    define(project, "airflow", **settings(commit, "airflow"))
    (folder / "airflow/config").mkdir(parents=True)
    (folder / "airflow/config/airflow_local_settings.py").write_text(POLICY, encoding="utf-8")
    environment = {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project.folder / "deploy/pipelines"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "DOCKER_HOST": commit.engine.socket,
        **{f"AIRFLOW_VAR_{key}": commit.server[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
    }
    tool("airflow", "airflow", "db", "migrate", **environment)
    return tool("airflow", "airflow", "dags", "test", "model-pipeline", **environment).stdout


def run_by_kubeflow(commit: Commit, folder: Path) -> str:
    project = copied(commit.project, folder / "a project")
    found = settings(commit, "kubeflow")
    # its runner on one machine has no secrets, so here they are variables
    secrets = {key: commit.server[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    found["environment"] = {**found["environment"], **secrets}  # type: ignore[dict-item]
    path = define(project, "kubeflow", **found)
    script = (
        "import sys; from kfp import components, local\n"
        "local.init(runner=local.DockerRunner(network_mode='host'), pipeline_root=sys.argv[2])\n"
        "components.load_component_from_file(sys.argv[1])()\n"
    )
    command = ("python", "-c", script, str(path), str(folder / "root"))
    return tool("kubeflow", *command, DOCKER_HOST=commit.engine.socket).stdout


@pytest.mark.usefixtures("kubeflow")  # which runs at the same time
def test_airflow_runs_the_dag(commit: Commit, airflow: Future[str], tmp_path: Path) -> None:
    said = airflow.result()
    assert commit.server["AWS_SECRET_ACCESS_KEY"] not in said
    assert taken_over(commit.project, "s3://dvc/airflow", run_of(said), commit.server, tmp_path) == commit.lock


def test_kubeflow_s_own_runner_runs_the_compiled_pipeline(
    commit: Commit, kubeflow: Future[str], tmp_path: Path
) -> None:
    run = run_of(kubeflow.result())
    assert taken_over(commit.project, "s3://dvc/kubeflow", run, commit.server, tmp_path) == commit.lock
