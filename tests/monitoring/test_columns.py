"""Changes of columns: found, named, and not found where there are none."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.monitoring.drift import Change, categories, combined, level, numbers
from mlops.monitoring.windows import as_array, comparable

LEVEL = level(20 * 365, 30, 3)


def texts(rng: Any, count: int, shares: dict[str, float]) -> Any:
    return rng.choice(np.array(list(shares), dtype=object), count, p=list(shares.values()))


TOWNS = {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}


def test_without_a_change_the_p_values_are_not_too_small() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=2_000), texts(rng, 2_000, TOWNS)
    for compare, sample in ((numbers, lambda: rng.normal(size=100)), (categories, lambda: texts(rng, 100, TOWNS))):
        which = 0 if compare is numbers else 1
        found = np.array([compare(reference[which], sample()).p_value for _ in range(1_000)])
        for share in (0.2, 0.05, 0.01):
            assert (found <= share).mean() <= share + 3 * (share / 1_000) ** 0.5


@pytest.mark.parametrize("rows", [100, 1_000])
def test_a_unit_error_is_found_within_a_day_at_a_limit_for_twenty_years(rows: int) -> None:
    rng = np.random.default_rng(0)
    reference = rng.lognormal(size=2_000)
    change = numbers(reference, 10 * rng.lognormal(size=rows))
    assert change.p_value < LEVEL
    assert change.effect > 0.7
    assert change.what.startswith("median 0.967 → ")


def test_missing_values_are_values() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=2_000)
    window = np.where(rng.random(200) < 0.3, np.nan, rng.normal(size=200))
    change = numbers(reference, window)
    assert change.p_value < LEVEL
    assert change.what.startswith("missing 0.0% → ")
    assert numbers(reference, np.full(50, np.nan)).what == "missing 0.0% → 100.0%"
    assert numbers(np.full(50, np.nan), np.full(50, np.nan)).p_value == 1


def test_a_new_category_and_one_that_vanished_are_named() -> None:
    rng = np.random.default_rng(0)
    reference = texts(rng, 2_000, TOWNS)
    new = categories(reference, texts(rng, 200, {"a": 0.5, "b": 0.3, "e": 0.2}))
    assert new.p_value < LEVEL
    assert new.what.startswith("'e' (new) 0.0% → ")
    gone = categories(reference, texts(rng, 400, {"b": 0.6, "c": 0.3, "d": 0.1}))
    assert gone.what.startswith("'a' 5")
    assert gone.what.endswith("→ 0.0%")
    assert gone.effect == pytest.approx(0.5, abs=0.05)


def test_many_categories_are_tested_at_one_error() -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"name {number}" for number in range(5_000)], dtype=object)
    found = [categories(rng.choice(names, 2_000), rng.choice(names, 200)).p_value for _ in range(50)]
    assert min(found) > 0.001


def test_nothing_is_no_change() -> None:
    assert numbers(np.array([]), np.array([])) == Change(1.0, 0.0, "missing 0.0% → 0.0%")
    assert categories(np.array([], dtype=object), np.array([], dtype=object)).p_value == 1


def test_looks_columns_and_windows_share_one_budget_and_so_do_the_tests_of_a_column() -> None:
    assert level(7_305, 32, 3) == 1 / (7_305 * 32 * 3)
    changes = [Change(0.01, 0.2, "first"), Change(0.5, 0.3, "second")]
    assert combined(changes) == Change(0.02, 0.3, "first")


def test_texts_that_differ_in_each_row_are_no_change() -> None:
    both = [np.array([f"{side}-{row}" for row in range(500)], dtype=object) for side in "ab"]
    found = categories(*both)
    assert found.p_value == 1
    assert found.effect == 0


def test_dates_that_pass_are_no_change_and_dates_that_vanish_are() -> None:
    moments = [datetime(2025, 1, 1 + day % 5, 11, day % 60) for day in range(1_000)]
    known = as_array(pa.chunked_array([pa.array(moments)]), "date")
    later = np.array([f"2026-03-0{1 + day % 5}T09:00:00Z" for day in range(1_000)], dtype=object)
    change = categories(known, comparable(later, "date"))
    assert change is not None
    assert change.p_value > 0.1
    vanished = categories(known, np.full(1_000, None, dtype=object))
    assert vanished is not None
    assert vanished.p_value < 1e-6
    hours = as_array(pa.chunked_array([pa.array([moment.time() for moment in moments])]), "time")
    assert set(hours) == set(comparable(np.array(["11:38", "11:00:36"], dtype=object), "time")) == {"11"}
