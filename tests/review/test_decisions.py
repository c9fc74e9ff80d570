"""Which decisions change: counted by direction, named only where the gate allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core.report import Decisions
from mlops.model.metrics import Classes, Predictions
from mlops.review.decisions import MOST_FLIPS, compare
from mlops.review.gate import Judged


def judged(y: list[Any], before: list[Any] | None, after: list[Any], *, classes: bool = True) -> Judged:
    table = pa.table({"id": pa.array(range(100, 100 + len(y))), "x": pa.nulls(len(y), pa.float64())})
    baseline = None if before is None else Predictions(np.array(before), None)
    known = Classes(np.unique(y), 0) if classes else None
    return Judged(table, np.array(y), Predictions(np.array(after), None), baseline, known, None)


def found(judged: Judged, examples: int = 0, key: tuple[str, ...] = ("id",)) -> Decisions:
    decisions = compare(judged, list(key), examples)
    assert decisions is not None
    return decisions


def test_rows_that_change_sides_are_counted_by_direction_and_outcome() -> None:
    decisions = found(judged([*"nnyyyn"], [*"nnnnyy"], [*"nyyyyn"]))
    assert (decisions.rows, decisions.changed, decisions.left_out) == (6, 4, 0)
    assert [(each.before, each.after, each.rows, each.right, each.wrong) for each in decisions.flips] == [
        ("n", "y", 3, 2, 1),
        ("y", "n", 1, 1, 0),
    ]
    assert decisions.examples == []


def test_examples_are_named_by_their_key_and_lost_rows_come_first() -> None:
    rows = judged([*"nnyy"], [*"nnny"], [*"nyyy"])
    decisions = found(rows, examples=2)
    named = [
        ([(part.column, part.value) for part in each.key], each.before, each.after, each.actual)
        for each in decisions.examples
    ]
    assert named == [([("id", "101")], "n", "y", "n"), ([("id", "102")], "n", "y", "y")]
    assert len(found(rows, examples=1).examples) == 1
    assert found(rows, examples=2, key=()).examples == []


def test_of_three_classes_or_more_a_row_may_stay_wrong() -> None:
    decisions = found(judged([True, 2, 3], [1, 1, 1], [1, 3, 3]))
    (flip,) = decisions.flips
    assert (flip.before, flip.after, flip.rows, flip.right, flip.wrong) == ("1", "3", 2, 1, 0)


def test_small_groups_are_only_counted() -> None:
    names = [str(number) for number in range(MOST_FLIPS + 3)]
    decisions = found(judged(names, names, [*names[1:], names[0]]))
    assert len(decisions.flips) == MOST_FLIPS
    assert decisions.left_out == 3
    assert decisions.changed == len(names)


def test_of_numbers_the_distances_are_summarised() -> None:
    before = np.linspace(10, 20, 101)
    after = before + np.linspace(-1, 1.5, 101)
    decisions = found(judged(before.tolist(), before.tolist(), after.tolist(), classes=False), examples=1)
    assert (decisions.rows, decisions.changed, decisions.higher) == (101, 100, 60)
    assert decisions.median == 0.625
    assert decisions.most == 1.375
    (example,) = decisions.examples
    assert (example.key[0].value, example.before, example.after, example.actual) == ("200", "20", "21.5", "20")


def test_without_a_model_of_main_there_is_nothing_to_compare() -> None:
    assert compare(judged([*"ny"], None, [*"ny"]), ["id"], 3) is None
    assert compare(None, ["id"], 3) is None
