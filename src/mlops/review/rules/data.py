"""Rules about the rows: `validation`, `drift` and `leakage`."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from mlops.core.errors import counted
from mlops.core.settings import Share
from mlops.review.rules.base import Case, Finding, Inconclusive, Positive, Rule, holm


class Validation(Rule):
    """At most this many expectations of severity `warning` may fail; a `critical` one stops the pipeline."""

    rule: Literal["validation"] = Field(description="Kind of rule.")
    warnings: int = Field(0, ge=0)
    """Number of failures that are allowed."""

    @property
    def bound(self) -> float:
        return float(self.warnings)

    def find(self, case: Case) -> Finding:
        found = case.evidence.validation
        if not found or not found["expectations"]:
            return Finding("fail", "the table was checked against no expectations: validate.suite names none")
        critical = found["failed_critical"]
        failed = found["failed_warning"] + critical
        kept = not critical and failed <= self.warnings
        why = f"{found['passed']:,} of {found['expectations']:,} expectations pass"
        if critical:
            why += f"; {counted(critical, 'critical failure')}, none allowed"
        elif not kept:
            why += f"; {counted(failed, 'failure')}, at most {self.warnings:,} allowed"
        return Finding("pass" if kept else "fail", why, float(failed))


class Drift(Rule):
    """No column of the training rows may differ from main's both significantly and by more than a distance.

    The error is that of all columns together (Holm 1979), so the limit knows the number of rows and of columns.
    """

    of_training_rows: ClassVar = True

    rule: Literal["drift"] = Field(description="Kind of rule.")
    at_most: Positive = 0.2
    """The distance: the largest difference of the distribution functions of numbers, the total variation of categories,
    or the difference of the missing shares. 0.2 is a shift of half a standard deviation."""
    error: Share = 0.01
    """Probability that chance alone fails the rule."""
    least_rows: int = Field(100, ge=2)
    """Training rows of main and of this change below which the rule is inconclusive."""
    inconclusive: Inconclusive = "warn"

    @property
    def bound(self) -> float:
        return self.at_most

    def find(self, case: Case) -> Finding:
        drift = case.evidence.drift
        if drift is None:
            return case.without_main() or Finding("fail", "main's training rows are not available")
        if not drift:
            return Finding("fail", "no column of main's training rows is left to compare")
        significant = holm([each.change.p_value for each in drift], self.error)
        changed = [each for each, is_one in zip(drift, significant, strict=True) if is_one]
        of_type = [each for each in changed if each.change.p_value == 0 and each.change.effect == 1]
        missing = self.least_rows - drift[0].rows
        if missing > 0 and not of_type:
            return Finding("inconclusive", f"cannot tell: {counted(missing, 'training row')} too few")
        # Kolmogorov's and Smirnov's p-value, 2 exp(-n d²), at the first step of Holm's procedure
        least = math.sqrt(math.log(4 * len(drift) / self.error) / drift[0].rows)
        if not changed:
            why = f"no significant change in {counted(len(drift), 'column')}; distances from {least:.2g} on are found"
            return Finding("pass", why, 0.0)
        column, _, change = changed[0]
        beyond = sum(each.change.effect > self.at_most for each in changed)
        why = f"{column} has changed by a distance of {change.effect:.2g}: {change.what}"
        if beyond:
            why += f"; {counted(beyond, 'column exceeds', 'columns exceed')} the limit of {self.at_most:g}"
        return Finding("fail" if beyond else "pass", why, change.effect)


class Leakage(Rule):
    """No test row may also be a training row."""

    of_training_rows: ClassVar = True

    rule: Literal["leakage"] = Field(description="Kind of rule.")

    @property
    def bound(self) -> float:
        return 0.0

    def find(self, case: Case) -> Finding:
        count = case.evidence.leaked
        found = counted(count, "test row is also a training row", "test rows are also training rows")
        return Finding("fail" if count else "pass", found if count else "no test row is also a training row", count)
