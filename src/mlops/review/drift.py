"""Measures drift: how this change's training rows differ from main's, column by column.

The tests are those of the monitor. Most rows are usually in both tables, which makes a test of the whole tables
conservative: a difference by chance is smaller than between two samples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mlops.model.metrics import Array
from mlops.monitoring.drift import Change, categories, numbers

OTHER_TYPE = Change(0.0, 1.0, "values of another type than on main")


class Moved(NamedTuple):
    """How a column differs.

    Attributes
    ----------
    rows : int
        Of the smaller table.
    change : Change
    """

    column: str
    rows: int
    change: Change


def moved(before: pa.ChunkedArray, after: pa.ChunkedArray) -> Change:
    """Compare a column of main's training rows with this change's; missing values are values."""
    kinds = (_is_category, _is_date, _is_time)
    if any(is_of(before) != is_of(after) for is_of in kinds):
        return OTHER_TYPE
    if _is_category(before):
        return categories(_objects(before), _objects(after))
    change = numbers(_floats(before), _floats(after))
    if _is_date(before) and change.what.startswith("median"):
        days = [str(_median_day(values)) for values in (before, after)]
        return change._replace(what="median {} → {}".format(*days))
    return change


def drifted(before: pa.Table, after: pa.Table, columns: list[str]) -> list[Moved]:
    """How each column differs, the largest effect first; columns that only one table has are left out."""
    common = [name for name in columns if name in before.column_names and name in after.column_names]
    rows = min(before.num_rows, after.num_rows)
    return sorted(
        (Moved(name, rows, moved(before[name], after[name])) for name in common), key=lambda each: -each.change.effect
    )


def _is_category(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_boolean(values.type))


def _is_date(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_timestamp(values.type))


def _is_time(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_time(values.type))


def _objects(values: pa.ChunkedArray) -> Array:
    found = np.empty(len(values), dtype=object)
    found[:] = values.to_pylist()
    return found


def _floats(values: pa.ChunkedArray) -> Array:
    if _is_date(values) or _is_time(values):
        values = values.cast(pa.int64())
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(), dtype=float)


def _median_day(values: pa.ChunkedArray) -> np.datetime64:
    known = np.sort(values.drop_null().to_numpy())
    return known[len(known) // 2].astype("datetime64[D]")  # type: ignore[no-any-return]
