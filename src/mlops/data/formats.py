"""Files as Arrow tables: CSV, Parquet and JSON Lines, with errors that name the file and the row.

Values keep their form in the file; `kinds` infers and converts the columns.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from mlops.core.errors import NoRowsError, UserError, counted
from mlops.core.letters import unseen, visible
from mlops.core.settings import Data

MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"]
CSV, PARQUET, JSON_LINES = r"\.csv(\.gz|\.bz2|\.zst)?$", r"\.parquet$", r"\.(jsonl|ndjson)(\.gz|\.bz2|\.zst)?$"

# types are inferred from the first MiBs of a CSV; the rest is read in smaller blocks to save memory
GUESSED_FROM, BLOCK = 16 << 20, 4 << 20


def read_file(path: Path, data: Data, name: str) -> pa.Table:
    """Read one CSV, Parquet or JSON Lines file; the extension selects the format."""
    readers: dict[str, Callable[[Path, Data, str], pa.Table]] = {
        CSV: read_csv,
        PARQUET: read_parquet,
        JSON_LINES: read_json_lines,
    }
    reader = next((reader for ending, reader in readers.items() if re.search(ending, path.name)), None)
    if reader is None:
        raise UserError(f"{name}: the name has no known extension", "use the extension .csv, .parquet or .jsonl")
    if path.is_dir():
        larger = f"{name}/*.parquet; or {name}/, whose files are the partitions of a table larger than memory"
        raise UserError(f"{name} is a folder", f"{name}/*{path.suffix}" if path.suffix else larger)
    try:
        with path.open("rb") as file:
            start = file.read(200)
        if not start:
            raise UserError(f"{name} is empty", "check the export, then copy the file again")
        if re.match(rb"(\xef\xbb\xbf)?\s*<(!|html|\?xml)", start, re.IGNORECASE):
            raise UserError(
                f"{name} is an HTML or XML page", "use the address of the file itself, not of a page that links to it"
            )
        table = reader(path, data, name)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(name, data, str(error)) from None
    except PermissionError:
        raise UserError(f"{name} is not readable by this user", f"chmod u+r {name}") from None
    except OSError as error:
        raise UserError(f"{name} is damaged: {error}", "copy it again") from None
    if table.num_rows == 0:
        raise _no_rows(name)
    return table


def _no_rows(name: str) -> NoRowsError:
    return NoRowsError(f"{name} has no rows", "check the export, then copy the file again")


def read_csv(path: Path, data: Data, name: str) -> pa.Table:
    """Read a CSV; a column with values of several types becomes text, which `kinds` converts later."""
    try:
        "".encode(data.encoding)
    except LookupError:
        raise UserError(
            f"params.yaml: data.encoding: unknown encoding {data.encoding!r}", "utf-8, latin-1, cp1252"
        ) from None
    with path.open("rb") as file:
        start = file.read(4)
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if (marked or start[1:2] == b"\0") and "16" not in data.encoding:
        hint = "data.encoding: utf-16" if marked else "data.encoding: utf-16-le"
        raise UserError(f"{name} is encoded in UTF-16, not {data.encoding}", hint)
    try:
        table = _parse_csv(path, data, name)
    except pa.ArrowInvalid as error:
        raise _malformed_csv(str(error), data, name) from None
    except UnicodeError as error:
        raise _wrong_encoding(name, data, str(error)) from None
    not_text = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if not_text:
        raise _wrong_encoding(name, data, f"column {not_text[0]!r}")
    if _ends_in_quote(table, path):
        raise UserError(
            f"{name}: a quote that opens in row {table.num_rows:,} is never closed",
            "add the closing quote, or copy the file again if it is truncated",
        )
    return table


def _ends_in_quote(table: pa.Table, path: Path) -> bool:
    """Whether an unclosed quote extends to the end of the file, which Arrow reads as one multi-line cell."""
    last = table.column(-1)[-1].as_py() if table.num_rows else None
    if not isinstance(last, str) or "\n" not in last:
        return False
    end = b""
    with pa.input_stream(path) as file:
        while block := file.read(BLOCK):
            end = (end + block)[-100:]
    return not end.rstrip(b"\r\n\0").endswith(b'"')


def _parse_csv(path: Path, data: Data, name: str) -> pa.Table:
    """Infer types from the first rows, then read all rows with them.

    Arrow can also infer types from all rows, but then it keeps the whole text in memory. So all rows are used only
    for types that prove wrong further down.
    """
    fixed = {column: pa.string() for column, kind in data.types.items() if kind != "numeric"}
    fixed |= dict.fromkeys(data.private, pa.string())
    parsing = pyarrow.csv.ParseOptions(delimiter=data.delimiter, newlines_in_values=True)

    def options(types: dict[str, pa.DataType], block: int, threads: bool = True) -> tuple[Any, Any, Any]:
        nulls = [*MISSING, *data.missing_values]
        return (
            pyarrow.csv.ReadOptions(use_threads=threads, encoding=data.encoding, block_size=block),
            parsing,
            pyarrow.csv.ConvertOptions(null_values=nulls, strings_can_be_null=True, column_types=types),
        )

    with pyarrow.csv.open_csv(path, *options(fixed, GUESSED_FROM, threads=False)) as first:
        guessed = first.schema
    check_names(guessed.names, name)
    other = next((mark for mark in ",;\t|" if mark in guessed.names[0]), None)
    if len(guessed) == 1 and other:
        raise UserError(f"{name} has one column, {guessed.names[0]!r}", f"data.delimiter: {other!r}")
    types = {field.name: field.type for field in guessed if not pa.types.is_null(field.type)}
    while True:
        try:
            return pyarrow.csv.read_csv(path, *options(types, BLOCK))
        except pa.ArrowInvalid as error:
            column = re.search(r"In CSV column #(\d+)", str(error))
            if not column:  # again without threads, because only then the message names the row
                return pyarrow.csv.read_csv(path, *options(types, BLOCK, threads=False))
            wrong = guessed.field(int(column[1])).type
            if pa.types.is_string(wrong):
                raise
        types = {column: kind for column, kind in types.items() if kind != wrong}


def _malformed_csv(message: str, data: Data, name: str) -> UserError:
    """Arrow's message as a `UserError`, without the row's text, which may contain private values."""
    if "UTF8" in message:
        return _wrong_encoding(name, data, message)
    if "Empty CSV" in message:
        return _no_rows(name)
    cells = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", message)
    if not cells:
        return UserError(f"{name}: {message}", "check that every quote is closed")
    row, expected, got = cells.groups()
    where = f"row {int(row) - 1:,}" if row else "a row"  # Arrow counts the header, too
    hint = "correct that row; a cell that contains the delimiter needs quotes"
    if expected == "1":
        hint = f"set data.delimiter, if it is not {data.delimiter!r}"
    return UserError(f"{name}: {where} has {counted(int(got), 'cell')}, but the header has {expected}", hint)


def _wrong_encoding(name: str, data: Data, where: str) -> UserError:
    return UserError(f"{name} is not encoded in {data.encoding}: {where}", "data.encoding: latin-1, cp1252, or utf-16")


def read_parquet(path: Path, data: Data, name: str) -> pa.Table:
    """Read a Parquet file."""
    try:
        return pq.ParquetFile(path).read().replace_schema_metadata(None)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{name} is not a complete Parquet file: {error}", "copy it again") from None


def read_json_lines(path: Path, data: Data, name: str) -> pa.Table:
    """Read JSON Lines: one object per line."""
    try:
        table = _parse_json(path, GUESSED_FROM)
        # Arrow converts every text that looks like a date; declared text columns keep their form
        wanted = [*data.private, *(column for column, kind in data.types.items() if kind in ("categorical", "text"))]
        dates = {field.name for field in table.schema if pa.types.is_timestamp(field.type)}
        text = [(column, pa.string()) for column in wanted if column in dates]
        return _parse_json(path, GUESSED_FROM, pa.schema(text)) if text else table
    except pa.ArrowInvalid as error:
        message = str(error)
    limit = 1 << 30
    with pa.input_stream(path) as file:
        content = file.read(limit)
    try:  # again, as one block, because Arrow counts the rows of each block from 0
        _parse_json(pa.BufferReader(content), limit)
    except pa.ArrowInvalid as error:
        if len(content) < limit:
            message = re.sub(r"in row (\d+)", lambda match: f"in row {int(match[1]) + 1:,}", str(error))
    raise UserError(f"{name}: {message}", "write one JSON object per line, with one type per key")


def _parse_json(source: Any, block: int, schema: pa.Schema | None = None) -> pa.Table:
    return pyarrow.json.read_json(
        source, pyarrow.json.ReadOptions(block_size=block), pyarrow.json.ParseOptions(explicit_schema=schema)
    )


def check_names(names: list[str], where: str) -> None:
    """Check that column names are present, unique and free of invisible characters."""
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise UserError(f"{where}: the column name {name!r} appears {count} times", "rename one")
    unnamed = next((number for number, name in enumerate(names, 1) if not name.strip()), None)
    if unnamed:
        raise UserError(
            f"{where}: column {unnamed} has no name", "name it; if it numbers the rows, export without the index"
        )
    for number, name in enumerate(names, 1):
        for place in unseen(name)[:1]:
            letter = name[place]
            known = f" ({unicodedata.name(letter)})" if unicodedata.name(letter, "") else ""
            raise UserError(
                f"{where}: the name of column {number}, {visible(name)!r}, contains U+{ord(letter):04X}{known}, "
                "which is invisible or hides other letters",
                "rename the column",
            )
