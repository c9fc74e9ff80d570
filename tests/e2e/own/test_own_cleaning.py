"""Cleaning from end to end: a change of `params.yaml` and `src/project/cleaning.py`, reviewed, scored and served."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Project, copied
from serving.served import identify, serving

from mlops.core.report import read

FUNCTION = '''

@keep_rows("mean texture")
def measurable_texture(texture):
    """Beyond 30 the microscope was out of focus."""
    return texture < 30
'''
CLEAN = {
    "rescale": {"mean area": {"above": 10_000, "factor": 0.001}},
    "ranges": {
        "mean radius": {"low": 9, "high": 20, "outside": "clip"},
        "worst radius": {"high": 30, "outside": "missing"},
        "mean perimeter": {"low": 50, "outside": "drop"},
    },
    "outliers": {"area error": 10},
}


def clean(project: Project) -> None:
    """The change: a rule of each kind, and a function."""

    def edit(params: Any) -> None:
        params["data"]["clean"] = CLEAN
        params["validate"]["suite"] = None  # the suite forbids what these rules make of the table

    project.edit_params(edit)
    path = project.folder / "src/project/cleaning.py"
    path.write_text(path.read_text(encoding="utf-8") + FUNCTION, encoding="utf-8")


@pytest.fixture(scope="module")
def cleaned(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A branch with the change, whose pipeline has run and which was reviewed."""
    project = copied(done, tmp_path_factory.mktemp("cleaned"))
    project.git("branch", "base")
    clean(project)
    assert project.git("status", "--porcelain").split() == ["M", "params.yaml", "M", "src/project/cleaning.py"]
    project.run("dvc", "repro")
    project.commit("clean")
    project.run(sys.executable, "-P", "-m", "mlops.review", "--base", "base", check=False)
    return identify(project)


def test_the_catalogue_the_log_and_the_comment_say_what_each_step_took(cleaned: Project) -> None:
    catalogue = json.loads(cleaned.read("data/prepared/catalogue.json"))
    steps = {step["step"]: (step["rows"], step["effect"]) for step in catalogue["cleaning"]}
    assert steps["mean area above 10000"] == (0, "values multiplied by 0.001, in the service too")
    assert steps["mean radius outside 9 to 20"][1] == "values clipped, in the service too"
    assert steps["worst radius above 30"][1] == "values made missing, in the service too"
    assert steps["mean perimeter below 50"][1] == "rows dropped"
    assert steps["measurable_texture (cleaning.py)"][1] == "rows dropped"
    assert all(steps[name][0] > 0 for name in [*steps][1:4])
    dropped = sum(rows for rows, effect in steps.values() if effect == "rows dropped")
    assert catalogue["rows"] == 569 - dropped
    shown = cleaned.read("build/review/comment.md")
    assert "Cleaning: " in shown
    report = read(cleaned.folder / "build/review/report.json")
    message = {step.step: step for step in report.cleaning}
    assert {name: message[name].rows for name in steps} == {name: rows for name, (rows, _) in steps.items()}
    assert message["plausible_area (cleaning.py)"].before == 0  # main has it, too
    assert message["measurable_texture (cleaning.py)"].before is None
    (outliers,) = [name for name in message if "outlier" in name]
    assert message[outliers].effect == "training rows dropped"
    again = cleaned.stage("ingest")
    assert f"mean perimeter below 50: {steps['mean perimeter below 50'][0]} (rows dropped)" in again.stdout


def test_the_service_corrects_as_training_did(cleaned: Project, tmp_path: Path) -> None:
    fields = {field["name"]: field for field in json.loads(cleaned.read("models/service/schema.json"))["fields"]}
    assert fields["mean radius"]["clean"] == {"low": 9.0, "high": 20.0, "outside": "clip"}
    assert fields["mean radius"]["high"] <= 20
    assert fields["worst radius"]["nullable"]
    with serving(cleaned, tmp_path / "bentoml") as service:
        row = service.example

        def probability(**changes: Any) -> float:
            answer = service.predict({**row, **{name.replace("_", " "): value for name, value in changes.items()}})
            assert answer.status_code == 200, answer.text
            return float(answer.json()["predictions"][0]["probabilities"]["malignant"])

        assert probability(mean_radius=25) == probability(mean_radius=20) != probability(mean_radius=15)
        assert probability(worst_radius=31) == probability(worst_radius=None) != probability(worst_radius=29)
        assert probability(mean_area=600_000) == probability(mean_area=600) != probability(mean_area=700)


def test_batch_scoring_corrects_as_training_did(cleaned: Project, tmp_path: Path) -> None:
    table = pq.read_table(cleaned.folder / "data/prepared/test.parquet").slice(0, 20)
    place = table.column_names.index("mean radius")
    found = []
    for name, radius in {"far": 25.0, "at the limit": 20.0}.items():
        pq.write_table(table.set_column(place, "mean radius", [[radius] * 20]), tmp_path / f"{name}.parquet")
        wanted = tmp_path / f"{name} scored.parquet"
        cleaned.run(sys.executable, "-m", "mlops.serving.score", str(tmp_path / f"{name}.parquet"), str(wanted))
        found.append(pq.read_table(wanted)["probability of malignant"].to_pylist())
    assert found[0] == found[1]


def test_a_function_that_changes_values_stops_the_pipeline(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    path = project.folder / "src/project/cleaning.py"
    wrong = FUNCTION.replace("return texture < 30", "return texture.clip(0, 30)")
    path.write_text(path.read_text(encoding="utf-8") + wrong, encoding="utf-8")
    stopped = project.run("dvc", "repro", check=False)
    assert stopped.returncode != 0
    assert "src/project/cleaning.py: measurable_texture must return True or False for each row" in stopped.stdout
    assert "Traceback" not in stopped.stdout
