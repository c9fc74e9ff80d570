"""The two-sample classifier: finds what no single column shows, and nothing where there is nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mlops.monitoring.classifier import MOST_ROWS, separation
from mlops.monitoring.drift import categories, level, numbers

LEVEL = level(20 * 365, 30, 3)


def rows(rng: Any, count: int, *, related: bool = False, columns: int = 6) -> dict[str, Any]:
    """Independent columns, of which two may be related; each column on its own has the same distribution."""
    found = {f"number {i}": rng.normal(size=count) for i in range(columns)}
    if related:
        found["number 1"] = 0.8 * found["number 0"] + 0.6 * found["number 1"]
    return {**found, "town": rng.choice(np.array(["a", "b", None], dtype=object), count, p=[0.6, 0.3, 0.1])}


def test_a_change_of_a_correlation_is_found_that_no_column_shows() -> None:
    rng = np.random.default_rng(0)
    reference, window = rows(rng, 2_000), rows(rng, 1_000, related=True)
    for name in reference:
        compare = categories if name == "town" else numbers
        assert compare(reference[name], window[name]).p_value > 0.001
    found = separation(reference, window)
    assert found is not None
    assert found.p_value < LEVEL
    assert found.effect > 0.2
    assert {name for name, _ in found.columns[:2]} == {"number 0", "number 1"}


def test_categories_that_depend_on_each_other_are_found() -> None:
    rng = np.random.default_rng(0)

    def pairs(count: int, same: float) -> dict[str, Any]:
        first = rng.choice(np.array(["a", "b"], dtype=object), count)
        other = np.where(first == "a", "b", "a").astype(object)
        second = np.where(rng.random(count) < same, first, other).astype(object)
        return {"first": first, "second": second, "id": np.array([f"{i}" for i in range(count)], dtype=object)}

    found = separation(pairs(1_000, 0.5), pairs(500, 0.9))
    assert found is not None
    assert found.p_value < LEVEL
    assert {name for name, _ in found.columns} >= {"first", "second"}


def test_without_a_change_the_p_values_keep_their_level() -> None:
    rng = np.random.default_rng(0)
    found = [separation(rows(rng, 120, columns=2), rows(rng, 60, columns=2)) for _ in range(60)]
    p_values = np.array([each.p_value for each in found if each is not None])
    assert len(p_values) == 60
    for share in (0.2, 0.1, 0.02):
        assert (p_values <= share).mean() <= share + 3 * (share / 60) ** 0.5


def test_equal_rows_on_both_sides_are_no_difference() -> None:
    same = {"x": np.repeat([0.0, 1.0], 100), "y": np.full(200, np.nan), "z": np.tile([np.inf, -np.inf, 1e308, 0.0], 50)}
    found = separation(same, same)
    assert found is not None
    assert (found.p_value, found.columns) == (1.0, [])


def test_the_work_is_bounded_and_the_result_repeats() -> None:
    rng = np.random.default_rng(0)
    reference, window = rows(rng, 3 * MOST_ROWS, columns=2), rows(rng, 2 * MOST_ROWS, columns=2, related=True)
    found = separation(reference, window)
    assert found == separation(reference, window)
    assert found is not None
    assert found.rows == 2 * MOST_ROWS


@pytest.mark.parametrize("count", [0, 39])
def test_too_few_rows_say_nothing(count: int) -> None:
    rng = np.random.default_rng(0)
    assert separation(rows(rng, 1_000), rows(rng, count)) is None
    assert separation(rows(rng, count), rows(rng, 1_000)) is None
    assert separation({}, {}) is None


def test_it_takes_one_thread_because_more_would_wait_for_each_other() -> None:
    count = "from threadpoolctl import threadpool_info as info\nimport mlops.monitoring.classifier\n"
    count += "print({pool['num_threads'] for pool in info() if pool['user_api'] == 'openmp'})"
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", count], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "{1}\n"
