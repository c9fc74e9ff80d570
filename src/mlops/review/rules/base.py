"""What every rule shares: its settings, its finding, and what can be checked from its numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, get_args

from pydantic import Field, FiniteFloat

from mlops.core.report import Estimate, Report, Verdict
from mlops.core.yamlfile import Section

if TYPE_CHECKING:
    from mlops.review.compare import Paired
    from mlops.review.gate import Measurements
    from mlops.review.policy import Gate
    from mlops.review.project_rules import Code

# A number of a report and its limit are rounded to six decimals
ROUNDING = 2e-6

Unit = Literal["", "bytes", "ms"]
Metric = Annotated[str, Field(min_length=1, description="A metric of the task, as `dvc metrics show` names it.")]
Limit = Annotated[FiniteFloat, Field(description="In units of the metric.")]
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False, description="Non-inferiority margin: the tolerated loss.")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, description="The limit.")]
Rows = Annotated[
    Literal["frozen", "recent"],
    Field(
        description="The test rows, or the newest labelled ones (`data.recent`), if a retraining has set some aside."
    ),
]
MinRows = Annotated[int, Field(ge=2, description="Slices with fewer test rows are ignored.")]
Inconclusive = Annotated[
    Literal["block", "warn"],
    Field(description="Whether the change is blocked when the rule is inconclusive, mostly for too few test rows."),
]


class Finding(NamedTuple):
    """What a rule found, before waivers."""

    verdict: Verdict
    why: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    limit: float | None = None
    """Only of a rule whose limit is no key of `gate.yaml`."""


class Case(NamedTuple):
    """What a rule decides on: the evidence, the gate that the rule is a row of, and whose `src/project/rules.py`."""

    gate: Gate
    evidence: Measurements
    code: Code

    @property
    def confidence(self) -> float:
        return self.gate.confidence

    def pairs(self, rule: Rule) -> dict[str, Paired]:
        """Each metric, on the rows that a rule is about."""
        return self.evidence.recent.pairs if rule.recent else self.evidence.pairs

    def without_main(self, rule: Rule | None = None) -> Finding | None:
        """Why there is nothing to compare with; inconclusive for the first model, a failure otherwise."""
        if rule is not None and rule.recent and self.evidence.recent.problem:
            return Finding("fail", self.evidence.recent.problem)
        if not self.evidence.baseline_problem:
            return None
        return Finding("inconclusive" if self.evidence.first else "fail", self.evidence.baseline_problem)


class Rule(Section):
    """One row of the gate."""

    rule: str

    unit: ClassVar[Unit] = ""
    shown_as: ClassVar[Literal["candidate", "difference"] | None] = None
    """Which number of the table of metrics the result repeats."""
    derivable: ClassVar[bool] = True
    """Whether the reported numbers can be checked without running the rule."""
    of_training_rows: ClassVar[bool] = False
    """Whether the rule needs all training rows, so that it cannot pass where others hold them."""
    by_interval: ClassVar[bool] = False
    """Whether the rule is inconclusive only where the limit lies in the interval."""

    @classmethod
    def built_in(cls) -> str | None:
        """The name that `gate.yaml` uses; None for a class that only others build on."""
        names = get_args(cls.model_fields["rule"].annotation)
        return str(names[0]) if names else None

    @property
    def subject(self) -> str:
        """What the rule is about: a metric, a column, or nothing in particular."""
        named = [str(getattr(self, name)) for name in ("column", "metric") if hasattr(self, name)]
        return ", ".join([*named, *(["recent"] if self.recent else [])])

    @property
    def recent(self) -> bool:
        """Whether the rule is about the newest labelled rows instead of the test rows."""
        return getattr(self, "rows", "frozen") == "recent"

    @property
    def bound(self) -> float | None:
        """What a result reports as its limit; None where the rule compares no number."""
        return None

    @property
    def may_be_inconclusive(self) -> bool:
        return "inconclusive" in type(self).model_fields

    def blocks(self, verdict: Verdict) -> bool:
        """Whether a verdict that is not waived blocks the merge."""
        return verdict == "fail" or (verdict == "inconclusive" and getattr(self, "inconclusive", "warn") == "block")

    def find(self, case: Case) -> Finding:
        """Judge the evidence; missing evidence is a failure."""
        raise NotImplementedError

    def rederive(self, report: Report) -> Finding | None:
        """What the rule finds by other parts of the report; None if the report does not hold its evidence."""
        return None

    def keeps(self, value: float, bound: float, greater_is_better: bool) -> bool:
        """Whether a number is within the limit, given the direction of the rule's metric."""
        return value <= bound + ROUNDING

    def contradictions(self, verdict: Verdict, found: Estimate, greater_is_better: bool) -> Iterable[str]:
        """Where a verdict cannot follow from the reported numbers."""
        value, bound = found.value, self.bound
        if verdict == "inconclusive" and self.recent and value is None:
            return  # there are no such rows yet; whether that is so is checked with the whole report
        if verdict == "inconclusive" and not self.may_be_inconclusive:
            yield "it is inconclusive, which this rule cannot be"
        elif verdict == "inconclusive" and self.by_interval and bound is not None:
            if found.low is None or found.high is None:
                yield "it is inconclusive without an interval"
            elif not found.low - ROUNDING <= bound <= found.high + ROUNDING:
                yield f"it is inconclusive, but its interval does not include the limit {bound:g}"
        elif verdict == "pass" and bound is not None:
            if value is None:
                yield "it passes without a number"
            elif not self.keeps(value, bound, greater_is_better):
                yield f"it passes with {value:g}, which breaks the limit {bound:g}"


def holm(p_values: list[float], alpha: float) -> list[bool]:
    """Which hypotheses are rejected so that any false rejection at all has probability alpha (Holm 1979)."""
    rejected = [False] * len(p_values)
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[number] > alpha / (len(p_values) - rank):
            break
        rejected[number] = True
    return rejected


def interval_words(low: float, high: float, confidence: float) -> str:
    """``95% interval 0.81 to 0.93``."""
    return f"{100 * confidence:g}% interval {low:.4g} to {high:.4g}"
