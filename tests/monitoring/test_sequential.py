"""The test that may be looked at every day: its error, its speed, and its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlops.monitoring.sequential import Detector, upper_bound

YEARS, LOOKS, ROWS, REFERENCE = 40, 20 * 365, 100, 2_000


def first_alarm(draw: Any, rng: np.random.Generator, days: int, changed: Any = None, change: int = 0) -> int | None:
    """The day of the first alarm, from the change on."""
    detector = Detector(upper_bound(draw(rng, REFERENCE), 0.025), LOOKS)
    for day in range(change + days):
        if detector.look((changed if changed and day >= change else draw)(rng, ROWS)):
            return day - change + 1
    return None


def errors(share: float) -> Any:
    return lambda rng, count: (rng.random(count) < share).astype(float)


def amounts(mean: float) -> Any:
    """Losses between 0 and 1 with a long tail."""
    return lambda rng, count: np.minimum(rng.gamma(0.5, 2 * mean, count), 1)


@pytest.mark.parametrize("draw", [errors(0.1), errors(0.02), amounts(0.1)], ids=["errors", "rare errors", "amounts"])
def test_without_a_change_years_pass_without_an_alarm(draw: Any) -> None:
    rng = np.random.default_rng(0)
    alarms = [first_alarm(draw, rng, 365) for _ in range(YEARS)]
    assert sum(day is not None for day in alarms) <= 3  # one in 20 years are two


@pytest.mark.parametrize(("share", "days"), [(0.15, 22), (0.2, 6)])
def test_a_rise_is_found_as_fast_after_half_a_year_as_at_once(share: float, days: int) -> None:
    rng = np.random.default_rng(1)
    for change in (0, 180):
        found = [first_alarm(errors(0.1), rng, 200, errors(share), change) for _ in range(40)]
        assert all(found)
        assert np.median([day for day in found if day]) <= days


def test_the_bound_holds_and_is_narrow() -> None:
    rng = np.random.default_rng(2)
    for draw in (errors(0.1), amounts(0.1)):
        population = draw(rng, 1_000_000)
        mean, spread = population.mean(), population.std()
        bounds = np.array([upper_bound(draw(rng, REFERENCE), 0.05) for _ in range(200)])
        assert (bounds < mean).mean() <= 0.1
        assert np.median(bounds) - mean < 3 * spread / REFERENCE**0.5


def test_the_bound_of_nothing_is_one_and_of_no_error_is_above_zero() -> None:
    assert upper_bound(np.array([]), 0.05) == 1
    assert upper_bound(np.zeros(100), 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert upper_bound(np.ones(10), 0.05) == 1


def test_days_without_losses_are_no_evidence() -> None:
    detector = Detector(0.1, LOOKS)
    for _ in range(1_000):
        detector.look(np.array([]))
    assert not detector.alarm


def test_an_alarm_stays_though_good_losses_follow() -> None:
    detector = Detector(0.1, 1_000)
    assert detector.look(np.ones(50))
    assert detector.look(np.zeros(5_000))
    assert detector.value < detector.looks


def test_the_bound_does_not_depend_on_the_order_of_the_losses() -> None:
    losses = np.sort(np.random.default_rng(0).beta(2, 8, size=500))
    assert abs(upper_bound(losses, 0.05) - upper_bound(losses[::-1], 0.05)) < 0.01
    assert losses.mean() < upper_bound(losses, 0.05) < losses.mean() + 0.03
