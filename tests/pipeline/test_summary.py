"""The end of `make`, from the files that evaluation leaves."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import ROOT, Project

from mlops.pipeline.summary import metric_table, next_step


def test_each_metric_stands_with_its_interval_and_the_worst_slice_is_named() -> None:
    evaluation = json.loads((ROOT / "reports/evaluation.json").read_text(encoding="utf-8"))
    lines = metric_table(evaluation)
    for name, each in evaluation["metrics"].items():
        (line,) = [line for line in lines if line.split()[0] == name]
        numbers = [each["value"], each["low"], each["high"], each["train"], each["dummy"]]
        assert [word for word in line.split()[1:] if word != "…"] == [
            "–" if number is None else f"{number:.4f}" for number in numbers
        ]
    values = [each["metrics"]["roc_auc"]["value"] for each in evaluation["slices"]]
    assert lines[-1].endswith(f"roc_auc {min(value for value in values if value is not None):.4f}")


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_the_worst_slice_is_the_largest_error_but_the_smallest_score(metric: str) -> None:
    entry = {"value": 0.5, "low": 0.4, "high": 0.6, "train": 0.5, "dummy": None, "greater_is_better": metric == "r2"}
    slices = [
        {"column": "x", "slice": name, "rows": 9, "metrics": {metric: {"value": value}}}
        for name, value in (("small", 0.1), ("large", 0.9), ("empty", None))
    ]
    evaluation = {"metrics": {metric: entry}, "slices": slices, "interval": {"confidence": 0.95}}
    assert metric_table(evaluation)[-1].split(",")[0].endswith("x small" if metric == "r2" else "x large")


def test_without_a_run_the_summary_says_what_to_do(project: Project) -> None:
    (project.folder / "reports/evaluation.json").unlink()
    message = project.run(sys.executable, "-m", "mlops.pipeline.summary", check=False)
    assert (message.returncode, message.stdout) == (
        1,
        "error: reports/evaluation.json is missing\n  try: make, or dvc checkout\n",
    )


def test_the_next_step_is_to_commit_what_changed_and_to_push_where_there_is_a_remote(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    assert next_step()[0].startswith("  edit params.yaml on a branch")
    (project.folder / "params.yaml").write_text("edited")
    assert [line.split("  ")[1] for line in next_step()] == ["git add --all && git commit", "then open a pull request"]
    (project.folder / ".dvc/config.local").write_text(
        "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://b\n"
    )
    assert [line.split("  ")[1] for line in next_step()][1] == "dvc push"
