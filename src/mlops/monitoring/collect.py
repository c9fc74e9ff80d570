"""One pass through the prediction log: rows per day, a sample of each day, and the rows that have a label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlops.model.metrics import Predictions
from mlops.monitoring.labels import Truth, hashed
from mlops.monitoring.log import Reading, Rows

Array = np.ndarray[Any, Any]

MOST_ROWS = 5_000  # of a day that are kept for comparisons


@dataclass
class Sample:
    """Some rows of a day: those with the smallest hashes, whatever the order in which they come."""

    hashes: Array
    columns: dict[str, Array]
    predicted: Array
    probabilities: Array | None

    def add(self, other: Sample) -> Sample:
        """Both together, cut to the most that are kept."""
        hashes = np.concatenate([self.hashes, other.hashes])
        kept = np.argsort(hashes, kind="stable")[:MOST_ROWS]
        probabilities = None
        if self.probabilities is not None and other.probabilities is not None:
            probabilities = np.concatenate([self.probabilities, other.probabilities])[kept]
        columns = {name: np.concatenate([values, other.columns[name]])[kept] for name, values in self.columns.items()}
        predicted = np.concatenate([self.predicted, other.predicted])[kept]
        return Sample(hashes[kept], columns, predicted, probabilities)


@dataclass
class Labelled:
    """The logged rows that have a label, in the order in which the labels became known."""

    y: Array
    known: Array
    predictions: Predictions
    columns: dict[str, Array]
    time: Array = field(default_factory=lambda: np.zeros(0, dtype="datetime64[us]"))
    """When the row was predicted."""
    request_id: Array = field(default_factory=lambda: np.zeros(0, dtype=object))
    row: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    version: Array = field(default_factory=lambda: np.zeros(0, dtype=object))

    def __len__(self) -> int:
        return len(self.y)


@dataclass
class Collected:
    """What a log holds of a release.

    Attributes
    ----------
    rows : dict of numpy.datetime64 to int
        By day, sorted.
    samples : dict of numpy.datetime64 to Sample
        By day.
    labelled : Labelled
    repeated : int
        Labels whose request id and row number were logged more than once, so that their row is not known.
    unmatched : int
        Labels of rows that were not logged.
    versions : Counter of str
        Rows by version.
    """

    rows: dict[Any, int] = field(default_factory=dict)
    samples: dict[Any, Sample] = field(default_factory=dict)
    labelled: Labelled | None = None
    repeated: int = 0
    unmatched: int = 0
    versions: Counter[str] = field(default_factory=Counter)


def collect(reading: Reading, truth: Truth | None, slices: list[str], days: int, ids: bool = False) -> Collected:
    """Go through a log.

    Parameters
    ----------
    slices : list of str
        Columns that are kept of the labelled rows.
    days : int
        How many of the last days are sampled.
    ids : bool
        Whether the request ids of the labelled rows are kept, which take more memory than all other columns.
    """
    found = Collected()
    order = None if truth is None else np.argsort(truth.hashes)
    times = np.zeros(0 if truth is None else len(truth.y), dtype=np.int64)
    matched: list[tuple[Array, Rows]] = []
    for rows in reading:
        found.versions.update(rows.version.tolist())
        hashes = hashed(rows.request_id, rows.row)
        of_day = rows.time.astype("datetime64[D]")
        for day in np.unique(of_day):
            here = np.flatnonzero(of_day == day)
            found.rows[day] = found.rows.get(day, 0) + len(here)
            keep(found.samples, day, rows, hashes, here)
        if len(found.samples) > 2 * days:  # the log may be years long
            for day in sorted(found.samples)[: -2 * days]:
                del found.samples[day]
        if truth is not None and order is not None and len(order):
            place = np.searchsorted(truth.hashes, hashes, sorter=order).clip(max=len(order) - 1)
            label = order[place]
            ours = np.flatnonzero(truth.hashes[label] == hashes)
            np.add.at(times, label[ours], 1)
            matched.append((label[ours], taken(rows, ours, slices, ids)))
    found.rows = dict(sorted(found.rows.items()))
    found.samples = {day: found.samples[day] for day in sorted(found.samples)[-days:]}
    if truth is not None:
        found.unmatched, found.repeated = int((times == 0).sum()), int((times > 1).sum())
        found.labelled = joined(truth, times, matched, slices, ids)
    return found


def keep(samples: dict[Any, Sample], day: Any, rows: Rows, hashes: Array, here: Array) -> None:
    """Add some rows to the sample of their day."""
    here = here[np.argsort(hashes[here], kind="stable")[:MOST_ROWS]]
    probabilities = None if rows.probabilities is None else rows.probabilities[here]
    columns = {name: values[here] for name, values in rows.columns.items()}
    new = Sample(hashes[here], columns, rows.predicted[here], probabilities)
    samples[day] = samples[day].add(new) if day in samples else new


def taken(rows: Rows, chosen: Array, columns: list[str], ids: bool) -> Rows:
    """Some rows, with some of their columns; nothing of the others stays in memory."""
    return Rows(
        rows.time[chosen],
        rows.request_id[chosen] if ids else np.zeros(0, dtype=object),
        rows.row[chosen],
        {name: rows.columns[name][chosen] for name in columns},
        rows.predicted[chosen],
        None if rows.probabilities is None else rows.probabilities[chosen],
        rows.version[chosen],
    )


def joined(truth: Truth, times: Array, matched: list[tuple[Array, Rows]], slices: list[str], ids: bool) -> Labelled:
    """The labelled rows, without those that are not known."""
    label = np.concatenate([each for each, _ in matched]) if matched else np.zeros(0, dtype=np.int64)
    single = np.flatnonzero(times[label] == 1)
    chosen = single[np.argsort(label[single], kind="stable")]  # labels are sorted by time

    def together(values: list[Array]) -> Array:
        return np.concatenate(values)[chosen] if values else np.zeros(0)

    probabilities = [rows.probabilities for _, rows in matched if rows.probabilities is not None]
    return Labelled(
        truth.y[label[chosen]],
        truth.known[label[chosen]],
        Predictions(
            together([rows.predicted for _, rows in matched]), together(probabilities) if probabilities else None
        ),
        {name: together([rows.columns[name] for _, rows in matched]) for name in slices},
        together([rows.time for _, rows in matched]),
        together([rows.request_id for _, rows in matched]) if ids else np.zeros(0, dtype=object),
        together([rows.row for _, rows in matched]),
        together([rows.version for _, rows in matched]),
    )
