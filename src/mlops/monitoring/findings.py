"""What the monitor found, as data: `build/monitor/report.json`.

A job that may write issues reads it, and its texts come from a log. So the schema is strict and bounded, as that of a
review's report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints, ValidationError

from mlops.core.errors import UserError, first_problem
from mlops.core.part import Count, Part, Text
from mlops.core.report import Hash

FOLDER = Path("build/monitor")
REPORT = FOLDER / "report.json"
MOST_BYTES = 5_000_000
MOST_DAYS = 5_000
MOST_ROWS = 2_000  # of a table
MOST_FIGURES = 200

Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Risk(Part):
    """A metric's loss, of all rows or of a slice."""

    metric: Text
    meaning: Text
    part: Text
    reference: FiniteFloat | None
    limit: FiniteFloat | None
    """The upper confidence bound of the reference's mean loss."""
    mean: FiniteFloat | None
    """Of the newest labelled rows."""
    rows: Count
    reference_rows: Count
    missing: Count
    """Labels that are missing until anything can be said."""
    evidence: Annotated[list[FiniteFloat | None], Field(max_length=MOST_DAYS)]
    """By day, as a share of what raises an alarm; None is more than a number can hold."""
    alarm: Day | None


class Change(Part):
    """How a column differs from the reference."""

    p_value: Share
    effect: Share
    what: Text


class Column(Part):
    """A column in a window; `change` is None where there are too few rows."""

    column: Text
    days: Count
    rows: Count
    change: Change | None
    warns: bool


class Estimate(Part):
    """A metric without labels, if the relation between inputs and outcome is unchanged."""

    metric: Text
    value: FiniteFloat
    reference: FiniteFloat
    """The metric of the reference rows."""
    error: FiniteFloat
    """How far the same estimate of the reference rows is from it."""


class Figure(Part):
    """The mean of a business figure over the labelled rows of a version."""

    figure: Text
    version: Text
    mean: FiniteFloat | None
    low: FiniteFloat | None
    """Of the 95 % interval, as `high`."""
    high: FiniteFloat | None
    rows: Count


class Labels(Part):
    """The labels that have arrived."""

    declared: bool
    rows: Count
    share: Share
    newest: Day | None
    """The last day on which one arrived."""
    delay_days: FiniteFloat | None
    """Median time from the prediction to the label."""
    selection: Change | None
    """How the labelled rows differ from the others, where they do."""
    corrected: Count
    unusable: Count
    of_repeated_requests: Count
    of_rows_that_were_not_logged: Count


class Log(Part):
    """What was read, and what was left out."""

    logged_share: Share
    """Of the requests that were answered, as the rows state it; the rest was left out by `monitor.log.sample`."""
    other_releases: Annotated[dict[Text, Count], Field(max_length=20)]
    unreadable_lines: Count
    damaged_files: Count
    misdated_rows: Count = 0
    """Whose time is after the report's day, or many years before it."""
    most_frequent_request: Share = 0
    """Of the last four weeks' rows, the share with the commonest request id and row number."""
    most_frequent_row: Share = 0
    """The share with the commonest values."""


class Findings(Part):
    """All results of the monitor."""

    model: Hash
    start: Day
    until: Day
    rows: Count
    rows_by_day: Annotated[dict[Day, Count], Field(max_length=MOST_DAYS)]
    requests_by_day: Annotated[dict[Day, Count], Field(max_length=MOST_DAYS)]
    log: Log
    labels: Labels
    alarms: Annotated[list[Text], Field(max_length=MOST_ROWS)]
    warnings: Annotated[list[Text], Field(max_length=MOST_ROWS)]
    risk: Annotated[list[Risk], Field(max_length=MOST_ROWS)]
    columns: Annotated[list[Column], Field(max_length=MOST_ROWS)]
    estimates: Annotated[list[Estimate], Field(max_length=50)]
    figures: Annotated[list[Figure], Field(max_length=MOST_FIGURES)]
    false_alarm_years: FiniteFloat

    @property
    def state(self) -> Literal["alarm", "warning", "unknown", "calm"]:
        """The worst of all findings; unknown where nothing can be said about the risk."""
        if self.alarms:
            return "alarm"
        if self.warnings:
            return "warning"
        return "unknown" if all(each.missing for each in self.risk) else "calm"

    @property
    def headline(self) -> str:
        """The state in one sentence."""
        if self.alarms:
            return f"The model is worse than at its release: {listed(self.alarms)}"
        changed = f"Changed: {listed(self.warnings)}" if self.warnings else ""
        if all(each.missing for each in self.risk):
            return f"Cannot tell whether the model is worse: {self.why_unknown}. {changed}".strip()
        return f"No alarm. {changed}".strip() if changed else "No alarm"

    @property
    def why_unknown(self) -> str:
        if not self.labels.declared:
            return "no labels are declared"
        if not self.risk:
            return "no metric has a loss per row"
        least = min(each.missing for each in self.risk)
        return f"at least {least:,} more {'label is' if least == 1 else 'labels are'} needed"


def listed(names: list[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - most
    return "; ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def read(path: Path = REPORT) -> Findings:
    """Read a report, which may come from anybody.

    Raises
    ------
    UserError
        If it is missing, too large, or not a report.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "make monitor LOG=folder") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} has more than {MOST_BYTES:,} bytes")
    try:
        return Findings.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path} is not a report of the monitor: {first_problem(error)}") from None
