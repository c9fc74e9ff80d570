"""Is the model worse in production than it was when it was released? Each metric's loss, watched every day."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.settings import Monitor
from mlops.model import slices
from mlops.monitoring.losses import Loss, losses
from mlops.monitoring.matched import Labelled
from mlops.monitoring.reference import Reference
from mlops.monitoring.sequential import BETS, Detector, gains, upper_bound

Array = np.ndarray[Any, Any]

# Probability that the reference's own limit is too low, for all metrics and slices together
REFERENCE_ERROR = 0.05
DAYS_OF_YEAR = 365.25
ALL_ROWS = "all rows"


class Risk(NamedTuple):
    """A metric's loss, of all rows or of a slice.

    Attributes
    ----------
    reference, limit : float
        The mean loss of the reference rows, and its upper confidence bound, in units of the metric.
    mean : float
        Of the newest days that together have as many labels as are needed to say anything; NaN where there are none.
    rows, reference_rows : int
        That say something about the metric.
    missing : int
        Labels that are missing until anything can be said.
    evidence : list of float
        By day, as a share of what raises an alarm; 1 or more is an alarm, which stays one.
    alarm : str or None
        The day of the alarm.
    """

    metric: str
    meaning: str
    part: str
    reference: float
    limit: float
    mean: float
    rows: int
    reference_rows: int
    missing: int
    evidence: list[float]
    alarm: str | None


class Watched:
    """Sums of a metric's losses by day, on all rows or on a slice.

    Parameters
    ----------
    loss : Loss
    part : str
    before : ndarray of shape (n_reference,)
        Losses of the reference rows that say something about the metric.
    error : float
        Probability that the limit is too low.
    n_days : int
    """

    def __init__(self, loss: Loss, part: str, before: Array, error: float, n_days: int) -> None:
        self.loss, self.part, self.before = loss, part, before
        self.limit = upper_bound(before, error)
        self.rows, self.sums = np.zeros(n_days, dtype=np.int64), np.zeros(n_days)
        self.gains = np.zeros((n_days, len(BETS)))

    def add(self, losses: Array, day: Array) -> None:
        """Add losses with the numbers of their days."""
        known = ~np.isnan(losses)
        losses, day = losses[known], day[known]
        n_days = len(self.rows)
        self.rows += np.bincount(day, minlength=n_days)
        self.sums += np.bincount(day, losses, n_days)
        if 0 < self.limit < 1:
            for bet, gained in enumerate(gains(losses, self.limit)):
                self.gains[:, bet] += np.bincount(day, gained, n_days)

    def risk(self, days: Array, looks: float, least_rows: int) -> Risk:
        """Look at each day."""
        detector = Detector(self.limit, looks)
        evidence: list[float] = []
        alarm = None
        for today, count, gained in zip(days, self.rows, self.gains, strict=True):
            if not 0 < self.limit < 1:
                break
            if count and detector.add(gained) and alarm is None:
                alarm = str(today)
            evidence.append(detector.value / looks)
        unit, rows = self.loss.unit, int(self.rows.sum())
        newest = np.flatnonzero(np.cumsum(self.rows[::-1]) >= min(least_rows, rows))[0] + 1 if rows else 0
        return Risk(
            self.loss.metric,
            self.loss.meaning,
            self.part,
            float(unit * self.before.mean()) if len(self.before) else float("nan"),
            unit * self.limit,
            float(unit * self.sums[-newest:].sum() / self.rows[-newest:].sum()) if rows else float("nan"),
            rows,
            len(self.before),
            0 if alarm else max(0, least_rows - rows),
            evidence,
            alarm,
        )


def watch(
    reference: Reference,
    labelled: Iterable[Labelled],
    options: Monitor,
    days: Array,
    names: list[str],
    columns: list[str],
) -> list[Risk]:
    """The risk of each metric, on all rows and on each slice.

    Parameters
    ----------
    labelled : iterable of Labelled
        Labelled rows in parts, in any order.
    days : ndarray of datetime64[D]
        All days since the release's first prediction, at each of which the test is looked at. Labels of later days do
        not count yet.
    names : list of str
        Metrics of the evaluation.
    columns : list of str
        Whose slices are watched.
    """
    measured = losses(names, reference.y, reference.predictions, reference.classes)
    sliced = {column: of_reference(reference, column) for column in columns}
    known = {ALL_ROWS: np.arange(len(reference.y))}
    for column, parts in sliced.items():
        known |= {f"{column} {name}": rows for name, rows in parts.items()}
    error = REFERENCE_ERROR / max(1, len(measured) * len(known))
    before = [loss.of(reference.y, reference.predictions) for loss in measured]
    watched = [
        [Watched(loss, part, each[rows][~np.isnan(each[rows])], error, len(days)) for part, rows in known.items()]
        for loss, each in zip(measured, before, strict=True)
    ]
    for rows in labelled:
        day = (rows.known.astype("datetime64[D]") - days[0]).astype(np.int64)
        counts = np.flatnonzero(day < len(days))
        day = day.clip(0)
        here = {ALL_ROWS: np.arange(len(rows))}
        for column, parts in sliced.items():
            logged = of_log(reference, column, set(parts), rows.columns[column])
            here |= {f"{column} {name}": at for name, at in logged.items()}
        here = {part: np.intersect1d(at, counts, assume_unique=True) for part, at in here.items()}
        for loss, of_loss in zip(measured, watched, strict=True):
            after = loss.of(rows.y, rows.predictions)
            for each in of_loss:
                at = here.get(each.part, counts[:0])
                each.add(after[at], day[at])
    looks = options.false_alarm_years * DAYS_OF_YEAR * len(measured) * len(known)
    return [each.risk(days, looks, options.least_rows) for of_loss in watched for each in of_loss]


def of_reference(reference: Reference, column: str) -> dict[str, Array]:
    """The reference rows of each slice of a column."""
    return dict(slices.slice_rows(column, reference.train[column], reference.test[column]))


def of_log(reference: Reference, column: str, names: set[str], values: Array) -> dict[str, Array]:
    """The logged rows of each slice that the reference has, whatever other rows there are."""
    train, kind = reference.train[column], reference.test[column].type
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        texts = pa.array(values, from_pandas=True).cast(kind).cast(pa.string())
        found = pd.Series(pc.fill_null(texts, "missing").to_numpy(zero_copy_only=False))
        found = found.where(found.isin(names), "other")  # more categories than are evaluated
        return {str(name): np.asarray(rows) for name, rows in found.groupby(found).indices.items()}
    here = pa.array(values, from_pandas=True) if values.dtype == float else moments(values, kind)
    return dict(slices.slice_rows(column, train, pa.chunked_array([here])))


def moments(values: Array, kind: pa.DataType) -> pa.Array:
    """Texts of dates or times as the table has them; what is neither, such as a pseudonym, is missing."""
    texts = pd.Series(values, dtype=object)
    if pa.types.is_timestamp(kind):
        return pa.array(pd.to_datetime(texts, errors="coerce", utc=True, format="ISO8601").dt.tz_localize(None)).cast(
            pa.timestamp("us")
        )
    whole = texts.where(texts.str.count(":") != 1, texts + ":00")
    return pa.array(pd.to_timedelta(whole, errors="coerce")).cast(pa.duration("us")).cast(pa.int64()).cast(kind)
