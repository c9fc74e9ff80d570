"""How uncertain a model is about a row, and how unlike the training rows the row is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import NearestNeighbors

from mlops.inference.contract import Computed, Contract, Field
from mlops.monitoring.log import Rows
from mlops.monitoring.reference import Reference
from mlops.monitoring.windows import as_array

Array = np.ndarray[Any, Any]

MOST_TRAINING = 5_000  # training rows that rows are compared with, evenly spread


def uncertainty(rows: Rows, contract: Contract, near: Distance) -> Array:
    """The uncertainty of each row, of shape (n_samples,); the higher the more uncertain.

    The margin between the two most probable classes, or of the probability to the threshold of the decision; without
    probabilities, the distance from the training rows.
    """
    likely = rows.probabilities
    if likely is None or contract.classes is None:
        return near(rows)
    if contract.threshold is not None and contract.positive is not None:
        return -np.abs(likely[:, contract.classes.index(contract.positive)] - contract.threshold)
    ordered = np.sort(likely, axis=1)
    return np.asarray(ordered[:, -2] - ordered[:, -1])


class Encoding:
    """Rows as a matrix: numbers as they are, categories by their frequency in the training rows; NaN where missing.

    Texts, dates and times are left out.
    """

    def __init__(self, known: Reference) -> None:
        wanted = ("numeric", "boolean", "categorical")
        self.inputs: list[Field | Computed] = [part for part in known.contract.inputs if part.kind in wanted]
        train = known.train
        step = max(1, -(-train.num_rows // MOST_TRAINING))
        train = train.take(np.arange(0, train.num_rows, step))
        columns = {part.name: as_array(train[part.name], part.kind) for part in self.inputs}
        self.codes: dict[str, dict[Any, float]] = {}
        for part in self.inputs:
            if part.kind == "categorical":
                counts = Counter(each for each in columns[part.name] if each is not None)
                names = sorted(counts, key=lambda name: (-counts[name], name))
                self.codes[part.name] = {name: float(rank) for rank, name in enumerate(names)}
        self.train = self.matrix(columns, train.num_rows)

    def __call__(self, rows: Rows) -> Array:
        return self.matrix(rows.columns, len(rows))

    def matrix(self, columns: dict[str, Array], n_samples: int) -> Array:
        """Shape (n_samples, n_inputs)."""
        found = np.empty((n_samples, len(self.inputs)))
        for place, part in enumerate(self.inputs):
            values = columns[part.name]
            if part.name in self.codes:
                codes = self.codes[part.name]
                found[:, place] = [np.nan if each is None else codes.get(each, float(len(codes))) for each in values]
            else:
                found[:, place] = values
        return found


class Distance:
    """The distance of rows from the nearest training row, each number in standard deviations.

    A category that the training rows do not have adds one.
    """

    def __init__(self, known: Reference) -> None:
        self.encoding = Encoding(known)
        coded = [part.name in self.encoding.codes for part in self.encoding.inputs]
        self.numbers, self.others = np.flatnonzero(~np.array(coded, dtype=bool)), np.flatnonzero(coded)
        train = self.encoding.train[:, self.numbers]
        present = [values[~np.isnan(values)] for values in train.T]
        self.mean = np.array([values.mean() if len(values) else 0.0 for values in present])
        self.spread = np.array([values.std() if len(values) and values.std() > 0 else 1.0 for values in present])
        self.nearest = NearestNeighbors(n_neighbors=1).fit(self.scaled(train)) if len(self.numbers) else None

    def scaled(self, numbers: Array) -> Array:
        return np.asarray(np.nan_to_num((numbers - self.mean) / self.spread).clip(-1e6, 1e6))

    def __call__(self, rows: Rows) -> Array:
        given = self.encoding(rows)
        found = np.zeros(len(rows))
        if self.nearest is not None:
            found += self.nearest.kneighbors(self.scaled(given[:, self.numbers]))[0][:, 0]
        for place in self.others:
            found += given[:, place] == len(self.encoding.codes[self.encoding.inputs[place].name])
        return found


class Unlike:
    """How unlike the training rows a row is.

    It is the probability that the row is one of the recent ones and not a training row, by a classifier of these; plus
    one where a number lies farther outside of the training rows' range than that range is wide, or a category is new: a
    classifier learns nothing from a few such rows.

    It is trained twice, each time with one half of the rows by their hash, and asked about the other half, so that it
    knows no row by heart (Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests).

    Parameters
    ----------
    recent : Rows or None
        Some of the recent rows.
    hashes : ndarray of uint64, of shape (n_recent,)
        Of these.
    """

    def __init__(self, known: Reference, recent: Rows | None, hashes: Array | None = None) -> None:
        self.encoding = Encoding(known)
        self.models: list[Any] = []
        if recent is None or hashes is None or not self.encoding.inputs:
            return
        here, train = self.encoding(recent), self.encoding.train
        for half in (0, 1):
            rows = np.vstack([here[hashes % 2 == half], train[half::2]])
            y = np.arange(len(rows)) < int((hashes % 2 == half).sum())
            if y.all() or not y.any():
                self.models = []
                return
            # a forest runs in one thread, so its result and time do not depend on how many there are
            model = RandomForestClassifier(30, max_depth=6, min_samples_leaf=5, class_weight="balanced", random_state=0)
            self.models.append(model.fit(rows, y))

    def __call__(self, rows: Rows, hashes: Array) -> Array:
        """Shape (n_samples,)."""
        given = self.encoding(rows)
        found = self.far(given).astype(float)
        if not self.models:
            return found
        for half in (0, 1):
            which = np.flatnonzero(hashes % 2 == half)
            if len(which):
                found[which] += self.models[1 - half].predict_proba(given[which])[:, 1]
        return found

    def far(self, given: Array) -> Array:
        """Where a value is far outside of the training rows' range, or new."""
        found = np.zeros(len(given), dtype=bool)
        for place, part in enumerate(self.encoding.inputs):
            values, known = given[:, place], self.encoding.train[:, place]
            known = known[~np.isnan(known)]
            if part.name in self.encoding.codes:
                found |= values == len(self.encoding.codes[part.name])
            elif len(known):
                width = known.max() - known.min()
                found |= (values < known.min() - width) | (values > known.max() + width)
        return found
