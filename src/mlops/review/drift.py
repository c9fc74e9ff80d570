"""How far the training rows have moved from main's, column by column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.metrics import Array

BINS = 10
# Stands for a share of zero, whose logarithm is infinite
LEAST_SHARE = 1e-4


def stability_index(before: pa.ChunkedArray, after: pa.ChunkedArray) -> float:
    """Population stability index of a column (Siddiqi 2006): below 0.1 is quiet, above 0.25 another population.

    Numbers and dates are binned at the deciles of `before`; missing values are a bin of their own, and so is each
    value of a category.
    """
    if pa.types.is_string(before.type) or pa.types.is_boolean(before.type):
        shares = [_shares_of_values(each) for each in (before, after)]
        names = sorted({*shares[0], *shares[1]})
        p, q = (np.array([share.get(name, 0.0) for name in names]) for share in shares)
    else:
        p, q = _shares_of_bins(_floats(before), _floats(after))
    p, q = np.maximum(p, LEAST_SHARE), np.maximum(q, LEAST_SHARE)
    return float(((q - p) * np.log(q / p)).sum())


def _shares_of_values(values: pa.ChunkedArray) -> dict[str, float]:
    counted = pc.value_counts(pc.fill_null(values.cast(pa.string()), "\0missing"))
    return {each["values"].as_py(): each["counts"].as_py() / len(values) for each in counted}


def _floats(values: pa.ChunkedArray) -> Array:
    if pa.types.is_timestamp(values.type):
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
    common = [
        name
        for name in columns
        if name in before.column_names and name in after.column_names and before[name].type == after[name].type
    ]
    found = [(name, stability_index(before[name], after[name])) for name in common]
    return sorted(found, key=lambda each: -each[1])
