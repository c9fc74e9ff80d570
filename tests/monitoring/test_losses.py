"""Losses of single rows: their means are the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from mlops.model.metrics import Classes, Predictions
from mlops.monitoring.losses import losses

CLASSES = Classes(np.array(["no", "yes"]), 1)
NAMES = ["roc_auc", "accuracy", "precision", "recall", "specificity", "log_loss", "brier_score", "f1"]


def classified(n_samples: int = 5_000) -> tuple[Any, Predictions]:
    rng = np.random.default_rng(0)
    y = np.where(rng.random(n_samples) < 0.3, "yes", "no")
    probability = 1 / (1 + np.exp(-rng.normal(np.where(y == "yes", 1, -1), 1)))
    predicted = np.where(probability > 0.5, "yes", "no")
    return y, Predictions(predicted, np.column_stack([1 - probability, probability]))


def test_means_of_losses_are_the_metrics_and_metrics_without_rows_have_none() -> None:
    y, predictions = classified()
    assert predictions.probabilities is not None
    truth, predicted, probability = y == "yes", predictions.predicted == "yes", predictions.probabilities[:, 1]
    found = losses(NAMES, y, predictions, CLASSES)
    means = {loss.metric: loss.unit * np.nanmean(loss.of(y, predictions)) for loss in found}
    assert means == pytest.approx(
        {
            "accuracy": 1 - sk.accuracy_score(truth, predicted),
            "precision": 1 - sk.precision_score(truth, predicted),
            "recall": 1 - sk.recall_score(truth, predicted),
            "specificity": 1 - sk.recall_score(~truth, ~predicted),
            "log_loss": sk.log_loss(truth, probability.clip(0.01, 0.99)),
            "brier_score": sk.brier_score_loss(truth, probability),
        },
        rel=0.01,
    )


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier_score"])
def test_a_class_that_the_model_does_not_know_is_the_largest_loss(metric: str) -> None:
    y, predictions = classified(100)
    (loss,) = losses([metric], y, predictions, CLASSES)
    sure = Predictions(np.array(["no"]), np.array([[1.0, 0.0]]))
    assert loss.of(np.array(["perhaps"]), sure) == pytest.approx([1.0])
    assert loss.of(np.array(["no"]), sure) == pytest.approx([0.0])


def test_errors_of_a_regression_are_cut_where_hardly_any_of_the_reference_is() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=20_000)
    predictions = Predictions(y + rng.normal(scale=0.5, size=20_000), None)
    means = {}
    for loss in losses(["rmse", "mse", "mae", "r2"], y, predictions, None):
        found = loss.of(y, predictions)
        assert 0 <= found.min() < found.max() == 1
        means[loss.metric] = loss.unit * found.mean()
    expected = {"rmse": 0.25, "mse": 0.25, "mae": sk.mean_absolute_error(y, predictions.predicted)}
    assert means == pytest.approx(expected, rel=0.03)
