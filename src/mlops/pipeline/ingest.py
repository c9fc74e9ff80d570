"""Stage `ingest`: read the source that `params.yaml` names, and convert and describe its columns.

The outputs are a Parquet table with one Arrow type per kind of column, and a catalogue entry. Private columns are
dropped or pseudonymised. Data that no model can be trained on (no target, infinite values, one class) are refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import paths, yamlfile
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, counted, run
from mlops.core.files import write_json
from mlops.core.settings import Data, Kind, Settings
from mlops.data import added, cleaning, kinds, labels, sources, tables

MIN_ROWS = 10
PSEUDONYM_KEY = "PSEUDONYM_KEY"


def main() -> str:
    settings = settings_module.load()
    if settings.data.partitioned:
        from mlops.pipeline import ingest_parts

        catalogue = ingest_parts.ingest(settings)
    else:
        table, catalogue = read_and_prepare(settings)
        tables.write(table, paths.TABLE)
        with paths.TABLE.open("rb") as file:
            catalogue["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    write_json(catalogue, paths.CATALOGUE)
    for step in catalogue["cleaning"]:
        if step["rows"] or step["effect"] == cleaning.FOREIGN:
            print(f"  {step['step']}: {step['rows']:,} ({step['effect']})")
    return f"{catalogue['source']} → {catalogue['rows']:,} rows × {len(catalogue['columns']):,} columns"


def read_and_prepare(settings: Settings) -> tuple[pa.Table, dict[str, Any]]:
    """Read the source, and free each column once it is converted, so that memory holds the table only once."""
    raw, origin = sources.read(settings.data)
    columns = dict(zip(raw.column_names, raw.columns, strict=True))
    del raw
    return prepare(columns, origin, settings)


def prepare(
    columns: dict[str, pa.ChunkedArray], origin: sources.Origin, settings: Settings
) -> tuple[pa.Table, dict[str, Any]]:
    """Convert, check and describe a table.

    Parameters
    ----------
    columns : dict of str to pyarrow.ChunkedArray of shape (n_samples,)
        Columns of the source; each is replaced by the converted column.
    origin : Origin
        The source of its rows.

    Returns
    -------
    table : pyarrow.Table
        One Arrow type per kind of column.
    catalogue : dict
        The catalogue entry, without the hash of the file, which is written later.

    Raises
    ------
    UserError
        With the column, and the file and row if one is wrong.
    """
    data = settings.data
    source = sources.describe(data)
    settings_module.check_columns(settings, origin.columns)
    rows = len(next(iter(columns.values())))
    if rows < MIN_ROWS:
        raise UserError(f"{source} has {counted(rows, 'row')}; at least {MIN_ROWS} are required", "a larger table")
    types: dict[str, Kind] = {}
    for name, values in columns.items():
        types[name], columns[name] = typed_or_private(name, values, origin, data.types.get(name), data)

    def typed_label(name: str, values: pa.ChunkedArray, origin: sources.Origin, kind: Kind | None) -> Any:
        return typed_or_private(name, values, origin, kind, data)

    steps = labels.joined(columns, types, data, typed_label) if data.labels else []
    table, places, cleaned = cleaning.clean(pa.table(columns), settings, origin.place)
    columns.clear()
    if table.num_rows < MIN_ROWS:
        left = f"{counted(table.num_rows, 'row')} of {source} left after data.clean"
        raise UserError(f"{left}; at least {MIN_ROWS} are required", "less strict rules")

    parts = [added.Added(table, places, origin, cleaned)]
    counts = {}
    for role, names in (("more", data.more), ("recent", data.recent)):
        if names:
            found = added.read(names, types, settings, typed_label, table.schema)
            parts.append(found)
            counts[role] = found.table.num_rows
            cleaned = added.summed(cleaned, found.steps)
    if counts:
        table = pa.concat_tables([part.table for part in parts], promote_options="permissive")

    def place(row: int) -> str:
        for part in parts:
            if row < part.table.num_rows:
                return part.place(row)
            row -= part.table.num_rows
        raise IndexError(row)

    for name in types:
        check_finite(name, table[name], place)
    check_target(table[data.target], settings, place)
    described = [describe(name, kind, table[name], data) for name, kind in types.items()]
    catalogue = {"source": source, "rows": table.num_rows, **counts, "sha256": "", "columns": described}
    return table, catalogue | {"cleaning": [step.model_dump() for step in [*steps, *cleaned]]}


def describe(name: str, kind: Kind, values: pa.ChunkedArray, data: Data) -> dict[str, Any]:
    """The catalogue entry of a column."""
    return tables.Column(
        name=name,
        kind=kind,
        type=str(values.type),
        unit=data.units.get(name),
        missing=values.null_count,
        distinct=pc.count_distinct(values).as_py() if kind == "categorical" else None,
    ).model_dump()


def typed_or_private(
    name: str, values: pa.ChunkedArray, origin: sources.Origin, declared: Kind | None, data: Data
) -> tuple[Kind, pa.ChunkedArray]:
    """The kind of a column and its converted values; pseudonyms if it is private."""
    if name in data.private:
        return "categorical", pseudonyms(name, values)
    return typed(name, values, declared, origin)


def typed(
    name: str, values: pa.ChunkedArray, declared: Kind | None, origin: sources.Origin
) -> tuple[Kind, pa.ChunkedArray]:
    """The kind of a column (declared, or inferred from its values) and its converted values."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = declared or kinds.infer(values, typed=origin.typed)
    refused = f"column {name!r} holds values of type {values.type}, which "
    if kind is None:
        raise UserError(f"{refused}no model accepts", f"data.drop: [{name}], or data.types: {{{name}: categorical}}")
    try:
        return kind, kinds.convert(values, kind)
    except kinds.MisfitError as misfit:
        found = "cannot be read as" if declared else "has mostly values of kind"
        ways = ["correct it", *([] if origin.typed else ["add it to data.missing_values"])]
        if kind not in ("categorical", "text"):
            ways.append(f"or data.types: {{{name}: categorical}}")
        raise UserError(
            f"column {name!r} {found} {kind}, but {origin.place(misfit.row)} holds {misfit.value}", ", ".join(ways)
        ) from None
    except pa.ArrowNotImplementedError:
        raise UserError(f"{refused}cannot be read as {kind}", f"data.drop: [{name}], or another kind") from None


def pseudonyms(name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace each value by a keyed hash (HMAC-SHA-256, 128 bits), so that equal values stay equal.

    A plain hash of a name or number can be reversed by trying all of them. The key, which is only in the environment,
    prevents that.
    """
    key = os.environ.get(PSEUDONYM_KEY, "").encode()
    if len(key) < 16:
        raise UserError(
            f"params.yaml: data.private: {name!r} needs a key of at least 16 characters in ${PSEUDONYM_KEY}",
            f'export {PSEUDONYM_KEY}="$(openssl rand -hex 32)" once, and keep it: a new key gives new pseudonyms',
        )
    try:
        text = kinds.convert(values, "text")
    except (kinds.MisfitError, pa.ArrowNotImplementedError):
        raise UserError(f"the private column {name!r} is not text", f"data.private: {{{name}: drop}}") from None
    distinct = text.unique().drop_null()
    hashed = [hmac.digest(key, value.encode(), "sha256").hex()[:32] for value in distinct.to_pylist()]
    return pa.array(hashed, pa.string()).take(pc.index_in(text, distinct))


def check_finite(name: str, values: pa.ChunkedArray, place: Callable[[int], str]) -> None:
    """Refuse infinite values, which have no mean or scale."""
    if pa.types.is_floating(values.type):
        infinite = pc.is_inf(values)
        if pc.any(infinite).as_py():
            raise UserError(
                f"column {name!r}: {place(pc.index(infinite, True).as_py())} holds an infinite value",
                "correct it, or leave the cell empty if the value is unknown",
            )


def check_target(values: pa.ChunkedArray, settings: Settings, place: Callable[[int], str]) -> None:
    """Check that the target is present in every row, varies, and fits the task."""
    if values.null_count:
        rows = pc.indices_nonzero(pc.is_null(values))[:5].to_pylist()
        raise missing_target(settings, values.null_count, list(map(place, rows)))
    check_labels(values.unique(), settings)


def missing_target(settings: Settings, count: int, places: list[str]) -> UserError:
    """The error for rows without a target; `places` are the first of them."""
    named = ", ".join(places) + (", …" if count > len(places) else "")
    return UserError(
        f"the target {settings.data.target!r} is missing in {counted(count, 'row')}: {named}",
        "data.clean: {missing_target: drop}, or complete the source",
    )


def check_labels(classes: pa.Array, settings: Settings) -> None:
    """Check that the distinct values of the target vary and fit the task."""
    name, task, positive = settings.data.target, settings.data.task, settings.data.positive
    first = classes[0].as_py()
    if len(classes) == 1:
        raise UserError(
            f"the target {name!r} is {first!r} in every row, so there is nothing to learn",
            "another target, or a source with more than one class" if task == "classification" else "another target",
        )
    number = pa.types.is_integer(classes.type) or pa.types.is_floating(classes.type)
    if task == "regression" and not number:
        raise UserError(f"the target {name!r} holds {first!r}, not numbers", "data.task: classification")
    if task == "classification" and len(classes) > (50 if pa.types.is_floating(classes.type) else 1000):
        raise UserError(f"the target {name!r} has {len(classes):,} classes", "data.task: regression")
    if positive is None:
        return
    known = {str(value): value for value in sorted(classes.to_pylist())}
    if positive not in known.values():
        # the text '1' for the number 1, 'true' for true, or the other way round
        same = [value for text, value in known.items() if text.lower() == str(positive).lower()]
        mistyped = [value for value in same if type(value) is not type(positive)]
        raise UserError(
            f"params.yaml: data.positive: {positive!r} is not a class of {name!r}"
            f"{'' if mistyped else yamlfile.closest(str(positive), list(known))}",
            f"positive: {json.dumps(mistyped[0])}" if mistyped else "",
        )
    if len(classes) != 2:
        raise UserError(f"params.yaml: data.positive needs two classes; {name!r} has {len(classes)}", "remove it")


if __name__ == "__main__":
    run("ingest", main)
