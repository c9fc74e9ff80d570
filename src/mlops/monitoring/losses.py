"""Losses of single rows, between 0 and 1, whose mean says what a metric says.

A test that is looked at every day needs one loss per row. Metrics that compare rows with each other, such as ROC AUC,
have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mlops.model.metrics import Classes, Predictions

Array = np.ndarray[Any, Any]

# Losses without an upper limit are cut: a log loss at a probability of 1 %, errors at this quantile of the reference
LEAST_PROBABILITY = 0.01
QUANTILE = 0.999


class Loss(NamedTuple):
    """A metric as a loss per row.

    Attributes
    ----------
    metric : str
        The metric in the evaluation.
    meaning : str
    unit : float
        What a loss of 1 is, in units of the metric.
    of : callable
        From labels and predictions to losses of shape (n_samples,); NaN where a row says nothing about the metric.
    """

    metric: str
    meaning: str
    unit: float
    of: Callable[[Array, Predictions], Array]


def losses(names: list[str], y: Array, predictions: Predictions, classes: Classes | None) -> list[Loss]:
    """The losses of those metrics that have one.

    Parameters
    ----------
    names : list of str
        Metrics of the evaluation.
    y : ndarray of shape (n_samples,)
    predictions : Predictions
        Of the reference rows, which set the limits of errors that have none.
    classes : Classes or None
        None for a regression.
    """
    found = regression_losses(y, predictions) if classes is None else classification_losses(classes)
    return [found[name] for name in names if name in found]


def classification_losses(classes: Classes) -> dict[str, Loss]:
    """Of shares of wrong predictions, and of probabilities."""

    def wrong(y: Array, predictions: Predictions) -> Array:
        return np.asarray(y != predictions.predicted, dtype=float)

    def among(rows: Callable[[Array, Predictions], Array]) -> Callable[[Array, Predictions], Array]:
        return lambda y, predictions: np.where(rows(y, predictions), wrong(y, predictions), np.nan)

    def own(y: Array, predictions: Predictions) -> Array:
        """The probability of each row's own class; 0 for a class that the model does not know."""
        found = np.zeros(len(y))
        for column, label in enumerate(classes.labels):
            found[y == label] = probabilities(predictions)[y == label, column]
        return found

    def log_loss(y: Array, predictions: Predictions) -> Array:
        return np.asarray(np.log(np.maximum(own(y, predictions), LEAST_PROBABILITY)) / np.log(LEAST_PROBABILITY))

    def brier(y: Array, predictions: Predictions) -> Array:
        squares = (probabilities(predictions) ** 2).sum(axis=1)
        return np.asarray((squares - 2 * own(y, predictions) + 1) / 2)

    binary = len(classes.labels) == 2
    limit = -np.log(LEAST_PROBABILITY)
    found = {
        "accuracy": Loss("accuracy", "share of wrong predictions", 1.0, wrong),
        "log_loss": Loss("log_loss", f"log loss, cut at {limit:.1f}", limit, log_loss),
        "brier_score": Loss("brier_score", "Brier score", 1.0 if binary else 2.0, brier),
    }
    if binary:
        positive = classes.labels[classes.positive]
        found |= {
            "recall": Loss("recall", f"share of {positive} that is missed", 1.0, among(lambda y, _: y == positive)),
            "specificity": Loss(
                "specificity", f"share of others predicted as {positive}", 1.0, among(lambda y, _: y != positive)
            ),
            "precision": Loss(
                "precision",
                f"share of wrong ones among those predicted as {positive}",
                1.0,
                among(lambda _, predictions: predictions.predicted == positive),
            ),
        }
    return found


def probabilities(predictions: Predictions) -> Array:
    """The probabilities; a model without any has neither log loss nor Brier score."""
    if predictions.probabilities is None:
        raise ValueError("the model has no probabilities")
    return predictions.probabilities


def regression_losses(y: Array, predictions: Predictions) -> dict[str, Loss]:
    """Of errors, cut where hardly any of the reference is."""
    limit = float(np.quantile(np.abs(y - predictions.predicted), QUANTILE)) if len(y) else 1.0
    limit = limit or 1.0

    def absolute(y: Array, predictions: Predictions) -> Array:
        return np.asarray(np.minimum(np.abs(y - predictions.predicted) / limit, 1))

    cut = f"cut at {limit:.4g}"
    return {
        "mae": Loss("mae", f"absolute error, {cut}", limit, absolute),
        "mse": Loss("mse", f"squared error, {cut} squared", limit**2, lambda *given: absolute(*given) ** 2),
        "rmse": Loss("rmse", f"squared error, {cut} squared", limit**2, lambda *given: absolute(*given) ** 2),
    }
