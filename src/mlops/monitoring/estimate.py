"""What the metrics would be if the relation between inputs and outcome had not changed: estimated without labels.

A calibrated probability says how often a prediction is right, so the expected confusion matrix of unlabelled rows
follows from their probabilities (confidence-based performance estimation). It sees a change of the inputs, and it
cannot see a change of the relation: it is shown, and never alarms. Its error on the reference says how far to trust it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlops.model.metrics import Classes, Predictions, score

Array = np.ndarray[Any, Any]


class Estimate(NamedTuple):
    """A metric, estimated from probabilities.

    Attributes
    ----------
    value : float
        Of the unlabelled rows.
    reference : float
        The metric of the reference rows.
    reference_error : float
        How far the same estimate is from the truth on the reference rows.
    """

    metric: str
    value: float
    reference: float
    reference_error: float


def estimates(y: Array, reference: Predictions, here: Predictions, classes: Classes) -> list[Estimate]:
    """Estimate the metrics of a classification on unlabelled rows.

    Parameters
    ----------
    y : ndarray of shape (n_reference,)
        Labels of the reference rows.
    reference : Predictions
    here : Predictions
        Of the unlabelled rows.
    """
    if reference.probabilities is None or here.probabilities is None or not len(here.predicted):
        return []
    known = score(y, reference, classes)
    on_reference, found = expected(reference, classes), expected(here, classes)
    return [
        Estimate(name, value, known[name], on_reference[name] - known[name])
        for name, value in found.items()
        if name in known
    ]


def expected(predictions: Predictions, classes: Classes) -> dict[str, float]:
    """Metrics of the expected confusion matrix."""
    probabilities = np.asarray(predictions.probabilities)
    own = np.zeros(len(probabilities))
    for column, label in enumerate(classes.labels):
        here = predictions.predicted == label
        own[here] = probabilities[here, column]
    clipped = np.clip(probabilities, 1e-15, 1)
    found = {
        "accuracy": own.mean(),
        "log_loss": -(probabilities * np.log(clipped)).sum(axis=1).mean(),
    }
    if len(classes.labels) == 2:
        positive = probabilities[:, classes.positive]
        decided = predictions.predicted == classes.labels[classes.positive]
        hits, all_positive = positive[decided].sum(), positive.sum()
        rejected = (1 - positive)[~decided].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = np.float64(hits) / decided.sum(), np.float64(hits) / all_positive
            specificity = np.float64(rejected) / (1 - positive).sum()
            found |= {
                "precision": precision,
                "recall": recall,
                "specificity": specificity,
                "f1": 2 * precision * recall / (precision + recall),
                "balanced_accuracy": (recall + specificity) / 2,
                "brier_score": (positive * (1 - positive)).mean(),
            }
    return {name: float(value) for name, value in found.items()}
