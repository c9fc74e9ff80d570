"""A real MLflow server on loopback: what a training leaves there, and what comes back."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from conftest import Project

from mlops.core.files import md5
from project.features import irregularity


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/store.db",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    log = (tmp_path / "server.log").open("w")
    process = subprocess.Popen([*command, *store], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1)
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.e2e
def test_a_training_is_one_run_with_its_lineage_and_a_model_that_comes_back(project: Project, server: str) -> None:
    for stage in ("ingest", "split", "train", "export", "evaluate"):
        project.stage(stage)
    message = project.stage("track", MLFLOW_TRACKING_URI=server, MLFLOW_EXPERIMENT_NAME="cancer").stdout
    assert "warning" not in message
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("cancer")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_id in message
    assert run.data.params["model.estimator"] == "sklearn.linear_model.LogisticRegression"
    assert run.data.params["model.params.C"] == "1.0"
    assert run.data.tags["commit"].startswith(project.git("rev-parse", "HEAD"))
    for name, path in {"data": "data/prepared/table.parquet", "model": "models/model.skops"}.items():
        assert run.data.tags[f"{name}.md5"] == md5(project.folder / path)
    evaluation = json.loads(project.read("reports/evaluation.json"))
    roc_auc = evaluation["metrics"]["roc_auc"]
    assert run.data.metrics["roc_auc"] == roc_auc["value"]
    assert run.data.metrics["roc_auc_low"] == roc_auc["low"]
    assert run.data.metrics["training_seconds"] > 0

    (logged,) = client.search_logged_models([experiment.experiment_id])
    mlflow.set_tracking_uri(server)
    there = mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(project.folder / "there"))
    assert md5(Path(there) / "model.skops") == run.data.tags["model.md5"]
    info = mlflow.models.get_model_info(logged.model_uri)
    assert info.signature is not None
    assert info.signature.inputs.input_names()[0] == "mean radius"
    test = pq.read_table(project.folder / "data/prepared/test.parquet").to_pandas()
    test["irregularity"] = irregularity(test["mean perimeter"], test["mean area"])
    back = mlflow.pyfunc.load_model(logged.model_uri).predict(test[info.signature.inputs.input_names()])
    predictions = pq.read_table(project.folder / "reports/predictions.parquet")
    assert back.tolist() == predictions["predicted"].to_pylist()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.e2e
def test_training_goes_on_where_mlflow_cannot_be_reached(project: Project, silent: str) -> None:
    for stage in ("ingest", "split", "train", "export", "evaluate"):
        project.stage(stage)
    (project.folder / "torn.db").write_bytes(b"no database" * 1000)
    for uri, shown, reason in (
        ("http://ada:secret@127.0.0.1:9", "http://127.0.0.1:9", "Connection refused"),
        (f"http://ada:secret@{silent}", f"http://{silent}", "timed out"),
        ("sqlite:///torn.db", "sqlite:///torn.db", "file is not a database"),
        ("ftp://127.0.0.1/runs", "ftp://127.0.0.1/runs", "unsupported URI"),
    ):
        message = project.stage("track", MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_TIMEOUT="1").stdout
        assert f"warning: this run was not recorded in MLflow at {shown}: " in message
        assert reason in message
        assert "dvc repro --force --single-item track" in message
        assert "not recorded: params, metrics, tags, signature, model" in message
        assert "secret" not in message
