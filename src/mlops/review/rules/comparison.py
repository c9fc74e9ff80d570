"""Comparisons with main's model: `no_worse` for the whole test set, `slices_no_worse` for every slice of it.

A loss blocks when it is significant and larger than the margin; a loss that the rows cannot exclude is inconclusive.
With `cross_validation`, the difference of the recipes decides, and half of the risk remains for a loss of these models
that the test rows prove.
The risk of a false alarm is shared: by the metrics of `no_worse` and by the slices of a rule (Holm 1979), and evenly
between the whole test set and each rule about slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import Field

from mlops.core.report import Verdict
from mlops.review.rules.base import ROUNDING, Case, Finding, Inconclusive, Margin, Metric, MinRows, Rows, Rule, holm
from mlops.review.rules.slices import no_slices, slices_of

if TYPE_CHECKING:
    from mlops.review.compare import Paired

ORDER = {"fail": 0, "inconclusive": 1, "pass": 2}


class Both(NamedTuple):
    """A metric of both models, and of both recipes if they are compared."""

    pair: Paired
    recipe: Paired | None


class Significant(NamedTuple):
    """Whether a loss is significant, corrected for the number of comparisons."""

    of_models: bool
    of_recipes: bool


class Comparison(Rule):
    """A rule whose number is a difference and whose limit is a loss."""

    metric: Metric
    margin: Margin

    @property
    def bound(self) -> float:
        return self.margin

    def keeps(self, value: float, bound: float, greater_is_better: bool) -> bool:
        return (-value if greater_is_better else value) <= bound + ROUNDING

    def compared(self, case: Case, name: str, both: Both, significant: Significant, alpha: float) -> Finding:
        """Whether a loss is significant and matters, is excluded, or neither."""
        pair, recipe = both
        verdict, why = _against_main(name, pair, self.margin, case.confidence, significant.of_models, alpha)
        if recipe is None or verdict == "fail":
            return Finding(verdict, why, pair.candidate - pair.baseline, *pair.difference(case.confidence))
        verdict, why = _of_recipes(name, pair, recipe, self.margin, case.confidence, significant.of_recipes)
        return Finding(verdict, why, recipe.candidate - recipe.baseline, *recipe.difference(case.confidence))


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
        all_of_them = [
            Both(case.pairs(rule)[rule.metric], _recipe(rule, case)) if _known(rule, case) else None for rule in rules
        ]
        significant = _significant(all_of_them, _alpha(case))[rules.index(self)]
        both = Both(case.pairs(self)[self.metric], _recipe(self, case))
        name = f"{self.metric} on the recent rows" if self.recent else self.metric
        found = self.compared(case, name, both, significant, _alpha(case) / len(rules))
        if not self.recent:
            return found
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
        recipes = {} if case.evidence.recipes is None else case.evidence.recipes.slices
        pairs = [each.pairs[self.metric] for each in judged]
        both = [
            Both(pair, recipes.get((each.column, each.name), {}).get(self.metric))
            for each, pair in zip(judged, pairs, strict=True)
        ]
        significant = _significant(both, _alpha(case))
        found = [
            self.compared(case, f"{self.metric} of {each}", one, real, _alpha(case) / len(judged))
            for each, one, real in zip(judged, both, significant, strict=True)
        ]
        losses = [pair.loss if math.isfinite(pair.loss) else 0.0 for pair in pairs]
        worst = min(range(len(found)), key=lambda number: (ORDER[found[number].verdict], -losses[number]))
        if found[worst].verdict != "pass":
            return found[worst]
        excluded = f"has not {pairs[worst].verb} by more than {self.margin:g}"
        return found[worst]._replace(why=f"{self.metric} {excluded} in any of {len(judged)} slices")


def _significant(all_of_them: Sequence[Both | None], alpha: float) -> list[Significant]:
    """Which losses are significant; models and recipes share the risk where both are compared."""
    split = any(both is not None and both.recipe is not None for both in all_of_them)
    models = holm([1.0 if both is None else both.pair.p_value() for both in all_of_them], alpha / 2 if split else alpha)
    of_recipes = [1.0 if both is None or both.recipe is None else both.recipe.p_value() for both in all_of_them]
    return [Significant(*each) for each in zip(models, holm(of_recipes, alpha / 2), strict=True)]


def _recipe(rule: NoWorse, case: Case) -> Paired | None:
    recipes = case.evidence.recipes
    return None if recipes is None or rule.recent else recipes.found.get(rule.metric)


def _of_recipes(
    name: str, pair: Paired, recipe: Paired, margin: float, confidence: float, significant: bool
) -> tuple[Verdict, str]:
    changed = f"{pair.verb} by more than {margin:g}"
    if significant and recipe.loss > margin:
        return "fail", f"by the recipes, {name} has {pair.verb} by {recipe.loss:.4g}; at most {margin:g} is allowed"
    if recipe.largest_loss(confidence) <= margin:
        return "pass", f"by the recipes, {name} has not {changed}"
    return "inconclusive", f"by the recipes and by the test rows, {name} may have {changed}"


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
