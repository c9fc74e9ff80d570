"""What a change of decisions costs by `evaluate.costs`: by labels where they are known, else expected.

The expected cost of a decision is its cost in each class, weighted by the probability of the class. Each model's
probabilities favour its own decisions, so both are used, and both models' decisions are priced by either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlops.inference.runtime import Answer
from mlops.model.metrics import Classes
from mlops.monitoring.labels import Truth, hashed, places
from mlops.monitoring.recorded import Columns, Line
from mlops.monitoring.replay_slices import find
from mlops.monitoring.replay_tally import Both

Array = np.ndarray[Any, Any]


class Pricing:
    """Adds up the costs of both models' decisions.

    Parameters
    ----------
    cost : function or None
        As of `costs.cost_metric`: the cost of each row from truth, prediction and the columns with amounts.
    columns : tuple of str
        These columns.
    classes : Classes or None
        Of the change; None for a regression.
    truth : Truth or None
        Labels of recorded rows.

    Attributes
    ----------
    sums : dict of str to list
        By what the rows' classes are taken from, 'labels', 'main' or 'change': rows, and the cost of both models.
    priceless : str or None
        Why there is no cost.
    """

    def __init__(
        self, cost: Callable[..., Array] | None, columns: tuple[str, ...], classes: Classes | None, truth: Truth | None
    ) -> None:
        self.cost, self.columns, self.truth = cost, columns, truth
        self.known = [] if classes is None else classes.labels.tolist()
        # the function takes 1 for the positive one of two classes
        binary = classes is not None and len(self.known) == 2
        self.given = [int(n == classes.positive) for n in range(2)] if classes and binary else self.known
        self.sums: dict[str, list[float]] = {}
        self.priceless: str | None = None
        self.labelled = self.repaired = self.broken = 0

    def add(self, chunk: list[Line], columns: list[Columns], both: Both) -> None:
        """Add the rows that both models have predicted."""
        decided = [answer.predicted[at] for answer, at in zip(both.answers, both.at, strict=True)]
        rows, y = self.labels(chunk, both)
        if len(rows) and self.known:
            right = [np.array(each[rows].tolist(), dtype=object) == y for each in decided]
            self.labelled += len(rows)
            self.repaired += int((~right[0] & right[1]).sum())
            self.broken += int((right[0] & ~right[1]).sum())
        elif len(rows):
            self.labelled += len(rows)
        if self.cost is None or not self.known:
            return
        amounts = [find(name, columns, both) for name in self.columns]
        absent = [name for name, values in zip(self.columns, amounts, strict=True) if values is None]
        if absent:
            self.priceless = f"the log has no column {absent[0]!r}, which holds amounts"
            return
        given = [np.asarray(values, dtype=np.float64) for values in amounts if values is not None]
        known = (
            np.all([np.isfinite(each) for each in given], axis=0) if given else np.ones(len(both.places), dtype=bool)
        )
        coded = [self.codes(each) for each in decided]
        known &= (coded[0] >= 0) & (coded[1] >= 0)
        if len(rows):
            truth = self.codes(y)
            usable = known[rows] & (truth >= 0)
            kept = rows[usable]
            self.sum("labels", [self.priced(truth[usable], each[kept], [a[kept] for a in given]) for each in coded])
        kept = np.flatnonzero(known)
        for name, answer, at in zip(("main", "change"), both.answers, both.at, strict=True):
            likely = self.aligned(answer, at)
            if likely is None:
                continue
            costs = []
            for each in coded:
                total = np.zeros(len(kept))
                for actual in range(len(self.known)):
                    all_of_it = np.full(len(kept), actual)
                    total += likely[kept, actual] * self.priced(all_of_it, each[kept], [a[kept] for a in given])
                costs.append(total)
            self.sum(name, costs)

    def sum(self, basis: str, costs: list[Array]) -> None:
        sums = self.sums.setdefault(basis, [0, 0.0, 0.0])
        sums[0] += len(costs[0])
        sums[1] += float(costs[0].sum())
        sums[2] += float(costs[1].sum())

    def priced(self, actual: Array, decided: Array, amounts: list[Array]) -> Array:
        """The cost of each row, from numbers of classes."""
        labels = np.array(self.given)
        return np.zeros(0) if self.cost is None else self.cost(labels[actual], labels[decided], *amounts)

    def codes(self, labels: Array) -> Array:
        """Numbers of classes; -1 for a class that the change does not have."""
        places = {label: place for place, label in enumerate(self.known)}
        return np.array([places.get(label, -1) for label in labels.tolist()], dtype=np.int64)

    def aligned(self, answer: Answer, at: Array) -> Array | None:
        """Probabilities in the order of the classes; None where the model gives none, or has other classes."""
        found = answer.probabilities
        return None if found is None or found.shape[1] != len(self.known) else found[at]

    def labels(self, chunk: list[Line], both: Both) -> tuple[Array, Array]:
        """Which of the rows have a label, and the labels."""
        if self.truth is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        lines = [chunk[place] for place in both.places]
        hashes = hashed(
            np.array([line.request_id for line in lines], dtype=object),
            np.array([line.row for line in lines], dtype=np.int64),
        )
        label = places(self.truth, hashes)
        rows = np.flatnonzero(label >= 0)
        return rows, np.array(self.truth.y[label[rows]].tolist(), dtype=object)
