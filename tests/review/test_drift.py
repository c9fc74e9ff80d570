"""The stability index of columns, by hand and on what a table may hold."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_diabetes

from mlops.review.drift import drifted, stability_index


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
    assert stability_index(values, shuffled) == 0


def test_categories_are_as_computed_by_hand() -> None:
    before, after = column(["a"] * 60 + ["b"] * 40), column(["a"] * 30 + ["b"] * 70)
    by_hand = (0.3 - 0.6) * math.log(0.3 / 0.6) + (0.7 - 0.4) * math.log(0.7 / 0.4)
    assert stability_index(before, after) == pytest.approx(by_hand, abs=1e-12)


def test_a_new_value_counts_as_one_that_was_next_to_never_there() -> None:
    before, after = column(["a"] * 100), column(["a"] * 80 + ["new"] * 20)
    by_hand = (0.8 - 1) * math.log(0.8) + (0.2 - 1e-4) * math.log(0.2 / 1e-4)
    assert stability_index(before, after) == pytest.approx(by_hand, abs=1e-12)


def test_missing_values_are_a_value_of_their_own() -> None:
    by_hand = (0.5 - 0.1) * math.log(0.5 / 0.1) + (0.5 - 0.9) * math.log(0.5 / 0.9)
    for value in ("a", True, 3.0, DAY):
        before, after = column([value] * 90 + [None] * 10), column([value] * 50 + [None] * 50)
        assert stability_index(before, after) == pytest.approx(by_hand, abs=1e-12)


def test_booleans_are_as_computed_by_hand() -> None:
    before, after = column([True] * 5 + [False] * 5), column([True] * 8 + [False] * 2)
    by_hand = 0.3 * math.log(0.8 / 0.5) + (0.2 - 0.5) * math.log(0.2 / 0.5)
    assert stability_index(before, after) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("as_dates", [False, True])
def test_numbers_and_dates_are_binned_at_the_deciles_of_main(as_dates: bool) -> None:
    """100 values in ten bins of ten; afterwards all values of the first bin are in the last."""

    def made(numbers: list[int]) -> pa.ChunkedArray:
        if as_dates:
            return column([DAY + datetime.timedelta(days=number) for number in numbers], pa.timestamp("us"))
        return column(numbers)

    before, after = made(list(range(100))), made([*range(10, 100), *[99] * 10])
    by_hand = (1e-4 - 0.1) * math.log(1e-4 / 0.1) + 0.1 * math.log(2)
    assert stability_index(before, after) == pytest.approx(by_hand, abs=1e-12)


def test_a_shift_of_a_real_column_is_seen_and_a_fresh_sample_of_it_is_not() -> None:
    values = load_diabetes().data[:, 2]
    half = np.random.default_rng(0).permutation(len(values)) % 2 == 0
    before, after = column(values[half]), column(values[~half])
    assert stability_index(before, after) < 0.15
    assert stability_index(before, column(values[~half] + values.std())) > 0.5


def test_new_rows_of_free_text_are_not_drift_by_themselves() -> None:
    """Each row has a text of its own, so rows that come or go would count as values that come or go."""
    texts = [f"a text of its own, {i}" for i in range(1000)]
    assert stability_index(column(texts[:800]), column(texts)) < 0.05


@pytest.mark.parametrize(
    ("before", "after"),
    [("numbers", "categories"), ("categories", "numbers"), ("dates", "numbers"), ("booleans", "whole numbers")],
)
def test_a_column_of_another_type_has_moved_as_far_as_can_be(before: str, after: str) -> None:
    table, other = pa.table({"x": COLUMNS[before]}), pa.table({"x": COLUMNS[after]})
    assert drifted(table, other, ["x"]) == [("x", math.inf)]


def test_whole_numbers_and_decimal_ones_are_compared_as_numbers() -> None:
    assert stability_index(column([1, 2, 3, 4]), column([1.0, 2.0, 3.0, 4.0])) == 0
    assert stability_index(column([1, 2, None, 4]), column([9.5, 9.5, 9.5, 9.5])) > 1


def test_the_column_that_has_moved_most_comes_first_and_others_are_left_out() -> None:
    before = pa.table({"a": [1.0, 2.0] * 50, "b": ["x", "y"] * 50, "gone": [1] * 100, "id": [1] * 100})
    after = pa.table({"a": [1.0, 2.0] * 50, "b": ["x", "x"] * 50, "new": [1] * 100, "id": [2] * 100})
    found = drifted(before, after, ["a", "b", "gone", "new"])
    assert [name for name, _ in found] == ["b", "a"]
    assert found[0][1] > 1
    assert found[1][1] == 0
