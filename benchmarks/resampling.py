"""Bootstrap of all metrics at once against scikit-learn's functions in a loop, on the same resamples."""

from __future__ import annotations

import time

import numpy as np
from sklearn import metrics as by_sklearn

from benchmarks.measuring import progress, table, verdict
from mlops import metrics

GOAL, MOST_DIFFERENCE = 20.0, 1e-12
ROWS, RESAMPLES, LOOPED = 100_000, 2_000, 10


def measure() -> str:
    y, predictions, classes = rows()
    progress(f"resampling: {RESAMPLES:,} resamples of {ROWS:,} rows")
    start = time.process_time()
    estimates = metrics.bootstrap(y, predictions, classes, resamples=RESAMPLES, seed=0)
    ours = (time.process_time() - start) / RESAMPLES

    drawn = metrics.weighted_metrics(y, predictions, classes)
    difference, looped = 0.0, 0.0
    counts = next(iter(metrics.resample_counts(ROWS, LOOPED, 0)))
    for number, weights in enumerate(counts, 1):
        progress(f"resampling: scikit-learn {number}/{len(counts)}")
        there = np.repeat(np.arange(ROWS), weights.astype(int))
        start = time.process_time()
        theirs = loop(y[there], predictions.predicted[there], predictions.probabilities[there, 1])
        looped += time.process_time() - start
        values = drawn(weights[None])
        difference = max(difference, *(abs(theirs[name] - values[name][0]) for name in estimates))
    looped /= len(counts)
    return "\n\n".join(
        [
            f"{RESAMPLES:,} resamples × {len(estimates)} metrics on {ROWS:,} rows: **{looped / ours:.0f}×** as fast as "
            f"scikit-learn's functions in a loop (goal: at least {GOAL:g}×: {verdict(looped / ours >= GOAL)}), and "
            f"equal to within {difference:.0e} (goal: {MOST_DIFFERENCE:g}: {verdict(difference <= MOST_DIFFERENCE)}).",
            table(
                ["", "CPU milliseconds for one resample", f"CPU seconds for {RESAMPLES:,}"],
                [
                    ["`mlops.metrics.bootstrap`", f"{1000 * ours:.1f}", f"{RESAMPLES * ours:.1f}"],
                    [
                        f"scikit-learn in a loop (mean of {len(counts)})",
                        f"{1000 * looped:.1f}",
                        f"{RESAMPLES * looped:.0f} (extrapolated)",
                    ],
                ],
            ),
        ]
    )


def rows() -> tuple[metrics.Array, metrics.Predictions, metrics.Classes]:
    """Labels and predictions of a classifier that is right more often than not."""
    rng = np.random.default_rng(0)
    y = rng.random(ROWS) < 0.3
    probability = 1 / (1 + np.exp(-rng.normal(np.where(y, 0.5, -1.5), 1.5)))
    predictions = metrics.Predictions(probability > 0.5, np.column_stack([1 - probability, probability]))
    return y, predictions, metrics.Classes(np.array([False, True]), 1)


def loop(y: metrics.Array, predicted: metrics.Array, probability: metrics.Array) -> dict[str, float]:
    """The same metrics of one resample."""
    return {
        "roc_auc": by_sklearn.roc_auc_score(y, probability),
        "average_precision": by_sklearn.average_precision_score(y, probability),
        "accuracy": by_sklearn.accuracy_score(y, predicted),
        "balanced_accuracy": by_sklearn.balanced_accuracy_score(y, predicted),
        "precision": by_sklearn.precision_score(y, predicted),
        "recall": by_sklearn.recall_score(y, predicted),
        "specificity": by_sklearn.recall_score(y, predicted, pos_label=False),
        "f1": by_sklearn.f1_score(y, predicted),
        "log_loss": by_sklearn.log_loss(y, probability),
        "brier_score": by_sklearn.brier_score_loss(y, probability),
    }
