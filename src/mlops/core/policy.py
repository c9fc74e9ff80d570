"""The gate, `gate.yaml`: what a change must fulfil to be merged, one row per rule.

It has a file of its own because GitHub knows the owners of files, not of keys: parameters can be changed without a code
owner, the gate cannot. The base branch's gate decides on a pull request, so that a change cannot loosen its own.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, field_validator

from mlops.core.settings import Section, Share, read, write_schema

GATE = Path("gate.yaml")
SCHEMA = Path("gate.schema.json")

Margin = Annotated[float, Field(ge=0, allow_inf_nan=False, description="The loss that does not matter.")]
MinRows = Annotated[int, Field(ge=2, description="Smaller slices are not judged.")]
Metric = Annotated[str, Field(min_length=1, description="A metric of the task, as `dvc metrics show` names it.")]
Limit = Annotated[FiniteFloat, Field(description="In units of the metric.")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, description="The limit.")]
Unclear = Annotated[Literal["block", "warn"], Field(description="What to do where the test rows are too few to tell.")]


class Floor(Section):
    """A metric on the test rows must be at least so large."""

    rule: Literal["floor"] = Field(description="Kind of rule.")
    metric: Metric
    at_least: Limit
    cannot_tell: Unclear = "block"


class Ceiling(Section):
    """A metric on the test rows must be at most so large."""

    rule: Literal["ceiling"] = Field(description="Kind of rule.")
    metric: Metric
    at_most: Limit
    cannot_tell: Unclear = "block"


class NoWorse(Section):
    """A metric may not be worse than main's by more than a margin."""

    rule: Literal["no_worse"] = Field(description="Kind of rule.")
    metric: Metric
    margin: Margin
    cannot_tell: Unclear = "warn"


class SlicesNoWorse(Section):
    """A metric may not be worse than main's by more than a margin in any slice; many slices are allowed for."""

    rule: Literal["slices_no_worse"] = Field(description="Kind of rule.")
    metric: Metric
    margin: Margin
    min_rows: MinRows = 30
    cannot_tell: Unclear = "warn"


class WorstSlice(Section):
    """A metric must reach a limit in each slice; many slices are allowed for."""

    rule: Literal["worst_slice"] = Field(description="Kind of rule.")
    metric: Metric
    limit: Limit
    """At least, or at most where less is better."""
    min_rows: MinRows = 30
    cannot_tell: Unclear = "warn"


class GroupGap(Section):
    """A metric of the best and of the worst group of a column may differ by so much."""

    rule: Literal["group_gap"] = Field(description="Kind of rule.")
    column: str
    """One of `evaluate.slices`."""
    metric: Metric
    at_most: Positive
    min_rows: MinRows = 30
    cannot_tell: Unclear = "warn"


class Calibration(Section):
    """The expected calibration error may be so large."""

    rule: Literal["calibration"] = Field(description="Kind of rule.")
    at_most: Annotated[Share, Field(description="The limit.")]


class Validation(Section):
    """The table may fail so many expectations of severity warning; a critical one stops the pipeline."""

    rule: Literal["validation"] = Field(description="Kind of rule.")
    warnings: int = Field(0, ge=0)
    """How many."""


class Drift(Section):
    """The training rows may differ from main's by so much, by the population stability index of each column."""

    rule: Literal["drift"] = Field(description="Kind of rule.")
    at_most: Positive = 0.2


class Overfitting(Section):
    """A metric on the training rows may be better than on the test rows by so much."""

    rule: Literal["overfitting"] = Field(description="Kind of rule.")
    metric: Metric
    at_most: Positive


class ModelSize(Section):
    """The model file may have so many megabytes."""

    rule: Literal["model_size"] = Field(description="Kind of rule.")
    at_most: Positive


class Latency(Section):
    """The prediction of one row may take so many milliseconds, as the median on the machine of the review."""

    rule: Literal["latency"] = Field(description="Kind of rule.")
    at_most: Positive


class Lock(Section):
    """`dvc.lock` must be what the commit makes, and each output what `dvc.lock` says."""

    rule: Literal["lock"] = Field(description="Kind of rule.")


class Leakage(Section):
    """No test row may be a training row."""

    rule: Literal["leakage"] = Field(description="Kind of rule.")


class Recorded(Section):
    """The recorded evaluation must be what the model does on the test rows."""

    rule: Literal["recorded"] = Field(description="Kind of rule.")


Rule = Annotated[
    Floor
    | Ceiling
    | NoWorse
    | SlicesNoWorse
    | WorstSlice
    | GroupGap
    | Calibration
    | Validation
    | Drift
    | Overfitting
    | ModelSize
    | Latency
    | Lock
    | Leakage
    | Recorded,
    Field(discriminator="rule"),
]


class Waiver(Section):
    """Sets a rule aside for a time."""

    rule: str
    """The rule, as in `rules`."""
    subject: str = ""
    """Its metric or column, where there is one."""
    reason: str = Field(min_length=10, max_length=300)
    """Why; it stands in the comment."""
    until: datetime.date
    """The last day on which it counts."""


class Gate(Section):
    """What a change must fulfil to be merged."""

    confidence: Share = 0.95
    """One minus the share of changes that alter nothing and may be blocked by chance, over all rules together."""
    resamples: int = Field(2000, ge=200, le=100_000)
    """Paired bootstrap resamples of the test rows."""
    rules: list[Rule] = Field(min_length=1)
    """One row each; all must hold."""
    waivers: list[Waiver] = []
    """Rules set aside for a time."""

    @field_validator("rules")
    @classmethod
    def _each_once(cls, rules: list[Rule]) -> list[Rule]:
        named = [(rule.rule, subject(rule)) for rule in rules]
        twice = next((name for number, name in enumerate(named) if name in named[:number]), None)
        if twice:
            raise ValueError(f"the rule {' '.join(filter(None, twice))} appears twice")
        return rules


def subject(rule: Rule) -> str:
    """What a rule looks at: a metric, a column, or nothing in particular."""
    return ", ".join(getattr(rule, name) for name in ("column", "metric") if hasattr(rule, name))


def load(path: str | Path = GATE) -> Gate:
    """Read and check `gate.yaml`.

    Raises
    ------
    UserError
        Where the file is missing, is not YAML, or breaks a rule; every broken rule is listed.
    """
    return read(path, Gate)


if __name__ == "__main__":
    write_schema(Gate, SCHEMA)
