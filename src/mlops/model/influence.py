"""What a model's predictions depend on: the mean absolute contribution of each column, and partial dependence.

Both come with intervals over rows: how uncertain a mean is because there are only so many rows. They say nothing of
another training set. Sums of contributions over rows are published, never those of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.data import tables
from mlops.data.tables import Column
from mlops.model.curves import rounded
from mlops.model.explaining import Explained
from mlops.model.metrics import Array, Classes

# Rows that are explained: at most, at least, and numbers that are computed for all of them
MOST_ROWS, LEAST_ROWS, MOST_STEPS = 2_000, 50, 100_000_000
# Columns, values of each and classes whose partial dependence is computed, and rows that it is averaged over
COLUMNS, VALUES, CLASSES, ROWS = 6, 11, 5, 200
LEAST_OF_A_KIND = 5  # rows of a category


class Shares(NamedTuple):
    """How the contributions of a model divide among its columns.

    Attributes
    ----------
    share : ndarray of shape (n_inputs,)
        Of the sum of mean absolute contributions.
    by_row : ndarray of shape (n_samples, n_inputs)
        What each row adds to the deviation of the share (the influence function of a ratio of means).
    """

    share: Array
    by_row: Array


def rows_explained(explained: Explained, n_rows: int) -> int:
    """How many rows can be explained in a second or so."""
    most = MOST_STEPS // max(explained.explainer.arrays.steps, 1)
    return min(n_rows, max(LEAST_ROWS, min(MOST_ROWS, most)))


def absolute(explained: Explained, X: Any) -> Array:
    """Absolute contributions of shape (n_samples, n_inputs); of several classes, their mean."""
    found: Array = np.abs(explained(X)).mean(axis=1)
    return found


def summary(explained: Explained, inputs: Sequence[str], X: Any, confidence: float) -> dict[str, Any]:
    """The mean absolute contribution of each input with its interval, largest first (a SHAP summary).

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
    """
    found = absolute(explained, X)
    mean, half = found.mean(axis=0), half_width(found, confidence)
    return {
        "method": explained.method,
        "unit": explained.unit,
        "of": explained.of,
        "rows": len(X),
        "columns": [
            {
                "column": inputs[place],
                "mean": rounded(mean[place]),
                "low": rounded(max(mean[place] - half[place], 0.0)),
                "high": rounded(mean[place] + half[place]),
            }
            for place in np.argsort(-mean, kind="stable")
        ],
    }


def half_width(values: Array, confidence: float) -> Array:
    """Half the width of the normal interval of means over rows."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    normal = NormalDist().inv_cdf(0.5 + confidence / 2)
    found: Array = normal * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return found


def shares(found: Array) -> Shares:
    """Divide absolute contributions, of shape (n_samples, n_inputs), among the inputs."""
    mean = found.mean(axis=0)
    total = mean.sum()
    if not total > 0:
        return Shares(np.zeros_like(mean), np.zeros_like(found))
    share = mean / total
    return Shares(share, (found - share * found.sum(axis=1, keepdims=True)) / total)


def dependence(
    model: Any,
    table: pa.Table,
    columns: Sequence[Column],
    important: Sequence[str],
    classes: Classes | None,
    confidence: float,
) -> list[dict[str, Any]]:
    """The mean prediction where a column has a certain value in all rows (Friedman 2001, doi:10.1214/aos/1013203451).

    Parameters
    ----------
    table : pyarrow.Table
        Rows with the computed features.
    important : sequence of str
        Names of columns, most important first.
    """
    from sklearn.inspection import partial_dependence

    table = tables.some(table, ROWS)
    X = tables.features(table, list(columns))
    kinds = {column.name: column.kind for column in columns}
    found: list[dict[str, Any]] = []
    for name in important:
        grid = grid_of(X[name], kinds[name])
        if len(grid) < 2:
            continue
        place = list(X.columns).index(name)
        try:
            made = partial_dependence(
                model, X, [place], kind="individual", method="brute", custom_values={place: np.asarray(grid)}
            )
        except (MemoryError, OSError):
            raise  # caused by this machine
        except Exception as error:  # a model may raise anything for combinations that it has not seen
            print(f"  partial dependence of {name} is left out: {type(error).__name__}", flush=True)
            continue
        for of, lines in of_classes(made["individual"], classes):
            means, half = lines.mean(axis=0), half_width(lines, confidence)
            ends = (means - half, means + half)
            if hasattr(model, "predict_proba"):
                ends = (ends[0].clip(min=0), ends[1].clip(max=1))
            points = zip(grid, means, *ends, strict=True)
            found.append(
                {
                    "column": name,
                    "of": of,
                    "rows": len(X),
                    "points": [
                        {"at": shown(at), "mean": rounded(mean), "low": rounded(low), "high": rounded(high)}
                        for at, mean, low, high in points
                    ],
                }
            )
        if len({each["column"] for each in found}) == COLUMNS:
            break
    return found


def grid_of(values: Any, kind: str) -> Any:
    """Values of a column: evenly spaced between the 5th and the 95th percentile, or the most frequent ones."""
    known = values.dropna()
    if kind in ("text", "date", "time") or known.empty:
        return []
    counts = known.value_counts()
    if kind == "categorical":  # a rare value could name somebody
        return sorted(counts[counts >= LEAST_OF_A_KIND].index[:VALUES])
    if len(counts) <= VALUES:
        return sorted(counts.index)
    low, high = np.quantile(known, [0.05, 0.95])
    return np.linspace(low, high, VALUES) if high > low else []


def of_classes(lines: Array, classes: Classes | None) -> list[tuple[Any, Array]]:
    """Predictions of shape (n_samples, n_values) by class; scikit-learn gives those of the second of two."""
    if classes is None:
        return [(None, lines[0])]
    labels = classes.labels.tolist()
    if len(labels) > 2:
        return list(zip(labels, lines, strict=False))[:CLASSES]
    return [(labels[classes.positive], lines[0] if classes.positive == 1 else 1 - lines[0])]


def shown(value: Any) -> Any:
    """A value of the grid as JSON."""
    return value if isinstance(value, str) else rounded(value)
