"""`report.json`: all results of a review, as data.

It crosses the trust boundary: the run of a pull request writes it, and a job that may write comments reads it. So the
schema is strict and bounded: known keys, finite numbers, short texts and short lists. Its texts are never markup.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from mlops.core.errors import UserError
from mlops.core.part import Count, Part, Text
from mlops.core.part import shortened as shortened
from mlops.core.replayed import Replayed

# A report of the default project has 30 kB; the writer cuts long lists and counts the rest
MOST_BYTES = 1_000_000
# 10 built-in ones, and the most that main and a change may add
MOST_METRICS = 50
# Rows whose decision changed that a comment names
MOST_EXAMPLES = 10
# Categories of a bar chart
MOST_BARS = 12
# Name under which a behaviour test records its example row
EXAMPLE = "example"
# Patterns of CODEOWNERS that name every file
CATCH_ALL = ("*", "/*", "**", "/**")

Verdict = Literal["pass", "fail", "inconclusive"]
# stages that a gate may let the review not run
Expensive = Literal["tune", "train"]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Estimate(Part):
    """A number with its interval; None where it is undefined."""

    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class Comparison(Part):
    """One metric of main's model and of this change's, on the same rows."""

    metric: Text
    greater_is_better: bool
    baseline: FiniteFloat | None
    candidate: FiniteFloat | None
    difference: Estimate
    """Candidate minus baseline, with a paired bootstrap interval."""
    worse: Annotated[float, Field(ge=0, le=1)] | None
    """Share of the resamples in which the candidate is worse: the probability that it got worse."""
    detectable: FiniteFloat | None
    """The smallest loss that these rows would have shown four times out of five."""
    unit: Text = ""
    resamples: Count = 0
    """How many resamples the interval comes from, where a metric is too slow for all; 0 otherwise."""


class Recent(Part):
    """The newest labelled rows, which no model was trained on, compared on their own."""

    rows: Count
    metrics: Annotated[list[Comparison], Field(max_length=MOST_METRICS)]
    problem: Text | None = None
    """Why main's model cannot be compared on them."""


class Recipe(Part):
    """One metric of both recipes."""

    metric: Text
    difference: Estimate
    """This change's minus main's, over the folds and the test rows."""


class Recipes(Part):
    """What is fitted on main and here, cross-validated on the same folds of the training rows."""

    rows: Count
    folds: Count
    repeats: Count
    metrics: Annotated[list[Recipe], Field(max_length=MOST_METRICS)] = []
    problem: Text | None = None
    """Why they are not compared."""


class Slice(Part):
    """Rows that share a value, compared on their own."""

    column: Text
    name: Text
    rows: Count
    metrics: Annotated[list[Comparison], Field(max_length=MOST_METRICS)]


class Waiver(Part):
    """A temporary exception from a rule, with the reason."""

    reason: Text
    until: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Result(Part):
    """The result of one rule of the gate."""

    rule: Text
    """Kind of rule, as in `gate.yaml`: floor, no_worse, …"""
    subject: Text
    """Its subject: a metric, a column."""
    found: Estimate
    limit: FiniteFloat | None
    unit: Literal["", "bytes", "ms"] = ""
    verdict: Verdict
    blocks: bool
    """Whether this result keeps the change from being merged."""
    why: Text
    """The reason in one sentence."""
    line: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Line of this change's `gate.yaml`."""
    waiver: Waiver | None = None


class Policy(Part):
    """The gate by one policy: that of the base branch decides, that of the change is shown beside it if it differs."""

    verdict: Verdict
    blocks: bool
    results: Annotated[list[Result], Field(max_length=60)]


class Change(Part):
    """A value that differs from main; None if one side has none."""

    name: Text
    before: Text | None
    after: Text | None


class Changes(Part):
    """Differences from main."""

    params: Annotated[list[Change], Field(max_length=60)] = []
    data: Annotated[list[Change], Field(max_length=60)] = []
    files: Annotated[list[Text], Field(max_length=60)] = []
    dependencies: Annotated[list[Change], Field(max_length=60)] = []
    left_out: Count = 0
    """How many more there are than the lists hold."""


class Series(Part):
    name: Text
    values: Annotated[list[FiniteFloat], Field(max_length=50)]


class Chart(Part):
    """Lines over a common axis."""

    title: Text
    x: Text
    y: Text
    at: Annotated[list[FiniteFloat], Field(max_length=50)]
    series: Annotated[list[Series], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if any(len(line.values) != len(self.at) for line in self.series):
            raise ValueError("a series must have one value for each place on the axis")
        return self


class Bars(Part):
    """A metric by category."""

    title: Text
    y: Text
    names: Annotated[list[Text], Field(min_length=2, max_length=MOST_BARS)]
    main: Annotated[list[FiniteFloat], Field(max_length=MOST_BARS)] = []
    """Empty where there is no model of main to compare with."""
    here: Annotated[list[FiniteFloat], Field(max_length=MOST_BARS)]

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if len(self.here) != len(self.names) or len(self.main) not in (0, len(self.names)):
            raise ValueError("there must be one value for each category")
        return self


class Baseline(Part):
    """Main's model, or why it cannot be compared."""

    commit: Sha | None
    model_md5: Hash | None
    origin: Literal["cache", "remote", "rebuilt", "another platform"] | None
    """Where its bytes came from; their hash was checked, but for a rebuild on another platform than main's."""
    problem: Text | None = None


class Rows(Part):
    train: Count
    test: Count


class Wear(Part):
    """How often the present test rows have decided a merge."""

    decisions: Count
    budget: Count


class Cost(Part):
    """The cost of a model, before and after; None if this run did not measure it."""

    name: Text
    unit: Literal["s", "bytes", "ms"]
    before: FiniteFloat | None
    after: FiniteFloat | None


class Served(Part):
    """The form of the model that the service runs."""

    runtime: Literal["onnx", "scikit-learn"]
    precision: Literal["single", "double"]
    within: Annotated[FiniteFloat, Field(ge=0)]
    """Largest difference from the model's predictions: in probability, or in standard deviations of a number."""
    size: Count
    """Bytes of its file."""
    why: Text | None
    """Why it is not ONNX."""


class CleaningStep(Part):
    """The effect of one step of cleaning; None if this change or main has no such step."""

    step: Text
    effect: Text
    rows: Count | None
    before: Count | None


class Validation(Part):
    expectations: Count
    passed: Count
    failed: Annotated[list[Text], Field(max_length=20)] = []


class Value(Part):
    """A value of an example row."""

    column: Text
    value: Text


class FailedTest(Part):
    """A behaviour test that failed, with an example row where the test gave one."""

    name: Text
    """``file.py::test``, or the file where it could not be collected."""
    why: Text
    rows: Count | None = None
    """How many rows fail like the example."""
    row: Annotated[list[Value], Field(max_length=20)] = []
    left_out: Count = 0
    """How many more values the row has."""


class NotRun(Part):
    """A behaviour test that should have run."""

    name: Text
    reason: Literal["removed", "skipped", "deselected"]
    """Removed: the base branch has it, this change does not."""
    why: Text
    """The reason that a skipped test gives."""


class Behaviour(Part):
    """Tests of the model's behaviour."""

    passed: Count
    failures: Count
    failed: Annotated[list[FailedTest], Field(max_length=20)] = []
    """The first of the failures."""
    not_run: Annotated[list[NotRun], Field(max_length=20)] = []
    left_out: Count = 0
    """How many more did not run."""


class MovedColumn(Part):
    """A column whose share of the contributions differs from main's by more than its uncertainty."""

    column: Text
    before: Annotated[float, Field(ge=0, le=1)] | None
    """None where main's model does not take it."""
    after: Annotated[float, Field(ge=0, le=1)] | None
    difference: Estimate


class Influence(Part):
    """What drives the predictions of main's model and of this change's, on the same rows."""

    rows: Count
    columns: Count = 0
    """How many columns the two models take."""
    moved: Annotated[list[MovedColumn], Field(max_length=5)] = []
    count: Count = 0
    """How many columns moved; the list holds the first."""
    problem: Text | None = None
    """Why they cannot be compared."""


class Flip(Part):
    """Test rows for which main's model predicts one class and this change's another."""

    before: Text
    after: Text
    rows: Count
    right: Count
    """Rows of which this change predicts the class that was observed."""
    wrong: Count
    """Rows of which main predicts it."""


class Example(Part):
    """A test row whose decision changed."""

    key: Annotated[list[Value], Field(min_length=1, max_length=5)]
    before: Text
    after: Text
    actual: Text


class Decisions(Part):
    """How this change's predictions differ from main's, on the same rows."""

    rows: Count
    changed: Count
    """Rows with another class, or with another number."""
    flips: Annotated[list[Flip], Field(max_length=6)] = []
    """For classes: the largest groups."""
    left_out: Count = 0
    """Rows of smaller groups."""
    median: Annotated[FiniteFloat, Field(ge=0)] | None = None
    most: Annotated[FiniteFloat, Field(ge=0)] | None = None
    """For numbers: the median and the 95th percentile of the absolute change."""
    higher: Count = 0
    """For numbers: rows whose prediction rose."""
    examples: Annotated[list[Example], Field(max_length=MOST_EXAMPLES)] = []


class Owned(Part):
    """Files that need the approval of the owners that one line of CODEOWNERS names."""

    place: Text
    """The line's pattern."""
    owners: Annotated[list[Text], Field(max_length=10)]
    files: Annotated[list[Text], Field(max_length=20)]
    count: Count
    """How many files there are; the list holds the first."""


class Report(Part):
    """A whole review."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    head: Sha
    base: Sha | None
    dirty: bool
    """Whether files were changed and not committed when the review ran."""
    touched: bool
    """False where nothing that the change touches can reach the model."""
    verdict: Verdict
    blocks: bool
    problem: Text | None = None
    """Why the pipeline gave no model to judge."""
    policy: Policy | None = None
    proposed: Policy | None = None
    """The verdict by the policy of this change, where it edits the policy."""
    baseline: Baseline | None = None
    target: Text | None = None
    estimator: Text | None = None
    rows: Rows | None = None
    elsewhere: bool = False
    """Whether other parties hold a part of the training rows, so that rules about them cannot apply."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    metrics: Annotated[list[Comparison], Field(max_length=MOST_METRICS)] = []
    redefined: Annotated[list[Text], Field(max_length=MOST_METRICS)] = []
    """Metrics that this change defines otherwise than main, whose definition decides."""
    lost: Annotated[list[Text], Field(max_length=MOST_METRICS)] = []
    """Metrics of main's evaluation that this change does not have."""
    recent: Recent | None = None
    recipes: Recipes | None = None
    """With `cross_validation` in the gate."""
    slices: Annotated[list[Slice], Field(max_length=60)] = []
    wear: Wear | None = None
    changes: Changes = Changes()
    owned: Annotated[list[Owned], Field(max_length=60)] = []
    """Files of this change that need a code owner's approval, most dangerous first."""
    doubts: Annotated[list[Text], Field(max_length=20)] = []
    """Where a report contradicts itself, main's gate or the run that it came from; set on the trusted side."""
    validation: Validation | None = None
    behaviour: Behaviour | None = None
    cleaning: Annotated[list[CleaningStep], Field(max_length=60)] = []
    """Rows that were left out and values that were corrected, step by step."""
    replayed: Replayed | None = None
    """The recorded rows, where `monitor.replay` names a prediction log."""
    influence: Influence | None = None
    decisions: Decisions | None = None
    cost: Annotated[list[Cost], Field(max_length=6)] = []
    served: Served | None = None
    served_before: Served | None = None
    """The same on main; None where main serves nothing yet."""
    charts: Annotated[list[Chart], Field(max_length=3)] = []
    bars: Annotated[list[Bars], Field(max_length=3)] = []
    lineage: Annotated[list[Change], Field(max_length=20)] = []
    """Hashes of data and model, on main and here."""
    believed: Annotated[list[Expensive], Field(max_length=2)] = []
    """Stages that this change affects and the review did not run: their outputs are the author's."""


def read(path: str | Path) -> Report:
    """Read a report from an untrusted source.

    Raises
    ------
    UserError
        If it is too large, not JSON, or violates the schema.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise UserError(f"{path.name} has {size:,} bytes; at most {MOST_BYTES:,} are read")
    try:
        document = json.loads(path.read_bytes(), parse_constant=_refuse, object_pairs_hook=_unique)
        return Report.model_validate_json(json.dumps(document))
    except ValidationError as error:
        problems = "; ".join(
            f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors(include_input=False)[:5]
        )
        raise UserError(f"{path.name} is no report: {problems[:1000]}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is no report: {str(error)[:200]}") from None


def _place(keys: tuple[int | str, ...]) -> str:
    """The place in the report; an untrusted key must not control or fill the log."""
    return re.sub(r"[^A-Za-z0-9_.]", "?", ".".join(map(str, keys)))[:100]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def interval(found: Estimate, *, signed: bool = False) -> str:
    """``+0.012 (−0.003 … +0.025)``."""
    if found.value is None:
        return "–"
    if found.value == found.low == found.high == 0:
        return "none"
    shown = [
        "–" if number is None else (f"{number:+.3g}" if signed and number else f"{number:.3g}").replace("-", "−")
        for number in (found.value, found.low, found.high)
    ]
    return f"{shown[0]} ({shown[1]} … {shown[2]})"
