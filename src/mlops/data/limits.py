"""Limits of `data.clean`: the rules that the service applies, too, and outliers among the training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Data
from mlops.data.tables import Step
from mlops.inference.contract import Correction
from mlops.inference.corrections import beyond

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def corrections(data: Data) -> dict[str, Correction]:
    """The rules that change values, by column: the unit first, then the limits."""
    found: dict[str, Correction] = {}
    for name, unit in data.clean.rescale.items():
        found[name] = Correction(above=unit.above, below=unit.below, factor=unit.factor)
    for name, limits in data.clean.ranges.items():
        if limits.outside != "drop":
            rule = {"low": limits.low, "high": limits.high, "outside": limits.outside}
            found[name] = found.get(name, Correction()).model_copy(update=rule)
    return found


def outliers(table: pa.Table, train: Mask, data: Data) -> tuple[Mask, list[Step]]:
    """The training rows without outliers (Tukey 1977), by the quartiles of the training rows; test rows all stay."""
    steps = []
    for name, factor in data.clean.outliers.items():
        values = floats(table[name])
        known = values[train & ~np.isnan(values)]
        if not len(known):
            continue
        first, third = np.quantile(known, [0.25, 0.75])
        if first == third:
            why = f"half of the training rows have the same value of {name!r}, {first:g}"
            raise UserError(f"{PARAMS}: data.clean.outliers: {why}", "data.clean.ranges, with limits of your own")
        reach = factor * (third - first)
        wrong = train & beyond(values, float(first - reach), float(third + reach))
        train = train & ~wrong
        step = f"{name} is an outlier among the training rows, {outside(first - reach, third + reach)}"
        steps.append(Step(step=step, rows=int(wrong.sum()), effect="training rows dropped"))
    return train, steps


def floats(values: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers as float64, NaN where missing."""
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy())


def outside(low: float | None, high: float | None) -> str:
    """``outside 0 to 120``."""
    if low is None or high is None:
        return f"above {high:g}" if low is None else f"below {low:g}"
    return f"outside {low:g} to {high:g}"
