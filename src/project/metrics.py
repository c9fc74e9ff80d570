"""Metrics that this team judges its models by, beside the usual ones.

Each function is a metric of its name, with an interval, a value for each slice and a row in the comparison with main. A
rule of `gate.yaml` may name it.
"""

from __future__ import annotations

import numpy as np

from mlops import metric

SPECIFICITY = 0.95


@metric(greater_is_better=True, needs="probability", task="binary")
def sensitivity_at_95_specificity(
    y_true: np.ndarray, y_prob: np.ndarray, sample_weight: np.ndarray | None = None
) -> float:
    """Share of the ill who are found where at most 1 in 20 of the healthy gets a false alarm.

    The threshold is the lowest that keeps this specificity, as a physician would set it to miss as few as possible.
    NaN where nobody is ill or nobody is healthy.
    """
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    order = np.argsort(-y_prob, kind="stable")
    ill, healthy = (weight * y_true)[order].cumsum(), (weight * (1 - y_true))[order].cumsum()
    if ill[-1] == 0 or healthy[-1] == 0:
        return float("nan")
    # a threshold stands between two different probabilities
    thresholds = np.append(np.diff(y_prob[order]) < 0, True)
    allowed = thresholds & (healthy <= (1 - SPECIFICITY) * healthy[-1] * (1 + 1e-12))
    return float(ill[allowed].max(initial=0.0) / ill[-1])
