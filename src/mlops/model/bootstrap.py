"""Bootstrap intervals of all metrics, for one model or several on the same rows.

Few rows are resampled as a whole. Of many rows, random subsets are resampled, and the deviations from each subset's
value shrink by the square root of the sizes' ratio: the subsampled double bootstrap (Sengupta, Volgushev and Shao 2016,
doi:10.1080/01621459.2015.1080709, after the bag of little bootstraps by Kleiner et al. 2014,
doi:10.1111/rssb.12050). The metrics on all rows are exact in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlops.model.metrics import Array, Classes, Predictions, all_metrics, parts

if TYPE_CHECKING:
    from mlops.model.resampling import Custom

# Cells of the matrix of counts (resamples × rows) per chunk: about the size of a processor's cache.
CHUNK = 100_000
# Subsets and their least rows; of each class, and of wrong predictions, a subset has at least RARE rows on average,
# because intervals of rare events are far from normal, and shrinking a skewed interval leaves it too skewed.
SUBSETS, LEAST_ROWS, RARE = 10, 5_000, 1_000


class Estimate(NamedTuple):
    """A metric with its bootstrap interval; None if undefined."""

    value: float | None
    low: float | None
    high: float | None
    resamples: int = 0
    """How many the interval comes from, where a metric cannot be computed for all of them in time."""


class Draws(NamedTuple):
    """The metrics of a model.

    Attributes
    ----------
    values : dict of str to float
        On all rows.
    resampled : dict of str to ndarray of shape (n_resamples,)
        On resamples; NaN where a metric is undefined.
    used : dict of str to int
        For the project's own metrics: how many of the resamples each is computed for.
    """

    values: dict[str, float]
    resampled: dict[str, Array]
    used: dict[str, int]


def bootstrap(
    y: Array,
    predictions: Predictions,
    classes: Classes | None,
    custom: Custom | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """All metrics with percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13).

    Resamples in which a metric is undefined (for example without a row of a class) are excluded.
    """
    if classes is not None and predictions.probabilities is not None:
        # sorted by score, so that the curve reads every resample in order
        order = np.argsort(predictions.probabilities[:, classes.positive], kind="stable")
        y, predictions = y[order], parts(predictions, order)
        custom = custom and custom.at(order)
    (draws,) = draw(y, [predictions], classes, custom, resamples=resamples, seed=seed)
    tail = 100 * (1 - confidence) / 2
    estimates = {}
    for name, value in draws.values.items():
        used = draws.used.get(name, resamples)
        used = used if used < resamples else 0
        defined = draws.resampled[name][np.isfinite(draws.resampled[name])]
        if not np.isfinite(value) or not len(defined):
            estimates[name] = Estimate(None, None, None, used)
            continue
        low, high = np.percentile(defined, [tail, 100 - tail])
        estimates[name] = Estimate(value, float(low), float(high), used)
    return estimates


def draw(
    y: Array,
    models: Sequence[Predictions],
    classes: Classes | None,
    custom: Custom | None = None,
    *,
    resamples: int,
    seed: int,
) -> list[Draws]:
    """The metrics of several models on all rows and on the same resamples.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    models : sequence of Predictions
    classes : Classes or None
        None for a regression.
    custom : Custom, optional
        The project's own metrics, for these rows.
    """
    size = subset_size(y, models, classes)
    if size is None:
        prepared = [all_metrics(y, model, classes, custom, resamples) for model in models]
        drawn = resampled([weigh for weigh, _ in prepared], len(y), resamples, [seed])
        return [
            Draws(_whole(weigh, len(y)), values, used) for (weigh, used), values in zip(prepared, drawn, strict=True)
        ]
    values = [_whole(all_metrics(y, model, classes, custom, 1)[0], len(y)) for model in models]
    chunks: list[list[Draws]] = [[] for _ in models]
    rng = np.random.default_rng([seed, size])
    for number, count in enumerate(np.diff(np.linspace(0, resamples, SUBSETS + 1).astype(int)).tolist()):
        rows = np.sort(rng.choice(len(y), size, replace=False))
        # each subset gets its share of the time of slow metrics
        some = custom and custom.at(rows)._replace(share=custom.share / SUBSETS)
        prepared = [all_metrics(y[rows], parts(model, rows), classes, some, count) for model in models]
        drawn = resampled([weigh for weigh, _ in prepared], size, count, [seed, number])
        for found, (weigh, used), values_of in zip(chunks, prepared, drawn, strict=True):
            found.append(Draws(_whole(weigh, size), values_of, used))
    shrink = (size / len(y)) ** 0.5
    return [_together(value, found, shrink) for value, found in zip(values, chunks, strict=True)]


def subset_size(y: Array, models: Sequence[Predictions], classes: Classes | None) -> int | None:
    """Rows of a subset; None if all rows are resampled."""
    if len(y) <= 2 * LEAST_ROWS:
        return None
    size = LEAST_ROWS
    if classes is not None:
        counts = [int((y == label).sum()) for label in classes.labels]
        counts += [int((model.predicted != y).sum()) for model in models]
        size = max(size, *(-(-RARE * len(y) // max(1, count)) for count in counts))
    return size if 2 * size <= len(y) else None


def _together(values: dict[str, float], subsets: list[Draws], shrink: float) -> Draws:
    """The resamples of all subsets, as deviations from the value on all rows."""
    drawn = {
        name: np.concatenate([value + shrink * (each.resampled[name] - each.values[name]) for each in subsets])
        for name, value in values.items()
    }
    return Draws(values, drawn, {name: sum(each.used[name] for each in subsets) for name in subsets[0].used})


def _whole(weigh: Callable[[Array, int], dict[str, Array]], n_samples: int) -> dict[str, float]:
    return {name: float(value[0]) for name, value in weigh(np.ones((1, n_samples)), 0).items()}


def resampled(
    weighers: Sequence[Callable[[Array, int], dict[str, Array]]], n_samples: int, resamples: int, seed: int | list[int]
) -> list[dict[str, Array]]:
    """The metrics of several models on the same resamples, of shape (n_resamples,) each."""
    drawn: list[list[dict[str, Array]]] = [[] for _ in weighers]
    first = 0
    for counts in resample_counts(n_samples, resamples, seed):
        for chunks, weigh in zip(drawn, weighers, strict=True):
            chunks.append(weigh(counts, first))
        first += len(counts)
    return [{name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]} for chunks in drawn]


def resample_counts(n_samples: int, resamples: int, seed: int | list[int]) -> Iterator[Array]:
    """Yield the counts of the rows in chunks of shape (n_resamples_of_the_chunk, n_samples)."""
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK // n_samples)
    for start in range(0, resamples, at_once):
        counts = np.empty((min(at_once, resamples - start), n_samples))
        for row in counts:
            row[:] = np.bincount(rng.integers(0, n_samples, n_samples), minlength=n_samples)
        yield counts
