"""Ground truth: labels of logged rows, which arrive late, in part, twice or corrected."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.errors import UserError
from mlops.core.settings import GroundTruth, Monitor, Query, Settings
from mlops.core.yamlfile import closest
from mlops.data import kinds, sources
from mlops.data.formats import read_file
from mlops.data.tables import Column

Array = np.ndarray[Any, Any]

FETCHED = Path("build/labels/labels.parquet")


class Truth(NamedTuple):
    """Labels, one per logged row, sorted by the time at which the first one of the row became known.

    Attributes
    ----------
    hashes : ndarray of uint64, of shape (n_labels,)
        Of request id and row number.
    y : ndarray of shape (n_labels,)
        The last label of the row.
    known : ndarray of datetime64[us], of shape (n_labels,)
        When its first label became known.
    corrected : int
        Rows whose labels differ.
    unusable : int
        Labels without an id, a value or a time.
    """

    hashes: Array
    y: Array
    known: Array
    corrected: int
    unusable: int


def read(truth: GroundTruth, settings: Settings, target: Column) -> Truth:
    """Read the labels.

    Parameters
    ----------
    target : Column
        The target in the catalogue, whose kind the labels must have.

    Raises
    ------
    UserError
        If the source cannot be read, a column is missing, or a value has another kind.
    """
    name = truth.target or settings.data.target
    raw, shown = table(truth, settings)
    wanted = {"request_id": truth.request_id, "row": truth.row, "target": name, "time": truth.time}
    for key, column in wanted.items():
        if column is not None and column not in raw.column_names:
            hint = closest(column, raw.column_names)
            raise UserError(f"params.yaml: monitor.labels.{key}: {shown} has no column {column!r}{hint}")
    ids = _converted(raw, truth.request_id, "categorical", shown)
    times = _converted(raw, truth.time, "date", shown)
    labels = _converted(raw, name, target.kind, shown)
    numbers = pa.chunked_array([np.zeros(raw.num_rows)])
    if truth.row is not None:
        numbers = _converted(raw, truth.row, "numeric", shown).cast(pa.float64())
    usable = pc.and_(pc.and_(pc.is_valid(ids), pc.is_valid(times)), pc.and_(pc.is_valid(labels), pc.is_valid(numbers)))
    whole = pa.table({"id": ids, "row": numbers, "time": times, "y": labels}).filter(usable)
    whole = whole.sort_by("time")
    hashes = hashed(whole["id"].to_numpy(zero_copy_only=False), whole["row"].to_numpy())
    y = whole["y"].to_numpy(zero_copy_only=False)
    known = whole["time"].to_numpy().astype("datetime64[us]")
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    last = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(last, which, np.arange(len(hashes)))
    differs = np.zeros(len(first), dtype=bool)
    np.logical_or.at(differs, which, y != y[first][which])
    order = np.argsort(first, kind="stable")  # by time
    first, last = first[order], last[order]
    return Truth(hashes[first], y[last], known[first], int(differs.sum()), raw.num_rows - whole.num_rows)


def hashed(request_id: Array, row: Array) -> Array:
    """A 64-bit hash of each request id and row number, of shape (n_samples,)."""
    ids = pd.util.hash_array(np.asarray(request_id, dtype=object), categorize=False)
    return pd.util.hash_array(ids ^ pd.util.hash_array(np.asarray(row, dtype=np.int64)))


def fetched(options: Monitor) -> Monitor:
    """The same settings with the labels as `make fetch-labels` left them."""
    truth = options.labels and options.labels.model_copy(update={"source": str(FETCHED)})
    return options.model_copy(update={"labels": truth})


def table(truth: GroundTruth, settings: Settings) -> tuple[pa.Table, str]:
    """The source, and its name for messages.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    # an id is text, even where all of them look like numbers
    types = {**settings.data.types, truth.request_id: "categorical"}
    data = settings.data.model_copy(update={"source": truth.source, "drop": [], "types": types})
    try:
        if isinstance(truth.source, str) and "://" not in truth.source and not truth.source.startswith("sklearn:"):
            path = Path(truth.source)
            if not path.is_file():
                raise UserError(f"params.yaml: monitor.labels.source: there is no file {path}")
            return read_file(path, data, str(path)), str(path)
        table, _ = sources.read(data)
    except UserError as error:
        raise UserError(str(error).replace("data.source", "monitor.labels.source")) from None
    return table, "the query" if isinstance(truth.source, Query) else str(truth.source)


def _converted(table: pa.Table, column: str, kind: Any, shown: str) -> pa.ChunkedArray:
    try:
        return kinds.convert(table[column], kind)
    except kinds.MisfitError as misfit:
        raise UserError(
            f"{shown}: column {column!r} cannot be read as {kind}: row {misfit.row + 1:,} holds {misfit.value}"
        ) from None
