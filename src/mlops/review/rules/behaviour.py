"""The rule about the behaviour tests: `behaviour`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlops.core.errors import counted
from mlops.core.report import Behaviour as Results
from mlops.core.report import Report
from mlops.review.rules.base import Case, Finding, Inconclusive, Rule


class Behaviour(Rule):
    """At most this many behaviour tests, those in `tests/behaviour/`, may fail."""

    rule: Literal["behaviour"] = Field(description="Kind of rule.")
    failures: int = Field(0, ge=0)
    """How many tests may fail."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300
    """Time limit for all behaviour tests together."""
    inconclusive: Inconclusive = "warn"

    @property
    def bound(self) -> float:
        return float(self.failures)

    def find(self, case: Case) -> Finding:
        return self._judge(case.evidence.behaviour)

    def rederive(self, report: Report) -> Finding:
        return self._judge(report.behaviour)

    def _judge(self, found: Results | None) -> Finding:
        if found is None:
            return Finding("fail", "the behaviour tests did not run")
        ran, absent = found.passed + found.failures, len(found.not_run) + found.left_out
        if not ran:
            return Finding("inconclusive", "no behaviour test ran", 0.0)
        why = f"{found.passed:,} of {counted(ran, 'behaviour test')} passed"
        if found.failures > self.failures:
            why += f"; {counted(found.failures, 'failure')}, at most {self.failures:,} allowed"
            return Finding("fail", why, float(found.failures))
        if absent:
            return Finding("inconclusive", f"{why}; {absent:,} did not run", float(found.failures))
        return Finding("pass", why, float(found.failures))
