"""Changes of training columns: what a table may hold, and how often chance looks like one."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from review.test_gate import evidence
from sklearn.datasets import load_diabetes

from mlops.review.drift import OTHER_TYPE, drifted, moved
from mlops.review.gate import find
from mlops.review.policy import Gate
from mlops.review.project_rules import Code
from mlops.review.rules.base import Case, Finding


def column(values: Any, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


DAY = datetime.datetime(2026, 1, 1)
COLUMNS = {
    "numbers": column(np.random.default_rng(0).normal(size=500)),
    "whole numbers": column(list(range(400))),
    "missing numbers": column([1.0, None, 3.0, None] * 50),
    "nothing": column([None] * 30, pa.float64()),
    "constant": column([7.0] * 30),
    "booleans": column([True, False, None] * 20),
    "categories": column(["a", "b", "b", None] * 20),
    "text": column([f"a text of its own, {i}" for i in range(300)]),
    "times": column([DAY.time(), (DAY + datetime.timedelta(hours=5)).time(), None], pa.time64("us")),
    "dates": column([DAY + datetime.timedelta(days=i) for i in range(100)] + [None], pa.timestamp("us")),
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=list(COLUMNS))
def test_the_same_values_have_not_moved_in_whatever_order(values: pa.ChunkedArray) -> None:
    shuffled = values.take(pa.array(np.random.default_rng(1).permutation(len(values))))
    assert moved(values, shuffled).effect == 0
    assert moved(values, shuffled).p_value == 1


def test_missing_values_are_a_value_of_their_own() -> None:
    for value in ("a", True, 3.0, DAY):
        change = moved(column([value] * 90 + [None] * 10), column([value] * 50 + [None] * 50))
        assert (round(change.effect, 9), change.what) == (0.4, "missing 10.0% → 50.0%")


def test_a_change_is_named_in_the_words_of_its_column() -> None:
    assert moved(column(["a"] * 60 + ["b"] * 40), column(["a"] * 30 + ["b"] * 70)).what == "'b' 40.0% → 70.0%"
    assert moved(column([True] * 50 + [False] * 50), column([True] * 99 + [False])).what == "'True' 50.0% → 99.0%"
    later = [DAY + datetime.timedelta(days=400 + i) for i in range(100)]
    assert moved(COLUMNS["dates"], column(later, pa.timestamp("us"))).what == "median 2026-02-20 → 2027-03-27"


def test_new_rows_of_free_text_are_not_drift_by_themselves() -> None:
    """Each row has a text of its own, so rows that come or go would count as values that come or go."""
    texts = [f"a text of its own, {i}" for i in range(1000)]
    change = moved(column(texts[:500]), column(texts[500:]))
    assert (change.p_value, change.effect) == (1, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [("numbers", "categories"), ("categories", "numbers"), ("dates", "numbers"), ("times", "whole numbers")],
)
def test_a_column_of_another_type_has_moved_as_far_as_can_be(before: str, after: str) -> None:
    table, other = pa.table({"x": COLUMNS[before]}), pa.table({"x": COLUMNS[after]})
    assert [each.change for each in drifted(table, other, ["x"])] == [OTHER_TYPE]


def test_whole_numbers_and_decimal_ones_are_compared_as_numbers() -> None:
    assert moved(column([1, 2, 3, 4]), column([1.0, 2.0, 3.0, 4.0])).effect == 0
    assert moved(column([1, 2, None, 4]), column([9.5, 9.5, 9.5, 9.5])).effect == 1


def test_the_column_that_has_moved_most_comes_first_and_others_are_left_out() -> None:
    before = pa.table({"a": [1.0, 2.0] * 50, "b": ["x", "y"] * 50, "gone": [1] * 100, "id": [1] * 100})
    after = pa.table({"a": [1.0, 2.0] * 40, "b": ["x", "x"] * 40, "new": [1] * 80, "id": [2] * 80})
    found = drifted(before, after, ["a", "b", "gone", "new"])
    assert [(each.column, each.rows, round(each.change.effect, 9)) for each in found] == [("b", 80, 0.5), ("a", 80, 0)]


def judged(before: pa.Table, after: pa.Table) -> Finding:
    gate = Gate.model_validate({"rules": [{"rule": "drift"}]})
    return find(gate.rules[0], Case(gate, evidence(drift=drifted(before, after, before.column_names)), Code()))


def sample(rng: Any, rows: int, shift: float = 0.0) -> pa.Table:
    numbers = {f"number {i}": rng.normal(size=rows) for i in range(25)}
    texts = {f"text {i}": rng.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]) for i in range(5)}
    return pa.table({**numbers, "number 0": numbers["number 0"] + shift, **texts})


@pytest.mark.parametrize("rows", [100, 1_000])
def test_samples_of_one_population_fail_the_gate_no_more_often_than_its_error(rows: int) -> None:
    rng = np.random.default_rng(0)
    failed = sum(judged(sample(rng, rows), sample(rng, rows)).verdict == "fail" for _ in range(100))
    assert failed <= 4  # of a binomial with p = 0.01, more than 4 come once in 290 times


@pytest.mark.parametrize(("rows", "shift"), [(100, 1.5), (1_000, 0.75)])
def test_a_shift_of_one_column_in_thirty_fails_the_gate(rows: int, shift: float) -> None:
    rng = np.random.default_rng(0)
    found = judged(sample(rng, rows), sample(rng, rows, shift))
    assert (found.verdict, found.why.split(" has")[0]) == ("fail", "number 0")


def test_a_shift_of_a_real_column_is_seen_and_a_fresh_sample_of_it_is_not() -> None:
    values = load_diabetes().data[:, 2]
    half = np.random.default_rng(0).permutation(len(values)) % 2 == 0
    before, after = pa.table({"bmi": values[half]}), pa.table({"bmi": values[~half]})
    assert judged(before, after).verdict == "pass"
    assert judged(before, pa.table({"bmi": values[~half] + values.std()})).verdict == "fail"
