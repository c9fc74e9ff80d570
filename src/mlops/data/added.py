"""`data.more` and `data.recent`: rows that are added to the source, such as labelled ones from production.

They are typed and cleaned on their own, so that no row of the source changes, and with it no side of the split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Kind, Settings
from mlops.core.yamlfile import closest
from mlops.data import cleaning, sources
from mlops.data.sources import Origin
from mlops.data.tables import Step

Typed = Callable[[str, pa.ChunkedArray, Origin, Kind | None], tuple[Kind, pa.ChunkedArray]]


class Added(NamedTuple):
    """Rows that were read from files.

    Attributes
    ----------
    table : pyarrow.Table of shape (n_samples, n_columns)
        With the columns of the source's table, cleaned.
    rows : ndarray of shape (n_samples,)
        Their places in the files.
    origin : Origin
        The files.
    steps : list of Step
        What cleaning did.
    """

    table: pa.Table
    rows: np.ndarray[Any, Any]
    origin: Origin
    steps: list[Step]

    def place(self, row: int) -> str:
        """The file and row of a row of the table."""
        return self.origin.place(int(self.rows[row]))


def read(
    names: list[str], types: dict[str, Kind], settings: Settings, typed: Typed, schema: pa.Schema | None = None
) -> Added:
    """Read files with rows that the source does not have.

    Parameters
    ----------
    names : list of str
        Files below `data/raw`.
    types : dict of str to str
        Kind of each column of the source's table. Those that no model sees, such as a key, may be missing in the files.
    typed : callable
        Returns the kind of a column, which is given, and its converted values.
    schema : pyarrow.Schema, optional
        Of the source's table. Whole numbers stay integers where it has integers, so that its own rows stay as they are.

    Raises
    ------
    UserError
        If a file is missing, is part of the source, or has other columns or kinds than the source.
    """
    data = settings.data
    if isinstance(data.source, str) and "://" not in data.source and not data.source.startswith("sklearn:"):
        twice = {*names} & {*sources.local_files(data.source)}
        if twice:
            raise UserError(
                f"{PARAMS}: data.source: {data.source} includes {min(twice)}, which is one of data.more or data.recent",
                "a pattern that does not match it",
            )
    raw, origin = sources.read_files(names, data)
    needed = [name for name in types if name == data.target or name not in settings.hidden]
    for name in needed:
        if name not in raw.column_names:
            raise UserError(f"{names[0]} has no column {name!r}, which the source has{closest(name, raw.column_names)}")
    for name in raw.column_names:
        if name not in types:
            raise UserError(
                f"{names[0]} has a column {name!r}, which the source does not have{closest(name, [*types])}"
            )
    missing = pa.chunked_array([pa.nulls(raw.num_rows, pa.string())])
    columns = {
        name: typed(name, raw[name] if name in raw.column_names else missing, origin, kind)[1]
        for name, kind in types.items()
    }
    if schema is not None:
        columns = {name: _as_before(values, schema.field(name).type) for name, values in columns.items()}
    table, rows, steps = cleaning.clean(pa.table(columns), settings, origin.place)
    return Added(table, rows, origin, steps)


def _as_before(values: pa.ChunkedArray, known: pa.DataType) -> pa.ChunkedArray:
    try:
        return values.cast(known)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # fractions among whole numbers
        return values


def summed(steps: list[Step], more: list[Step]) -> list[Step]:
    """The counts of cleaning, those of the same step added up."""
    counts = {each.step: each.rows for each in more}
    known = {each.step for each in steps}
    return [
        *(each.model_copy(update={"rows": each.rows + counts.get(each.step, 0)}) for each in steps),
        *(each for each in more if each.step not in known),
    ]
