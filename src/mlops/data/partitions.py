"""A source of partitions: a folder of Parquet files, local or in a bucket, cut into chunks of row groups.

Only the files' footers are read at first: they have to have the same columns, with types that go together. A chunk has
at most about a million rows, so a huge file becomes several partitions, and a chunk is all that is in memory.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlops.core import cluster, memory
from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Data
from mlops.data import addresses, parts, sources, tables
from mlops.data.parts import COPIES

# Values of a chunk, so that wide rows make small chunks
CELLS = 1 << 25


class Chunk(NamedTuple):
    """Row groups of a file that become one partition.

    Attributes
    ----------
    number : int
        Of the partition.
    name, path : str
        The file as it is shown, and where it is read.
    groups : list of int
    first, rows : int
        The place of its first row in the file, and how many it has.
    bytes : int
        Without compression, in the file.
    """

    number: int
    name: str
    path: str
    groups: list[int]
    first: int
    rows: int
    bytes: int


class Footer(NamedTuple):
    """The columns of a file, the rows and bytes of its row groups, and its columns of large whole numbers."""

    schema: pa.Schema
    groups: list[tuple[int, int]]
    large: set[str]


class Partitions(NamedTuple):
    """The source: all its columns, the types of those that are kept, its columns of large numbers, and its chunks."""

    columns: list[str]
    schema: pa.Schema
    large: set[str]
    chunks: list[Chunk]


def found(data: Data) -> Partitions:
    """List the files and read their footers.

    Raises
    ------
    UserError
        If there is no file, one cannot be read, or its columns do not fit those of the first.
    """
    listed = _remote(str(data.source), data) if "://" in str(data.source) else _local(str(data.source))
    if not listed:
        raise UserError(
            f"{PARAMS}: data.source: {data.source} holds no file that ends in .parquet",
            "a folder of Parquet files; docs/scale-out.md shows how to write one",
        )
    hive = next((name for name in listed if "=" in name.removeprefix(str(data.source)).rpartition("/")[0]), None)
    if hive:
        raise UserError(
            f"{hive}: the values of a column are in the names of folders, which are not read",
            "write the column into the files, too",
        )
    footers = dict(zip(listed, cluster.each(partial(_footer, data), listed.items(), "file"), strict=True))
    first = next(iter(footers.values()))
    schema = sources.unified({name: footer.schema for name, footer in footers.items()}, data)
    chunks: list[Chunk] = []
    for name, footer in footers.items():
        start = 0
        for groups in _cut(footer.groups, len(footer.schema)):
            rows, size = (sum(footer.groups[group][at] for group in groups) for at in (0, 1))
            chunks.append(Chunk(len(chunks), name, listed[name], groups, start, rows, size))
            start += rows
    large = set().union(*(footer.large for footer in footers.values()))
    return Partitions(first.schema.names, schema, large, chunks)


def _cut(groups: list[tuple[int, int]], columns: int) -> Iterator[list[int]]:
    """Neighbouring row groups, of at most so many rows together if each has fewer."""
    most = max(1, min(tables.ROW_GROUP, CELLS // max(columns, 1)))
    held: list[int] = []
    for number, (rows, _) in enumerate(groups):
        if held and sum(groups[each][0] for each in held) + rows > most:
            yield held
            held = []
        if rows:
            held.append(number)
    if held:
        yield held


def _local(source: str) -> dict[str, str]:
    """Files by the name that is shown."""
    (root,) = sources.local_files(source.rstrip("/"))
    names = (path for path in Path(root).rglob("*.parquet") if path.is_file())
    shown = [path.as_posix() for path in sorted(names) if not _hidden(path.relative_to(root).parts)]
    return {name: name for name in shown}


def _remote(source: str, data: Data) -> dict[str, str]:
    with _reached(source, data):
        system, path = _system(source, data)
        names = sorted(system.find(path))
        inside = [(name, name.removeprefix(path).split("/")) for name in names if name.endswith(".parquet")]
        return {system.unstrip_protocol(name): name for name, place in inside if not _hidden(tuple(place))}


def _hidden(place: tuple[str, ...]) -> bool:
    """Whether a file is what engines leave beside partitions, such as `_temporary/…`."""
    return any(part.startswith((".", "_")) for part in place)


def _system(source: str, data: Data) -> tuple[Any, str]:
    import fsspec

    protocols = addresses.check_protocols(source)
    given = {name: sources.options(name, data.timeout) for name in protocols}
    found: tuple[Any, str] = fsspec.core.url_to_fs(source, **given)
    return found


@contextmanager
def _reached(name: str, data: Data) -> Iterator[None]:
    """Say why a file or folder cannot be read."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{name} takes more memory than there is", "smaller row groups") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{name} is not a complete Parquet file: {error}", "copy it again") from None
    except Exception as error:  # every file system of fsspec raises its own errors
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if "://" in name:
            raise sources.unreachable(name, data.timeout, error) from None
        if isinstance(error, PermissionError):
            raise UserError(f"{name} is not readable by this user", f"chmod u+r {name}") from None
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{name} is missing", "mount the folder at the same path on each worker") from None
        raise UserError(f"{name} is damaged: {error}", "copy it again") from None


@contextmanager
def _opened(name: str, path: str, data: Data) -> Iterator[pq.ParquetFile]:
    with _reached(name, data):
        if "://" not in name:
            with pq.ParquetFile(path) as file:
                yield file
            return
        system, _ = _system(name, data)
        with system.open(path, "rb", block_size=8 << 20) as raw, pq.ParquetFile(raw, pre_buffer=False) as file:
            yield file


def _footer(data: Data, listed: tuple[str, str]) -> Footer:
    with _opened(*listed, data) as file:
        metadata = file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        schema = file.schema_arrow.remove_metadata()
        sizes = [(group.num_rows, group.total_byte_size) for group in groups]
        return Footer(schema, sizes, parts.large(metadata))


def read(chunk: Chunk, schema: pa.Schema, data: Data) -> pa.Table:
    """The rows of a chunk, in the types that all files have in common.

    Raises
    ------
    UserError
        If they would not fit into memory, or cannot be read.
    """
    width = sum(_width(field.type) for field in schema)
    memory.require(
        COPIES * max(chunk.bytes, chunk.rows * width),
        f"{chunk.name}: row group {chunk.groups[0] + 1} ({chunk.rows:,} rows)",
        "write the file with smaller row groups, as by pq.write_table(…, row_group_size=1_000_000)",
    )
    with _opened(chunk.name, chunk.path, data) as file:
        table = file.read_row_groups(chunk.groups, columns=schema.names, use_threads=False)
        return table.select(schema.names).replace_schema_metadata(None).cast(schema)


def _width(kind: pa.DataType) -> int:
    try:
        return int(np.ceil(kind.bit_width / 8))
    except ValueError:  # texts
        return 8
