"""Files of rows, Parquet or CSV, as batches of Arrow: one after the other, so that no more than a few are in memory."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mlops.core.errors import UserError, counted
from mlops.data.formats import CSV, MISSING, PARQUET, check_names
from mlops.inference.contract import Contract

# Rows of a batch: as a matrix they stay in a processor's cache
ROWS = 1 << 14
BLOCK = 4 << 20
# What is read ahead of each column of a Parquet file
BUFFER = 1 << 18

Tell = Callable[[float], None]


class Source(NamedTuple):
    """A file that is read.

    Attributes
    ----------
    schema : Schema
    batches : callable
        Gives the rows in batches; is passed a function to tell the share that was read.
    blanks : list of str
        Texts that mean 'missing'.
    """

    schema: pa.Schema
    batches: Callable[[Tell], Iterator[pa.RecordBatch]]
    blanks: list[str]


def opened(path: Path, contract: Contract) -> Source:
    """Open a file in the format that its name ends in.

    Raises
    ------
    UserError
        Where it is missing, or neither Parquet nor CSV.
    """
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, 1)
        raise UserError(f"{path} does not exist{f'; did you mean {near[0]!r}?' if near else ''}")
    if path.is_dir():
        raise UserError(f"{path} is a folder", "one file of it")
    if re.search(PARQUET, path.name):
        return opened_parquet(path, contract)
    if re.search(CSV, path.name):
        return opened_csv(path, contract)
    raise UserError(f"{path}: cannot tell the format from the name", "a name that ends in .parquet, .csv or .csv.gz")


def opened_parquet(path: Path, contract: Contract) -> Source:
    """A Parquet file, of whose row groups no more than a batch is decoded at a time."""
    try:
        # what is read ahead by Arrow itself is a whole row group
        file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a complete Parquet file: {error}", "copy it again") from None
    check_names(file.schema_arrow.names, str(path))

    def batches(tell: Tell) -> Iterator[pa.RecordBatch]:
        done = 0
        try:
            for batch in file.iter_batches(ROWS):
                done += batch.num_rows
                tell(done / file.metadata.num_rows)
                _check_letters(batch, contract)
                yield batch
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is corrupt after row {done:,}: {error}", "copy it again") from None

    return Source(file.schema_arrow, batches, [])


def opened_csv(path: Path, contract: Contract) -> Source:
    """A CSV in UTF-8, of which no more than a block is in memory; each cell stays as it was written."""
    try:
        with pa.input_stream(path) as stream:
            raw = stream.read(BLOCK)
        _check_not_utf16(raw, path)
        # a letter may lie across the end of the block
        start = raw.decode("utf-8-sig", errors="ignore" if len(raw) == BLOCK else "strict")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except OSError as error:
        raise UserError(f"{path} is corrupt: {error}", "copy it again") from None
    if not start.strip():
        raise UserError(f"{path} is empty", "check how it was written")
    mark, names = header(start, {field.name for field in contract.fields}, path)

    def batches(tell: Tell) -> Iterator[pa.RecordBatch]:
        size = path.stat().st_size
        done = 0
        with pa.OSFile(str(path)) as file:
            try:
                for batch in pyarrow.csv.open_csv(
                    file if path.suffix == ".csv" else pa.CompressedInputStream(file, pa.Codec.detect(path).name),
                    pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),  # or an error does not know its row
                    pyarrow.csv.ParseOptions(delimiter=mark, newlines_in_values=True),
                    pyarrow.csv.ConvertOptions(default_column_type=pa.string(), strings_can_be_null=False),
                ):
                    for first in range(0, batch.num_rows, ROWS):
                        yield batch.slice(first, ROWS)
                    done += batch.num_rows
                    tell(file.tell() / size)
            except pa.ArrowInvalid as error:
                raise _malformed(path, str(error), done) from None
            except OSError as error:
                raise UserError(f"{path} is corrupt after row {done:,}: {error}", "copy it again") from None

    blanks = [*MISSING, *contract.missing_values]
    return Source(pa.schema([(name, pa.string()) for name in names]), batches, blanks)


def header(start: str, fields: set[str], path: Path) -> tuple[str, list[str]]:
    """The delimiter of a CSV and the names of its columns: the one that finds the most fields, or else columns."""

    def read(mark: str, strict: bool) -> list[str]:
        lines = csv.reader(io.StringIO(start, newline=""), delimiter=mark, strict=strict)
        return next(line for line in lines if line)  # Arrow skips empty lines, too

    try:
        heads = {mark: read(mark, strict=False) for mark in ",;\t|"}
        mark = max(heads, key=lambda each: (len(fields & set(heads[each])), len(heads[each])))
        names = read(mark, strict=True)
    except csv.Error as error:
        raise UserError(f"{path}: its header cannot be read: {error}", "check that each quote is closed") from None
    check_names(names, str(path))
    return mark, names


def check_place(wanted: Path) -> None:
    """Check that there may be a file of this name.

    Raises
    ------
    UserError
        Where it is a folder, or would lie in a file.
    """
    if wanted.is_dir():
        raise UserError(f"{wanted} is a folder", f"a file in it, such as {wanted / 'scored.parquet'}")
    above = next(folder for folder in wanted.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"{wanted} cannot be written: {above} is a file, not a folder")


def _check_letters(batch: pa.RecordBatch, contract: Contract) -> None:
    """In Parquet text may be any bytes; of a CSV Arrow has checked them."""
    for field in contract.fields:
        try:
            batch.column(field.name).validate(full=True)
        except pa.ArrowInvalid:
            hint = "write it anew, with its encoding"
            raise UserError(f"column {field.name!r} holds text that is not UTF-8", hint) from None


def _check_not_utf16(raw: bytes, path: Path) -> None:
    marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or raw[1:2] == b"\0":
        code = "utf-16" if marked else "utf-16le"
        raise UserError(f"{path} is encoded in UTF-16, not UTF-8", f"iconv --from-code {code} --to-code utf-8 {path}")


def _not_utf8(path: Path) -> UserError:
    return UserError(f"{path} is not encoded in UTF-8", f"iconv --from-code latin1 --to-code utf-8 {path}")


def _malformed(path: Path, message: str, done: int) -> UserError:
    """Arrow's message in words; not its text of the row, which may hold private values."""
    if "UTF8" in message:
        return _not_utf8(path)
    cells = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", message)
    if not cells:
        return UserError(f"{path} is corrupt after row {done:,}: {message}", "check that each quote is closed")
    row, expected, got = cells.groups()
    where = f"row {int(row) - 1:,}" if row else f"a row after {done:,}"
    hint = "fix that row; a cell that holds the delimiter needs quotes"
    return UserError(f"{path}: {where} has {counted(int(got), 'cell')}, but the header has {expected}", hint)
