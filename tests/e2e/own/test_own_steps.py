"""A change of `params.yaml` alone puts selection and extraction before the estimator, tuned with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import Project, copied

from mlops.core.report import read


def with_steps(params: Any) -> None:
    params["model"]["steps"] = [
        {"transformer": "sklearn.feature_selection.SelectKBest", "params": {"k": 20}},
        {"transformer": "sklearn.decomposition.PCA"},
    ]
    params["tuning"] = {"method": "grid", "folds": 3, "space": {"pca__n_components": [5, 10], "C": [0.1, 1.0]}}


def test_selection_and_extraction_are_tuned_exported_and_reviewed(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    project.git("branch", "--force", "base")
    project.edit_params(with_steps)
    project.run("dvc", "repro")
    project.commit("steps")
    served = json.loads(project.read("reports/export.json"))
    assert (served["runtime"], served["precision"], served["why"]) == ("onnx", "double", None)
    trials = json.loads(project.read("reports/tuning.json"))
    assert {trial["params"]["pca__n_components"] for trial in trials} == {5, 10}
    assert "selectkbest, sklearn.feature" in project.read("models/CARD.md").replace("\\", "")
    project.run("python", "-m", "mlops.review", "--base", "base", check=False)
    report = read(project.folder / "build/review/report.json")
    assert report.estimator is not None
    assert report.estimator.endswith("sklearn.decomposition.PCA → sklearn.linear_model.LogisticRegression")
    assert "SelectKBest → PCA → LogisticRegression" in project.read("build/review/comment.md")
    assert "model.steps.pca.transformer" in {change.name for change in report.changes.params}
