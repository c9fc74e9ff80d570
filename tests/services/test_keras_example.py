"""`make example NAME=keras`: its packages are installed for it alone, and Keras exports the network to ONNX itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from conftest import ROOT, Project

from mlops.inference import runtime

CLONE = Path("build/examples/keras")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, and a clone of it in which the example has run."""
    folder = tmp_path_factory.mktemp("keras") / "a project"
    folder.mkdir()
    project = Project(folder)
    # not this environment, but one that uv makes for the example
    path = f"{Path(sys.executable).parent}{os.pathsep}{ROOT / '.uv/bin'}{os.pathsep}{os.environ['PATH']}"
    said = project.run(sys.executable, "examples/run.py", "keras", PATH=path).stdout
    assert "installing the packages of this example into build/examples/keras/.venv" in said
    assert "project.estimators.NeuralNetwork predicts cultivar" in said
    assert said.endswith("cp -r examples/keras/. . && uv add keras tensorflow-cpu tf2onnx && make\n")
    assert project.git("status", "--porcelain") == ""
    return project


def test_the_network_predicts_well_and_runs_in_onnx_runtime_alone(example: Project) -> None:
    clone = example.folder / CLONE
    assert json.loads((clone / "reports/metrics.json").read_text())["accuracy"] > 0.9
    exported = json.loads((clone / "reports/export.json").read_text())
    assert (exported["runtime"], exported["precision"], exported["why"]) == ("onnx", "single", None)
    model = onnx.load(clone / "models/service/model.onnx")
    assert {"MatMul", "Relu", "Softmax"} <= {node.op_type for node in model.graph.node}

    # in this environment, which has no Keras
    assert shutil.which("keras") is None
    contract, served = runtime.load(clone / "models/service")
    assert (contract.code, contract.packages) == ({}, [])
    assert contract.model_packages == ["keras", "numpy", "scikit-learn", "tensorflow-cpu"]
    rows = pd.read_parquet(clone / "data/prepared/test.parquet")
    answer = served({field.name: rows[field.name].to_numpy(dtype=float) for field in contract.fields})
    recorded = pd.read_parquet(clone / "reports/predictions.parquet")
    np.testing.assert_array_equal(answer.predicted, recorded["predicted"])


def test_training_again_makes_the_same_bytes(example: Project) -> None:
    clone = example.folder / CLONE
    before = (clone / "dvc.lock").read_bytes()
    path = f"{clone / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONHASHSEED": "7", "PYTHONPATH": str(clone / "src")}
    environment |= {"OMP_NUM_THREADS": "3", "TF_NUM_INTRAOP_THREADS": "2"}
    command = [str(clone / ".venv/bin/python"), "-m", "dvc", "repro", "--force", "--single-item", "train", "export"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "dvc.lock").read_bytes() == before
