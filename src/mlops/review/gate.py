"""The gate: each rule of a policy against the evidence, as pass, fail or *cannot tell*, in words.

It fails closed: where evidence is missing, the rule fails and says what is missing. *Cannot tell* is for rows that are
too few, and for a main that has no model yet; each rule says whether that blocks.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from mlops.core import policy
from mlops.core.policy import Gate, subject
from mlops.core.report import Estimate, Policy, Result, Verdict, Waiver, shortened
from mlops.model.curves import Rows, calibration_error
from mlops.model.metrics import greater_is_better
from mlops.review.compare import Paired, holm, interval, p_value
from mlops.review.verdict import MEGABYTE, blocks, overall

SIMULATIONS = 1_000


class SliceEvidence(NamedTuple):
    """A slice of the test rows, compared on its own."""

    column: str
    name: str
    rows: int
    pairs: dict[str, Paired]

    def __str__(self) -> str:
        return f"{self.column} {self.name}"


class Evidence(NamedTuple):
    """What the rules look at.

    Attributes
    ----------
    rows : int
        Test rows.
    pairs : dict of str to Paired
        Each metric on the test rows.
    slices : list of SliceEvidence
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
    drift : list of (str, float) or None
        Columns with their population stability index, the largest first.
    model_bytes : int
    latency_ms : float
    moved : list of str
        Where `dvc.lock` is not what the commit makes, or an output not what `dvc.lock` says.
    dirty : bool
        Whether there are uncommitted changes.
    leaked : int
        Test rows that are training rows, too.
    misrecorded : list of str
        Numbers of the recorded evaluation that are not the model's.
    """

    rows: int
    pairs: dict[str, Paired]
    slices: list[SliceEvidence]
    baseline_problem: str | None
    first: bool
    train: dict[str, float]
    calibration: Rows
    validation: dict[str, Any] | None
    drift: list[tuple[str, float]] | None
    model_bytes: int
    latency_ms: float
    moved: list[str]
    dirty: bool
    leaked: int
    misrecorded: list[str]


class Finding(NamedTuple):
    """What a rule found, before waivers."""

    verdict: Verdict
    why: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    limit: float | None = None
    unit: Literal["", "bytes", "ms"] = ""


def judge(gate: Gate, evidence: Evidence, lines: dict[tuple[str, str], int], today: datetime.date) -> Policy:
    """Judge the evidence by a policy.

    Parameters
    ----------
    lines : dict of (str, str) to int
        Rule and subject to the line in this change's `gate.yaml`.
    """
    by_slice = sum(isinstance(rule, policy.SlicesNoWorse) for rule in gate.rules)
    whole = any(isinstance(rule, policy.NoWorse) for rule in gate.rules)
    # the whole model and each rule about its slices share the risk of a false alarm
    judged = Judge(gate, evidence, (1 - gate.confidence) / max(1, whole + by_slice))
    results = [_result(rule, judged.find(rule), gate, lines, today) for rule in gate.rules]
    return Policy(verdict=overall(results), blocks=any(result.blocks for result in results), results=results)


def _result(
    rule: policy.Rule, finding: Finding, gate: Gate, lines: dict[tuple[str, str], int], today: datetime.date
) -> Result:
    about = subject(rule)
    waivers = [each for each in gate.waivers if (each.rule, each.subject) == (rule.rule, about)]
    waiver = max(waivers, key=lambda each: each.until, default=None)
    why = finding.why
    if waiver and waiver.until < today and finding.verdict != "pass":
        why += f" (its waiver expired on {waiver.until})"
    waived = waiver if waiver and waiver.until >= today and finding.verdict != "pass" else None
    return Result(
        rule=rule.rule,
        subject=shortened(about),
        found=Estimate(value=finite(finding.value), low=finite(finding.low), high=finite(finding.high)),
        limit=finding.limit,
        unit=finding.unit,
        verdict=finding.verdict,
        blocks=blocks(rule, finding.verdict) and waived is None,
        why=shortened(why),
        line=lines.get((rule.rule, about)),
        waiver=None if waived is None else Waiver(reason=shortened(waived.reason), until=str(waived.until)),
    )


def finite(value: float | None) -> float | None:
    """Six decimals, or None."""
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


class Judge:
    """The rules of one policy against one body of evidence."""

    def __init__(self, gate: Gate, evidence: Evidence, alpha: float) -> None:
        self.gate, self.evidence, self.alpha = gate, evidence, alpha
        rules = [rule for rule in gate.rules if isinstance(rule, policy.NoWorse)]
        self.alpha_each = alpha / max(1, len(rules))
        p_values = [self.evidence.pairs[rule.metric].p_value() if self._known(rule.metric) else 1.0 for rule in rules]
        self.worse = {rule.metric: rejected for rule, rejected in zip(rules, holm(p_values, alpha), strict=True)}

    def find(self, rule: policy.Rule) -> Finding:
        """What a rule finds; a rule whose evidence is missing fails."""
        if not self.evidence.rows:
            return Finding("fail", "there are no test rows")
        finders: dict[type, Callable[[Any], Finding]] = {
            policy.Floor: self.floor,
            policy.Ceiling: self.ceiling,
            policy.NoWorse: self.no_worse,
            policy.SlicesNoWorse: self.slices_no_worse,
            policy.WorstSlice: self.worst_slice,
            policy.GroupGap: self.group_gap,
            policy.Calibration: self.calibration,
            policy.Validation: self.validation,
            policy.Drift: self.drift,
            policy.Overfitting: self.overfitting,
            policy.ModelSize: self.model_size,
            policy.Latency: self.latency,
            policy.Lock: self.lock,
            policy.Leakage: self.leakage,
            policy.Recorded: self.recorded,
        }
        metric = getattr(rule, "metric", None)
        if metric in self.evidence.pairs and not self._known(metric):
            return Finding("fail", f"{metric} is undefined on these test rows")
        if metric is not None and not self._known(metric):
            known = ", ".join(self.evidence.pairs)
            return Finding("fail", f"there is no metric {metric} of this model; it has {known}")
        return finders[type(rule)](rule)

    def _known(self, metric: str) -> bool:
        return metric in self.evidence.pairs and math.isfinite(self.evidence.pairs[metric].candidate)

    def floor(self, rule: policy.Floor) -> Finding:
        return self._bound(rule.metric, rule.at_least, above=True)

    def ceiling(self, rule: policy.Ceiling) -> Finding:
        return self._bound(rule.metric, rule.at_most, above=False)

    def _bound(self, metric: str, limit: float, *, above: bool) -> Finding:
        pair = self.evidence.pairs[metric]
        values = pair.candidate_values[np.isfinite(pair.candidate_values)]
        low, high = interval(values, self.gate.confidence)
        value = pair.candidate
        kept, reaches = (value >= limit, high >= limit) if above else (value <= limit, low <= limit)
        side = "least" if above else "most"
        verdict: Verdict = "pass" if kept else "cannot tell" if reaches else "fail"
        why = {
            "pass": f"{metric} is {value:.4g}, at {side} {limit:g} is asked for",
            "cannot tell": f"{metric} is {value:.4g}, where at {side} {limit:g} is asked for; "
            f"with so few test rows it may be {low:.4g} to {high:.4g}",
            "fail": f"{metric} is {value:.4g} ({low:.4g} to {high:.4g}), where at {side} {limit:g} is asked for",
        }[verdict]
        return Finding(verdict, why, value, low, high, limit)

    def _without_baseline(self) -> Finding | None:
        if not self.evidence.baseline_problem:
            return None
        return Finding("cannot tell" if self.evidence.first else "fail", self.evidence.baseline_problem)

    def no_worse(self, rule: policy.NoWorse) -> Finding:
        pair = self.evidence.pairs[rule.metric]
        missing = self._without_baseline()
        if missing:
            return missing._replace(limit=rule.margin)
        verdict, why = self._against_main(rule.metric, pair, rule.margin, self.worse[rule.metric], self.alpha_each)
        return self._difference(pair, verdict, why, rule)

    def _difference(
        self, pair: Paired, verdict: Verdict, why: str, rule: policy.NoWorse | policy.SlicesNoWorse
    ) -> Finding:
        value, (low, high) = pair.candidate - pair.baseline, pair.difference(self.gate.confidence)
        return Finding(verdict, why, value, low, high, rule.margin)

    def _against_main(
        self, name: str, pair: Paired, margin: float, significant: bool, alpha: float
    ) -> tuple[Verdict, str]:
        """Whether a loss is real and matters, is excluded, or neither."""
        if not math.isfinite(pair.loss):
            return "cannot tell", f"{name} is undefined for main's model on these rows"
        if significant and pair.loss > margin:
            return "fail", f"{name} is worse than main's by {pair.loss:.4g}, more than the {margin:g} allowed"
        if pair.largest_loss(self.gate.confidence) <= margin:
            change = "no different from" if not pair.losses.any() else "not worse than"
            return "pass", f"{name} is {change} main's, within the {margin:g} allowed"
        smallest = pair.detectable(1 - alpha, margin)
        told = f"a loss only from {smallest:.2g} on" if math.isfinite(smallest) else "no loss at all"
        return "cannot tell", f"{name} may have lost more than {margin:g}: these rows would show {told}"

    def slices_no_worse(self, rule: policy.SlicesNoWorse) -> Finding:
        missing = self._without_baseline()
        if missing:
            return missing._replace(limit=rule.margin)
        judged = self._slices(rule.metric, rule.min_rows)
        if not judged:
            return self._no_slices(rule.min_rows)
        significant = holm([each.pairs[rule.metric].p_value() for each in judged], self.alpha)
        alpha = self.alpha / len(judged)
        found = [
            (each, *self._against_main(f"{rule.metric} of {each}", each.pairs[rule.metric], rule.margin, real, alpha))
            for each, real in zip(judged, significant, strict=True)
        ]
        order = {"fail": 0, "cannot tell": 1, "pass": 2}
        worst, verdict, why = min(
            found, key=lambda each: (order[each[1]], -np.nan_to_num(each[0].pairs[rule.metric].loss))
        )
        pair = worst.pairs[rule.metric]
        if verdict == "pass":
            within = f"within the {rule.margin:g} allowed"
            why = f"{rule.metric} is not worse than main's in any of {len(judged)} slices, {within}"
        return self._difference(pair, verdict, why, rule)

    def _slices(self, metric: str, min_rows: int) -> list[SliceEvidence]:
        return [
            each
            for each in self.evidence.slices
            if each.rows >= min_rows and metric in each.pairs and math.isfinite(each.pairs[metric].candidate)
        ]

    def _no_slices(self, min_rows: int) -> Finding:
        if not self.evidence.slices:
            return Finding("fail", "there are no slices: evaluate.slices names no column")
        return Finding("cannot tell", f"no slice has {min_rows} test rows")

    def worst_slice(self, rule: policy.WorstSlice) -> Finding:
        judged = self._slices(rule.metric, rule.min_rows)
        if not judged:
            return self._no_slices(rule.min_rows)
        sign = 1 if greater_is_better(rule.metric) else -1

        pairs = [each.pairs[rule.metric] for each in judged]
        short = [
            p_value(sign * (rule.limit - pair.candidate), sign * (rule.limit - pair.candidate_values)) for pair in pairs
        ]
        missed = holm(short, 1 - self.gate.confidence)
        failing = [each for each, significant in zip(judged, missed, strict=True) if significant]
        worst = min(failing or judged, key=lambda each: sign * each.pairs[rule.metric].candidate)
        pair = worst.pairs[rule.metric]
        low, high = interval(pair.candidate_values[np.isfinite(pair.candidate_values)], self.gate.confidence)
        kept = sign * pair.candidate >= sign * rule.limit
        verdict: Verdict = "fail" if failing else "pass" if kept else "cannot tell"
        side = "least" if sign > 0 else "most"
        why = f"{rule.metric} of the worst slice, {worst} ({worst.rows:,} rows), is {pair.candidate:.4g}, "
        why += f"at {side} {rule.limit:g} is asked for"
        if verdict == "cannot tell":
            why += f"; with so few rows it may be {low:.4g} to {high:.4g}"
        return Finding(verdict, why, pair.candidate, low, high, rule.limit)

    def group_gap(self, rule: policy.GroupGap) -> Finding:
        groups = [each for each in self._slices(rule.metric, rule.min_rows) if each.column == rule.column]
        if rule.column not in {each.column for each in self.evidence.slices}:
            return Finding("fail", f"{rule.column} is not one of evaluate.slices, so its groups are not known")
        if len(groups) < 2:
            return Finding(
                "cannot tell",
                f"fewer than two groups of {rule.column} have {rule.min_rows} test rows",
            )
        groups.sort(key=lambda each: each.pairs[rule.metric].candidate)
        least, most = groups[0], groups[-1]
        values = most.pairs[rule.metric].candidate_values - least.pairs[rule.metric].candidate_values
        values = values[np.isfinite(values)]
        gap = most.pairs[rule.metric].candidate - least.pairs[rule.metric].candidate
        # the two were chosen among all pairs of groups
        pairs = len(groups) * (len(groups) - 1) / 2
        significant = p_value(gap - rule.at_most, values - rule.at_most) <= (1 - self.gate.confidence) / pairs
        low, high = interval(values, self.gate.confidence)
        verdict: Verdict = "pass" if gap <= rule.at_most else "fail" if significant else "cannot tell"
        why = f"{rule.metric} of {most} and of {least} differ by {gap:.4g}, at most {rule.at_most:g} is allowed"
        return Finding(verdict, why, gap, low, high, rule.at_most)

    def calibration(self, rule: policy.Calibration) -> Finding:
        bins = self.evidence.calibration
        if not bins:
            return Finding(
                "fail", "the model gives no probabilities, so its calibration is not known", limit=rule.at_most
            )
        error = calibration_error(bins)
        chance = error_by_chance(bins, self.gate.confidence)
        verdict: Verdict = "pass" if error <= rule.at_most else "fail" if error > chance else "cannot tell"
        why = f"probabilities are off by {error:.3g} on average, at most {rule.at_most:g} is allowed"
        if verdict == "cannot tell":
            why += f"; with so few rows even a perfect model may show {chance:.3g}"
        return Finding(verdict, why, error, limit=rule.at_most)

    def validation(self, rule: policy.Validation) -> Finding:
        found = self.evidence.validation
        if not found or not found["expectations"]:
            return Finding("fail", "the table was held against no expectations: validate.suite names none")
        failed, critical = found["failed_warning"], found["failed_critical"]
        kept = not critical and failed <= rule.warnings
        why = f"{found['passed']:,} of {found['expectations']:,} expectations hold"
        if not kept:
            why += f"; {critical + failed:,} that matter do not, {rule.warnings:,} may"
        return Finding("pass" if kept else "fail", why, float(failed + critical), limit=float(rule.warnings))

    def drift(self, rule: policy.Drift) -> Finding:
        if self.evidence.drift is None:
            missing = self._without_baseline() or Finding("fail", "main's training rows are not known")
            return missing._replace(limit=rule.at_most)
        if not self.evidence.drift:
            return Finding("fail", "no column of main's training rows is left to compare", limit=rule.at_most)
        column, index = self.evidence.drift[0]
        moved = sum(each > rule.at_most for _, each in self.evidence.drift)
        why = f"{column} has moved most, with a stability index of {index:.2g}"
        if math.isinf(index):
            why = f"{column} holds values of another type than on main"
        if moved:
            why += f"; {moved:,} column(s) are above the {rule.at_most:g} allowed"
        return Finding("fail" if moved else "pass", why, index, limit=rule.at_most)

    def overfitting(self, rule: policy.Overfitting) -> Finding:
        pair = self.evidence.pairs[rule.metric]
        learned = self.evidence.train.get(rule.metric, math.nan)
        if not math.isfinite(learned):
            return Finding("fail", f"{rule.metric} is undefined on the training rows", limit=rule.at_most)
        values = pair.sign * (learned - pair.candidate_values)
        low, high = interval(values[np.isfinite(values)], self.gate.confidence)
        gap = pair.sign * (learned - pair.candidate)
        verdict: Verdict = "pass" if gap <= rule.at_most else "fail" if low > rule.at_most else "cannot tell"
        why = f"{rule.metric} is better on the training rows by {gap:.4g}, at most {rule.at_most:g} is allowed"
        if gap <= 0:
            why = f"{rule.metric} is no better on the training rows"
        return Finding(verdict, why, gap, low, high, rule.at_most)

    def model_size(self, rule: policy.ModelSize) -> Finding:
        size, limit = self.evidence.model_bytes, rule.at_most * MEGABYTE
        why = f"the model file has {size / MEGABYTE:,.3g} MB, at most {rule.at_most:g} MB are allowed"
        return Finding("pass" if size <= limit else "fail", why, float(size), limit=limit, unit="bytes")

    def latency(self, rule: policy.Latency) -> Finding:
        value = self.evidence.latency_ms
        why = f"one row takes {value:.2g} ms, at most {rule.at_most:g} ms are allowed"
        return Finding("pass" if value <= rule.at_most else "fail", why, value, limit=rule.at_most, unit="ms")

    def lock(self, rule: policy.Lock) -> Finding:
        moved = self.evidence.moved
        if not moved:
            return Finding("pass", "dvc.lock is what this commit makes")
        where = ", ".join(moved[:5]) + (f" and {len(moved) - 5} more" if len(moved) > 5 else "")
        if self.evidence.dirty:
            return Finding("cannot tell", f"dvc.lock has moved and is not committed yet: {where}")
        return Finding("fail", f"dvc.lock is not what this commit makes: {where}; run make and commit what changed")

    def leakage(self, rule: policy.Leakage) -> Finding:
        count = self.evidence.leaked
        why = f"{count:,} test row(s) are training rows, too" if count else "no test row is a training row"
        return Finding("fail" if count else "pass", why, float(count), limit=0.0)

    def recorded(self, rule: policy.Recorded) -> Finding:
        wrong = self.evidence.misrecorded
        if not wrong:
            return Finding("pass", "the recorded evaluation is what the model does on the test rows")
        return Finding("fail", f"the recorded evaluation is not what the model does: {', '.join(wrong[:5])}")


def error_by_chance(bins: Rows, confidence: float) -> float:
    """The calibration error that a perfectly calibrated model stays below (consistency resampling, Bröcker and Smith
    2007, doi:10.1175/WAF993.1), with each bin's share of hits drawn from its normal approximation."""
    predicted = np.array([each["predicted_probability"] for each in bins])
    rows = np.array([each["rows"] for each in bins])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(SIMULATIONS, len(bins))) * np.sqrt(predicted * (1 - predicted) / rows)
    return float(np.quantile(np.average(np.abs(noise), axis=1, weights=rows), confidence))
