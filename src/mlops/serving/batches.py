"""Columns of Arrow → columns of numbers, for many rows at once; a value that does not fit costs its row, not the run.

Each kind of field has a reader, which marks what it could not read. What is found wrong is told by row and field.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.contract import MOST_NUMBER, Contract, Field
from mlops.inference import Array, Encoded
from mlops.kinds import NO, NUMBER, YES, is_text

MOST_NAMED = 10
MISSING = "is missing; this column was never empty, so the model cannot do without it"


class Checked(NamedTuple):
    """Rows of a batch as `inference` takes them.

    Attributes
    ----------
    columns : dict
        By field; of the rows that fit.
    fits : ndarray of bool, of shape (n_samples,)
        Which rows fit.
    problems : dict of int to list of (str, str)
        For every other row of the batch: field and problem.
    """

    columns: dict[str, Any]
    fits: Array
    problems: dict[int, list[tuple[str, str]]]


class Read(NamedTuple):
    """A column as it was read.

    Attributes
    ----------
    values : ndarray or Encoded
    missing, wrong : ndarray of bool, of shape (n_samples,)
        Where there is no value, and where there is one that does not fit.
    """

    values: Any
    missing: Array
    wrong: Array


def accepts(kind: str, found: pa.DataType) -> bool:
    """Whether values of an Arrow type can be of a kind at all."""
    types = pa.types
    number = types.is_integer(found) or types.is_floating(found) or types.is_decimal(found)
    return bool(
        is_text(found)
        or types.is_null(found)
        or (types.is_dictionary(found) and is_text(found.value_type))
        or (kind == "numeric" and number)
        or (kind == "boolean" and (types.is_boolean(found) or types.is_integer(found)))
        or (kind == "date" and (types.is_date(found) or types.is_timestamp(found)))
        or (kind in ("categorical", "text") and (types.is_boolean(found) or types.is_integer(found)))
    )


def checked(batch: pa.RecordBatch, contract: Contract, blanks: Sequence[str] = ()) -> Checked:
    """Read the fields of a batch.

    Parameters
    ----------
    blanks : sequence of str
        Texts that mean 'missing', in a file without another sign for it.
    """
    fits = np.ones(batch.num_rows, dtype=bool)
    columns: dict[str, Any] = {}
    problems: dict[int, list[tuple[str, str]]] = {}
    words = pa.array(blanks, pa.string())
    for field in contract.fields:
        values = batch.column(batch.schema.get_field_index(field.name))
        if pa.types.is_dictionary(values.type) or pa.types.is_null(values.type):
            values = values.cast(pa.string())
        columns[field.name], missing, wrong = READERS[field.kind](values, field, words)
        absent: Any = np.flatnonzero(missing) if not field.nullable and missing.any() else []
        misfits: Any = np.flatnonzero(wrong) if wrong.any() else []
        for row in absent:
            problems.setdefault(int(row), []).append((field.name, MISSING))
        for row in misfits:
            problems.setdefault(int(row), []).append((field.name, _told(values[int(row)].as_py(), field)))
    if problems:
        fits[list(problems)] = False
        columns = {name: _kept(values, fits) for name, values in columns.items()}
    return Checked(columns, fits, problems)


def _kept(values: Any, fits: Array) -> Any:
    return Encoded(values.places[fits], values.names) if isinstance(values, Encoded) else values[fits]


def _told(value: Any, field: Field) -> str:
    if field.kind == "numeric":
        large = isinstance(value, int | float) or _is_number(value)
        return f"{_short(value)} is not finite, or too large" if large else f"{_short(value)} is no number"
    if field.kind == "boolean":
        return f"{_short(value)} is neither true nor false"
    if field.kind == "date":
        return f"{_short(value)} is no date such as 2025-12-31 or 2025-12-31T23:59:00Z"
    allowed = field.values or []
    named = ", ".join(map(repr, allowed)) if len(allowed) <= MOST_NAMED else f"the {len(allowed)} values that are known"
    return f"{_short(value)} is none of {named}"


def _short(value: Any) -> str:
    return reprlib.repr(value) if isinstance(value, str) else str(value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _without(values: pa.Array, blanks: pa.Array) -> pa.Array:
    """Texts without space around them, and null for what means 'missing'."""
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.is_in(text, value_set=blanks), None, text) if len(blanks) else text


def numbers(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """Numbers, or texts of numbers: finite ones, and no larger than single precision holds."""
    unread = np.zeros(len(values), dtype=bool)
    if is_text(values.type):
        try:
            values = values.cast(pa.float64())
        except pa.ArrowInvalid:
            text = _without(values, blanks)
            is_number = pc.fill_null(pc.match_substring_regex(text, NUMBER), True)
            unread = ~is_number.to_numpy(zero_copy_only=False)
            values = pc.if_else(is_number, text, None).cast(pa.float64())
    found = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    outside = ~(np.abs(found) <= MOST_NUMBER)  # of NaN, too
    if not outside.any():
        return Read(found, unread, unread)
    missing = np.isnan(found) & ~unread
    return Read(found, missing, outside & ~missing)


def booleans(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """True and false, as 1 and 0."""
    if pa.types.is_boolean(values.type):
        found = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        missing = np.isnan(found)
        return Read(found, missing, np.zeros_like(missing))
    words = pc.utf8_lower(_without(values, blanks))
    place = pc.index_in(words, value_set=pa.array([*NO, *YES])).to_numpy(zero_copy_only=False)
    missing = words.is_null().to_numpy(zero_copy_only=False)
    unknown = np.isnan(place)
    found = np.where(unknown, np.nan, place >= len(NO))
    return Read(found, missing, unknown & ~missing)


def dates(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """Moments in UTC; as text in the form of ISO 8601."""
    if is_text(values.type):
        import pandas as pd

        text = _without(values, blanks)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        read = pd.to_datetime(text.to_pandas(), format="ISO8601", utc=True, errors="coerce")
        found = read.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        return Read(found, missing, np.isnat(found) & ~missing)
    # what is finer than a microsecond is cut off
    found = values.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
    missing = np.isnat(found)
    return Read(found, missing, np.zeros_like(missing))


def texts(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """Names and sentences, each held once; a name must be on the list where there is one."""
    encoded = values.cast(pa.string()).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    places = encoded.indices.fill_null(-1).to_numpy()
    # with the one before the first, which is the last, for missing values
    blank = np.array([*(name in blanks.to_pylist() for name in names), True])
    allowed = set(field.values or names)
    strange = np.array([*(name not in allowed for name in names), False]) & ~blank
    missing = blank[places]
    return Read(Encoded(np.where(missing, -1, places), names), missing, strange[places])


READERS: dict[str, Callable[[pa.Array, Field, pa.Array], Read]] = {
    "numeric": numbers,
    "boolean": booleans,
    "date": dates,
    "categorical": texts,
    "text": texts,
}
