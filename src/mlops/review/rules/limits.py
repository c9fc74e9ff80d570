"""Limits on a metric of the whole test set: `floor` and `ceiling`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mlops.core.report import Verdict
from mlops.review.rules.base import ROUNDING, Case, Finding, Inconclusive, Limit, Metric, Rows, Rule, interval_words


class Floor(Rule):
    """A metric on the test rows must be at least this high."""

    shown_as: ClassVar = "candidate"
    by_interval: ClassVar = True

    rule: Literal["floor"] = Field(description="Kind of rule.")
    metric: Metric
    at_least: Limit
    rows: Rows = "frozen"
    inconclusive: Inconclusive = "block"

    @property
    def bound(self) -> float:
        return self.at_least

    def keeps(self, value: float, bound: float, greater_is_better: bool) -> bool:
        return value >= bound - ROUNDING

    def find(self, case: Case) -> Finding:
        return _limited(case, self, self.at_least, above=True)


class Ceiling(Rule):
    """A metric on the test rows must be at most this high."""

    shown_as: ClassVar = "candidate"
    by_interval: ClassVar = True

    rule: Literal["ceiling"] = Field(description="Kind of rule.")
    metric: Metric
    at_most: Limit
    rows: Rows = "frozen"
    inconclusive: Inconclusive = "block"

    @property
    def bound(self) -> float:
        return self.at_most

    def find(self, case: Case) -> Finding:
        return _limited(case, self, self.at_most, above=False)


def _limited(case: Case, rule: Floor | Ceiling, limit: float, *, above: bool) -> Finding:
    found = case.pairs(rule)[rule.metric].found
    metric = f"{rule.metric} on the recent rows" if rule.recent else rule.metric
    low, high = found.interval(case.confidence)
    kept, reaches = (found.value >= limit, high >= limit) if above else (found.value <= limit, low <= limit)
    verdict: Verdict = "pass" if kept else "inconclusive" if reaches else "fail"
    needed = f"at {'least' if above else 'most'} {limit:g} is required"
    between = interval_words(low, high, case.confidence)
    why = {
        "pass": f"{metric} is {found.value:.4g}; {needed}",
        "inconclusive": f"{metric} is {found.value:.4g}; {needed}, but the {between} includes it",
        "fail": f"{metric} is {found.value:.4g} ({between}); {needed}",
    }[verdict]
    return Finding(verdict, why, found.value, low, high)
