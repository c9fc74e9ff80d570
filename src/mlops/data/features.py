"""The team's features on Arrow tables: append them as columns, and check them before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core.errors import UserError
from mlops.core.hooks import Feature
from mlops.core.yamlfile import closest
from mlops.data.tables import Catalogue, Column, as_array
from mlops.inference.computed import Array, MisshapenError, Problems, compute, inputs, missing, place, typed

# Rows for the checks of a function, and how many of them are also computed alone
COMPARED, ALONE = 2_000, 20
# A library may round the last digit of a row differently, depending on how many rows there are
TOLERANCE = 1e-9
ARROW = {"numeric": pa.float64(), "boolean": pa.bool_(), "categorical": pa.string()}


def described(features: Sequence[Feature], catalogue: Catalogue, hidden: set[str]) -> list[Column]:
    """The features as columns of a catalogue.

    Parameters
    ----------
    hidden : set of str
        Columns that no feature may use: the target, and pseudonyms, which a client does not have.

    Raises
    ------
    UserError
        If a feature needs a column that does not exist, or has the name of a column.
    """
    columns = {column.name: column for column in catalogue.columns}
    found = []
    for feature in features:
        where = f"{place(feature)}: {feature.name}"
        for name in feature.columns:
            hint = (
                f"correct the name in {place(feature)}; or, if it is of another table, data.features: [] in params.yaml"
            )
            if name in hidden:
                raise UserError(f"{where}: {name!r} is not known when a prediction is asked for", "another column")
            if name not in columns:
                raise UserError(f"{where}: the table has no column {name!r}{closest(name, list(columns))}", hint)
        if feature.name in columns:
            raise UserError(f"{where}: the table has a column of this name", "another name for the function")
        # a lower bound, from its inputs: the exact number would need all rows
        gaps = max(columns[name].missing for name in feature.columns)
        kind, unit, arrow = feature.kind, feature.unit, str(ARROW[feature.kind])
        found.append(Column(name=feature.name, kind=kind, type=arrow, unit=unit, missing=gaps, distinct=None))
    return found


def appended(table: pa.Table, features: Sequence[Feature], catalogue: Catalogue) -> tuple[pa.Table, Problems]:
    """Append the features to a table, and return it with the rows for which a feature cannot be computed.

    A column with the name of a feature is replaced.
    """
    if not features:
        return table, {}
    found, problems = compute(features, arrays(table, features, catalogue))
    table = table.drop([name for name in found if name in table.column_names])
    for feature in features:
        table = table.append_column(feature.name, as_arrow(found[feature.name], feature.kind))
    return table, problems


def arrays(table: pa.Table, features: Sequence[Feature], catalogue: Catalogue) -> dict[str, Array]:
    """The inputs of the features, as read-only arrays."""
    names = dict.fromkeys(name for feature in features for name in feature.columns)
    found = {name: as_array(table[name], catalogue[name].kind) for name in names}
    for values in found.values():
        values.flags.writeable = False
    return found


def as_arrow(values: Array, kind: str) -> pa.Array:
    """A computed column as an Arrow array: null where a value is missing."""
    absent = missing(values)
    if kind == "boolean":
        return pa.array(np.where(absent, False, values).astype(bool), mask=absent)
    return pa.array(values, ARROW[kind], mask=absent)


def in_words(table: pa.Table, features: Sequence[Feature], problems: Problems) -> UserError:
    """The error for the first row without a value of a feature."""
    row = min(problems)
    name, problem = problems[row][0]
    feature = next(feature for feature in features if feature.name == name)
    more = f" (and {len(problems) - 1:,} more rows)" if len(problems) > 1 else ""
    return UserError(
        f"{place(feature)}: {name} {problem}, in row {row + 1:,} of {table.num_rows:,}{more}",
        "let the function return a value for each row that has its inputs, such as np.where(b > 0, a / b, 0.0)",
    )


def check(table: pa.Table, features: Sequence[Feature], catalogue: Catalogue) -> None:
    """Check on a table that each feature depends only on its own row.

    Raises
    ------
    UserError
        With file, line and function, the problem, and an example row.
    """
    given = arrays(table, features, catalogue)
    for feature in features:
        problem = _problem(feature, [given[name] for name in feature.columns])
        if problem:
            raise UserError(*problem)
    _, problems = compute(features, given)
    if problems:
        raise in_words(table, features, problems)


def _problem(feature: Feature, given: list[Array]) -> tuple[str, str] | None:
    """The problem of a function and a hint; None if there is no problem."""
    rows = len(given[0])
    where = f"{place(feature)}: {feature.name}"
    rng = np.random.default_rng(0)
    some = np.unique(np.linspace(0, rows - 1, min(rows, COMPARED)).astype(int))
    mixed = rng.permutation(some)
    try:
        whole = _called(feature, given)
        again = _called(feature, given)
        permuted = _called(feature, [column[mixed] for column in given])
        half = mixed[: (len(mixed) + 1) // 2]
        part = _called(feature, [column[half] for column in given])
        single = some[:: max(len(some) // ALONE, 1)]
        alone = np.concatenate([_called(feature, [column[[row]] for column in given]) for row in single])
    except MisshapenError as error:
        return f"{where} {error}, as in row 1: {_row(feature, given, 0)}", "one value for each row, as a NumPy array"
    except Exception as error:  # the team's code may raise anything
        row = _first_raising(feature, given)
        raised = f"{place(feature, error)}: {feature.name} raises {type(error).__name__}: {error}"
        if "read-only" in str(error):
            return f"{raised}: it changes its input", "values = values.copy(), before the change"
        return f"{raised}, as in row {row + 1:,}: {_row(feature, given, row)}", "a function that accepts every row"
    scale = _scale(whole)
    for found, chosen, what, hint in (
        (again, np.arange(rows), "is not deterministic: called twice, it gives", "no random numbers, time or files"),
        (permuted, mixed, "depends on the order of the rows: in another order it gives", _ROWWISE),
        (part, half, "looks at other rows: among fewer rows it gives", _ROWWISE),
        (alone, single, "looks at other rows: alone it gives", _ROWWISE),
    ):
        differs = np.flatnonzero(~_same(whole[chosen], found, scale))
        if len(differs):
            row = int(chosen[differs[0]])
            values = f"{_short(found[differs[0]])}, not {_short(whole[row])}, for row {row + 1:,}"
            return f"{where} {what} {values}: {_row(feature, given, row)}", hint
    return None


_ROWWISE = "a value that depends only on its own row; what is learned from many rows belongs in the model"


def _called(feature: Feature, given: list[Array]) -> Array:
    for column in given:
        column.flags.writeable = False
    with np.errstate(all="ignore"):
        return typed(feature, feature.function(*given), len(given[0]))


def _first_raising(feature: Feature, given: list[Array]) -> int:
    """A row for which the function raises an error alone; the first row if there is none."""
    for row in range(min(len(given[0]), COMPARED)):
        try:
            _called(feature, [column[[row]] for column in given])
        except Exception:
            return row
    return 0


def _same(expected: Array, found: Array, scale: float) -> Any:
    """Where two columns are equal; numbers may differ by rounding."""
    both_missing = missing(expected) & missing(found)
    if expected.dtype.kind != "f":
        return both_missing | np.fromiter((a == b for a, b in zip(expected, found, strict=True)), bool, len(expected))
    with np.errstate(all="ignore"):
        near = np.abs(expected - found) <= TOLERANCE * scale
    return both_missing | (expected == found) | near


def _scale(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)]) if values.dtype.kind == "f" else np.array([])
    return float(finite.max()) if len(finite) else 0.0


def _row(feature: Feature, given: list[Array], row: int) -> str:
    return inputs(feature, [column[row : row + 1] for column in given])


def _short(value: Any) -> str:
    return "nothing" if value is None or value != value else f"{value:.6g}" if isinstance(value, float) else repr(value)
