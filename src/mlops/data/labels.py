"""`data.labels`: join the target from another table by key, and count labels and rows without a match.

A label becomes the target of each row with its key. Rows without a label have no target; `data.clean.missing_target`
decides what happens to them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.errors import UserError, counted
from mlops.core.settings import PARAMS, Data, Kind, Labels, Query
from mlops.core.yamlfile import closest
from mlops.data import sources
from mlops.data.sources import Origin
from mlops.data.tables import Step

Array = np.ndarray[Any, Any]
Columns = dict[str, pa.ChunkedArray]
Typed = Callable[[str, pa.ChunkedArray, Origin, Kind | None], tuple[Kind, pa.ChunkedArray]]


class Read(NamedTuple):
    """The usable labels, with their rows in the source."""

    labels: pa.ChunkedArray
    keys: list[pa.ChunkedArray]
    times: pa.ChunkedArray | None
    rows: Array
    place: Callable[[int], str]


def joined(columns: Columns, types: dict[str, Kind], data: Data, typed: Typed) -> list[Step]:
    """Add the target, and the time at which it became known, to a table as columns.

    Parameters
    ----------
    columns, types : dict
        Values and kinds of the table by column; both are extended.
    typed : callable
        Returns the kind of a column, which may be given, and its converted values.

    Returns
    -------
    list of Step
        Counts of labels and rows without a match.

    Raises
    ------
    UserError
        If a column is missing, or a row has two different labels and `conflict` is `refuse`.
    """
    settings = data.labels
    assert settings is not None  # noqa: S101
    on = settings.on or data.key
    read, kind, steps = _read(columns, types, data, settings, on, typed)
    ours, theirs = codes([columns[name] for name in on], read.keys)
    unmatched = ~np.isin(theirs, ours[ours >= 0])
    steps.append(Step(step="labels without a row", rows=int(unmatched.sum()), effect="ignored"))
    chosen, conflicting = _chosen(theirs, unmatched, read, settings, on)
    place = np.full(int(max(ours.max(initial=-1), theirs.max(initial=-1))) + 2, -1)
    place[theirs[chosen]] = chosen
    at = np.where(ours < 0, -1, place[ours])
    conflicts = int(np.isin(ours, conflicting).sum())
    effect = "target missing" if settings.conflict == "drop" else f"the {settings.conflict} label counts"
    steps.append(Step(step="rows with conflicting labels", rows=conflicts, effect=effect))
    steps.append(Step(step="rows without a label", rows=int((at < 0).sum()), effect="target missing"))
    picked = pa.array(at, mask=at < 0)
    columns[data.target], types[data.target] = read.labels.take(picked), kind
    if settings.time and read.times is not None:
        columns[settings.time], types[settings.time] = read.times.take(picked), "date"
    return steps


def _read(
    columns: Columns, types: dict[str, Kind], data: Data, settings: Labels, on: list[str], typed: Typed
) -> tuple[Read, Kind, list[Step]]:
    """The labels with a key and a value that were known at `as_of`."""
    where = f"{PARAMS}: data.labels"
    name = settings.target or data.target
    if not on:
        raise UserError(f"{where}: on is missing: the columns that both tables have", "on: [id], or data.key")
    for taken in filter(None, [data.target, settings.time]):
        if taken in columns:
            raise UserError(f"{where}: the table has a column {taken!r} itself", f"data.drop: [{taken}]")
    source = data.model_copy(update={"source": settings.source, "drop": []})
    try:
        raw, origin = sources.read(source)
    except UserError as error:
        raise UserError(str(error).replace("data.source", "data.labels.source")) from None
    known = "the query" if isinstance(settings.source, Query) else str(settings.source)
    for key, wanted in (*(("on", column) for column in on), ("target", name), ("time", settings.time)):
        if wanted is not None and wanted not in raw.column_names:
            raise UserError(f"{where}.{key}: {known} has no column {wanted!r}{closest(wanted, raw.column_names)}")
    keys = [typed(column, raw[column], origin, types[column])[1] for column in on]
    kind, labels = typed(data.target, raw[name], origin, data.types.get(data.target))
    times = typed(settings.time, raw[settings.time], origin, "date")[1] if settings.time else None
    counts = _mask(pc.is_valid(labels))
    for values in keys:
        counts = counts & _mask(pc.is_valid(values))
    steps = [Step(step="labels without a value or key", rows=int((~counts).sum()), effect="ignored")]
    if times is not None:
        unknown = np.flatnonzero(counts & _mask(pc.is_null(times)))
        if len(unknown):
            row = origin.place(int(unknown[0]))
            raise UserError(f"{where}.time: {settings.time!r} is missing in {row}, which has a label", "complete it")
        if settings.as_of:
            late = counts & _mask(pc.fill_null(pc.greater(times, _moment(settings.as_of)), False))
            counts = counts & ~late
            steps.append(Step(step=f"labels after {settings.as_of}", rows=int(late.sum()), effect="ignored"))
    rows = np.flatnonzero(counts)
    taken_rows = pa.array(rows)
    read = Read(
        labels.take(taken_rows),
        [values.take(taken_rows) for values in keys],
        None if times is None else times.take(taken_rows),
        rows,
        origin.place,
    )
    return read, kind, steps


def _moment(text: str) -> pa.Scalar:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{PARAMS}: data.labels.as_of must be a date (ISO 8601), got {text!r}") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return pa.scalar(moment, pa.timestamp("us"))


def _chosen(theirs: Array, unmatched: Array, read: Read, settings: Labels, on: list[str]) -> tuple[Array, Array]:
    """The index of one label for each key, and the keys with different labels."""
    order = np.flatnonzero(~unmatched)
    if read.times is not None:
        order = order[np.argsort(read.times.cast(pa.int64()).to_numpy()[order], kind="stable")]
    values = read.labels.combine_chunks().dictionary_encode().indices.to_numpy()
    pairs = np.unique(np.column_stack([theirs[order], values[order]]), axis=0)
    keys, counts = np.unique(pairs[:, 0], return_counts=True)
    conflicting = keys[counts > 1]
    if len(conflicting) and settings.conflict == "refuse":
        rows = np.flatnonzero(theirs == conflicting[0])
        other = rows[values[rows] != values[rows[0]]][0]
        shown = ", ".join(f"{name} {key[int(rows[0])].as_py()!r}" for name, key in zip(on, read.keys, strict=True))
        found = [f"{read.labels[int(row)].as_py()!r} in {read.place(int(read.rows[row]))}" for row in (rows[0], other)]
        raise UserError(
            f"{PARAMS}: data.labels: {counted(len(conflicting), 'key has', 'keys have')} different labels: "
            f"{shown} has {' and '.join(found)}",
            "conflict: last, first or drop; or correct the labels",
        )
    _, first = np.unique(theirs[order], return_index=True)
    _, last = np.unique(theirs[order][::-1], return_index=True)
    chosen = order[::-1][last] if settings.conflict == "last" else order[first]
    if settings.conflict == "drop":
        chosen = chosen[~np.isin(theirs[chosen], conflicting)]
    return chosen, conflicting


def codes(left: list[pa.ChunkedArray], right: list[pa.ChunkedArray]) -> tuple[Array, Array]:
    """Encode the keys of two tables: equal keys have the same code, and incomplete keys have -1."""
    rows = len(left[0])
    code = np.zeros(rows + len(right[0]), dtype=np.int64)
    missing = np.zeros(len(code), dtype=bool)
    for ours, theirs in zip(left, right, strict=True):
        common = ours.type if ours.type == theirs.type else pa.float64()
        both = pa.chunked_array([*ours.cast(common).chunks, *theirs.cast(common).chunks], common)
        encoded = both.combine_chunks().dictionary_encode()
        place = encoded.indices.fill_null(-1).to_numpy()
        missing |= place < 0
        _, code = np.unique(code * (len(encoded.dictionary) + 1) + place + 1, return_inverse=True)
    code = np.where(missing, -1, code)
    return code[:rows], code[rows:]


def _mask(values: pa.ChunkedArray) -> Array:
    return np.asarray(values.to_numpy())
