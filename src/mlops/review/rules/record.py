"""Rules about what is committed: `lock` and `recorded`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlops.review.rules.base import Case, Finding, Rule


class Lock(Rule):
    """`dvc.lock` must be what the commit produces, and every output must have the hash in `dvc.lock`."""

    rule: Literal["lock"] = Field(description="Kind of rule.")

    def find(self, case: Case) -> Finding:
        moved = case.evidence.moved
        if not moved:
            return Finding("pass", "dvc.lock is what this commit produces")
        where = ", ".join(moved[:5]) + (f" and {len(moved) - 5} more" if len(moved) > 5 else "")
        if case.evidence.dirty:
            # on a laptop only: what a runner reports as inconclusive is not believed
            return Finding("inconclusive", f"dvc.lock has changed and is not committed yet: {where}")
        return Finding("fail", f"dvc.lock is not what this commit produces: {where}; run make and commit what changed")


class Recorded(Rule):
    """The recorded evaluation must be what the model predicts on the test rows."""

    rule: Literal["recorded"] = Field(description="Kind of rule.")

    def find(self, case: Case) -> Finding:
        wrong = case.evidence.misrecorded
        if not wrong:
            return Finding("pass", "the recorded evaluation matches the model")
        return Finding("fail", f"the recorded evaluation does not match the model: {', '.join(wrong[:5])}")
