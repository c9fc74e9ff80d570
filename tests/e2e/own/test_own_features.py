"""A feature from end to end: a commit that touches the team's file alone is trained, reviewed and served."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import Project, copied
from serving.served import identify, serving

from mlops.core.report import read

FEATURE = '''

@feature("worst radius", "mean radius", unit="1")
def enlargement(worst, mean):
    """The largest nuclei compared with the average one."""
    return worst / mean
'''


@pytest.fixture
def project(done: Project, tmp_path: Path) -> Project:
    project = copied(done, tmp_path)
    project.git("branch", "base")
    return project


def add(project: Project, text: str) -> None:
    path = project.folder / "src/project/features.py"
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_new_function_is_trained_reviewed_and_served_without_any_other_edit(project: Project, tmp_path: Path) -> None:
    add(project, FEATURE)
    assert project.git("status", "--porcelain").split() == ["M", "src/project/features.py"]
    project.run("dvc", "repro")
    project.commit("a feature")

    evaluation = json.loads(project.read("reports/evaluation.json"))
    assert "enlargement" in {each["column"] for each in evaluation["importance"]}
    assert "enlargement" in project.read("reports/profile.html")
    assert "enlargement" in project.read("models/CARD.md")
    assert json.loads(project.read("reports/export.json"))["runtime"] == "onnx"

    reviewed = project.run(sys.executable, "-P", "-m", "mlops.review", "--base", "base", check=False)
    report = read(project.folder / "build/review/report.json")
    assert (report.problem, report.blocks) == (None, False), reviewed.stdout
    assert report.baseline is not None
    assert report.baseline.problem is None
    assert all(each.difference.value is not None for each in report.metrics)
    # it needs nobody's approval: the gate judges it
    assert [place.place for place in report.owned] == []

    fields = {field["name"] for field in json.loads(project.read("models/service/schema.json"))["fields"]}
    assert "enlargement" not in fields
    rows = pd.read_parquet(project.folder / "data/prepared/test.parquet").drop(columns="diagnosis")
    recorded = pd.read_parquet(project.folder / "reports/predictions.parquet")
    with serving(identify(project), tmp_path / "bentoml") as served:
        answer = served.predict(*rows.to_dict(orient="records")).json()
        assert [each["prediction"] for each in answer["predictions"]] == list(recorded["predicted"])
        problem = served.problem({**served.example, "mean radius": 0.0})
    assert problem["field"] == "enlargement"
    assert problem["problem"].startswith("is infinite; computed from worst radius = ")


def test_a_mistake_stops_before_training_and_names_line_and_row(project: Project) -> None:
    add(project, FEATURE.replace("worst / mean", "worst / worst.mean()"))
    line = project.read("src/project/features.py").splitlines().index("def enlargement(worst, mean):")
    stopped = project.run("dvc", "repro", check=False)
    assert stopped.returncode != 0
    assert f"error: src/project/features.py, line {line}: enlargement looks at other rows: " in stopped.stdout
    assert "computed from worst radius = " in stopped.stdout
    assert "Traceback" not in stopped.stdout
    assert "Running stage 'train'" in stopped.stdout
    assert "→ models/model.skops" not in stopped.stdout


def test_make_check_finds_what_needs_no_data(project: Project) -> None:
    add(project, FEATURE.replace("(worst, mean)", "(worst)"))
    stopped = project.run(sys.executable, "-m", "mlops.review.check", check=False)
    assert stopped.returncode == 1
    assert "enlargement does not take its 2 columns: too many positional arguments" in stopped.stdout
