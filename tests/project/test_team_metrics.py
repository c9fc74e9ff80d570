"""The metric that ships for the default table, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from project.metrics import sensitivity_at_95_specificity


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 12])
def test_the_sensitivity_is_that_of_the_lowest_threshold_with_few_false_alarms(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 200)
    probability = np.clip(truth * 0.3 + rng.random(200) * 0.7, 0, 1).round(decimals)
    weight = rng.integers(0, 3, 200).astype(float)
    for weights in (None, weight):
        false_alarms, found, _ = roc_curve(truth, probability, sample_weight=weights, drop_intermediate=False)
        expected = found[false_alarms <= 0.05].max()
        assert sensitivity_at_95_specificity(truth, probability, sample_weight=weights) == pytest.approx(expected)


def test_the_sensitivity_is_undefined_without_the_ill_or_the_healthy() -> None:
    probability = np.array([0.1, 0.9])
    assert np.isnan(sensitivity_at_95_specificity(np.array([0, 0]), probability))
    assert np.isnan(sensitivity_at_95_specificity(np.array([1, 1]), probability))
