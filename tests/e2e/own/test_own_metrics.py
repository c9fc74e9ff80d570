"""A metric of the team's own, from one file to the row of the gate: only `metrics.py` and `params.yaml` are edited."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, copied
from e2e.test_review import Change
from sklearn import metrics as sk

from mlops.core.markdown import code
from mlops.core.report import Comparison, Report
from mlops.data import tables

MISSED = """

@metric(greater_is_better=False, columns=["mean area"], per_row=True, unit="mm²")
def missed_area(y_true: np.ndarray, y_pred: np.ndarray, area: np.ndarray) -> np.ndarray:
    \"\"\"Area of the tumours that are missed.\"\"\"
    return np.where((y_true == 1) & (y_pred == 0), area, 0.0)
"""
SENSITIVITY = "sensitivity_at_95_specificity"
F2 = {"metric": "sklearn.metrics.fbeta_score", "params": {"beta": 2}, "name": "f2"}
COSTS = {"false_negative": 10, "false_positive": 1}
RULES = [
    {"rule": "floor", "metric": SENSITIVITY, "at_least": 0.8},
    {"rule": "floor", "metric": "f2", "at_least": 0.8},
    {"rule": "no_worse", "metric": "cost", "margin": 0.2},
    {"rule": "worst_slice", "metric": "missed_area", "limit": 500},
]


@pytest.fixture
def change(done: Project, tmp_path: Path) -> Change:
    """A branch of a project that has run."""
    return Change(done, tmp_path)


def evaluate(**section: Any) -> Any:
    return lambda project: project.edit_params(lambda params: params["evaluate"].update(section))


def add_metrics(project: Project) -> None:
    path = project.folder / "src/project/metrics.py"
    path.write_text(path.read_text() + MISSED)
    evaluate(metrics=[F2], costs=COSTS)(project)


def add_rules(project: Project) -> None:
    project.edit_gate(lambda gate: gate["rules"].extend(RULES))


def compared(report: Report) -> dict[str, Comparison]:
    return {each.metric: each for each in report.metrics}


def verdicts(report: Report) -> dict[tuple[str, str], str]:
    assert report.policy is not None
    return {(each.rule, each.subject): each.verdict for each in report.policy.results}


def test_a_new_metric_is_compared_with_main_at_once_and_nothing_is_trained(change: Change) -> None:
    project = change.project
    change.base(add_rules)
    model = (project.folder / "models/model.skops").read_bytes()
    add_metrics(project)
    output = project.run("dvc", "repro").stdout
    assert "Running stage 'evaluate'" in output
    assert "Running stage 'train'" not in output
    assert (project.folder / "models/model.skops").read_bytes() == model
    project.commit("metrics")
    predictions = tables.read(project.folder / "reports/predictions.parquet").to_pandas()
    truth, said = (predictions[name] == "malignant" for name in ("actual", "predicted"))
    report = change.review()
    assert report.baseline is not None
    assert report.baseline.problem is None
    found = compared(report)
    assert list(found)[-4:] == [SENSITIVITY, "missed_area", "f2", "cost"]
    assert found["f2"].candidate == pytest.approx(sk.fbeta_score(truth, said, beta=2), abs=1e-6)
    assert found["cost"].candidate == pytest.approx((10 * (truth & ~said) + (~truth & said)).mean(), abs=1e-6)
    for name in list(found)[-4:]:
        # main lacks these metrics, but its model can be scored by them: it is the same model
        assert found[name].baseline == found[name].candidate
    assert (found["missed_area"].unit, found["missed_area"].greater_is_better) == ("mm²", False)
    assert all({"f2", "cost"} <= {each.metric for each in part.metrics} for part in report.slices)
    found_verdicts = verdicts(report)
    assert {found_verdicts[each["rule"], each["metric"]] for each in RULES} == {"pass"}
    assert change.code == 0, change.output
    for name in list(found)[-4:]:
        assert code(name) in change.comment
    assert f"{code('missed_area')} (mm²)" in change.comment
    evaluation = project.read("reports/evaluation.json")
    assert '"cost"' in evaluation
    assert "`cost`" in project.read("models/CARD.md")


def test_main_s_definition_of_a_metric_decides(change: Change) -> None:
    change.base(lambda project: (add_metrics(project), add_rules(project)))
    weak = {"false_negative": 0, "false_positive": 0}

    def weaken(project: Project) -> None:
        path = project.folder / "src/project/metrics.py"
        path.write_text(path.read_text().replace(MISSED, ""))
        evaluate(metrics=[{**F2, "params": {"beta": 0.1}}], costs=weak)(project)

    change.commit(weaken)
    report = change.review()
    found = compared(report)
    assert set(report.redefined) == {"f2", "cost"}
    for name in report.redefined:
        assert found[name].candidate == found[name].baseline
    assert found["cost"].candidate is not None
    assert found["cost"].candidate > 0
    assert "**defines a metric differently**" in change.comment
    # a metric that is gone, and that the gate names
    assert report.lost == ["missed_area"]
    assert verdicts(report)["worst_slice", "missed_area"] == "fail"
    assert "a metric that this change lacks: missed" in change.comment
    # the evaluation holds what this change defines
    assert verdicts(report)["recorded", ""] == "pass"
    assert change.code == 1


def test_a_broken_metric_stops_the_evaluation_and_is_named_with_its_line(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    path = project.folder / "src/project/metrics.py"
    path.write_text(path.read_text() + MISSED.replace("area, 0.0)", "area, 0.0).mean()"))
    line = path.read_text().splitlines().index(MISSED.splitlines()[2]) + 1
    output = project.stage("evaluate", check=False).stdout
    assert f"error: src/project/metrics.py, line {line}: missed_area returns 7.47762, expected an array" in output
    assert "one for each row, because it is declared with per_row" in output
    path.write_text(path.read_text().replace("greater_is_better=False, ", ""))
    output = project.run(sys.executable, "-m", "mlops.review.check", check=False).stdout
    assert f"error: src/project/metrics.py, line {line}: metric missed_area does not say" in output


def test_the_search_may_optimise_a_metric_of_the_team(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    space = {"C": [0.01, 1.0]}
    project.edit_params(
        lambda params: params.update(
            tuning={"method": "grid", "metric": "missed_area", "space": space, "folds": 3},
        )
    )
    add_metrics(project)
    output = project.run("dvc", "repro", "tune").stdout
    assert "missed_area" in output
    trials = project.read("reports/tuning.json")
    assert '"mean": -' in trials
    project.run("dvc", "repro", "train")
    # another definition of the metric: another search
    path = project.folder / "src/project/metrics.py"
    path.write_text(path.read_text().replace("area, 0.0)", "area + 1, 0.0)"))
    project.run("dvc", "repro", "tune")
    assert project.read("reports/tuning.json") != trials
