"""Ground truth: labels of logged rows, which arrive late, in part, twice or corrected."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.errors import NoRowsError, UserError
from mlops.core.settings import GroundTruth, Monitor, Query, Settings
from mlops.core.yamlfile import closest
from mlops.data import kinds, sources
from mlops.data.formats import read_file
from mlops.data.tables import Column

Array = np.ndarray[Any, Any]

FETCHED = Path("build/labels/labels.parquet")
CHUNK = 50_000  # rows


class Truth(NamedTuple):
    """Labels, one per logged row, sorted by hash.

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
        Labels without an id, a row number, a value or a time.
    figures : dict of str to ndarray of shape (n_labels,)
        Business figures beside the last label of the row; NaN where missing.
    """

    hashes: Array
    y: Array
    known: Array
    corrected: int
    unusable: int
    figures: dict[str, Array]


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
    wanted |= {f"figures.{figure}": figure for figure in truth.figures}
    for key, column in wanted.items():
        if column is not None and column not in raw.column_names:
            hint = closest(column, raw.column_names)
            raise UserError(f"params.yaml: monitor.labels.{key}: {shown} has no column {column!r}{hint}")
    raw = raw.select(list(dict.fromkeys(column for column in wanted.values() if column is not None)))
    ids = _converted(raw, truth.request_id, "categorical", shown)
    times = _converted(raw, truth.time, "date", shown)
    labels = _converted(raw, name, target.kind, shown)
    numbers = pa.chunked_array([np.zeros(raw.num_rows)])
    if truth.row is not None:
        numbers = _converted(raw, truth.row, "numeric", shown).cast(pa.float64())
        whole_number = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(numbers, 2.0**31))
        numbers = pc.if_else(whole_number, numbers, None)  # no request has another one
    figures = [_converted(raw, figure, "numeric", shown).cast(pa.float64()) for figure in truth.figures]
    needed, names = [ids, numbers, times, labels], ["id", "row", "time", "y"]
    whole = pa.table([*needed, *figures], [*names, *map(str, range(len(figures)))])
    usable = functools.reduce(pc.and_, map(pc.is_valid, needed))
    whole = whole.filter(usable)
    return one_per_row(whole, raw.num_rows - whole.num_rows, list(truth.figures))


def one_per_row(whole: pa.Table, unusable: int, names: list[str]) -> Truth:
    """The last label of each row, from when the first was known."""
    # in parts, because ids as Python's objects take several times as much as the table
    parts = whole.select(["id", "row"]).to_batches(max_chunksize=CHUNK)
    hashes = [hashed(each["id"].to_numpy(zero_copy_only=False), each["row"].to_numpy()) for each in parts]
    known = whole["time"].to_numpy().astype("datetime64[us]", copy=False)
    y = objects(whole["y"])
    figures = {name: whole[str(number)].to_numpy() for number, name in enumerate(names)}
    del whole, parts
    sorted_ = np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64)
    order = np.lexsort((known, sorted_))
    sorted_, known, y = sorted_[order], known[order], y[order]
    change = np.flatnonzero(sorted_[1:] != sorted_[:-1])  # the next one is of another row
    first, last = np.concatenate([[0], change + 1]), np.concatenate([change, [len(sorted_) - 1]])
    if not len(sorted_):
        first = last = np.zeros(0, dtype=np.int64)
    differs = np.flatnonzero((sorted_[1:] == sorted_[:-1]) & (y[1:] != y[:-1]))
    corrected = len(np.unique(sorted_[differs]))
    beside = {name: values[order][last] for name, values in figures.items()}
    return Truth(sorted_[first], y[last], known[first], corrected, unusable, beside)


def objects(values: pa.ChunkedArray) -> Array:
    """The values of a column; of texts, each is in memory once."""
    if not kinds.is_text(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    coded = values.dictionary_encode().unify_dictionaries().combine_chunks()
    return np.asarray(coded.dictionary.to_numpy(zero_copy_only=False)[coded.indices.to_numpy()])


def places(truth: Truth, hashes: Array) -> Array:
    """The number of the label of each row; -1 where it has none."""
    if not len(truth.hashes):
        return np.full(len(hashes), -1)
    place = np.searchsorted(truth.hashes, hashes).clip(max=len(truth.hashes) - 1)
    return np.where(truth.hashes[place] == hashes, place, -1)


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
    shown = "the query" if isinstance(truth.source, Query) else str(truth.source)
    try:
        if isinstance(truth.source, str) and "://" not in truth.source and not truth.source.startswith("sklearn:"):
            path = Path(truth.source)
            if not path.is_file():
                raise UserError(f"params.yaml: monitor.labels.source: there is no file {path}")
            return read_file(path, data, str(path)), shown
        return sources.read(data)[0], shown
    except NoRowsError:  # as on the first day
        names = [truth.request_id, truth.row, truth.target or settings.data.target, truth.time, *truth.figures]
        return pa.table({name: pa.array([], pa.string()) for name in names if name is not None}), shown
    except UserError as error:
        raise UserError(str(error).replace("data.source", "monitor.labels.source")) from None


def _converted(table: pa.Table, column: str, kind: Any, shown: str) -> pa.ChunkedArray:
    try:
        return kinds.convert(table[column], kind)
    except kinds.MisfitError as misfit:
        raise UserError(
            f"{shown}: column {column!r} cannot be read as {kind}: row {misfit.row + 1:,} holds {misfit.value}"
        ) from None
