"""Rows that a caller has → arrays that the portable model takes, checked by its contract; errors by row and field."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

MOST_NUMBER = 3e38
MOST_PROBLEMS = 20
TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9](?:\.[0-9]{1,6})?))?")

DTYPES: dict[str, Any] = {
    "date": "datetime64[us]",
    "categorical": object,
    **dict.fromkeys(("numeric", "boolean", "time"), float),
}
QUICK = {"numeric": "fiu", "boolean": "b", "date": "M"}  # kinds of NumPy that need no look at each value

Array = np.ndarray[Any, Any]


class Frame(Protocol):
    """A data frame of pandas or polars."""

    @property
    def columns(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


Rows = Mapping[str, Any] | Frame | Sequence[Mapping[str, Any]]


class Problem(NamedTuple):
    """A value that does not fit.

    Attributes
    ----------
    row : int
        Counted from 0.
    field : str
        Of the contract, or a feature that cannot be computed.
    """

    row: int
    field: str
    problem: str


class InvalidRowsError(ValueError):
    """Rows that do not fit the contract.

    Attributes
    ----------
    problems : list of Problem
        The first of them, by field.
    """

    def __init__(self, problems: list[Problem]) -> None:
        shown = problems[:MOST_PROBLEMS]
        more = f"\nand {len(problems) - len(shown):,} more" if len(problems) > len(shown) else ""
        super().__init__("\n".join(f"row {row}, {field!r} {why}" for row, field, why in shown) + more)
        self.problems = shown


def columns(rows: Rows, names: list[str]) -> dict[str, Any]:
    """The fields as columns of equal length; further columns are ignored, further fields of a row are not."""
    if not isinstance(rows, Sequence):
        present = rows if isinstance(rows, Mapping) else set(rows.columns)
        absent = [name for name in names if name not in present]
        if absent:
            raise InvalidRowsError([Problem(0, name, "is missing") for name in absent])
        found = {name: rows[name] for name in names}
        single = next((name for name, values in found.items() if isinstance(values, str) or np.ndim(values) != 1), None)
        if single is not None:
            raise TypeError(f"column {single!r} is not a sequence of values; predict([row]) takes one row")
        if len({len(values) for values in found.values()}) > 1:
            raise TypeError("columns must have the same length")
        return found
    known = set(names)
    problems = [Problem(n, name, "is missing") for n, row in enumerate(rows) for name in names if name not in row]
    problems += [
        Problem(n, str(name), "is not a field of this model")
        for n, row in enumerate(rows)
        if len(row) > len(known) or problems
        for name in row
        if name not in known
    ]
    if problems:
        raise InvalidRowsError(problems)
    return {name: [row[name] for row in rows] for name in names}


def column(values: Any, field: dict[str, Any], problems: list[Problem]) -> Array:
    """A column in the form that the model takes; what does not fit is added to the problems."""
    kind = field["kind"]
    given = None if isinstance(values, list) else np.asarray(values)
    if given is not None and given.dtype.kind in QUICK.get(kind, ""):
        found = given.astype(DTYPES[kind])
    else:
        every = values if given is None else given
        found = np.array([_parsed(n, each, field, problems) for n, each in enumerate(every)], dtype=DTYPES[kind])
    if kind == "numeric":
        # a table may hold larger values than a client is expected to send
        most = max(MOST_NUMBER, abs(field.get("low") or 0.0), abs(field.get("high") or 0.0))
        for row in np.flatnonzero(np.abs(found) > most):
            problems.append(Problem(int(row), field["name"], f"is {found[row]:g}; the limit is {most:g}"))
    if not field["nullable"]:
        absent = np.array([_is_missing(each) for each in found]) if kind == "categorical" else found != found
        known = {problem.row for problem in problems if problem.field == field["name"]}
        why = "is missing, but the training data had no missing values in this column"
        problems += [Problem(int(row), field["name"], why) for row in np.flatnonzero(absent) if int(row) not in known]
    return found


def _parsed(row: int, value: Any, field: dict[str, Any], problems: list[Problem]) -> Any:
    """One value; missing where it is, and where it does not fit, which is added to the problems."""
    kind = field["kind"]
    missing = {"date": np.datetime64("NaT"), "categorical": None}.get(kind, np.nan)
    if _is_missing(value):
        return missing
    found: Any = None
    if kind == "numeric":
        wanted = "a number"
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        found = float(value) if number and abs(value) < 1e308 else None
    elif kind == "boolean":
        wanted = "true or false"
        found = float(value) if isinstance(value, bool | np.bool_) else None
    elif kind == "date":
        wanted = "a date such as 2025-12-31 or 2025-12-31T23:59:00Z"
        found = _moment(value)
    elif kind == "time":
        wanted = "a time of day such as 11:38 or 11:38:36"
        found = _seconds(value)
    else:
        allowed = field.get("values")
        wanted = f"one of {', '.join(map(repr, allowed))}" if allowed else "a text"
        found = value if isinstance(value, str) and (not allowed or value in allowed) else None
    if found is None:
        problems.append(Problem(row, field["name"], f"should be {wanted}, not {str(value)[:50]!r}"))
        return missing
    return found


def _is_missing(value: Any) -> bool:
    """None, NaN, NaT, or the NA of pandas, which has no truth value."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def _moment(value: Any) -> Any:
    """A date in UTC; None if it is none."""
    if isinstance(value, np.datetime64):
        return value
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime.datetime):
        try:
            return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
        except OverflowError:
            return None
    return datetime.datetime(value.year, value.month, value.day) if isinstance(value, datetime.date) else None


def _seconds(value: Any) -> float | None:
    """Seconds since midnight; None if it is no time of day."""
    if isinstance(value, datetime.time):
        value = value.isoformat()
    found = TIME.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3] or 0) if found else None
