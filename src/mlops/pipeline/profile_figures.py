"""Statistics of one or two columns for the profile, and the SVG paths of its charts.

Functions take arrays and return numbers or SVG paths. A path is 100 wide and 100 high; its origin is the top left.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]


class Target(NamedTuple):
    """The target of the sampled rows: numbers, or class codes with the most frequent class first."""

    y: Array
    classes: Sequence[str] = ()
    positive: int | None = None
    middle: tuple[float, float] = (0, 0)
    """The 5% and 95% quantile of a numeric target."""


# Statistics of one column


def ordered(values: pa.ChunkedArray) -> Array:
    """Numbers, or dates and times (as microseconds), sorted, without missing values."""
    found = as_numpy(_numbers(values).drop_null())
    return np.sort(found[~np.isnan(found)] if found.dtype.kind == "f" else found)


def floats(values: pa.ChunkedArray) -> Array:
    """Numbers, or dates and times (as microseconds), as float64 of shape (n_samples,), NaN where missing."""
    return as_numpy(_numbers(values).cast(pa.float64(), safe=False), math.nan)


def codes(values: pa.ChunkedArray) -> tuple[list[Any], Array]:
    """The distinct values, and the index of each row's value, of shape (n_samples,); -1 where missing."""
    encoded = values.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), as_numpy(encoded.indices, -1)


def as_numpy(values: pa.ChunkedArray | pa.Array, missing: float = 0) -> Array:
    """Numbers as an array; unlike `to_numpy`, without the import of pandas, which takes half as long as the stage."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    filled = np.from_dlpack(values.drop_null())
    if not values.null_count:
        return filled
    found = np.full(len(values), missing, filled.dtype)
    found[np.from_dlpack(values.is_valid().cast(pa.uint8())) == 1] = filled
    return found


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_time(values.type):
        return values.cast(pa.int64())
    return values.cast(pa.timestamp("us")).cast(pa.int64()) if pa.types.is_timestamp(values.type) else values


def quantile(rising: Array, share: float) -> Any:
    """A quantile of sorted values, with linear interpolation."""
    position = share * (len(rising) - 1)
    low, high = (rising[index].item() for index in (math.floor(position), math.ceil(position)))
    return low if low == high else low * (1 - position % 1) + high * (position % 1)


def runs(rising: Array) -> Array:
    """The index at which each distinct value starts in sorted values."""
    return np.flatnonzero(np.concatenate((np.ones(min(len(rising), 1), bool), rising[1:] != rising[:-1])))


def mean(values: Array) -> float:
    """The mean, rounded to a billionth of the largest value, because processors differ beyond that."""
    largest = _largest(values)
    return round(float((values / largest).mean()), 9) * largest


def deviation(values: Array) -> float:
    """The standard deviation (n - 1), rounded to a billionth of the largest value; 0 for a single value."""
    largest = _largest(values)
    return round(float((values / largest).std(ddof=1)), 9) * largest if len(values) > 1 else 0.0


def _largest(values: Array) -> float:
    return max(abs(float(values.min())), abs(float(values.max()))) or 1.0


def most_frequent(values: pa.ChunkedArray, limit: int) -> tuple[list[tuple[Any, int]], int]:
    """The `limit` most frequent values with their counts (ties sorted by value), and the number of distinct values."""
    counted = pa.Table.from_struct_array(pc.value_counts(values.drop_null()))
    best = counted.take(pc.select_k_unstable(counted, limit, [("counts", "descending"), ("values", "ascending")]))
    return list(zip(best["values"].to_pylist(), best["counts"].to_pylist(), strict=True)), counted.num_rows


# Relations


def groups(values: pa.ChunkedArray, limit: int) -> Array:
    """Return the group number of each row, of shape (n_samples,).

    Numbers and dates are divided into up to `limit` intervals with equal numbers of rows. For other values, each of the
    `limit` most frequent ones with at least four rows is a group, and the rest is one group. Missing values are one
    group in both cases.
    """
    if not (pa.types.is_string(values.type) or pa.types.is_boolean(values.type)):
        found = floats(values)
        return np.where(np.isnan(found), limit, np.searchsorted(starts(found, limit), found, side="right") - 1)
    distinct, code = codes(values)
    counts = np.bincount(code + 1, minlength=len(distinct) + 1)[1:]
    kept = np.argsort(-counts, kind="stable")[:limit]
    kept = kept[counts[kept] >= 4]
    group = np.full(len(distinct) + 1, limit)
    group[kept] = np.arange(len(kept))
    group[-1] = limit + 1
    return np.asarray(group[code])


def starts(values: Array, limit: int) -> Array:
    """The lower bounds of the intervals of `groups`: every distinct value if there are few, else quantiles."""
    rising = np.sort(values[~np.isnan(values)])
    distinct = rising[runs(rising)]
    return distinct if len(distinct) <= limit else np.unique(rising[np.arange(limit) * len(rising) // limit])


def explained(group: Array, target: Target) -> float | None:
    """Share of the target's variance that the groups of rows explain, 0 to 1; None where it does not vary.

    It is the correlation ratio, adjusted for the number of groups (epsilon squared: Kelley 1935). The variance of
    classes is that of the 0/1 membership in each, summed, which makes it Goodman and Kruskal's tau (1954).
    """
    rows = np.bincount(group)
    n_samples, n_groups = len(group), np.count_nonzero(rows)
    if target.classes:
        n_classes = len(target.classes)
        cells = np.bincount(group * n_classes + target.y, minlength=len(rows) * n_classes).reshape(-1, n_classes)
        total = n_samples - (cells.sum(axis=0) ** 2).sum() / n_samples
        within = n_samples - (cells**2 / np.maximum(rows, 1)[:, None]).sum()
    else:
        y = target.y / _largest(target.y)
        y -= y.mean()
        total = (y**2).sum()
        within = total - (np.bincount(group, y) ** 2 / np.maximum(rows, 1)).sum()
    if total < 1e-12 or n_groups >= n_samples:
        return None
    share = 1 - within / (n_samples - n_groups) / (total / (n_samples - 1))
    return round(min(max(round(float(share), 9), 0.0), 1.0), 4)


def rank_correlations(columns: Array) -> Array:
    """Spearman's correlation of each pair of columns, over the rows in which both are present; 0 for constant columns.

    Ranks are computed within a column, so the result is an approximation for columns with missing values.

    Parameters
    ----------
    columns : ndarray of shape (n_samples, n_columns)
        NaN where missing.

    Returns
    -------
    ndarray of shape (n_columns, n_columns)
        Rounded to four decimals, beyond which processors differ.
    """
    there = (~np.isnan(columns)).astype(float)
    ranks = np.apply_along_axis(_ranks, 0, columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        rows, sums = there.T @ there, ranks.T @ there
        covariance = ranks.T @ ranks - sums * sums.T / rows
        variance = (ranks**2).T @ there - sums**2 / rows
        r = covariance / np.sqrt(variance * variance.T)
    known = (rows > 2) & (variance > 1e-9) & (variance.T > 1e-9)
    return np.asarray(np.round(np.round(np.where(known, r, 0), 9), 4) + 0.0)


def _ranks(values: Array) -> Array:
    """Ranks between -0.5 and 0.5, averaged for ties; 0 where missing."""
    present = ~np.isnan(values)
    _, inverse, counts = np.unique(values[present], return_inverse=True, return_counts=True)
    ranks = np.zeros(len(values))
    if len(counts):
        ranks[present] = ((np.cumsum(counts) - counts / 2) / counts.sum() - 0.5)[inverse]
    return ranks


# Charts


class Axis(NamedTuple):
    """The edges of a histogram's bars, of shape (n_bins + 1,), its two ends, and whether values lie beyond each end."""

    edges: Array
    ends: tuple[float, float]
    cut: tuple[bool, bool]
    logarithmic: bool

    def at(self, value: float) -> float:
        """The position of a value on the axis, in percent."""
        return round(float(np.interp(value, self.edges, np.linspace(0, 100, len(self.edges)))), 1)

    def bars(self, values: Array) -> Array:
        """The index of each value's bar; the outermost bars include values beyond the ends."""
        return np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, len(self.edges) - 2)


def axis(rising: Array) -> Axis:
    """The axis of a histogram: logarithmic beyond three orders of magnitude; long tails are cut at the last percent."""
    outer = [float(quantile(rising, share)) for share in (0, 0.01, 0.99, 1)]
    whole = rising.dtype.kind == "i" or bool((rising == np.rint(rising)).all())
    logarithmic = outer[0] > 0 and outer[2] > 1000 * outer[1] and (not whole or outer[1] > 100)
    lowest, first, last, highest = (math.log(value) for value in outer) if logarithmic else outer
    wide = last - first
    low = first if lowest < first - wide < first else lowest
    high = last if highest > last + wide > last else highest
    cut = low > lowest, high < highest
    bins = min(max(round(2 * len(rising) ** (1 / 3)), 5), 30)  # Rice's rule
    if logarithmic:
        edges = np.exp(np.linspace(low, high, bins + 1))
        return Axis(edges, (math.exp(low), math.exp(high)), cut, True)
    if low == high:
        edges = np.array([low - 0.5, low + 0.5])
    elif whole and high - low < 2**50:
        low, high = math.floor(low), math.ceil(high)
        width = math.ceil((high - low + 1) / bins)  # bars with unequal numbers of integers would look like a comb
        edges = low - 0.5 + width * np.arange(math.ceil((high - low + 1) / width) + 1)
    else:
        shares = np.linspace(0, 1, bins + 1)
        edges = low * (1 - shares) + high * shares
    return Axis(edges, (low, high), cut, False)


def steps(counts: Array) -> str:
    """The outline of a histogram's bars, as an SVG path."""
    tops = 100 - np.round(100 * counts / max(counts.max(), 1), 1)
    ends = np.round(100 * np.arange(1, len(counts) + 1) / len(counts), 1)
    return "M0 100" + "".join(f"V{top:g}H{end:g}" for top, end in zip(tops, ends, strict=True)) + "V100Z"


def along(value: float, low: float, high: float) -> float:
    """The position of a value between two others, in percent."""
    position = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
    return round(100 * min(max(float(position), 0.0), 1.0), 1)


def trend(x: Array, y: Array, across: Axis) -> dict[str, Any] | None:
    """Mean and interquartile range of the target in each decile of a column; None for a constant column."""
    tenths = starts(x, 10)
    if len(tenths) < 2:
        return None
    tenth = np.searchsorted(tenths, x, side="right") - 1
    rows = [np.flatnonzero(tenth == number) for number in range(len(tenths))]
    parts = [(across.at(quantile(np.sort(x[part]), 0.5)), y[part]) for part in rows]
    middles = np.array([[*np.quantile(part, [0.25, 0.75]), mean(part)] for _, part in parts])
    low, high = middles.min(), middles.max()
    lower, upper, means = (
        [f"{at:g} {100 - along(value, low, high):g}" for (at, _), value in zip(parts, heights, strict=True)]
        for heights in middles.T
    )
    return {
        "band": f"M{'L'.join([*upper, *reversed(lower)])}Z",
        "line": f"M{'L'.join(means)}",
        "dots": "".join(f"M{point}h0" for point in means),
        "low": number(low),
        "high": number(high),
        "says": ", ".join(number(average) for average in middles[:, 2]),
    }


# Texts


def number(value: Any) -> str:
    """A number with four significant digits; an integer with all of them."""
    value = value if isinstance(value, int) else float(f"{value:.12g}")  # without digits in which processors differ
    if abs(value) < 1e15 and value == int(value):
        shown = f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))  # a year has no comma
    elif 1e-4 <= abs(value) < 1e15:
        shown = f"{value:{',' * (abs(value) >= 10_000)}.{max(3 - math.floor(math.log10(abs(value))), 0)}f}"
        shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    else:
        shown = f"{value:.4g}".replace("e+", "e")
    return shown.replace("-", "−")


def percent(share: float) -> str:
    """A share in percent, with one decimal near 0% and 100%; these two are shown only for exact values."""
    share = round(share, 9)
    if share in (0, 1) or 0.1 <= share < 0.995:
        return f"{share:.0%}"
    return "<0.1%" if share < 0.001 else ">99.9%" if share > 0.999 else f"{share:.1%}"


def moment(microseconds: float, unit: str) -> str:
    """A date, or with unit `m` a date and time, in UTC."""
    at = np.datetime64(
        min(max(int(microseconds), 1 - 2**63), 2**63 - 1), "us"
    )  # a float may lie beyond the range of int64
    return str(np.datetime_as_string(at, unit=unit)).replace("T", " ")  # type: ignore[call-overload]


def time_of_day(microseconds: float) -> str:
    """A time of day, with seconds where they are not zero."""
    return str(np.datetime_as_string(np.datetime64(int(microseconds), "us"), unit="s"))[11:].removesuffix(":00")


def text(value: Any) -> str:
    """A value on one line of at most 100 characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", re.sub(r"\s+", " ", str(value)))
    return shown if len(shown) <= 100 else shown[:99] + "…"
