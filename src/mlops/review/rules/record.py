"""Rules about what is committed: `lock` and `recorded`."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from mlops.core.settings import Share
from mlops.review.recorded import RECORDED
from mlops.review.rules.base import Case, Finding, Rule

if TYPE_CHECKING:
    from mlops.review.rebuilt import Rebuilt


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
    recompute: Literal["always", "never"] | Share = Field(
        "always",
        description="Whether the review runs `tune` and `train` again, or takes their outputs from the DVC remote by "
        "the hashes in `dvc.lock`. A share, such as 0.1, runs them for that share of the reviews.",
    )

    @field_validator("recompute", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """One error instead of one for each type that it may have."""
        if value not in ("always", "never") and not (isinstance(value, float) and 0 < value < 1):
            raise ValueError("must be always, never, or a share between 0 and 1")
        return value

    def recomputes(self, head: str, run: str) -> bool:
        """Whether a review runs `tune` and `train`.

        Parameters
        ----------
        head : str
            The commit of the change.
        run : str
            Who runs the review gives it a number after the push. So nobody can try out commits until one is not drawn.
        """
        if isinstance(self.recompute, str):
            return self.recompute == "always"
        drawn = hashlib.sha256(f"{head} {run}".encode()).digest()
        return int.from_bytes(drawn[:6]) / 2**48 < self.recompute

    def find(self, case: Case) -> Finding:
        moved = case.evidence.moved
        if not moved and case.evidence.believed:
            stages = " and ".join(case.evidence.believed)
            return Finding("pass", f"dvc.lock is what this commit produces from the author's outputs of {stages}")
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
