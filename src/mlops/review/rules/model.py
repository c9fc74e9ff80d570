"""Limits on other properties of the model: `calibration`, `overfitting`, `model_size` and `latency`."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlops.core.report import Verdict
from mlops.core.settings import Share
from mlops.review.rules.base import Case, Finding, Inconclusive, Metric, Positive, Rule, interval_words

MEGABYTE = 1_000_000


class Calibration(Rule):
    """The expected calibration error must not exceed a limit."""

    rule: Literal["calibration"] = Field(description="Kind of rule.")
    at_most: Annotated[Share, Field(description="The limit.")]
    inconclusive: Inconclusive = "warn"

    @property
    def bound(self) -> float:
        return self.at_most

    def find(self, case: Case) -> Finding:
        if not case.evidence.calibration:
            return Finding("fail", "the model gives no probabilities, so it has no calibration error")
        error = case.evidence.calibration_error()
        chance = case.evidence.calibration_error_by_chance(case.confidence)
        verdict: Verdict = "pass" if error <= self.at_most else "fail" if error > chance else "inconclusive"
        why = f"the expected calibration error is {error:.3g}; at most {self.at_most:g} is allowed"
        if verdict == "inconclusive":
            why += f"; with so few test rows a perfectly calibrated model can reach {chance:.3g}"
        return Finding(verdict, why, error)


class Overfitting(Rule):
    """A metric must not be better on the training rows than on the test rows by more than a limit."""

    of_training_rows: ClassVar = True
    by_interval: ClassVar = True

    rule: Literal["overfitting"] = Field(description="Kind of rule.")
    metric: Metric
    at_most: Positive
    inconclusive: Inconclusive = "warn"

    @property
    def bound(self) -> float:
        return self.at_most

    def find(self, case: Case) -> Finding:
        learned = case.evidence.train.get(self.metric, math.nan)
        if not math.isfinite(learned):
            return Finding("fail", f"{self.metric} is undefined on the training rows")
        gap = case.evidence.pairs[self.metric].behind(learned)
        low, high = gap.interval(case.confidence)
        reaches = low <= self.at_most <= high
        verdict: Verdict = "pass" if gap.value <= self.at_most else "inconclusive" if reaches else "fail"
        if gap.value <= 0:
            return Finding(verdict, f"{self.metric} is no better on the training rows", gap.value, low, high)
        why = f"{self.metric} is better on the training rows by {gap.value:.4g}; at most {self.at_most:g} is allowed"
        if verdict == "inconclusive":
            why += f", but the {interval_words(low, high, case.confidence)} includes it"
        return Finding(verdict, why, gap.value, low, high)


class ModelSize(Rule):
    """The model file must not be larger than this many megabytes."""

    unit: ClassVar = "bytes"

    rule: Literal["model_size"] = Field(description="Kind of rule.")
    at_most: Positive

    @property
    def bound(self) -> float:
        return self.at_most * MEGABYTE

    def find(self, case: Case) -> Finding:
        size = case.evidence.model_bytes
        why = f"the model file has {size / MEGABYTE:,.3g} MB; at most {self.at_most:g} MB are allowed"
        return Finding("pass" if size <= self.bound else "fail", why, float(size))


class Latency(Rule):
    """Predicting one row must not take longer than this many milliseconds (median, on the machine of the review)."""

    unit: ClassVar = "ms"

    rule: Literal["latency"] = Field(description="Kind of rule.")
    at_most: Positive

    @property
    def bound(self) -> float:
        return self.at_most

    def find(self, case: Case) -> Finding:
        value = case.evidence.latency_ms
        why = f"predicting one row takes {value:.3g} ms; at most {self.at_most:g} ms are allowed"
        return Finding("pass" if value <= self.at_most else "fail", why, value)
