"""A real MLflow server on loopback: releases become versions of a model, and the champion comes back as it was."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import Project, copied, make_hostile

from mlops.core.files import md5
from project.features import irregularity

REFERENCE = f"ghcr.io/ada/a-project@sha256:{'a' * 64}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of a server, and the folder with its files."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--artifacts-destination", str(folder / "files")]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1)
            break
        except OSError:
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
    yield url, folder / "files"
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def project(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose main has run, which one test after the other releases from; none of the team's code may run."""
    folder = tmp_path_factory.mktemp("released")
    project = copied(done, folder)
    make_hostile(project.folder / "src/project", folder / "canary")
    project.commit("hostile")
    yield project
    assert not (folder / "canary").exists(), (folder / "canary").read_text()


def register(
    project: Project, url: str, tag: str, name: str = "a-project", check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    settings = {"GITHUB_REF_NAME": tag, "GITHUB_REPOSITORY": f"ada/{name}", "REFERENCE": REFERENCE}
    settings |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_TOKEN": "", "MLFLOW_TRACKING_USERNAME": ""}
    command = (sys.executable, "-m", "mlops.release.registry", "release")
    return project.run(*command, check=check, **settings, **environment)


def merge(project: Project, url: str, name: str) -> str:
    """What `make register` does after a merge into main."""
    settings = {"GITHUB_REPOSITORY": f"ada/{name}", "MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_TOKEN": ""}
    return project.run(sys.executable, "-m", "mlops.release.registry", **settings).stdout


def runs(client: mlflow.MlflowClient) -> list[str]:
    experiment = client.get_experiment_by_name("mlops")
    return [run.info.run_id for run in client.search_runs([experiment.experiment_id])] if experiment else []


def test_a_release_is_a_version_with_tags_and_the_champion_predicts_the_same(
    project: Project, server: tuple[str, Path]
) -> None:
    url, _ = server
    message = register(project, url, "v1.0.0").stdout
    assert "v1.0.0 is version 1 of a-project in MLflow, and its champion" in message
    client = mlflow.MlflowClient(url)
    version = client.get_model_version_by_alias("a-project", "champion")
    commit = project.git("rev-parse", "HEAD")
    assert version.tags["version"] == "1.0.0"
    assert version.tags["commit"] == commit
    assert version.tags["model_md5"] == md5(project.folder / "models/model.skops")
    assert version.tags["service_md5"].endswith(".dir")
    assert version.tags["image"] == REFERENCE
    assert client.get_run(version.run_id).data.tags["commit"] == commit
    assert "recall" in client.get_run(version.run_id).data.metrics

    mlflow.set_tracking_uri(url)
    model = mlflow.pyfunc.load_model("models:/a-project@champion")
    rows = pq.read_table(project.folder / "data/prepared/test.parquet").to_pandas()
    rows["irregularity"] = irregularity(rows["mean perimeter"], rows["mean area"])
    names = model.metadata.get_input_schema().input_names()
    predicted = pd.Series(model.predict(rows[names]))
    recorded = pq.read_table(project.folder / "reports/predictions.parquet").to_pandas()
    assert predicted.tolist() == recorded["predicted"].tolist()


def test_registering_again_finds_the_version_that_is_there(project: Project, server: tuple[str, Path]) -> None:
    url, _ = server
    client = mlflow.MlflowClient(url)
    first = register(project, url, "v1.0.0").stdout
    before = runs(client)
    assert register(project, url, "v1.0.0").stdout == first
    assert len(client.search_model_versions("name = 'a-project'")) == 1
    assert runs(client) == before


def test_the_champion_follows_the_release_and_not_the_candidate(project: Project, server: tuple[str, Path]) -> None:
    url, _ = server
    client = mlflow.MlflowClient(url)
    register(project, url, "v1.0.0", "followed")
    project.commit("the same model from another commit")
    message = register(project, url, "v1.1.0-rc.1", "followed").stdout
    assert "champion" not in message
    assert client.get_model_version_by_alias("followed", "champion").tags["version"] == "1.0.0"
    register(project, url, "v1.1.0", "followed")
    champion = client.get_model_version_by_alias("followed", "champion")
    # the candidate's commit is the release's: it is one version, now with the release's name
    assert (champion.version, champion.tags["version"]) == ("2", "1.1.0")
    # trained once, so one run has both
    assert champion.run_id == client.get_model_version("followed", "1").run_id


def test_a_merge_makes_the_challenger_and_its_release_the_champion(project: Project, server: tuple[str, Path]) -> None:
    url, _ = server
    client = mlflow.MlflowClient(url)
    commit = project.git("rev-parse", "HEAD")
    assert f"the model of {commit[:10]} is version 1 of merged in MLflow, and its challenger" in merge(
        project, url, "merged"
    )
    version = client.get_model_version_by_alias("merged", "challenger")
    assert version.tags["commit"] == commit
    assert "image" not in version.tags
    assert "champion" not in client.get_registered_model("merged").aliases

    # another commit with the same model is no new version, and does not take over where it came from
    project.commit("words")
    merge(project, url, "merged")
    assert client.get_model_version_by_alias("merged", "challenger").tags["commit"] == commit

    assert (
        "v2.0.0 is version 1 of merged in MLflow, and its champion" in register(project, url, "v2.0.0", "merged").stdout
    )
    champion = client.get_model_version_by_alias("merged", "champion")
    assert (champion.tags["version"], champion.tags["image"]) == ("2.0.0", REFERENCE)
    assert champion.tags["commit"] == project.git("rev-parse", "HEAD")


def test_a_run_whose_file_is_another_one_is_not_taken(project: Project, server: tuple[str, Path]) -> None:
    url, files = server
    client = mlflow.MlflowClient(url)
    register(project, url, "v1.0.0", "before")
    before = runs(client)
    for path in files.rglob("model.skops"):
        path.write_bytes(path.read_bytes() + b"x")
    register(project, url, "v1.0.0", "after")
    added = set(runs(client)) - set(before)
    assert {client.get_model_version_by_alias("after", "champion").run_id} == added


def test_a_model_that_is_not_the_one_in_the_lock_is_not_registered(
    project: Project, server: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = server
    damaged = copied(project, tmp_path)
    path = damaged.folder / "models/model.skops"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.unlink()  # it may be a link into the cache
    path.write_bytes(content)
    done = register(damaged, url, "v1.0.0", "damaged", check=False)
    assert done.returncode == 1
    assert "models/model.skops does not match dvc.lock" in done.stdout
    assert mlflow.MlflowClient(url).search_registered_models("name = 'damaged'") == []


def test_a_server_that_does_not_answer_is_reported_without_its_password(project: Project) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://ada:secret-word@127.0.0.1:{free.getsockname()[1]}"
    done = register(project, url, "v1.0.0", check=False, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 1
    assert "MLflow did not accept the model" in done.stdout
    assert "secret-word" not in done.stdout
    assert "Traceback" not in done.stdout
