"""Stage `ingest`: read the source that `params.yaml` names, type its columns, describe it.

Out come a Parquet table with one Arrow type per kind of column, and a catalogue entry. Private columns are gone
or pseudonyms from here on; what would only fail later (no target, infinite values, one class) stops here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops import settings as settings_module
from mlops import sources, tables
from mlops.settings import Data, Kind, Settings
from mlops.stage import UserError, run

MIN_ROWS = 10
PSEUDONYM_KEY = "PSEUDONYM_KEY"


def main() -> str:
    settings = settings_module.load()
    parts = sources.read(settings.data)
    table, catalogue = prepare(parts, settings)
    tables.write(table, tables.TABLE)
    with tables.TABLE.open("rb") as file:
        catalogue["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    tables.write_json(catalogue, tables.CATALOGUE)
    return f"{catalogue['source']} → {table.num_rows:,} rows × {table.num_columns:,} columns"


def prepare(parts: list[sources.Part], settings: Settings) -> tuple[pa.Table, dict[str, Any]]:
    """Type, check and describe a table.

    Returns
    -------
    table : pyarrow.Table
        One Arrow type per kind of column.
    catalogue : dict
        The catalogue entry, without the hash of the file that is yet to be written.

    Raises
    ------
    UserError
        Names the column, and the file and row where one is at fault.
    """
    data = settings.data
    names = parts[0].table.column_names
    check_names(names, parts[0].name)
    settings_module.check_columns(settings, names)
    try:
        table = pa.concat_tables([part.table.select(names) for part in parts], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise UserError(
            f"{sources.describe(data)}: the files disagree: {error}", "name the column's type in data.types"
        ) from None
    if table.num_rows < MIN_ROWS:
        raise UserError(f"{sources.describe(data)} has {table.num_rows} row(s); at least {MIN_ROWS} are needed")
    parts = [sources.Part(part.name, part.table.select([])) for part in parts]  # only names and lengths from here on
    gone = {*data.drop, *(name for name, rule in data.private.items() if rule == "drop")}
    columns: dict[str, pa.ChunkedArray] = {}
    described = []
    for name in (name for name in names if name not in gone):
        values = table[name]
        table = table.drop_columns([name])  # lets the memory of the untyped column go
        kind, values = typed(name, values, data, parts)
        if name in data.private:
            values = pseudonyms(values, name)
        check_finite(name, values, parts)
        columns[name] = values
        described.append(
            tables.Column(
                name=name,
                kind=kind,
                type=str(values.type),
                unit=data.units.get(name),
                missing=values.null_count,
                distinct=pc.count_distinct(values).as_py(),
            ).model_dump()
        )
    check_target(columns[data.target], settings, parts)
    source = sources.describe(data)
    return pa.table(columns), {
        "source": source,
        "rows": len(columns[data.target]),
        "sha256": "",
        "columns": described,
    }


def check_names(names: list[str], where: str) -> None:
    """Column names must be there and be unique."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(
            f"{where}: the column name {repeated[0]!r} appears {names.count(repeated[0])} times", "rename one"
        )
    if "" in names:
        raise UserError(f"{where}: column {names.index('') + 1} has no name", "give it one in the first line")


def typed(name: str, values: pa.ChunkedArray, data: Data, parts: list[sources.Part]) -> tuple[Kind, pa.ChunkedArray]:
    """The kind of a column (declared, or inferred from its values) and its values in that kind's type."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    declared = data.types.get(name)
    found = values.type
    try:
        if declared:
            return declared, _as_kind(declared, values)
        if pa.types.is_boolean(found):
            return "boolean", values
        if pa.types.is_null(found) or pa.types.is_floating(found) or pa.types.is_decimal(found):
            return "numeric", values.cast(pa.float64())
        if pa.types.is_integer(found):
            return "numeric", values.cast(pa.int64())
        if pa.types.is_temporal(found) and not (pa.types.is_time(found) or pa.types.is_duration(found)):
            return "date", _as_kind("date", values)
        if pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found):
            values = values.cast(pa.string())
            if not parts[0].name.endswith(".parquet"):
                _check_one_type(name, values, parts)
            return _text_or_category(values), values
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        row = _first_bad(declared, values) if declared else None
        where = f" {place(row, parts)} holds {values[row].as_py()!r}:" if row is not None else ""
        raise UserError(
            f"column {name!r} cannot be read as {declared or 'a table column'}:{where} {str(error).splitlines()[0]}",
            f"mend the source, or another kind in data.types: {{{name}: categorical}}",
        ) from None
    raise UserError(f"column {name!r} holds values of type {found}, which no model takes", f"data.drop: [{name}]")


def _as_kind(kind: Kind, values: pa.ChunkedArray) -> pa.ChunkedArray:
    is_text = pa.types.is_string(values.type)
    if kind == "numeric":
        return values.cast(pa.float64())
    if kind == "boolean":
        if is_text:
            words = pc.utf8_lower(pc.utf8_trim_whitespace(values))
            values = pc.replace_substring_regex(
                pc.replace_substring_regex(words, "^(yes|y|t)$", "true"), "^(no|n|f)$", "false"
            )
        return values.cast(pa.bool_())
    if kind == "date":
        if is_text:
            import pandas as pd

            values = pa.chunked_array([pa.Array.from_pandas(pd.to_datetime(values.to_pandas()))])
        return values.cast(pa.timestamp("us"))
    return values.cast(pa.string())


def _first_bad(kind: Kind, values: pa.ChunkedArray) -> int | None:
    """The first row that does not fit the kind."""
    for row, value in enumerate(values):
        try:
            _as_kind(kind, pa.chunked_array([pa.array([value.as_py()], values.type)]))
        except (pa.ArrowInvalid, ValueError):
            return row
    return None


def _check_one_type(name: str, values: pa.ChunkedArray, parts: list[sources.Part]) -> None:
    """Refuse a column of numbers with a few words in between, which would otherwise become a category."""
    number = pc.match_substring_regex(values, r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
    share = pc.mean(number).as_py()
    if share is not None and 0.5 <= share < 1:
        row = pc.index(number, False).as_py()
        raise UserError(
            f"column {name!r} is numeric in {share:.1%} of its values, but {place(row, parts)} holds {values[row].as_py()!r}",
            f"mend that value, add it to data.missing_values, or data.types: {{{name}: categorical}}",
        )


def _text_or_category(values: pa.ChunkedArray) -> Kind:
    """Free text where most values are different and have three words or more."""
    filled = len(values) - values.null_count
    several_words = pc.mean(pc.match_substring_regex(values, r"\S\s+\S+\s+\S")).as_py() or 0
    return "text" if several_words > 0.5 and pc.count_distinct(values).as_py() > 0.5 * filled else "categorical"


def pseudonyms(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Replace each value by a keyed hash (HMAC-SHA-256, 128 bits), so that equal values stay equal.

    A plain hash of a name or number is undone by trying all of them; the key, which only the environment
    holds, prevents that.
    """
    key = os.environ.get(PSEUDONYM_KEY, "").encode()
    if len(key) < 16:
        raise UserError(
            f"params.yaml: data.private: {name!r} needs a key of at least 16 characters in ${PSEUDONYM_KEY}",
            f'export {PSEUDONYM_KEY}="$(openssl rand -hex 32)" once, and keep it: another key gives other pseudonyms',
        )
    encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
    hashed = [hmac.new(key, str(value).encode(), "sha256").hexdigest()[:32] for value in encoded.dictionary]
    return pa.chunked_array([pa.array(hashed, pa.string()).take(encoded.indices)])


def check_finite(name: str, values: pa.ChunkedArray, parts: list[sources.Part]) -> None:
    """Refuse infinite values: a mean or a scale of them is meaningless."""
    if pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py():
        row = pc.index(pc.is_inf(values), True).as_py()
        raise UserError(
            f"column {name!r}: {place(row, parts)} holds an infinite value",
            "mend it, or leave the cell empty if it is unknown",
        )


def check_target(values: pa.ChunkedArray, settings: Settings, parts: list[sources.Part]) -> None:
    """The target must be there in each row, vary, and fit the task."""
    name, task = settings.data.target, settings.data.task
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    if values.null_count:
        rows = pc.indices_nonzero(pc.is_null(values))[:5].to_pylist()
        raise UserError(
            f"the target {name!r} is missing in {values.null_count:,} row(s): {', '.join(place(row, parts) for row in rows)}",
            "remove those rows from the source",
        )
    distinct = pc.count_distinct(values).as_py()
    if distinct == 1:
        raise UserError(
            f"the target {name!r} is {values[0].as_py()!r} in every row, so there is nothing to learn",
            "another target, or a source with more than one class" if task == "classification" else "another target",
        )
    number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if task == "regression" and not number:
        raise UserError(f"the target {name!r} holds {values[0].as_py()!r}, not numbers", "data.task: classification")
    if task == "classification" and (distinct > 1000 or (pa.types.is_floating(values.type) and distinct > 50)):
        raise UserError(f"the target {name!r} has {distinct:,} classes", "data.task: regression")
    positive = settings.data.positive
    classes = pc.unique(values).to_pylist()
    if positive is not None and positive not in classes:
        shown = sorted(map(str, classes))
        raise UserError(
            f"params.yaml: data.positive: {positive!r} is no class of {name!r}{settings_module.closest(str(positive), shown)}"
        )
    if (positive is not None or settings.model.threshold is not None) and distinct != 2:
        raise UserError(f"params.yaml: data.positive and model.threshold need two classes; {name!r} has {distinct}")


def place(row: int, parts: list[sources.Part]) -> str:
    """``row 7 of data/raw/b.csv``, counted from 1 below the header, for a row of all parts together."""
    for part in parts:
        if row < part.table.num_rows:
            return f"row {row + 1:,} of {part.name}"
        row -= part.table.num_rows
    raise IndexError(row)


if __name__ == "__main__":
    run("ingest", main)
