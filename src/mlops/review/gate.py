"""The gate: judges the evidence by each rule, as *pass*, *fail* or *inconclusive*, with the reason in a sentence.

It fails closed: if evidence is missing, the rule fails and says what is missing. A rule is inconclusive if there are
too few rows, or if main has no model yet; `inconclusive` in `gate.yaml` says whether that blocks.
"""

from __future__ import annotations

import datetime
import math
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core.report import Behaviour, Estimate, Expensive, Policy, Result, Waiver, shortened
from mlops.core.yamlfile import closest
from mlops.model.curves import Rows, calibration_error
from mlops.model.metrics import Array, Classes, Predictions
from mlops.review.compare import Paired
from mlops.review.drift import Moved
from mlops.review.policy import Gate
from mlops.review.project_rules import Code
from mlops.review.rebuilt import Rebuilt
from mlops.review.recipes import Recipes
from mlops.review.rules.base import Case, Finding, Rule
from mlops.review.verdict import overall

SIMULATIONS = 1_000


class SliceMeasurements(NamedTuple):
    """A slice of the test rows, compared on its own."""

    column: str
    name: str
    rows: int
    pairs: dict[str, Paired]

    def __str__(self) -> str:
        return f"{self.column} {self.name}"


class Recent(NamedTuple):
    """The newest labelled rows, compared on their own.

    Attributes
    ----------
    rows : int
        0 where neither main nor this change has any.
    pairs : dict of str to Paired
    problem : str or None
        Why there is nothing to compare with on them.
    lost : bool
        Whether main has such rows, and this change has none.
    """

    rows: int = 0
    pairs: dict[str, Paired] = {}  # noqa: RUF012
    problem: str | None = None
    lost: bool = False


class Judged(NamedTuple):
    """The test rows, and what both models predict of them; for the team's own rules."""

    table: pa.Table
    y: Array
    candidate: Predictions
    baseline: Predictions | None
    classes: Classes | None
    positive: Any


class Measurements(NamedTuple):
    """What the rules judge.

    Attributes
    ----------
    rows : int
        Test rows.
    pairs : dict of str to Paired
        Each metric on the test rows.
    slices : list of SliceMeasurements
    baseline_problem : str or None
        Why there is nothing to compare with.
    first : bool
        Whether that is because main has no model yet.
    train : dict of str to float
        Each metric on the training rows.
    calibration : list of dict
        Bins of predicted probability and observed share; empty where the model gives no probabilities.
    validation : dict or None
        `reports/validation.json`.
    drift : list of Moved or None
        Columns of the training rows against main's, the largest effect first.
    model_bytes : int
    latency_ms : float
    moved : list of str
        Stages whose `dvc.lock` entry is outdated, and outputs that differ from `dvc.lock`.
    dirty : bool
        Whether there are uncommitted changes.
    leaked : int
        Test rows that are also training rows.
    misrecorded : list of str
        Numbers of the recorded evaluation that differ from the model's.
    behaviour : Behaviour or None
        Results of the behaviour tests.
    judged : Judged or None
        The test rows and both models' predictions.
    recent : Recent
    elsewhere : bool
        Whether other parties hold a part of the training rows: the estimator says `trained_elsewhere`.
    rebuilt : Rebuilt or None
        How far the committed results are from the rebuilt ones, where only their bits can explain `moved`.
    believed : list of {'tune', 'train'}
        Stages of this change whose outputs are the author's, because the gate lets the review not run them.
    recipes : Recipes or None
        Main's recipe and this change's, cross-validated; None without `cross_validation` in the gate.
    """

    rows: int
    pairs: dict[str, Paired]
    slices: list[SliceMeasurements]
    baseline_problem: str | None
    first: bool
    train: dict[str, float]
    calibration: Rows
    validation: dict[str, Any] | None
    drift: list[Moved] | None
    model_bytes: int
    latency_ms: float
    moved: list[str]
    dirty: bool
    leaked: int
    misrecorded: list[str]
    behaviour: Behaviour | None = None
    judged: Judged | None = None
    recent: Recent = Recent()
    elsewhere: bool = False
    rebuilt: Rebuilt | None = None
    believed: list[Expensive] = []  # noqa: RUF012
    recipes: Recipes | None = None

    def calibration_error(self) -> float:
        """The expected calibration error."""
        return calibration_error(self.calibration)

    def calibration_error_by_chance(self, confidence: float) -> float:
        """The calibration error that a perfectly calibrated model exceeds by chance only."""
        return error_by_chance(self.calibration, confidence)


def judge(
    gate: Gate,
    evidence: Measurements,
    lines: dict[tuple[str, str], int],
    today: datetime.date,
    code: Code = Code(),  # noqa: B008  immutable
) -> Policy:
    """Judge the evidence by a policy.

    Parameters
    ----------
    lines : dict of (str, str) to int
        Rule and subject to the line in this change's `gate.yaml`.
    code : Code
        Whose `src/project/rules.py` judges.
    """
    case = Case(gate, evidence, code)
    results = [_result(rule, find(rule, case), gate, lines, today) for rule in gate.rules]
    return Policy(verdict=overall(results), blocks=any(result.blocks for result in results), results=results)


def find(rule: Rule, case: Case) -> Finding:
    """What a rule finds; a rule about training rows that others hold finds at best nothing against the change."""
    found = _find(rule, case)
    if not (case.evidence.elsewhere and rule.of_training_rows) or found.verdict == "fail":
        return found
    why = f"{rule.rule} cannot apply: other parties hold training rows; of those here, {found.why}"
    return Finding("inconclusive", why)


def _find(rule: Rule, case: Case) -> Finding:
    """What a rule finds; a rule whose evidence is missing fails."""
    pairs, metric = case.pairs(rule), getattr(rule, "metric", None) if rule.derivable else None
    if not case.evidence.rows:
        return Finding("fail", "there are no test rows")
    if rule.recent and case.evidence.recent.lost:
        return Finding("fail", "main has a recent window, and this change removes it: data.recent")
    if rule.recent and not case.evidence.recent.rows:
        return Finding("inconclusive", "there is no recent window yet: no retraining has set rows aside")
    if metric is not None and metric not in pairs:
        return Finding("fail", f"the model has no metric {metric}{closest(metric, list(pairs))}")
    if metric is not None and not math.isfinite(pairs[metric].candidate):
        return Finding("fail", f"{metric} is undefined on these {'recent' if rule.recent else 'test'} rows")
    return rule.find(case)


def _result(
    rule: Rule, finding: Finding, gate: Gate, lines: dict[tuple[str, str], int], today: datetime.date
) -> Result:
    about = rule.subject
    waivers = [waiver for waiver in gate.waivers if (waiver.rule, waiver.subject) == (rule.rule, about)]
    waiver = max(waivers, key=lambda waiver: waiver.until, default=None)
    why = finding.why
    if waiver and waiver.until < today and finding.verdict != "pass":
        why += f" (its waiver expired on {waiver.until})"
    waived = waiver if waiver and waiver.until >= today and finding.verdict != "pass" else None
    return Result(
        rule=rule.rule,
        subject=shortened(about),
        found=Estimate(value=finite(finding.value), low=finite(finding.low), high=finite(finding.high)),
        limit=rule.bound if rule.derivable else finite(finding.limit),
        unit=rule.unit,
        verdict=finding.verdict,
        blocks=rule.blocks(finding.verdict) and waived is None,
        why=shortened(why),
        line=lines.get((rule.rule, about)),
        waiver=None if waived is None else Waiver(reason=shortened(waived.reason), until=str(waived.until)),
    )


def finite(value: float | None) -> float | None:
    """Six decimals, or None."""
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def error_by_chance(bins: Rows, confidence: float) -> float:
    """The calibration error that a perfectly calibrated model stays below (consistency resampling, Bröcker and Smith
    2007, doi:10.1175/WAF993.1), with each bin's share of hits drawn from its normal approximation."""
    predicted = np.array([row["predicted_probability"] for row in bins])
    rows = np.array([row["rows"] for row in bins])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(SIMULATIONS, len(bins))) * np.sqrt(predicted * (1 - predicted) / rows)
    return float(np.quantile(np.average(np.abs(noise), axis=1, weights=rows), confidence))
