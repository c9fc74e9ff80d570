"""Tables larger than memory: a folder of Parquet files, its partitions, with the same columns.

A stage works on one partition or one column at a time, where it can. What needs the whole table is refused with the
memory that it would take, measured on the first partition, before it is read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops.core import cluster, memory
from mlops.core.errors import UserError
from mlops.core.settings import PARAMS
from mlops.data import tables

PATTERN = "part-*.parquet"
# Memory for each byte of a table: as Arrow, as the arrays of an estimator, and what it copies (benchmarks/README.md)
COPIES = 3


class Parts:
    """A partitioned table, of which rows and columns are read where they are asked for, as of a `pyarrow.Table`.

    Parameters
    ----------
    path : Path
        Its folder.
    append : callable, optional
        Adds computed columns to the rows of a partition.
    """

    def __init__(self, path: Path, append: Callable[[pa.Table], pa.Table] | None = None) -> None:
        self.path, self.append = path, append
        self.files = files(path)

    @cached_property
    def rows(self) -> list[int]:
        """Rows of each partition."""
        return [metadata(file).num_rows for file in self.files]

    @property
    def num_rows(self) -> int:
        return sum(self.rows)

    @cached_property
    def column_names(self) -> list[str]:
        names = [name for name in pq.read_schema(self.files[0]).names if name != tables.IDENTITY]
        return names if self.append is None else list(self.read(self.files[0]).column_names)

    def read(self, file: Path, columns: list[str] | None = None) -> pa.Table:
        """A partition, with the computed columns."""
        if self.append is None:
            return tables.read(file, columns)
        found = self.append(tables.read(file))
        return found if columns is None else found.select(columns)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """A column of all partitions."""
        stored = name in pq.read_schema(self.files[0]).names
        found = [tables.read(file, [name]) if stored else self.read(file, [name]) for file in self.files]
        return pa.concat_tables(found, promote_options="permissive")[name]

    def take(self, places: pa.Array) -> pa.Table:
        """The rows at these places, which rise."""
        wanted, ends = places.to_numpy(), np.cumsum([0, *self.rows])
        cuts = np.searchsorted(wanted, ends)
        asked = [
            (file, wanted[cuts[number] : cuts[number + 1]] - ends[number])
            for number, file in enumerate(self.files)
            if cuts[number + 1] > cuts[number] or not number
        ]
        found = cluster.each(partial(_taken, self), asked, "partition")
        return pa.concat_tables(found, promote_options="permissive")

    def distinct(self, name: str) -> pa.Array:
        """The distinct values of a column."""
        found = [pc.unique(tables.read(file, [name])[name]) for file in self.files]
        return pa.chunked_array(found).unique()

    def summary(self, most: int) -> pa.Table:
        """A random sample of the rows, the same on each run, and for each partition the lowest and highest values."""
        extremes = cluster.each(partial(_extremes, self), self.files, "partition")
        return pa.concat_tables([tables.some(self, most), *extremes], promote_options="permissive")


def _taken(table: Parts, asked: tuple[Path, np.ndarray[Any, Any]]) -> pa.Table:
    file, places = asked
    return table.read(file).take(pa.array(places))


def _extremes(table: Parts, file: Path) -> pa.Table:
    rows = table.read(file)
    return pa.table({name: pa.array([*pc.min_max(rows[name]).values()], rows[name].type) for name in rows.column_names})


def files(path: Path) -> list[Path]:
    """The partitions of a folder, in order."""
    found = sorted(path.glob(PATTERN))
    if not found:
        raise UserError(f"{path} holds no partition", "dvc repro --force")
    return found


def whole(parts: Parts, columns: list[str] | None = None) -> pa.Table:
    """All rows in memory.

    Raises
    ------
    UserError
        If they would not fit.
    """
    kept = [name for name in pq.read_schema(parts.files[0]).names if name != tables.IDENTITY]
    names = kept if columns is None else columns
    require(parts, names, f"{parts.path} as one table")
    return pa.concat_tables([tables.read(file, names) for file in parts.files], promote_options="permissive")


def metadata(file: Path) -> pq.FileMetaData:
    """The footer of a partition."""
    return pq.read_metadata(file)


def some(path: Path, most: int, columns: list[str] | None = None) -> pa.Table:
    """At most `most` rows of a table, partitioned or not: a random sample that is the same on each run."""
    if not path.is_dir():
        return tables.some(tables.read(path, columns), most)
    rows = tables.some(Parts(path), most)
    return rows if columns is None else rows.select(columns)


def head(path: Path, columns: list[str], rows: int) -> pa.Table:
    """The first rows of a table, partitioned or not."""
    if not path.is_dir():
        return tables.read(path, columns).slice(0, rows)
    parts = Parts(path)
    return parts.take(pa.array(np.arange(min(rows, parts.num_rows)))).select(columns)


def require(parts: Parts, columns: list[str], what: str, hint: str = "") -> None:
    """Refuse to hold columns of all rows, with copies, in less memory than they take."""
    place = int(np.argmax(parts.rows))
    row = tables.read(parts.files[place], columns).nbytes / max(1, parts.rows[place])
    fitting = int(memory.available() / (COPIES * max(row, 1)))
    fitting = int(float(f"{max(fitting, 1):.1g}"))
    hint = hint or f"model.training_rows: {fitting} in {PARAMS}, to train on a sample; or a machine with more memory"
    memory.require(int(COPIES * row * parts.num_rows), f"{what} ({parts.num_rows:,} rows)", hint)


def file_name(number: int) -> str:
    """The name of a partition."""
    return f"part-{number:05}.parquet"


@contextmanager
def writing(*paths: Path) -> Iterator[list[Path]]:
    """Yield folders for partitions; they get their names when the block succeeds, and none is half-written."""
    partial = [path.with_name(f".{path.name}.partial") for path in paths]
    try:
        for folder in partial:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        yield partial
        for folder, path in zip(partial, paths, strict=True):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            folder.rename(path)
    finally:
        for folder in partial:
            shutil.rmtree(folder, ignore_errors=True)


def large(metadata: pq.FileMetaData) -> set[str]:
    """Columns of a file with whole numbers beyond those that floats have, as far as its statistics show."""
    found = set()
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            known = column.statistics
            if known is not None and known.has_min_max and isinstance(known.min, int):
                found |= {column.path_in_schema} if max(-known.min, known.max) > 2**53 else set()
    return found
