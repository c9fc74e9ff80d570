"""Prepared tables: typed Parquet, the catalogue that describes it, and the feature matrix of a model.

A prepared table has one Arrow type per kind of column: numeric (int64, float64), boolean (bool),
date (timestamp in UTC), time of day (time64), categorical and text (string). Missing values are nulls. It is one file,
or a folder of files that are read one by one (`mlops.data.parts`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.files import atomic
from mlops.core.settings import Kind, Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


ROW_GROUP = 1 << 20
# Before a value is corrected, a row without a key gets the hash of its content as a column that only `split` reads
IDENTITY = "row identity"


class Step(BaseModel):
    """What one step of cleaning did."""

    model_config = ConfigDict(frozen=True)

    step: str
    rows: int
    effect: str


class Column(BaseModel):
    """A column's entry in the catalogue."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    type: str
    unit: str | None
    missing: int
    distinct: int | None
    """Only for categorical columns: counting distinct numbers would take more memory than the numbers."""


class Catalogue(BaseModel):
    """Description of a table: its source, its columns and the hash of its content."""

    model_config = ConfigDict(frozen=True)

    source: str
    rows: int
    more: int = 0
    """Rows of `data.more`, which follow those of the source."""
    recent: int = 0
    """Rows of `data.recent`, which are the last ones."""
    sha256: str
    columns: list[Column]
    cleaning: list[Step] = []
    """What was left out or corrected, step by step."""

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


def read(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a prepared table; an error names the stage that writes it.

    Raises
    ------
    UserError
        If it is missing, broken, or a folder that does not fit into memory.
    """
    if Path(path).is_dir():
        from mlops.data import parts

        return parts.whole(parts.Parts(Path(path)), columns)
    try:
        # `pq.read_table` imports Arrow's datasets, which takes longer than most stages run
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        return file.read(
            [name for name in names if name != IDENTITY] if columns is None and IDENTITY in names else columns
        )
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "dvc repro") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not a readable Parquet file: {error}", "dvc repro --force") from None


def identity(path: str | Path) -> np.ndarray[Any, Any] | None:
    """The hashes that identify rows whose values were corrected; None where content identifies a row."""
    if IDENTITY not in pq.ParquetFile(path).schema_arrow.names:
        return None
    found: np.ndarray[Any, Any] = read(path, [IDENTITY])[IDENTITY].to_numpy()
    return found


def some(table: Any, most: int) -> pa.Table:
    """At most `most` rows, a random sample that is the same on each run, in their order; of a table or of `Parts`."""
    import numpy as np

    if table.num_rows <= most:
        return table if isinstance(table, pa.Table) else table.take(pa.array(np.arange(table.num_rows)))
    return table.take(pa.array(np.sort(np.random.default_rng(0).choice(table.num_rows, most, replace=False))))


def write(table: pa.Table, path: str | Path, rows: np.ndarray[Any, Any] | None = None) -> None:
    """Write a table as Parquet, atomically, with the same bytes for the same table.

    Parameters
    ----------
    rows : ndarray of bool of shape (n_samples,), optional
        Which rows to write; all by default. They are copied one row group at a time.
    """
    if Path(path).is_dir():  # partitions of an earlier run
        shutil.rmtree(path)
    with atomic(path) as partial, pq.ParquetWriter(partial, table.schema, compression="zstd") as writer:
        for start in range(0, max(1, table.num_rows), ROW_GROUP):
            group = table.slice(start, ROW_GROUP)
            writer.write_table(group if rows is None else group.filter(rows[start : start + ROW_GROUP]), ROW_GROUP)


def read_catalogue(path: str | Path = paths.CATALOGUE) -> Catalogue:
    """Read the catalogue that `ingest` wrote."""
    try:
        return Catalogue.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "dvc repro ingest") from None


def feature_columns(settings: Settings, catalogue: Catalogue) -> list[Column]:
    """Feature columns: all except the target, keys, pseudonyms and columns that determine the split."""
    columns = [column for column in catalogue.columns if column.name not in settings.hidden]
    if not columns:
        raise UserError(
            f"{paths.CATALOGUE}: no column is left to learn from", "check data.drop, data.key and data.private"
        )
    return columns


def as_array(values: pa.ChunkedArray, kind: Kind) -> np.ndarray[Any, Any]:
    """A column as a NumPy array.

    Returns
    -------
    ndarray of shape (n_samples,)
        float64 for numbers and booleans, and for times of day as seconds since midnight; datetime64[us] for dates;
        objects otherwise, None where missing.
    """
    import numpy as np

    if kind in ("numeric", "boolean"):
        return np.asarray(values.cast(pa.float64()).to_pandas().to_numpy())
    if kind == "time":
        return np.asarray(values.cast(pa.int64()).cast(pa.float64()).to_numpy() / 1e6)
    if kind == "date":
        return np.asarray(values.to_numpy())
    encoded = values.combine_chunks().dictionary_encode()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)  # equal texts share one object
    return np.asarray(texts[encoded.indices.fill_null(len(texts) - 1).to_numpy()])


def features(table: pa.Table, columns: list[Column]) -> pd.DataFrame:
    """The feature matrix `X` of a model.

    Returns
    -------
    DataFrame of shape (n_samples, n_features)
        float64 for numeric and boolean columns, and for times of day as seconds since midnight; datetime64 for dates,
        strings otherwise; NaN or NaT where missing.
    """
    import pandas as pd

    arrays: dict[str, Any] = {}
    for column in columns:
        values = table[column.name]
        arrays[column.name] = values.to_pandas() if column.kind == "date" else as_array(values, column.kind)
        if column.kind in ("categorical", "text"):
            # explicit: pandas infers another type where all are missing, which encoders take for an unknown category
            arrays[column.name] = pd.Series(arrays[column.name], dtype="str")
    return pd.DataFrame(arrays, copy=False)


def target(table: pa.Table, settings: Settings) -> np.ndarray[Any, Any]:
    """The target `y`, of shape (n_samples,): labels as they are, or float64 for a regression."""
    import numpy as np

    values = table[settings.data.target]
    if settings.data.task == "regression":
        return np.asarray(values.cast(pa.float64()).to_numpy())
    labels = values.to_numpy()
    return np.asarray(labels.astype(str) if labels.dtype == object else labels)
