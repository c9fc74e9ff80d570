"""Is the model worse in production than it was when it was released? Each metric's loss, watched every day."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core.settings import Monitor
from mlops.model import slices
from mlops.model.metrics import parts
from mlops.monitoring.collect import Labelled
from mlops.monitoring.losses import Loss, losses
from mlops.monitoring.reference import Reference
from mlops.monitoring.sequential import Detector, upper_bound

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
        Of the newest labelled rows, as many as are needed to say anything; NaN where there are none.
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


def watch(reference: Reference, labelled: Labelled, options: Monitor, days: Array, names: list[str]) -> list[Risk]:
    """The risk of each metric, on all rows and on each slice.

    Parameters
    ----------
    days : ndarray of datetime64[D]
        All days since the release's first prediction, at each of which the test is looked at.
    names : list of str
        Metrics of the evaluation.
    """
    measured = losses(names, reference.y, reference.predictions, reference.classes)
    watched = [(loss, *part) for loss in measured for part in parts_of(reference, labelled)]
    looks = options.false_alarm_years * DAYS_OF_YEAR * len(watched)
    error = REFERENCE_ERROR / max(1, len(watched))
    day = labelled.known.astype("datetime64[D]")
    return [
        one(loss, name, reference, there, labelled, here, day, days, looks, error, options.least_rows)
        for loss, name, there, here in watched
    ]


def one(
    loss: Loss,
    name: str,
    reference: Reference,
    there: Array,
    labelled: Labelled,
    here: Array,
    day: Array,
    days: Array,
    looks: float,
    error: float,
    least_rows: int,
) -> Risk:
    """Watch one metric on some rows."""
    before = loss.of(reference.y[there], parts(reference.predictions, there))
    before = before[~np.isnan(before)]
    after = loss.of(labelled.y[here], parts(labelled.predictions, here))
    known = ~np.isnan(after)
    after, when = after[known], day[here][known]
    limit = upper_bound(before, error)
    detector = Detector(limit, looks) if 0 < limit < 1 else None
    evidence: list[float] = []
    alarm = None
    edges = np.searchsorted(when, days, side="right")
    start = 0
    for today, end in zip(days, edges, strict=True):
        if detector is not None:
            if detector.look(after[start:end]) and alarm is None:
                alarm = str(today)
            evidence.append(detector.value / looks)
        start = end
    return Risk(
        loss.metric,
        loss.meaning,
        name,
        float(loss.unit * before.mean()) if len(before) else float("nan"),
        loss.unit * limit,
        float(loss.unit * after[-least_rows:].mean()) if len(after) else float("nan"),
        len(after),
        len(before),
        0 if alarm else max(0, least_rows - len(after)),
        evidence,
        alarm,
    )


def parts_of(reference: Reference, labelled: Labelled) -> list[tuple[str, Array, Array]]:
    """Name, reference rows and labelled rows of all rows and of each slice that the reference has."""
    found = [(ALL_ROWS, np.arange(len(reference.y)), np.arange(len(labelled)))]
    for column, values in labelled.columns.items():
        known = reference.test[column]
        here = pa.chunked_array([pa.array(values, from_pandas=True).cast(known.type)])
        there = dict(slices.slice_rows(column, reference.train[column], known))
        now = dict(slices.slice_rows(column, reference.train[column], here)) if len(values) else {}
        nothing = np.zeros(0, dtype=np.int64)
        found += [(f"{column} {name}", rows, now.get(name, nothing)) for name, rows in there.items()]
    return found
