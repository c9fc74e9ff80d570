"""Whether labels arrive at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.monitoring.arrival import Arrival, arrival
from mlops.monitoring.collect import Sample
from mlops.monitoring.labels import Truth

DAYS, ROWS = 40, 200
FIRST = np.datetime64("2026-01-01", "D")


def arrived(chosen: Any) -> Arrival:
    """Of rows whose size grows from day to day, with labels that take 4 days on average."""
    rng = np.random.default_rng(0)
    samples, labels = {}, []
    for number in range(DAYS):
        day, size = FIRST + number, rng.normal(number / 10, 1, ROWS)
        hashes = np.arange(number * ROWS, (number + 1) * ROWS, dtype=np.uint64)
        samples[day] = Sample(hashes, hashes, {"size": size}, np.full(ROWS, "no", dtype=object), None)
        known = day.astype("datetime64[us]") + (rng.exponential(4, ROWS) * 86_400e6).astype("timedelta64[us]")
        labels.append((hashes, known, chosen(rng, size) & (known < FIRST + DAYS)))
    hashes, known, there = (np.concatenate(each) for each in zip(*labels, strict=True))
    y = np.full(len(hashes), "no", dtype=object)
    return arrival(samples, Truth(hashes[there], y[there], known[there], 0, 0, {}), {"size": "numeric"})


def test_labels_that_are_only_late_are_no_selection_though_the_rows_change() -> None:
    found = arrived(lambda rng, size: rng.random(ROWS) < 0.7)
    assert found.selection is None
    assert found.delay_days is not None
    assert 2 < found.delay_days < 3.5


def test_labels_that_depend_on_the_row_are_a_selection() -> None:
    found = arrived(lambda rng, size: rng.random(ROWS) < np.where(size > 2, 0.9, 0.4))
    assert found.selection is not None
    assert found.selection.what.startswith("size: ")
