"""Counts decisions that change between two models, keeps the largest changes, and checks a model against its log."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mlops.inference.contract import Contract, label_name
from mlops.inference.runtime import Answer
from mlops.monitoring.recorded import Columns, Line

Array = np.ndarray[Any, Any]

MOST_LARGEST = 10
MOST_NAMED = 5
TOLERANCE = 1e-6  # of probabilities, and of numbers relative to their size: batches of other sizes round differently


class Half(NamedTuple):
    """Predictions of one model.

    Attributes
    ----------
    answer : Answer or None
        Of the rows that fit.
    fits : ndarray of bool, of shape (n_samples,)
    """

    answer: Answer | None
    fits: Array


class Both(NamedTuple):
    """Rows that both models have predicted.

    Attributes
    ----------
    places : ndarray of int, of shape (n_both,)
        Numbers of the rows in the part of the log.
    at : list of ndarray
        For each model: their numbers among the rows that fit it.
    answers : list of Answer
    changed : ndarray of bool, of shape (n_both,)
    """

    places: Array
    at: list[Array]
    answers: list[Answer]
    changed: Array


class Large(NamedTuple):
    """A row whose prediction changes much."""

    size: float
    order: int
    """Position in the log, negative, so that of equal changes the first ones are kept."""
    request_id: str
    row: int
    before: Any
    after: Any
    about: str
    value_before: float | None
    value_after: float | None
    features: bytes


@dataclass
class Tally:
    """What is counted over all rows.

    Parameters
    ----------
    main : str
        MD5 of main's model in the log.
    classes_before, classes_after : list of str or None
        None for a regression.
    contract : Contract
        Of the change.
    edges : ndarray
        For a regression: the quartiles of the target, between which a prediction is a decision.
    """

    main: str
    classes_before: list[str] | None
    classes_after: list[str] | None
    contract: Contract
    edges: Array = field(default_factory=lambda: np.array([]))
    rows: int = 0
    compared: int = 0
    changed: int = 0
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    difference: float = 0.0
    largest: list[Large] = field(default_factory=list)
    of_main: int = 0
    differ: int = 0
    largest_skew: float = 0.0
    skewed: list[str] = field(default_factory=list)

    def add(self, chunk: list[Line], columns: list[Columns], halves: list[Half]) -> Both:
        """Count the rows of a part of the log."""
        self.skew(chunk, halves[0])
        places = np.flatnonzero(halves[0].fits & halves[1].fits)
        at = [(np.cumsum(half.fits) - 1)[places] for half in halves]
        if not len(places):
            self.rows += len(chunk)
            return Both(places, at, [], np.zeros(0, dtype=bool))
        answers = [half.answer for half in halves if half.answer is not None]
        before, after = (each.predicted[rows] for each, rows in zip(answers, at, strict=True))
        if self.classes_after is None:
            names = between(self.edges)
            codes = [np.searchsorted(self.edges, each, side="right") for each in (before, after)]
            self.difference += float((after - before).sum())
        else:
            labels = {label: place for place, label in enumerate(dict.fromkeys([*before.tolist(), *after.tolist()]))}
            names = [label_name(label) for label in labels]
            codes = [np.array([labels[label] for label in each.tolist()], dtype=np.int64) for each in (before, after)]
        for pair, count in zip(*np.unique(np.column_stack(codes), axis=0, return_counts=True), strict=True):
            self.moves[names[pair[0]], names[pair[1]]] += int(count)
        changed = codes[0] != codes[1]
        self.compared += len(places)
        self.changed += int(changed.sum())
        both = Both(places, at, answers, changed)
        self.keep_largest(chunk, both, before, after)
        self.rows += len(chunk)
        return both

    def keep_largest(self, chunk: list[Line], both: Both, before: Array, after: Array) -> None:
        """Keep the rows with the largest changes."""
        shared, old, new = self.values(both, before, after)
        apart = np.abs(new - old)
        size = apart.max(axis=1) if apart.shape[1] else both.changed.astype(float)
        which = np.argsort(-size, kind="stable")[:MOST_LARGEST]
        for place in which:
            if size[place] == 0:
                continue
            line = chunk[both.places[place]]
            most = int(apart[place].argmax()) if apart.shape[1] else None
            large = Large(
                float(size[place]),
                -(self.rows + int(both.places[place])),
                line.request_id,
                line.row,
                plain(before[place]),
                plain(after[place]),
                "" if most is None else shared[most],
                None if most is None else float(old[place, most]),
                None if most is None else float(new[place, most]),
                bytes(line.features)[:100_000],
            )
            if len(self.largest) < MOST_LARGEST:
                heapq.heappush(self.largest, large)
            else:
                heapq.heappushpop(self.largest, large)

    def values(self, both: Both, before: Array, after: Array) -> tuple[list[str], Array, Array]:
        """What is compared of each row: the number, or the probabilities of the classes that both models have."""
        if self.classes_after is None or self.classes_before is None:
            return [self.contract.target], before[:, None], after[:, None]
        given = [answer.probabilities for answer in both.answers]
        if given[0] is None or given[1] is None:
            return [], np.zeros((len(before), 0)), np.zeros((len(before), 0))
        shared = [name for name in self.classes_after if name in self.classes_before]
        positive = None if self.contract.positive is None else label_name(self.contract.positive)
        if positive in shared:  # of two classes, the change of one is the change of the other
            shared = [str(positive)]
        columns = [[names.index(name) for name in shared] for names in (self.classes_before, self.classes_after)]
        old, new = given[0][both.at[0]], given[1][both.at[1]]
        return shared, old[:, columns[0]], new[:, columns[1]]

    def skew(self, chunk: list[Line], half: Half) -> None:
        """Compare main's predictions with those that the log has of the same model."""
        ours = np.array([line.model == self.main for line in chunk], dtype=bool)
        self.of_main += int(ours.sum())
        places = np.flatnonzero(ours & half.fits)
        answer = half.answer
        if answer is None or not len(places):
            return
        at = (np.cumsum(half.fits) - 1)[places]
        lines = [chunk[place] for place in places]
        found = answer.predicted[at].tolist()
        if self.classes_before is None:
            recorded = np.array([number(line.prediction) for line in lines])
            apart = np.abs(recorded - found) / np.maximum(1.0, np.abs(recorded))
            differs = ~(apart <= TOLERANCE)
        else:
            differs = np.array([line.prediction != each for line, each in zip(lines, found, strict=True)], dtype=bool)
            apart = np.zeros(len(lines))
            if answer.probabilities is not None:
                names = self.classes_before
                given = [line.probabilities or {} for line in lines]
                recorded = np.array([[each.get(name, np.nan) for each in given] for name in names])
                apart = np.abs(recorded.T - answer.probabilities[at]).max(axis=1)
                differs |= ~(apart <= TOLERANCE)
        self.differ += int(differs.sum())
        self.largest_skew = max(self.largest_skew, float(np.nanmax(np.append(apart[np.isfinite(apart)], 0.0))))
        for place in np.flatnonzero(differs)[: MOST_NAMED - len(self.skewed)]:
            self.skewed.append(f"{lines[place].request_id}, row {lines[place].row}")


def between(edges: Array) -> list[str]:
    """Names of the parts between edges."""
    if not len(edges):
        return ["any"]
    shown = [f"{edge:.4g}" for edge in edges]
    middle = [f"{low} to {high}" for low, high in pairwise(shown)]
    return [f"< {shown[0]}", *middle, f"≥ {shown[-1]}"]


def number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def plain(value: Any) -> Any:
    """A value of Python instead of NumPy."""
    return value.item() if isinstance(value, np.generic) else value
