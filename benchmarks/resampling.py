"""Resampling of all metrics at once: its speed and equality beside scikit-learn in a loop, and its intervals' coverage.

Of many rows, subsets are resampled. So the coverage of both kinds of interval is simulated: samples are drawn from a
known distribution, and each interval contains the true value of its metric or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics as by_sklearn

from benchmarks.measuring import progress, table, verdict
from mlops.model.bootstrap import bootstrap, resampled, subset_size
from mlops.model.metrics import Array, Classes, Predictions, all_metrics, score
from mlops.review.compare import compare

GOAL, MOST_DIFFERENCE = 20.0, 1e-12
ROWS, RESAMPLES, LOOPED = 100_000, 2_000, 10
CLASSES = Classes(np.array([False, True]), 1)

SAMPLES, SAMPLE_ROWS, SAMPLE_RESAMPLES, POPULATION = 400, 40_000, 400, 5_000_000
COVERAGE = 0.93, 0.97


def measure() -> str:
    return f"{speed()}\n\n{coverage()}"


def speed() -> str:
    """Time and equality."""
    rng = np.random.default_rng(0)
    y, here = classification(ROWS, rng)
    main = classifier(y, rng)
    progress(f"resampling: {RESAMPLES:,} resamples of {ROWS:,} rows")
    _, one = timed(lambda: bootstrap(y, here, CLASSES, resamples=RESAMPLES, seed=0))
    _, two = timed(lambda: compare(y, main, here, CLASSES, resamples=RESAMPLES))
    _, whole = timed(lambda: plain(y, here, CLASSES, RESAMPLES, 0))

    difference, looped = 0.0, 0.0
    weighers = [all_metrics(y, model, CLASSES, None, LOOPED)[0] for model in (main, here)]
    ours = resampled(weighers, ROWS, LOOPED, 0)
    rng = np.random.default_rng(0)
    for number in range(LOOPED):
        progress(f"resampling: scikit-learn {number + 1}/{LOOPED}")
        there = rng.integers(0, ROWS, ROWS)
        for model, found in zip((main, here), ours, strict=True):
            drawn = y[there], model.predicted[there], model.probabilities[there, 1]  # type: ignore[index]
            theirs, seconds = timed(lambda drawn=drawn: loop(*drawn))
            looped += seconds / (2 * LOOPED)
            difference = max(difference, *(abs(theirs[name] - found[name][number]) for name in found))
    ratio = RESAMPLES * min(looped / one, 2 * looped / two)
    return "\n\n".join(
        [
            f"{RESAMPLES:,} resamples × {len(ours[0])} metrics on {ROWS:,} rows, one model or two: **{ratio:.0f}×** "
            f"as fast as scikit-learn's functions in a loop (goal: at least {GOAL:g}×: {verdict(ratio >= GOAL)}). On "
            f"the same resamples, the metrics are equal to within {difference:.0e} (goal: {MOST_DIFFERENCE:g}: "
            f"{verdict(difference <= MOST_DIFFERENCE)}).",
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
                    _row("the same as the first, with resamples of all rows", whole, looped),
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


class Task(NamedTuple):
    """Something to draw samples of."""

    name: str
    draw: Callable[[int, np.random.Generator], tuple[Array, Predictions]]
    classes: Classes | None


def coverage() -> str:
    """The share of intervals that contain the true value, from subsets and from resamples of all rows."""
    rows, met = [], True
    tasks = [Task("two classes", classification, CLASSES), Task("regression, skewed errors", regression, None)]
    for number, task in enumerate(tasks):
        rng = np.random.default_rng([1, number])
        y, model = task.draw(POPULATION, rng)
        truth = score(y, model, task.classes)
        held = np.zeros((2, len(truth)))
        width = np.zeros_like(held)
        for sample in range(SAMPLES):
            if sample % 50 == 0:
                progress(f"resampling: coverage, {task.name}, {sample}/{SAMPLES}")
            y, model = task.draw(SAMPLE_ROWS, rng)
            assert subset_size(y, [model], task.classes), "too few rows for subsets"
            estimates = bootstrap(y, model, task.classes, resamples=SAMPLE_RESAMPLES, seed=sample)
            subsets = [(estimates[name].low, estimates[name].high) for name in truth]
            whole = plain(y, model, task.classes, SAMPLE_RESAMPLES, sample)
            for kind, intervals in enumerate((subsets, [whole[name] for name in truth])):
                for metric, ((low, high), true) in enumerate(zip(intervals, truth.values(), strict=True)):
                    held[kind, metric] += low <= true <= high
                    width[kind, metric] += high - low
        shares = held / SAMPLES
        met = met and COVERAGE[0] <= shares[0].mean() <= COVERAGE[1]
        for metric, name in enumerate(truth):
            here, there = (f"{100 * share[metric]:.1f}" for share in shares)
            rows.append([f"{task.name}: {name}", here, there, f"{width[0, metric] / width[1, metric]:.2f}"])
    error = 100 * (0.05 * 0.95 / SAMPLES) ** 0.5
    return "\n\n".join(
        [
            f"Share of 95 % intervals that contain the true value, in percent (± {error:.1f}): {SAMPLES} samples of "
            f"{SAMPLE_ROWS:,} rows, {SAMPLE_RESAMPLES} resamples each; the true value is that of {POPULATION:,} rows. "
            f"Goal: a mean over the metrics of each task from {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}: {verdict(met)}.",
            table(["", "subsets", "resamples of all rows", "ratio of the widths"], rows),
        ]
    )


def plain(
    y: Array, model: Predictions, classes: Classes | None, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals from resamples of all rows."""
    weigh, _ = all_metrics(y, model, classes, None, resamples)
    (values,) = resampled([weigh], len(y), resamples, seed)
    return {name: tuple(np.percentile(each, [2.5, 97.5])) for name, each in values.items()}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What comes out, and CPU seconds."""
    start = time.process_time()
    found = call()
    return found, time.process_time() - start


def _row(name: str, seconds: float, loop_for_one: float) -> list[str]:
    each = seconds / RESAMPLES
    return [name, f"{1000 * each:.2f}", f"{seconds:.1f}", f"{loop_for_one / each:.0f}"]


def classification(rows: int, rng: np.random.Generator) -> tuple[Array, Predictions]:
    """Labels, and the predictions of a classifier that is right more often than not."""
    y = rng.random(rows) < 0.3
    return y, classifier(y, rng)


def classifier(y: Array, rng: np.random.Generator) -> Predictions:
    probability = 1 / (1 + np.exp(-rng.normal(np.where(y, 0.5, -1.5), 1.5)))
    return Predictions(probability > 0.5, np.column_stack([1 - probability, probability]))


def regression(rows: int, rng: np.random.Generator) -> tuple[Array, Predictions]:
    """Amounts with a long tail, and predictions whose errors grow with them."""
    y = rng.lognormal(0, 0.75, rows)
    return y, Predictions(y * rng.lognormal(0, 0.25, rows), None)


def loop(y: Array, predicted: Array, probability: Array) -> dict[str, float]:
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
