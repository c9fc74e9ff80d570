"""Rules about what is committed: `lock` and `recorded`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mlops.review.rules.base import Case, Finding, Rule

if TYPE_CHECKING:
    from mlops.review.rebuilt import Rebuilt

# recorded metrics have six decimals, the last one rounded
RECORDED = 1.5e-6


class Lock(Rule):
    """`dvc.lock` must be what the commit produces, and every output must have the hash in `dvc.lock`.

    A lock that was made on another platform fails as well, but is called that where its predictions equal the rebuilt
    ones within `within`.
    """

    rule: Literal["lock"] = Field(description="Kind of rule.")
    within: Annotated[float, Field(ge=0, le=1e-3, allow_inf_nan=False)] = Field(
        1e-9,
        description="If predictions differ by no more, a lock with other hashes counts as made on another platform: "
        "in probability, or in standard deviations of a number. It fails nevertheless, until `relock` has run.",
    )

    def find(self, case: Case) -> Finding:
        moved = case.evidence.moved
        if not moved:
            return Finding("pass", "dvc.lock is what this commit produces")
        where = ", ".join(moved[:5]) + (f" and {len(moved) - 5} more" if len(moved) > 5 else "")
        if case.evidence.dirty:
            # on a laptop only: what a runner reports as inconclusive is not believed
            return Finding("inconclusive", f"dvc.lock has changed and is not committed yet: {where}")
        again = case.evidence.rebuilt
        if again is not None and again.difference <= (self.within if again.rows else max(self.within, RECORDED)):
            return Finding("fail", self._made_elsewhere(again))
        remedy = "run make and commit what changed"
        if again is not None and again.rows and math.isfinite(again.difference):
            remedy = f"predictions differ by up to {again.difference:.2g}; {remedy}"
        return Finding("fail", f"dvc.lock is not what this commit produces: {where}; {remedy}")

    def _made_elsewhere(self, again: Rebuilt) -> str:
        place = f"on another platform ({again.made_on})" if again.made_on else "on another platform"
        if again.made_on == again.here:
            place = f"on another machine ({again.made_on})"
        equal = f"the predictions of all {again.rows:,} test rows are equal within {self.within:g}"
        if not again.rows:
            equal = "the recorded metrics are equal to six decimals (the committed predictions are not available)"
        built = f"dvc.lock was made {place} and rebuilt here on {again.here}: {equal}"
        return f"{built}; start the workflow relock, which commits what was built here"


class Recorded(Rule):
    """The recorded evaluation must be what the model predicts on the test rows."""

    rule: Literal["recorded"] = Field(description="Kind of rule.")

    def find(self, case: Case) -> Finding:
        wrong = case.evidence.misrecorded
        if not wrong:
            return Finding("pass", "the recorded evaluation matches the model")
        return Finding("fail", f"the recorded evaluation does not match the model: {', '.join(wrong[:5])}")
