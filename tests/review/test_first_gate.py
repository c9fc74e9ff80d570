"""The gate that `make start` drafts: rules that the first model passes, with margins that the test rows can decide."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, copied
from ruamel.yaml import YAML

from mlops.core import started
from mlops.review import first_gate
from mlops.review.compare import POWER, Paired
from mlops.review.policy import Gate


@pytest.mark.parametrize(("value", "above", "below"), [(0.0131, 0.02, 0.013), (0.02, 0.02, 0.02), (234.0, 300, 230)])
def test_limits_are_rounded_to_numbers_that_people_remember(value: float, above: float, below: float) -> None:
    assert first_gate.up(value) == above
    assert first_gate.down(value) == below
    assert first_gate.down(-value) <= -value


def test_a_change_that_alters_nothing_passes_the_drafted_margin_as_often_as_promised() -> None:
    """A paired loss is normal around zero: its upper bound is below the margin in 80 % of samples."""
    rng = np.random.default_rng(0)
    spread, passed = 0.01, 0
    for _ in range(1000):
        values = rng.normal(rng.normal(0, spread), spread, 1000)
        pair = Paired("accuracy", 0.9, 0.9 - float(values.mean()), np.full(1000, 0.9), 0.9 - values)
        passed += pair.largest_loss(first_gate.CONFIDENCE) <= pair.detectable(first_gate.CONFIDENCE)
    assert abs(passed / 1000 - POWER) < 0.04


def test_the_draft_is_a_valid_gate_that_its_own_model_keeps(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    (project.folder / "gate.yaml").unlink()
    project.run(sys.executable, "-m", "mlops.review.first_gate")
    text = project.read("gate.yaml")
    gate = Gate.model_validate(YAML(typ="safe").load(text))
    rules = {(rule.rule, rule.subject): rule for rule in gate.rules}
    metrics = YAML(typ="safe").load(project.read("reports/metrics.json"))
    assert rules[("floor", "roc_auc")].bound < metrics["roc_auc"]
    assert 0 < rules[("no_worse", "roc_auc")].bound < 0.1
    assert rules[("slices_no_worse", "accuracy")].bound >= rules[("no_worse", "log_loss")].bound / 10
    assert text.count("# ") >= 8
    hinted = YAML(typ="safe").load(text.replace("\n# cross_validation", "\ncross_validation"))
    assert Gate.model_validate(hinted).cross_validation
    # once edited, it belongs to its owners
    (project.folder / "gate.yaml").write_text(text.replace("at_most: 200", "at_most: 300"), encoding="utf-8")
    refused = project.run(sys.executable, "-m", "mlops.review.first_gate", check=False)
    assert refused.returncode == 1
    assert f"{started.GATE} was edited" in refused.stdout
