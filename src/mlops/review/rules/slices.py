"""Limits on slices of the test rows: `worst_slice` and `group_gap`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mlops.core.errors import counted
from mlops.core.report import Verdict
from mlops.review.rules.base import (
    ROUNDING,
    Case,
    Finding,
    Inconclusive,
    Limit,
    Metric,
    MinRows,
    Positive,
    Rule,
    holm,
    interval_words,
)

if TYPE_CHECKING:
    from mlops.review.gate import SliceMeasurements


class WorstSlice(Rule):
    """A metric must reach a limit in every slice, corrected for the number of slices."""

    rule: Literal["worst_slice"] = Field(description="Kind of rule.")
    metric: Metric
    limit: Limit
    """A lower limit, or an upper one where lower values are better."""
    min_rows: MinRows = 30
    inconclusive: Inconclusive = "warn"

    @property
    def bound(self) -> float:
        return self.limit

    def keeps(self, value: float, bound: float, greater_is_better: bool) -> bool:
        return value >= bound - ROUNDING if greater_is_better else value <= bound + ROUNDING

    def find(self, case: Case) -> Finding:
        judged = slices_of(case, self.metric, self.min_rows)
        if not judged:
            return no_slices(case, self.min_rows)
        sign = judged[0].pairs[self.metric].sign
        missed = holm([each.pairs[self.metric].p_missed(self.limit) for each in judged], 1 - case.confidence)
        failing = [each for each, significant in zip(judged, missed, strict=True) if significant]
        worst = min(failing or judged, key=lambda each: sign * each.pairs[self.metric].candidate)
        found = worst.pairs[self.metric].found
        low, high = found.interval(case.confidence)
        kept = sign * found.value >= sign * self.limit
        verdict: Verdict = "fail" if failing else "pass" if kept else "inconclusive"
        where = f"{worst} ({counted(worst.rows, 'row')})"
        why = f"{self.metric} is {found.value:.4g} in the worst slice, {where}; "
        why += f"at {'least' if sign > 0 else 'most'} {self.limit:g} is required"
        if verdict == "inconclusive":
            why += f", but the {interval_words(low, high, case.confidence)} includes it"
        return Finding(verdict, why, found.value, low, high)


class GroupGap(Rule):
    """A metric must not differ by more than a limit between the best and the worst group of a column."""

    rule: Literal["group_gap"] = Field(description="Kind of rule.")
    column: str
    """One of `evaluate.slices`."""
    metric: Metric
    at_most: Positive
    min_rows: MinRows = 30
    inconclusive: Inconclusive = "warn"

    @property
    def bound(self) -> float:
        return self.at_most

    def find(self, case: Case) -> Finding:
        groups = [each for each in slices_of(case, self.metric, self.min_rows) if each.column == self.column]
        if self.column not in {each.column for each in case.evidence.slices}:
            return Finding("fail", f"{self.column} is not one of evaluate.slices, so its groups were not evaluated")
        if len(groups) < 2:
            return Finding("inconclusive", f"fewer than two groups of {self.column} have {self.min_rows} test rows")
        groups.sort(key=lambda each: each.pairs[self.metric].candidate)
        least, most = groups[0], groups[-1]
        gap = most.pairs[self.metric].above(least.pairs[self.metric])
        # the two were chosen among all pairs of groups
        pairs = len(groups) * (len(groups) - 1) / 2
        significant = gap.p_above(self.at_most) <= (1 - case.confidence) / pairs
        verdict: Verdict = "pass" if gap.value <= self.at_most else "fail" if significant else "inconclusive"
        why = (
            f"{self.metric} differs by {gap.value:.4g} between {most} and {least}; at most {self.at_most:g} is allowed"
        )
        if verdict == "inconclusive":
            why += "; with so few rows the difference may be chance"
        return Finding(verdict, why, gap.value, *gap.interval(case.confidence))


def slices_of(case: Case, metric: str, min_rows: int) -> list[SliceMeasurements]:
    """Slices that are large enough and in which the metric is defined."""
    return [
        each
        for each in case.evidence.slices
        if each.rows >= min_rows and metric in each.pairs and math.isfinite(each.pairs[metric].candidate)
    ]


def no_slices(case: Case, min_rows: int) -> Finding:
    """The finding where no slice is large enough."""
    if not case.evidence.slices:
        return Finding("fail", "there are no slices: evaluate.slices names no column")
    return Finding("inconclusive", f"no slice has {min_rows} test rows")
