"""The gate, `gate.yaml`: what a change must fulfil to be merged, one row per rule.

It is a file of its own because GitHub knows the owners of files, not of keys: parameters can be changed without a code
owner, the gate cannot. The base branch's gate decides on a pull request, so that a change cannot loosen its own.
"""

from __future__ import annotations

import datetime
import functools
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from mlops.core.report import MOST_EXAMPLES
from mlops.core.settings import Share
from mlops.core.yamlfile import Section, read, write_schema
from mlops.review import rules as registry
from mlops.review.rules.base import Rule
from mlops.review.rules.project import PREFIX, ProjectRule
from mlops.review.rules.record import Lock

GATE = Path("gate.yaml")
SCHEMA = Path("gate.schema.json")


def _kind(row: Any) -> str:
    name = row.get("rule") if isinstance(row, dict) else getattr(row, "rule", None)
    return "project" if isinstance(name, str) and name.startswith(PREFIX) else "built-in"


if TYPE_CHECKING:
    AnyRule = Rule
else:
    BuiltIn = Annotated[functools.reduce(operator.or_, registry.built_in()), Field(discriminator="rule")]
    AnyRule = Annotated[
        Annotated[BuiltIn, Tag("built-in")] | Annotated[ProjectRule, Tag("project")], Discriminator(_kind)
    ]


class Waiver(Section):
    """Suspends a rule until a date."""

    rule: str
    """The rule, as in `rules`."""
    subject: str = ""
    """Its metric or column, if it has one."""
    reason: str = Field(min_length=10, max_length=300)
    """The reason, which the comment shows."""
    until: datetime.date
    """The last day on which the waiver applies."""


class CrossValidation(Section):
    """Comparison of main's recipe with this change's on the training rows."""

    folds: int = Field(10, ge=3, le=20)
    """Number of folds."""
    repeats: int = Field(3, ge=1, le=20)
    """How often the rows are divided anew. Each recipe is fitted `folds` × `repeats` times."""
    seconds: float = Field(120, gt=0, allow_inf_nan=False)
    """What all fits may take, by the time of the first of each recipe. Where it is more, the test rows decide alone."""


class Gate(Section):
    """What a change must fulfil to be merged."""

    confidence: Share = 0.95
    """One minus the share of changes without any effect that are blocked by chance, over all rules together."""
    resamples: int = Field(2000, ge=200, le=100_000)
    """Number of paired bootstrap resamples of the test rows."""
    rules: list[AnyRule] = Field(min_length=1)
    """One row per rule; all must pass."""
    waivers: list[Waiver] = []
    """Rules that are suspended until a date."""
    cross_validation: CrossValidation | None = None
    """Adds both recipes' cross-validated difference to what `no_worse` and `slices_no_worse` decide on."""
    examples: int = Field(0, ge=0, le=MOST_EXAMPLES)
    """How many test rows whose decision changed the comment names, by `data.key`; the comment may be public."""

    @field_validator("rules")
    @classmethod
    def _each_once(cls, rules: list[Rule]) -> list[Rule]:
        named = [(rule.rule, rule.subject) for rule in rules]
        twice = next((name for number, name in enumerate(named) if name in named[:number]), None)
        if twice:
            raise ValueError(f"the rule {' '.join(filter(None, twice))} appears twice")
        return rules

    def recomputes(self, head: str, run: str) -> bool:
        """Whether a review runs `tune` and `train`: always, unless the rule `lock` says otherwise."""
        return all(rule.recomputes(head, run) for rule in self.rules if isinstance(rule, Lock))


def load(path: str | Path = GATE) -> Gate:
    """Read and check `gate.yaml`.

    Raises
    ------
    UserError
        If the file is missing, is not YAML, or has invalid keys or values; all of them are listed.
    """
    return read(path, Gate)


if __name__ == "__main__":
    write_schema(Gate, SCHEMA)
