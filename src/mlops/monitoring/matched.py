"""Logged rows that have a label.

They wait in a temporary file until the whole log has been read, because only then is it known which of them were logged
more than once. So memory holds some 30 bytes for each label, and nothing that grows with the rows.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlops.model.metrics import Predictions
from mlops.monitoring.labels import Truth, places
from mlops.monitoring.log import Rows

Array = np.ndarray[Any, Any]

IN_MEMORY = 32_000_000  # bytes, before there is a file


@dataclass
class Labelled:
    """Some logged rows that have a label."""

    y: Array
    known: Array
    predictions: Predictions
    columns: dict[str, Array]
    time: Array = field(default_factory=lambda: np.zeros(0, dtype="datetime64[us]"))
    """When the row was predicted."""
    request_id: Array = field(default_factory=lambda: np.zeros(0, dtype=object))
    row: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    version: Array = field(default_factory=lambda: np.zeros(0, dtype=object))
    figures: dict[str, Array] = field(default_factory=dict)
    """Business figures; NaN where missing."""

    def __len__(self) -> int:
        return len(self.y)


class Matched:
    """Labels and the rows that they are of; iterates over the latter in parts, in the order of the log.

    Parameters
    ----------
    truth : Truth
    columns : list of str
        That are kept of the rows.
    more : tuple of str
        Other attributes of `Rows` that are kept.
    """

    def __init__(self, truth: Truth, columns: list[str], more: tuple[str, ...] = ()) -> None:
        self.truth, self.columns, self.more = truth, columns, more
        self.times = np.zeros(len(truth.y), dtype=np.uint8)  # that a row was logged; 2 is more than once
        self.file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  it is read after the log
        self.parts = 0

    def add(self, rows: Rows, hashes: Array) -> None:
        """Take those rows that have a label."""
        label = places(self.truth, hashes)
        ours = np.flatnonzero(label >= 0)
        seen, count = np.unique(label[ours], return_counts=True)
        self.times[seen] = np.minimum(self.times[seen] + count, 2)
        ours = ours[self.times[label[ours]] == 1]
        if len(ours):
            kept = {name: getattr(rows, name)[ours] for name in ("predicted", *self.more)}
            kept["probabilities"] = None if rows.probabilities is None else rows.probabilities[ours]
            columns = {name: rows.columns[name][ours] for name in self.columns}
            pickle.dump((label[ours], kept, columns), self.file, protocol=pickle.HIGHEST_PROTOCOL)
            self.parts += 1

    def __iter__(self) -> Iterator[Labelled]:
        self.file.seek(0)
        for _ in range(self.parts):
            label, kept, columns = pickle.load(self.file)  # noqa: S301  it has no name that anybody could open
            single = self.times[label] == 1
            label = label[single]
            kept = {name: None if values is None else values[single] for name, values in kept.items()}
            predictions = Predictions(kept.pop("predicted"), kept.pop("probabilities"))
            columns = {name: values[single] for name, values in columns.items()}
            figures = {name: values[label] for name, values in self.truth.figures.items()}
            yield Labelled(self.truth.y[label], self.truth.known[label], predictions, columns, **kept, figures=figures)

    def __len__(self) -> int:
        return int((self.times == 1).sum())

    def together(self) -> Labelled:
        """All rows, in the order in which their labels became known."""
        parts = list(self)
        nothing = Labelled(
            np.zeros(0, dtype=object),
            np.zeros(0, dtype="datetime64[us]"),
            Predictions(np.zeros(0, dtype=object), None),
            {name: np.zeros(0, dtype=object) for name in self.columns},
            figures={name: np.zeros(0) for name in self.truth.figures},
        )
        if not parts:
            return nothing
        known = np.concatenate([part.known for part in parts])
        order = np.argsort(known, kind="stable")

        def whole(values: list[Any]) -> Array:
            return np.asarray(np.concatenate(values)[order])

        likely = [part.predictions.probabilities for part in parts if part.predictions.probabilities is not None]
        return Labelled(
            whole([part.y for part in parts]),
            known[order],
            Predictions(whole([part.predictions.predicted for part in parts]), whole(likely) if likely else None),
            {name: whole([part.columns[name] for part in parts]) for name in self.columns},
            **{name: whole([getattr(part, name) for part in parts]) for name in self.more},
            figures={name: whole([part.figures[name] for part in parts]) for name in self.truth.figures},
        )

    @property
    def known(self) -> Array:
        """When the labels became known, of all rows; in no order."""
        return np.asarray(self.truth.known[self.times == 1])

    @property
    def unmatched(self) -> int:
        """Labels of rows that were not logged."""
        return int((self.times == 0).sum())

    @property
    def repeated(self) -> int:
        """Labels whose request id and row number were logged more than once, so that their row is not known."""
        return int((self.times == 2).sum())
