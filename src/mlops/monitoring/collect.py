"""One pass through the prediction log: rows per day, a sample of each day, and the rows that have a label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mlops.monitoring.labels import Truth, hashed
from mlops.monitoring.log import Reading, Rows
from mlops.monitoring.matched import Matched

Array = np.ndarray[Any, Any]

MOST_ROWS = 5_000  # of a day that are kept for comparisons
MOST_DAYS = 5_000  # before the report's day; a clock that starts in 1970 must not make a report of 20,000 days


@dataclass
class Sample:
    """Some rows of a day: those with the smallest random numbers, whatever the order in which they come.

    Attributes
    ----------
    order : ndarray of uint64, of shape (n_samples,)
        A hash of the row and its time, so that rows with one request id have different ones.
    hashes : ndarray of uint64, of shape (n_samples,)
        Of request id and row number, as of labels.
    """

    order: Array
    hashes: Array
    columns: dict[str, Array]
    predicted: Array
    probabilities: Array | None

    def add(self, other: Sample) -> Sample:
        """Both together, cut to the most that are kept."""
        order = np.concatenate([self.order, other.order])
        kept = np.argsort(order, kind="stable")[:MOST_ROWS]
        probabilities = None
        if self.probabilities is not None and other.probabilities is not None:
            probabilities = np.concatenate([self.probabilities, other.probabilities])[kept]
        columns = {name: np.concatenate([values, other.columns[name]])[kept] for name, values in self.columns.items()}
        predicted = np.concatenate([self.predicted, other.predicted])[kept]
        return Sample(order[kept], np.concatenate([self.hashes, other.hashes])[kept], columns, predicted, probabilities)


@dataclass
class Collected:
    """What a log holds of a release.

    Attributes
    ----------
    rows, requests : dict of numpy.datetime64 to int
        By day, sorted.
    samples : dict of numpy.datetime64 to Sample
        By day.
    labelled : Matched
    misdated : int
        Rows that are left out, because their time is after the report's day, or many years before it.
    versions : Counter of str
        Rows by version.
    """

    rows: dict[Any, int] = field(default_factory=dict)
    requests: dict[Any, int] = field(default_factory=dict)
    samples: dict[Any, Sample] = field(default_factory=dict)
    labelled: Matched | None = None
    misdated: int = 0
    versions: Counter[str] = field(default_factory=Counter)


def collect(
    reading: Reading,
    truth: Truth | None,
    columns: list[str],
    days: int,
    more: tuple[str, ...] = (),
    until: np.datetime64 | None = None,
) -> Collected:
    """Go through a log.

    Parameters
    ----------
    columns : list of str
        That are kept of the labelled rows.
    days : int
        How many of the last days are sampled.
    more : tuple of str
        What else is kept of the labelled rows: `time`, `request_id`, `row`, `version`.
    until : datetime64[D] or None
        The report's day; rows of later days are left out, as are those of more than `MOST_DAYS` days before.
    """
    found = Collected()
    if truth is not None:
        found.labelled = Matched(truth, columns, more)
    for rows in reading:
        of_day = rows.time.astype("datetime64[D]")
        if until is not None:
            dated = (of_day <= until) & (of_day > until - np.timedelta64(MOST_DAYS, "D"))
            found.misdated += int((~dated).sum())
            if not dated.all():
                rows, of_day = rows.some(np.flatnonzero(dated)), of_day[dated]
        found.versions.update(rows.version.tolist())
        hashes = hashed(rows.request_id, rows.row)
        order = pd.util.hash_array(hashes ^ pd.util.hash_array(rows.time.astype(np.int64)))
        for day in np.unique(of_day):
            here = np.flatnonzero(of_day == day)
            found.rows[day] = found.rows.get(day, 0) + len(here)
            # each request has one first row
            found.requests[day] = found.requests.get(day, 0) + int((rows.row[here] == 0).sum())
            keep(found.samples, day, rows, hashes, order, here)
        if len(found.samples) > 2 * days:  # the log may be years long
            found.samples = newest(found.samples, days)
        if found.labelled is not None:
            found.labelled.add(rows, hashes)
    found.rows, found.requests = dict(sorted(found.rows.items())), dict(sorted(found.requests.items()))
    found.samples = newest(found.samples, days)
    return found


def newest(samples: dict[Any, Sample], days: int) -> dict[Any, Sample]:
    """Those of the last days, in their order."""
    return {day: samples[day] for day in sorted(samples, reverse=True)[:days][::-1]}


def keep(samples: dict[Any, Sample], day: Any, rows: Rows, hashes: Array, order: Array, here: Array) -> None:
    """Add some rows to the sample of their day."""
    here = here[np.argsort(order[here], kind="stable")[:MOST_ROWS]]
    kept = rows.some(here)
    new = Sample(order[here], hashes[here], kept.columns, kept.predicted, kept.probabilities)
    samples[day] = samples[day].add(new) if day in samples else new
