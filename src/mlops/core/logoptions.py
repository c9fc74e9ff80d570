"""What the prediction log holds and how long it is kept: `monitor.log` in `params.yaml`, and part of a release."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator


class LogOptions(BaseModel):
    """The prediction log, which the service writes where `PREDICTION_LOG` names a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the requests that are logged, chosen at random."""
    leave_out: list[str] = []
    """Fields and features that are not logged."""
    pseudonymise: list[str] = []
    """Fields and features of which a keyed hash is logged; the key is in `PSEUDONYM_KEY`."""
    segment_mb: PositiveFloat = 16
    """A file of this size (10⁶ bytes) is sealed: compressed, and not written again."""
    segment_minutes: PositiveFloat = 60
    """A file of this age is sealed."""
    keep_days: PositiveFloat = 30
    """Sealed files older than this are deleted."""
    keep_gb: PositiveFloat = 5
    """The oldest sealed files are deleted where all together are larger than this (10⁹ bytes)."""

    @model_validator(mode="after")
    def _either(self) -> Self:
        both = sorted({*self.leave_out} & {*self.pseudonymise})
        if both:
            raise ValueError(f"{both[0]!r} is in both leave_out and pseudonymise")
        return self
