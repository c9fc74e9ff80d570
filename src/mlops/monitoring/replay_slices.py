"""For whom decisions change: recorded rows by the slices of `evaluate.slices`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.inference.contract import Computed, Contract, Field
from mlops.model.slices import MOST_CATEGORIES, slice_rows
from mlops.monitoring.recorded import Columns, Line
from mlops.monitoring.replay_tally import Both

Array = np.ndarray[Any, Any]


class Slices:
    """Counts rows and changed rows by slice.

    Parameters
    ----------
    columns : list of str
    train : Table
        The training rows, with the computed features: they say where numbers are cut, and which categories count.
    contracts : list of Contract
        Of main's model and of the change.

    Attributes
    ----------
    unknown : list of str
        Columns that the log does not have.
    """

    def __init__(self, columns: list[str], train: pa.Table, contracts: list[Contract]) -> None:
        self.contracts = contracts
        self.train = {name: train[name] for name in columns if name in train.column_names}
        self.unknown = [name for name in columns if name not in self.train or self.kind(name) is None]
        self.kept = {name: common(values) for name, values in self.train.items() if pa.types.is_string(values.type)}
        self.rows: Counter[tuple[str, str]] = Counter()
        self.changed: Counter[tuple[str, str]] = Counter()

    def kind(self, name: str) -> str | None:
        """The kind of a column of either model."""
        known: list[Field | Computed] = []
        for contract in self.contracts:
            known += [*contract.fields, *contract.features]
        return next((part.kind for part in known if part.name == name), None)

    def add(self, chunk: list[Line], columns: list[Columns], both: Both) -> None:
        """Count the rows that both models have predicted."""
        for name, known in self.train.items():
            values = None if name in self.unknown else find(name, columns, both)
            if values is None:
                continue
            given = as_arrow(values, str(self.kind(name)), known.type)
            if name in self.kept:
                others = pc.and_(pc.is_valid(given), pc.invert(pc.is_in(given, value_set=self.kept[name])))
                given = pc.if_else(others, "other", given)
            for part, rows in slice_rows(name, known, pa.chunked_array([given])):
                self.rows[name, part] += len(rows)
                self.changed[name, part] += int(both.changed[rows].sum())


def common(values: pa.ChunkedArray) -> pa.Array:
    """The most frequent categories, so few that 'other' and 'missing' have a slice, too."""
    counted = pc.value_counts(values.drop_null()).to_pylist()
    ranked = sorted(counted, key=lambda each: (-each["counts"], each["values"]))
    return pa.array([each["values"] for each in ranked[: MOST_CATEGORIES - 2]], pa.string())


def find(name: str, columns: list[Columns], both: Both) -> Array | None:
    """A column of the rows that both models have predicted: of the change's rows, of main's, or computed."""
    for each, answer, at in reversed(list(zip(columns, both.answers, both.at, strict=True))):
        if name in each.columns:
            inside = (np.cumsum(each.fits) - 1)[both.places]
            return np.asarray(each.columns[name][inside])
        if answer.computed and name in answer.computed:
            return np.asarray(answer.computed[name][at])
    return None


def as_arrow(values: Array, kind: str, wanted: pa.DataType) -> pa.Array:
    """A column of the service as the training rows have it."""
    if kind in ("categorical", "text"):
        return pa.array(values, pa.string())
    if kind == "date":
        return pa.array(values.astype("datetime64[us]")).cast(wanted)
    if kind == "numeric":
        return pa.array(values, pa.float64())
    missing = np.isnan(values)
    if kind == "boolean":
        return pa.array(np.where(missing, 0, values).astype(bool), mask=missing)
    microseconds = np.where(missing, 0, np.round(values * 1e6)).astype(np.int64)
    return pa.array(microseconds, mask=missing).cast(pa.time64("us")).cast(wanted)
