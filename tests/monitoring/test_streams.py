"""Two streams of losses, looked at after each row: the error is kept, and a difference is found in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlops.monitoring.streams import BETS, higher, lower, rounds, rounds_needed

ERROR, MARGIN = 0.05, 0.05


def drawn(rng: Any, rows: int, share: float, first: Any, second: Any) -> Any:
    """Rounds of two streams of errors, of which the second has a share of the rows."""
    stream = rng.random(rows) < share
    return rounds(stream, (rng.random(rows) < np.where(stream, second, first)).astype(float))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_without_a_difference_looking_after_each_round_keeps_the_error(share: float) -> None:
    rng = np.random.default_rng(0)
    alarms = sum((higher(drawn(rng, 3_000, share, 0.1, 0.1).differences) >= 1 / ERROR).any() for _ in range(200))
    assert alarms / 200 <= ERROR


def test_what_changes_for_both_streams_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    season = 0.2 + 0.2 * np.sin(np.arange(3_000) / 100)
    alarms = sum((higher(drawn(rng, 3_000, 0.3, season, season).differences) >= 1 / ERROR).any() for _ in range(200))
    assert alarms / 200 <= ERROR


def test_a_difference_of_just_the_margin_is_seldom_found_to_be_safe() -> None:
    rng = np.random.default_rng(0)
    found = [lower(drawn(rng, 3_000, 0.5, 0.1, 0.1 + MARGIN).differences, MARGIN) for _ in range(200)]
    assert sum((each >= 1 / ERROR).any() for each in found) / 200 <= ERROR


@pytest.mark.parametrize(("share", "limit"), [(0.5, 600), (0.1, 1_800)])
def test_twice_the_error_is_found_within_some_hundred_labels(share: float, limit: int) -> None:
    rng = np.random.default_rng(0)
    needed = []
    for _ in range(50):
        found = drawn(rng, 6_000, share, 0.1, 0.2)
        reached = np.flatnonzero(higher(found.differences) >= 1 / ERROR)
        needed.append(found.closed[reached[0]] if len(reached) else np.inf)
    assert np.median(needed) <= limit


def test_all_rows_take_part_in_the_proportion_in_which_they_come() -> None:
    stream = np.array([False, False, False, True] * 100)
    found = rounds(stream, np.where(stream, 1.0, 0.25))
    assert 90 <= len(found.differences) <= 110
    assert found.differences == pytest.approx(0.75)
    assert (np.diff(found.closed) > 0).all()
    longer = rounds(np.tile(stream, 2), np.tile(np.where(stream, 1.0, 0.25), 2))
    assert longer.closed[: len(found.closed)].tolist() == found.closed.tolist()  # what was known does not change


def test_one_stream_alone_says_nothing() -> None:
    found = rounds(np.zeros(50, dtype=bool), np.ones(50))
    assert len(higher(found.differences)) == len(found.closed) == 0


def test_the_rounds_that_are_said_to_be_needed_are_about_right() -> None:
    rng = np.random.default_rng(0)
    found = drawn(rng, 400, 0.5, 0.1, 0.1).differences
    evidence = lower(found, MARGIN)
    said = rounds_needed(found, MARGIN, float(evidence[-1]), ERROR)
    needed = []
    for _ in range(50):
        further = np.concatenate([found, drawn(rng, 4_000, 0.5, 0.1, 0.1).differences])
        needed.append(np.flatnonzero(lower(further, MARGIN)[len(found) :] >= 1 / ERROR)[0])
    assert np.median(needed) / 2 <= said <= 2 * np.median(needed)
    assert rounds_needed(found, -0.01, 1.0, ERROR) == np.inf


def test_the_largest_difference_multiplies_the_wealth_by_the_bets_in_either_direction() -> None:
    once = np.mean(1 + BETS)
    assert higher(np.array([1.0]))[0] == pytest.approx(once)
    assert lower(np.array([-1.0]), 0.05)[0] == pytest.approx(once)
