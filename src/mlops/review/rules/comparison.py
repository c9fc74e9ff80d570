"""Comparisons with main's model: `no_worse` for the whole test set, `slices_no_worse` for every slice of it.

A loss blocks when it is significant and larger than the margin; a loss that the rows cannot exclude is inconclusive.
The risk of a false alarm is shared: by the metrics of `no_worse` and by the slices of a rule (Holm 1979), and evenly
between the whole test set and each rule about slices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mlops.core.report import Verdict
from mlops.review.rules.base import ROUNDING, Case, Finding, Inconclusive, Margin, Metric, MinRows, Rows, Rule, holm
from mlops.review.rules.slices import no_slices, slices_of

if TYPE_CHECKING:
    from mlops.review.compare import Paired

ORDER = {"fail": 0, "inconclusive": 1, "pass": 2}


class Comparison(Rule):
    """A rule whose number is a difference and whose limit is a loss."""

    metric: Metric
    margin: Margin

    @property
    def bound(self) -> float:
        return self.margin

    def keeps(self, value: float, bound: float, greater_is_better: bool) -> bool:
        return (-value if greater_is_better else value) <= bound + ROUNDING

    def compared(self, case: Case, name: str, pair: Paired, significant: bool, alpha: float) -> Finding:
        """Whether a loss is significant and matters, is excluded, or neither."""
        verdict, why = _against_main(name, pair, self.margin, case.confidence, significant, alpha)
        return Finding(verdict, why, pair.candidate - pair.baseline, *pair.difference(case.confidence))


class NoWorse(Comparison):
    """A metric must not be worse than main's by more than a margin."""

    shown_as: ClassVar = "difference"

    rule: Literal["no_worse"] = Field(description="Kind of rule.")
    metric: Metric
    margin: Margin
    rows: Rows = "frozen"
    inconclusive: Inconclusive = "warn"

    def find(self, case: Case) -> Finding:
        missing = case.without_main(self)
        if missing:
            return missing
        rules = [rule for rule in case.gate.rules if isinstance(rule, NoWorse)]
        p_values = [case.pairs(rule)[rule.metric].p_value() if _known(rule, case) else 1.0 for rule in rules]
        significant = holm(p_values, _alpha(case))[rules.index(self)]
        pair = case.pairs(self)[self.metric]
        if not self.recent:
            return self.compared(case, self.metric, pair, significant, _alpha(case) / len(rules))
        found = self.compared(case, f"{self.metric} on the recent rows", pair, significant, _alpha(case) / len(rules))
        return found._replace(why=found.why.replace("this test set", "this window").replace("test rows", "rows"))


class SlicesNoWorse(Comparison):
    """A metric must not be worse than main's by more than a margin in any slice, corrected for the number of slices."""

    rule: Literal["slices_no_worse"] = Field(description="Kind of rule.")
    metric: Metric
    margin: Margin
    min_rows: MinRows = 30
    inconclusive: Inconclusive = "warn"

    def find(self, case: Case) -> Finding:
        missing = case.without_main()
        if missing:
            return missing
        judged = slices_of(case, self.metric, self.min_rows)
        if not judged:
            return no_slices(case, self.min_rows)
        pairs = [each.pairs[self.metric] for each in judged]
        significant = holm([pair.p_value() for pair in pairs], _alpha(case))
        found = [
            self.compared(case, f"{self.metric} of {each}", pair, real, _alpha(case) / len(judged))
            for each, pair, real in zip(judged, pairs, significant, strict=True)
        ]
        losses = [pair.loss if math.isfinite(pair.loss) else 0.0 for pair in pairs]
        worst = min(range(len(found)), key=lambda number: (ORDER[found[number].verdict], -losses[number]))
        if found[worst].verdict != "pass":
            return found[worst]
        excluded = f"has not {pairs[worst].verb} by more than {self.margin:g}"
        return found[worst]._replace(why=f"{self.metric} {excluded} in any of {len(judged)} slices")


def _known(rule: NoWorse, case: Case) -> bool:
    pair = case.pairs(rule).get(rule.metric)
    return pair is not None and math.isfinite(pair.candidate)


def _alpha(case: Case) -> float:
    """The part of the risk of a false alarm that the whole test set, and each rule about slices, may take."""
    by_slice = sum(isinstance(rule, SlicesNoWorse) for rule in case.gate.rules)
    whole = any(isinstance(rule, NoWorse) for rule in case.gate.rules)
    return (1 - case.confidence) / max(1, whole + by_slice)


def _against_main(
    name: str, pair: Paired, margin: float, confidence: float, significant: bool, alpha: float
) -> tuple[Verdict, str]:
    changed, loss = pair.verb, "drop" if pair.sign > 0 else "rise"
    if not math.isfinite(pair.loss):
        return "inconclusive", f"{name} is undefined for main's model on these test rows"
    if significant and pair.loss > margin:
        return "fail", f"{name} has {changed} by {pair.loss:.4g} compared with main; at most {margin:g} is allowed"
    if pair.largest_loss(confidence) <= margin:
        if pair.identical:
            return "pass", f"{name} is the same as on main"
        return "pass", f"{name} has not {changed} by more than {margin:g}"
    smallest = pair.detectable(1 - alpha, margin)
    shown = f"can only detect {loss}s of {smallest:.2g} or more" if math.isfinite(smallest) else f"can detect no {loss}"
    return "inconclusive", f"{name} may have {changed} by more than {margin:g}; this test set {shown}"
