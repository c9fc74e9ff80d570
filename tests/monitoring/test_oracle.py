"""MAPIE, which implements the same papers, is the oracle of our sequential tests."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from mapie.exchangeability_testing import OnlineMartingaleTest, RiskMonitoring
from mapie.regression import SplitConformalRegressor
from scipy.stats import norm

from mlops.monitoring.sequential import Detector, upper_bound

REFERENCE, ROWS, LOOKS = 2_000, 100, 20 * 365


def errors(rng: Any, share: float, count: int) -> Any:
    return (rng.random(count) < share).astype(float)


def mapie_s_bound(losses: Any, level: float) -> float:
    """The limit of MAPIE's `RiskMonitoring`; losses are 1 - accuracy of predictions that are wrong where they are 1."""
    monitor = RiskMonitoring(risk="accuracy", test_level=2 * level, tolerance=0, warn=False)
    monitor.compute_threshold(np.ones(len(losses), dtype=int), 1 - losses.astype(int))
    return float(monitor.threshold)


def mapie_s_alarm(limit: float, losses: Any) -> int | None:
    """The day on which MAPIE's confidence sequence leaves the limit behind."""
    monitor = RiskMonitoring(risk="accuracy", test_level=0.05, threshold=limit, warn=False)
    monitor.update(np.ones(len(losses), dtype=int), 1 - losses.astype(int))
    beyond = np.flatnonzero(monitor.online_risk_lower_bound_sequence_history > limit)
    return int(beyond[0]) // ROWS + 1 if len(beyond) else None


def our_alarm(limit: float, losses: Any) -> int | None:
    detector = Detector(limit, LOOKS)
    for day, start in enumerate(range(0, len(losses), ROWS)):
        if detector.look(losses[start : start + ROWS]):
            return day + 1
    return None


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_our_bound_lies_between_the_mean_and_mapie_s_which_is_valid_for_any_loss(share: float) -> None:
    rng = np.random.default_rng(0)
    for level in (0.05, 0.001):
        losses = errors(rng, share, REFERENCE)
        assert losses.mean() < upper_bound(losses, level) <= mapie_s_bound(losses, level)


@pytest.mark.parametrize("quiet", [0, 60])
def test_we_alarm_where_mapie_alarms_and_earlier(quiet: int) -> None:
    rng = np.random.default_rng(1)
    for share in (0.2, 0.3):
        losses = np.concatenate([errors(rng, 0.1, quiet * ROWS), errors(rng, share, 150 * ROWS)])
        ours, theirs = our_alarm(0.12, losses), mapie_s_alarm(0.12, losses)
        assert ours is not None
        assert theirs is not None
        assert quiet < ours <= theirs


def test_neither_alarms_on_what_is_at_the_limit() -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        losses = errors(rng, 0.12, 60 * ROWS)
        assert our_alarm(0.12, losses) is None
        assert mapie_s_alarm(0.12, losses) is None


@pytest.mark.parametrize("change", [False, True])
def test_a_change_of_the_relation_is_one_for_the_martingale_of_exchangeability_too(change: bool) -> None:
    """Its null is wider: any change of the conformity scores. Here they change together with the risk, or neither."""
    rng = np.random.default_rng(3)
    x = rng.uniform(size=1_200)
    slope = np.where(np.arange(1_200) >= 800, 3.0 if not change else 2.5, 3.0)
    y = slope * x + rng.normal(scale=0.1, size=1_200)
    martingale = OnlineMartingaleTest(
        mapie_estimator=SplitConformalRegressor(prefit=False), task="regression", random_state=0, warn=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        martingale.update(x.reshape(-1, 1), y)
    losses = np.minimum(np.abs(y - 3.0 * x), 1)
    limit = upper_bound(losses[:600], 0.05)
    assert limit >= 0.1 * (2 * norm.pdf(0))  # the mean absolute error
    detector = Detector(limit, 1 / 0.05)
    alarms = [detector.look(each) for each in np.split(losses[600:], 6)]
    assert alarms[-1] is change
    assert martingale.is_exchangeable is not change
