"""Resampling of all metrics at once against scikit-learn's functions in a loop, on the same resamples."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import metrics as by_sklearn

from benchmarks.measuring import progress, table, verdict
from mlops.model import metrics
from mlops.model.bootstrap import bootstrap, resample_counts
from mlops.review.compare import compare

GOAL, MOST_DIFFERENCE = 20.0, 1e-12
ROWS, RESAMPLES, LOOPED = 100_000, 2_000, 10


def measure() -> str:
    y, main, here, classes = rows()
    progress(f"resampling: {RESAMPLES:,} resamples of {ROWS:,} rows")
    _, one = timed(lambda: bootstrap(y, here, classes, resamples=RESAMPLES, seed=0))
    pairs, two = timed(lambda: compare(y, main, here, classes, resamples=RESAMPLES))

    difference, looped = 0.0, 0.0
    counts = np.concatenate(list(resample_counts(ROWS, LOOPED, 0)))
    for number, weights in enumerate(counts):
        progress(f"resampling: scikit-learn {number + 1}/{LOOPED}")
        there = np.repeat(np.arange(ROWS), weights.astype(int))
        for model in (main, here):
            drawn = y[there], model.predicted[there], model.probabilities[there, 1]
            theirs, seconds = timed(lambda drawn=drawn: loop(*drawn))
            looped += seconds / (2 * LOOPED)
            for name, pair in pairs.items():
                ours = pair.baseline_values if model is main else pair.candidate_values
                difference = max(difference, abs(theirs[name] - ours[number]))
    ratio = RESAMPLES * min(looped / one, 2 * looped / two)
    return "\n\n".join(
        [
            f"{RESAMPLES:,} resamples × {len(pairs)} metrics on {ROWS:,} rows, one model or two: **{ratio:.0f}×** "
            f"as fast as scikit-learn's functions in a loop (goal: at least {GOAL:g}×: {verdict(ratio >= GOAL)}), and "
            f"equal to within {difference:.0e} (goal: {MOST_DIFFERENCE:g}: {verdict(difference <= MOST_DIFFERENCE)}).",
            table(
                [
                    "",
                    "CPU milliseconds per resample",
                    f"CPU seconds for {RESAMPLES:,}",
                    "speed-up over the loop",
                ],
                [
                    _row("`mlops.model.bootstrap.bootstrap`, one model", one, looped),
                    _row("`mlops.review.compare.compare`, main's and this change's", two, 2 * looped),
                    [
                        f"scikit-learn in a loop, one model (mean of {2 * LOOPED})",
                        f"{1000 * looped:.1f}",
                        f"{RESAMPLES * looped:.0f} (extrapolated)",
                        "1",
                    ],
                ],
            ),
        ]
    )


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What comes out, and CPU seconds."""
    start = time.process_time()
    found = call()
    return found, time.process_time() - start


def _row(name: str, seconds: float, loop_for_one: float) -> list[str]:
    each = seconds / RESAMPLES
    return [name, f"{1000 * each:.1f}", f"{seconds:.1f}", f"{loop_for_one / each:.0f}"]


def rows() -> tuple[metrics.Array, metrics.Predictions, metrics.Predictions, metrics.Classes]:
    """Labels, and what two classifiers say that are right more often than not."""
    rng = np.random.default_rng(0)
    y = rng.random(ROWS) < 0.3
    said = []
    for _ in range(2):
        probability = 1 / (1 + np.exp(-rng.normal(np.where(y, 0.5, -1.5), 1.5)))
        said.append(metrics.Predictions(probability > 0.5, np.column_stack([1 - probability, probability])))
    return y, *said, metrics.Classes(np.array([False, True]), 1)


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
