"""Metrics that are estimated without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from monitoring.logged import CLASSES

from mlops.model.metrics import Predictions, score
from mlops.monitoring.estimate import estimates


def drawn(rng: Any, rows: int, a: float, b: float) -> tuple[Any, Predictions]:
    """Labels that are as probable as the model says."""
    positive = rng.beta(a, b, size=rows)
    y = np.where(rng.random(rows) < positive, "yes", "no").astype(object)
    predicted = np.where(positive >= 0.5, "yes", "no").astype(object)
    return y, Predictions(predicted, np.column_stack([1 - positive, positive]))


def test_metrics_of_moved_rows_are_estimated_from_calibrated_probabilities() -> None:
    rng = np.random.default_rng(0)
    (y, reference), (truth, here) = drawn(rng, 20_000, 0.5, 1.0), drawn(rng, 20_000, 2.0, 2.0)
    known, moved = score(y, reference, CLASSES), score(truth, here, CLASSES)
    found = {each.metric: each for each in estimates(y, reference, here, CLASSES)}
    assert found.keys() >= {"accuracy", "recall", "precision", "specificity", "f1", "log_loss", "brier_score"}
    for name, each in found.items():
        assert each.value == pytest.approx(moved[name], abs=0.02), name
        assert each.reference == known[name]
        assert abs(each.reference_error) < 0.02
    assert abs(moved["accuracy"] - known["accuracy"]) > 0.1, "the rows have moved"


def test_the_error_of_the_estimate_shows_that_a_model_is_too_sure_of_itself() -> None:
    rng = np.random.default_rng(0)
    y, reference = drawn(rng, 5_000, 2.0, 2.0)
    assert reference.probabilities is not None
    sure = np.where(reference.probabilities >= 0.5, 0.99, 0.01)
    found = {each.metric: each for each in estimates(y, *[Predictions(reference.predicted, sure)] * 2, classes=CLASSES)}
    assert found["accuracy"].value == pytest.approx(0.99)
    assert found["accuracy"].reference_error == pytest.approx(0.99 - found["accuracy"].reference)
    assert found["accuracy"].reference_error > 0.2


def test_without_probabilities_or_rows_nothing_is_estimated() -> None:
    y, reference = drawn(np.random.default_rng(0), 50, 1.0, 1.0)
    assert estimates(y, Predictions(reference.predicted, None), reference, CLASSES) == []
    assert estimates(y[:0], reference, Predictions(reference.predicted[:0], np.zeros((0, 2))), CLASSES) == []
