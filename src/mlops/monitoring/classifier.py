"""What no single column shows: can a classifier tell the rows of a window from those of the reference?

Where both come from one distribution, no classifier can on rows that it was not fitted on, so its scores there are
tested with Mann and Whitney's test (classifier two-sample test: Lopez-Paz and Oquab 2017, arXiv:1610.06545; as a
detector of changes: Rabanser, Günnemann and Lipton 2019, arXiv:1810.11953). It sees changes of correlation and of rare
combinations. A change of one column alone is found earlier by that column's own test.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier

from mlops.monitoring.drift import LEAST_COUNT

Array = np.ndarray[Any, Any]

MOST_ROWS = 4_000  # of the reference and of the window
BINS = 16  # of a column; more cost time and find no more
MOST_CATEGORIES = BINS - 1  # and all others as one
LEAST_ROWS = 40  # of either, so that each half holds leaves of the classifier
LARGEST = 1e100  # scikit-learn takes no infinite number
RANKED_ROWS = 1_000  # on which a column's share is measured
TOP = 5


class Separation(NamedTuple):
    """How well a classifier tells the window from the reference.

    Attributes
    ----------
    p_value : float
        Of 'both come from the same distribution'.
    effect : float
        Somers' D, 2 AUC - 1: 0 where it guesses, 1 where it is always right.
    rows : int
        That were compared, of both together.
    columns : list of (str, float)
        The columns that drive it, and how much of the AUC is lost without each; empty where `p_value` is above 0.05.
    """

    p_value: float
    effect: float
    rows: int
    columns: list[tuple[str, float]]


def separation(reference: dict[str, Array], window: dict[str, Array], seed: int = 0) -> Separation | None:
    """Tell a window from the reference; None where either has too few rows.

    Each half of the rows is scored by a classifier that was fitted on the other one. The smaller of both p-values
    counts, corrected for their number: scores of different classifiers on dependent rows have no common test.

    Parameters
    ----------
    reference, window : dict of str to ndarray of shape (n_samples,)
        The same columns: float64 with NaN for missing values, or objects with None.
    """
    names = [name for name in reference if name in window]
    sizes = [len(next(iter(columns.values()), [])) for columns in (reference, window)]
    if not names or min(sizes) < LEAST_ROWS:
        return None
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(size)[:MOST_ROWS] for size in sizes]
    X = np.column_stack([encoded(reference[name][chosen[0]], window[name][chosen[1]]) for name in names])
    categorical = [reference[name].dtype == object for name in names]
    y = np.repeat([0, 1], [len(each) for each in chosen])
    half = np.concatenate([np.arange(len(each)) % 2 for each in chosen]).astype(bool)
    found = []
    for train, test in ((half, ~half), (~half, half)):
        model = fitted(X[train], y[train], categorical, seed)
        score = model.decision_function(X[test])
        p_value = float(stats.mannwhitneyu(*split(score, y[test]), alternative="greater", method="asymptotic").pvalue)
        found.append((model, test, p_value, auc(score, y[test])))
    p_value = min(1.0, 2 * min(each for _, _, each, _ in found))
    effect = max(0.0, 2 * float(np.mean([each for *_, each in found])) - 1)
    columns: list[tuple[str, float]] = []
    if p_value < 0.05:
        model, test, *_ = min(found, key=lambda each: each[2])
        columns = ranked(model, X[test], y[test], names, rng)
    return Separation(p_value, effect, len(y), columns)


def fitted(X: Array, y: Array, categorical: list[bool], seed: int) -> HistGradientBoostingClassifier:
    """Small trees on coarse bins: enough for combinations of columns, too little to remember rows."""
    model = HistGradientBoostingClassifier(
        max_iter=100,
        max_bins=BINS,
        max_leaf_nodes=16,
        min_samples_leaf=10,
        l2_regularization=1.0,
        categorical_features=categorical,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    )
    nothing = np.isnan(X).all(axis=0)  # scikit-learn cannot bin a column without a value
    return model.fit(np.where(nothing, 0.0, X), y)


def ranked(
    model: HistGradientBoostingClassifier, X: Array, y: Array, names: list[str], rng: np.random.Generator
) -> list[tuple[str, float]]:
    """The columns without which the classifier loses most: each is permuted once (Breiman 2001)."""
    rows = rng.permutation(len(X))[:RANKED_ROWS]
    X, y = X[rows], y[rows]
    whole = auc(model.decision_function(X), y)
    lost = {}
    for number, name in enumerate(names):
        without = X.copy()
        without[:, number] = rng.permutation(without[:, number])
        lost[name] = whole - auc(model.decision_function(without), y)
    order = sorted(lost, key=lambda name: (-lost[name], name))
    return [(name, round(lost[name], 6)) for name in order[:TOP] if lost[name] > 0]


def encoded(reference: Array, window: Array) -> Array:
    """A column of both as numbers: a category by its rank among the frequent ones, all others as one."""
    values = np.concatenate([reference, window])
    if values.dtype != object:
        return np.asarray(np.clip(values.astype(float), -LARGEST, LARGEST))
    counts = Counter(str(value) for value in values if value is not None)
    common = [name for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))][:MOST_CATEGORIES]
    codes = {name: float(code) for code, name in enumerate(common) if counts[name] >= LEAST_COUNT}
    other = float(len(codes))
    return np.array([np.nan if value is None else codes.get(str(value), other) for value in values])


def split(score: Array, y: Array) -> tuple[Array, Array]:
    """The scores of the window and of the reference."""
    return score[y == 1], score[y == 0]


def auc(score: Array, y: Array) -> float:
    """The probability that a row of the window has a higher score than one of the reference."""
    window, reference = split(score, y)
    return float(stats.mannwhitneyu(window, reference, method="asymptotic").statistic / len(window) / len(reference))
