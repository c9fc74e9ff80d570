"""Metrics, for many resamples of the same rows at once.

A resample is a vector of row counts, so a metric of all resamples takes a few matrix products and cumulative sums over
rows that are sorted once. The values equal those of scikit-learn's functions with `sample_weight`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from scipy import sparse

from mlops.core.errors import UserError
from mlops.core.settings import LOWER_IS_BETTER
from mlops.core.yamlfile import closest
from mlops.data.tables import Column, features

if TYPE_CHECKING:
    from mlops.model.resampling import Custom

Array = np.ndarray[Any, Any]

# Rows per prediction, so that the memory of the preprocessing does not grow with the table.
PREDICT_ROWS = 100_000
# Estimators whose labels are those of the largest probability
BY_PROBABILITY = frozenset(
    f"sklearn.{name}"
    for name in (
        "ExtraTreesClassifier",
        "HistGradientBoostingClassifier",
        "LogisticRegression",
        "RandomForestClassifier",
    )
)


class Predictions(NamedTuple):
    """Predictions of a model for n_samples rows.

    Attributes
    ----------
    predicted : ndarray of shape (n_samples,)
        Labels, or numbers for a regression.
    probabilities : ndarray of shape (n_samples, n_classes) or None
        None for a regression, and for a classifier without `predict_proba`.
    """

    predicted: Array
    probabilities: Array | None


def parts(predictions: Predictions, rows: Array) -> Predictions:
    """Some of the rows."""
    probabilities = predictions.probabilities
    return Predictions(predictions.predicted[rows], None if probabilities is None else probabilities[rows])


class Classes(NamedTuple):
    """The classes of a classification.

    Attributes
    ----------
    labels : ndarray of shape (n_classes,)
        In the order of the probabilities' columns.
    positive : int
        With two classes: the column of the positive class, to which precision, recall and similar metrics refer.
    """

    labels: Array
    positive: int

    @classmethod
    def of(cls, labels: Array, positive: Any) -> Self:
        """The classes of a model; the positive class is the declared one, otherwise the last, as in scikit-learn."""
        return cls(labels, len(labels) - 1 if positive is None else int(np.flatnonzero(labels == positive)[0]))


def predict(model: Any, X: Any) -> Predictions:
    """Predict labels and, if available, probabilities, in blocks of rows."""
    return _predict(model, (X.iloc[start : start + PREDICT_ROWS] for start in range(0, len(X), PREDICT_ROWS)))


def predict_table(model: Any, table: pa.Table, columns: list[Column]) -> Predictions:
    """The same for a prepared table, converted to features block by block."""
    starts = range(0, table.num_rows, PREDICT_ROWS)
    return _predict(model, (features(table.slice(start, PREDICT_ROWS), columns) for start in starts))


def _predict(model: Any, blocks: Iterable[Any]) -> Predictions:
    labels, probabilities = [], []
    for block in blocks:
        if hasattr(model, "predict_proba"):
            probabilities.append(model.predict_proba(block))
            labels.append(_labels(model, block, probabilities[-1]))
        else:
            labels.append(model.predict(block))
    return Predictions(np.concatenate(labels), np.concatenate(probabilities) if probabilities else None)


def _labels(model: Any, block: Any, probabilities: Array) -> Array:
    """The labels that `predict` gives, without computing the probabilities again where they decide."""
    estimator = model[-1] if hasattr(model, "steps") else model
    if f"{type(estimator).__module__.partition('.')[0]}.{type(estimator).__name__}" in BY_PROBABILITY:
        largest = np.partition(probabilities, -2, axis=1)[:, -2:]
        if (largest[:, 0] < largest[:, 1]).all():
            likely: Array = np.take(model.classes_, probabilities.argmax(axis=1))
            return likely
    labels: Array = model.predict(block)
    return labels


def scorer(
    classes: Classes | None, name: str | None = None, custom: Custom | None = None
) -> Callable[[Any, Any, Array], float]:
    """A scorer in scikit-learn's form: ``(model, X, y)`` to a number; greater is better.

    Parameters
    ----------
    name : str or None
        A metric; by default the first of the task.
    custom : Custom, optional
        The project's own metrics, for the rows that the index of `X` counts.
    """

    def scored(model: Any, X: Any, y: Array) -> float:
        predictions = predict(model, X)
        if custom is not None and name in custom.names:
            value = custom.at(X.index.to_numpy()).value(name, y, predictions, classes)
            return value if custom.greater_is_better(name) else -value
        scores = score(y, predictions, classes)
        chosen = name or next(iter(scores))
        if chosen not in scores:
            known = [*scores, *(custom.names if custom else ())]
            raise UserError(f"params.yaml: tuning.metric: no metric {chosen!r} here{closest(chosen, known)}")
        return scores[chosen] if greater_is_better(chosen) else -scores[chosen]

    return scored


def greater_is_better(name: str, custom: Custom | None = None) -> bool:
    """Direction of a metric, built-in or the project's own."""
    if custom is not None and name in custom.names:
        return custom.greater_is_better(name)
    return name not in LOWER_IS_BETTER


def score(
    y: Array, predictions: Predictions, classes: Classes | None, custom: Custom | None = None
) -> dict[str, float]:
    """Each metric on all rows, the most telling of the task first, the project's own last.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    classes : Classes or None
        None for a regression.
    custom : Custom, optional
        The project's own metrics, for these rows.
    """
    weigh, _ = all_metrics(y, predictions, classes, custom, 1)
    return {name: float(values[0]) for name, values in weigh(np.ones((1, len(y))), 0).items()}


def all_metrics(
    y: Array, predictions: Predictions, classes: Classes | None, custom: Custom | None, resamples: int
) -> tuple[Callable[[Array, int], dict[str, Array]], dict[str, int]]:
    """Prepare the rows once, for the built-in metrics and the project's own.

    Returns
    -------
    weigh : callable
        From weights of shape (n_resamples, n_samples), and the number of the first of these resamples, to a dict of
        arrays of shape (n_resamples,).
    resamples : dict of str to int
        For how many resamples each of the project's own metrics is computed.
    """
    built_in = weighted_metrics(y, predictions, classes)
    if custom is None or not custom.metrics:
        return lambda weights, _: built_in(weights), {}
    own, limits = custom.weigher(y, predictions, classes, resamples)
    return lambda weights, first: {**built_in(weights), **own(weights, first)}, limits


def weighted_metrics(
    y: Array, predictions: Predictions, classes: Classes | None
) -> Callable[[Array], dict[str, Array]]:
    """Prepare the rows once; the returned function computes all metrics from weights.

    Returns
    -------
    callable
        From weights of shape (n_resamples, n_samples) to a dict of arrays of shape (n_resamples,).
    """
    if classes is None:
        return _regression(y, predictions.predicted)
    if len(classes.labels) == 2:
        return _binary(y, predictions, classes)
    return _multiclass(y, predictions, classes.labels)


def _regression(y: Array, predicted: Array) -> Callable[[Array], dict[str, Array]]:
    center = y.mean()  # centred, because the sums below would lose precision for targets far from zero
    error, deviation = y - predicted, y - center
    rows = np.column_stack([np.ones_like(y), error**2, np.abs(error), deviation, deviation**2])

    def weigh(weights: Array) -> dict[str, Array]:
        total, squared, absolute, first, second = (weights @ rows).T
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = second - first**2 / total
            r2 = np.where(spread > 0, 1 - squared / spread, np.nan)
        mse = squared / total
        return {"rmse": np.sqrt(mse), "mse": mse, "mae": absolute / total, "r2": r2}

    return weigh


def _counts_by_class(y: Array, predicted: Array, classes: Array) -> Callable[[Array], Array]:
    """From weights to counts of shape (3, n_classes, n_resamples): correct, actual, predicted."""
    k = len(classes)
    pairs, pair = np.unique(_index(y, classes) * k + _index(predicted, classes), return_inverse=True)
    there, said = np.divmod(pairs, k)
    right = np.flatnonzero(there == said)
    columns = np.concatenate([there[right], k + there, 2 * k + said])
    rows = np.concatenate([right, np.arange(len(pairs)), np.arange(len(pairs))])
    indicator = sparse.csr_array((np.ones(len(rows)), (columns, rows)), shape=(3 * k, len(pairs)))

    def count(weights: Array) -> Array:
        by_pair = np.stack([np.bincount(pair, each, len(pairs)) for each in weights], axis=1)
        return np.asarray(indicator @ by_pair).reshape(3, k, -1)

    return count


def _index(values: Array, classes: Array) -> Array:
    """The class number of every value."""
    order = np.argsort(classes)
    return np.asarray(order[np.searchsorted(classes, values, sorter=order)])


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, or zero if the denominator is zero, as in scikit-learn."""
    return np.asarray(np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0))


def _binary(y: Array, predictions: Predictions, classes: Classes) -> Callable[[Array], dict[str, Array]]:
    labels, column = classes
    count = _counts_by_class(y, predictions.predicted, labels)
    truth = y == labels[column]
    by_score = None
    if predictions.probabilities is not None:
        probability = predictions.probabilities[:, column]
        by_score = _by_score(truth, probability)
        losses = np.column_stack([_log_losses(y, predictions.probabilities, labels), (probability - truth) ** 2])

    def weigh(weights: Array) -> dict[str, Array]:
        metrics: dict[str, Array] = {}
        total = weights.sum(axis=1)
        if by_score is not None:
            metrics["roc_auc"], metrics["average_precision"] = by_score(weights)
        right, there, said = count(weights)
        recalls = np.where(there > 0, _ratio(right, there), np.nan)
        precision, recall = _ratio(right[column], said[column]), _ratio(right[column], there[column])
        metrics |= {
            "accuracy": right.sum(axis=0) / total,
            "balanced_accuracy": recalls.mean(axis=0),
            "precision": precision,
            "recall": recall,
            "specificity": _ratio(right[1 - column], there[1 - column]),
            "f1": _ratio(2 * right[column], said[column] + there[column]),
        }
        if by_score is not None:
            metrics["log_loss"], metrics["brier_score"] = (weights @ losses).T / total
        return metrics

    return weigh


def _multiclass(y: Array, predictions: Predictions, labels: Array) -> Callable[[Array], dict[str, Array]]:
    count = _counts_by_class(y, predictions.predicted, labels)
    probabilities = predictions.probabilities
    if probabilities is not None:
        one_against_rest = [_by_score(y == label, probabilities[:, i]) for i, label in enumerate(labels)]
        losses = _log_losses(y, probabilities, labels)

    def weigh(weights: Array) -> dict[str, Array]:
        total = weights.sum(axis=1)
        right, there, said = count(weights)
        # a class counts if it occurs in the truth or the predictions, as in scikit-learn
        seen = (there + said) > 0
        recalls = np.where(there > 0, _ratio(right, there), np.nan)
        metrics = {
            "accuracy": right.sum(axis=0) / total,
            "balanced_accuracy": np.nanmean(recalls, axis=0),
            "precision_macro": np.where(seen, _ratio(right, said), 0).sum(axis=0) / seen.sum(axis=0),
            "f1_macro": _ratio(2 * right, said + there).sum(axis=0) / seen.sum(axis=0),
        }
        if probabilities is not None:
            metrics["roc_auc_ovr"] = np.mean([auc(weights)[0] for auc in one_against_rest], axis=0)
            metrics["log_loss"] = weights @ losses / total
        return metrics

    return weigh


def _log_losses(y: Array, probabilities: Array, classes: Array) -> Array:
    """The negative logarithm of the true class's probability, per row."""
    column = _index(y, classes)
    eps = np.finfo(probabilities.dtype).eps
    return np.asarray(-np.log(np.clip(probabilities[np.arange(len(y)), column], eps, 1 - eps)))


def _by_score(truth: Array, scores: Array) -> Callable[[Array], tuple[Array, Array]]:
    """From weights to the area under the ROC curve and the average precision.

    Rows are sorted by score once; rows with equal scores form one step of the curve (Fawcett 2006,
    doi:10.1016/j.patrec.2005.10.010).
    """
    order = np.argsort(scores, kind="stable")
    ordered = bool((order == np.arange(len(order))).all())
    positive = np.flatnonzero(truth[order])
    # start and end of every step with a positive row, among all rows and among the positive rows
    edges = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0, True])
    edges_positive = np.searchsorted(positive, edges)
    steps = np.flatnonzero(np.diff(edges_positive))
    start, end = edges[steps], edges[steps + 1]
    start_positive, end_positive = edges_positive[steps], edges_positive[steps + 1]

    def curve(weights: Array) -> tuple[Array, Array]:
        sorted_weights = weights if ordered else weights[:, order]
        below, hits_below = _sums_before(sorted_weights), _sums_before(sorted_weights[:, positive])
        total, positives = below[:, -1:], hits_below[:, -1:]
        first, last = hits_below[:, start_positive], hits_below[:, end_positive]
        hits = last - first
        false_below = (below[:, start] - first + below[:, end] - last) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            auc = np.einsum("ij,ij->i", hits, false_below) / (positives * (total - positives))[:, 0]
            precision = _ratio(positives - first, total - below[:, start])
            average = np.einsum("ij,ij->i", hits, precision) / positives[:, 0]
        return auc, average

    return curve


def _sums_before(weights: Array) -> Array:
    """Cumulative sums of every row, starting at zero; of shape (n_resamples, n_samples + 1)."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
