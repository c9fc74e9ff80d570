"""A holder's own table, CSV or Parquet, as the arrays that the model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from federated.model import Array


class TableError(Exception):
    """The table does not have what the coordinator asks for; the text is sent to the coordinator and holds no value."""


def read(path: str) -> pa.Table:
    """Read a table.

    Raises
    ------
    TableError
        If there is none, or its text is no table.
    """
    try:
        read_table = pyarrow.parquet.read_table if Path(path).suffix == ".parquet" else pyarrow.csv.read_csv
        return read_table(path)
    except FileNotFoundError:
        raise TableError(f"{Path(path).name} does not exist") from None
    except (OSError, pa.ArrowInvalid):  # its text may quote a row
        raise TableError(f"{Path(path).name} is not a table in CSV or Parquet") from None


def columns(path: str, target: str) -> list[str]:
    """Names of the features: every column but the target."""
    names = list(read(path).column_names)
    if target not in names:
        raise TableError(f"{Path(path).name} has no column {target!r}")
    return [name for name in names if name != target]


def arrays(path: str, names: list[str], target: str, positive: str) -> tuple[Array, Array]:
    """The features, NaN where a value is missing, and 1 for each row of the positive class.

    Raises
    ------
    TableError
        If a column is missing or holds something else than numbers, or no row has a label.
    """
    table = read(path)
    missing = [name for name in [*names, target] if name not in table.column_names]
    if missing:
        raise TableError(f"{Path(path).name} has no column {', '.join(map(repr, missing[:5]))}")
    for name in names:
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise TableError(f"{Path(path).name}: {name!r} does not hold numbers")
    table = table.filter(pc.is_valid(table[target]))
    if not table.num_rows:
        raise TableError(f"{Path(path).name} has no row with a {target}")
    y = np.array([str(value) == positive for value in table[target].to_pylist()], dtype=float)
    X = np.column_stack([table[name].cast(pa.float64()).fill_null(float("nan")).to_numpy() for name in names])
    X[~np.isfinite(X)] = np.nan
    return X, y
