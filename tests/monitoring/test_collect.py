"""One pass through a log: samples of days, and rows that have a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitoring.logged import CONTRACT, MODEL, line, segment

from mlops.monitoring import collect as collecting
from mlops.monitoring.collect import Collected, collect
from mlops.monitoring.labels import Truth, hashed
from mlops.monitoring.log import Reading


def truth(*ids: str) -> Truth:
    """A label for each id, known one day after the other."""
    known = np.datetime64("2026-01-01", "us") + np.arange(len(ids)) * np.timedelta64(1, "D")
    y = np.array(["yes", "no"] * len(ids), dtype=object)[: len(ids)]
    hashes = hashed(np.array(ids, dtype=object), np.zeros(len(ids)))
    order = np.argsort(hashes)
    return Truth(hashes[order], y[order], known[order], 0, 0, {})


def collected(folder: Path, labels: Truth | None = None, days: int = 28) -> Collected:
    return collect(Reading(folder, CONTRACT, MODEL), labels, ["size", "town"], days)


def of_day(day: int, numbers: range) -> list[dict[str, Any]]:
    return [line(number, time=f"2026-01-{day:02}T10:00:00Z") for number in numbers]


def test_labelled_rows_come_in_the_order_of_their_labels(tmp_path: Path) -> None:
    segment(tmp_path, 1, *of_day(1, range(3)))
    segment(tmp_path, 2, *of_day(2, range(3, 6)))
    found = collected(tmp_path, truth("id-5", "id-0", "never logged", "id-4"))
    assert found.labelled is not None
    rows = found.labelled.together()
    assert rows.columns["size"].tolist() == [5, 0, 4]
    assert rows.y.tolist() == ["yes", "no", "no"]
    assert rows.predictions.predicted.tolist() == ["yes"] * 3
    assert (len(found.labelled), found.labelled.unmatched) == (3, 1)
    assert {str(day): count for day, count in found.rows.items()} == {"2026-01-01": 3, "2026-01-02": 3}


def test_a_label_of_an_id_that_came_twice_is_left_out_and_counted(tmp_path: Path) -> None:
    segment(tmp_path, 1, *of_day(1, range(2)))
    segment(tmp_path, 2, *of_day(2, range(1)))
    found = collected(tmp_path, truth("id-0", "id-1"))
    assert found.labelled is not None
    assert found.labelled.together().columns["size"].tolist() == [1]
    assert (len(found.labelled), found.labelled.repeated) == (1, 1)


def test_of_a_day_a_sample_is_kept_that_does_not_depend_on_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "MOST_ROWS", 50)
    rows = of_day(1, range(200))
    segment(tmp_path / "a", 1, *rows)
    segment(tmp_path / "b", 1, *rows[100:][::-1])
    segment(tmp_path / "b", 2, *rows[:100])
    one, other = (next(iter(collected(tmp_path / name).samples.values())) for name in "ab")
    assert len(one.hashes) == 50
    assert one.columns["size"].tolist() == other.columns["size"].tolist()
    assert one.predicted.tolist() == other.predicted.tolist()


def test_only_the_last_days_are_sampled(tmp_path: Path) -> None:
    for day in range(1, 21):
        segment(tmp_path, day, *of_day(day, range(day, day + 1)))
    found = collected(tmp_path, days=3)
    assert [str(day) for day in found.samples] == ["2026-01-18", "2026-01-19", "2026-01-20"]
    assert sum(found.rows.values()) == 20


def test_without_labels_nothing_is_labelled(tmp_path: Path) -> None:
    segment(tmp_path, 1, *of_day(1, range(3)))
    assert collected(tmp_path).labelled is None
    found = collected(tmp_path, truth())
    assert found.labelled is not None
    assert len(found.labelled) == len(found.labelled.together()) == 0
