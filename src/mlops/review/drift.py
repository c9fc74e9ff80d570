"""Measures drift: how far the training rows differ from main's, column by column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.model.metrics import Array

BINS = 10
# Rarer values count together: where nearly each row has a value of its own, new rows alone would look like drift
MOST_CATEGORIES = 20
# Stands for a share of zero, whose logarithm is infinite
LEAST_SHARE = 1e-4


def stability_index(before: pa.ChunkedArray, after: pa.ChunkedArray) -> float:
    """Population stability index of a column (Siddiqi 2006): below 0.1 is quiet, above 0.25 another population.

    Numbers and dates are binned at the deciles of `before`; missing values are a bin of their own, and so is each
    of the most frequent values of a category. Infinite where the two do not hold the same kind of values.
    """
    kinds = (_is_category, _is_date, _is_time)
    if any(is_of(before) != is_of(after) for is_of in kinds):
        return float("inf")
    if _is_category(before):
        p, q = _shares_of_values(before, after)
    else:
        p, q = _shares_of_bins(_floats(before), _floats(after))
    p, q = np.maximum(p, LEAST_SHARE), np.maximum(q, LEAST_SHARE)
    return float(((q - p) * np.log(q / p)).sum())


def _is_category(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_boolean(values.type))


def _is_date(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_timestamp(values.type))


def _is_time(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_time(values.type))


def _shares_of_values(before: pa.ChunkedArray, after: pa.ChunkedArray) -> tuple[Array, Array]:
    """Of missing values, of the most frequent ones of `before`, and of all others."""
    counted = [
        {each["values"]: each["counts"] for each in pc.value_counts(values.cast(pa.string())).to_pylist()}
        for values in (before, after)
    ]
    ranked = sorted((name for name in counted[0] if name is not None), key=lambda name: (-counted[0][name], name))
    kept = [None, *ranked[:MOST_CATEGORIES]]
    shares = []
    for counts, values in zip(counted, (before, after), strict=True):
        known = [counts.get(name, 0) for name in kept]
        shares.append(np.array([*known, len(values) - sum(known)]) / len(values))
    return shares[0], shares[1]


def _floats(values: pa.ChunkedArray) -> Array:
    if _is_date(values) or _is_time(values):
        values = values.cast(pa.int64())
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy())


def _shares_of_bins(before: Array, after: Array) -> tuple[Array, Array]:
    known = before[~np.isnan(before)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.array([])
    shares = []
    for values in (before, after):
        missing = np.isnan(values)
        bins = np.bincount(np.searchsorted(edges, values[~missing], side="right"), minlength=len(edges) + 1)
        shares.append(np.append(bins, missing.sum()) / len(values))
    return shares[0], shares[1]


def drifted(before: pa.Table, after: pa.Table, columns: list[str]) -> list[tuple[str, float]]:
    """Columns with their stability index, the largest first; columns that only one table has are left out."""
    common = [name for name in columns if name in before.column_names and name in after.column_names]
    found = [(name, stability_index(before[name], after[name])) for name in common]
    return sorted(found, key=lambda each: -each[1])
