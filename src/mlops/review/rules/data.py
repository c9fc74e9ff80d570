"""Rules about the rows: `validation`, `drift` and `leakage`."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from mlops.core.errors import counted
from mlops.review.rules.base import Case, Finding, Inconclusive, Positive, Rule


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
    """The population stability index between main's training rows and this change's must not exceed a limit."""

    rule: Literal["drift"] = Field(description="Kind of rule.")
    at_most: Positive = 0.2
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
        column, index = drift[0]
        moved = sum(each > self.at_most for _, each in drift)
        why = f"{column} has drifted most, with a population stability index of {index:.2g}"
        if math.isinf(index):
            why = f"{column} has values of another type than on main"
        if moved:
            why += f"; {counted(moved, 'column exceeds', 'columns exceed')} the limit of {self.at_most:g}"
        return Finding("fail" if moved else "pass", why, index)


class Leakage(Rule):
    """No test row may also be a training row."""

    rule: Literal["leakage"] = Field(description="Kind of rule.")

    @property
    def bound(self) -> float:
        return 0.0

    def find(self, case: Case) -> Finding:
        count = case.evidence.leaked
        found = counted(count, "test row is also a training row", "test rows are also training rows")
        return Finding("fail" if count else "pass", found if count else "no test row is also a training row", count)
