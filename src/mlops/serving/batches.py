"""Columns of Arrow → columns of numbers, for many rows at once; a value that does not fit costs its row, not the run.

Each kind of field has a reader, which marks what it could not read. Errors name the row and the field.
"""

from __future__ import annotations

import datetime
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.data.kinds import NO, NUMBER, TIME, YES, convert, is_text
from mlops.inference.contract import MOST_NUMBER, Contract, Field
from mlops.inference.corrections import correct
from mlops.inference.runtime import Array, Encoded

DATE = r"^\d{4}-\d\d-\d\d([T ].*)?$"
MOST_NAMED = 10
DAY = 86_400
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
        or (kind == "time" and types.is_time(found))
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
            problems.setdefault(int(row), []).append((field.name, _described(values[int(row)], field)))
    correct(columns, contract)
    if problems:
        fits[list(problems)] = False
        columns = {name: only(values, fits) for name, values in columns.items()}
    return Checked(columns, fits, problems)


def only(values: Any, fits: Array) -> Any:
    """A column of the rows that fit."""
    return Encoded(values.places[fits], values.names) if isinstance(values, Encoded) else values[fits]


def _described(found: pa.Scalar, field: Field) -> str:
    # a date or a time may be one that Python has no number for
    value = found.cast(pa.string()).as_py() if field.kind in ("date", "time") else found.as_py()
    if field.kind == "numeric":
        large = isinstance(value, int | float) or _is_number(value)
        return f"{_short(value)} is not finite or is too large" if large else f"{_short(value)} is not a number"
    if field.kind == "boolean":
        return f"{_short(value)} is neither true nor false"
    if field.kind == "date":
        return f"{_short(value)} is not a date such as 2025-12-31 or 2025-12-31T23:59:00Z"
    if field.kind == "time":
        return f"{_short(value)} is not a time of day such as 11:38 or 11:38:36"
    allowed = field.values or []
    named = ", ".join(map(repr, allowed)) if len(allowed) <= MOST_NAMED else f"the {len(allowed)} known values"
    return f"{_short(value)} is not one of {named}"


def _short(value: Any) -> str:
    return reprlib.repr(value) if isinstance(value, str) else str(value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _given(values: pa.Array, blanks: pa.Array) -> pa.Array:
    """Texts, and null for what means 'missing' exactly as it is written: so `formats` reads a table for training."""
    text = values.cast(pa.string())
    return pc.if_else(pc.is_in(text, value_set=blanks), None, text) if len(blanks) else text


def _read(found: Array, text: pa.Array, unread: Array, blanks: pa.Array) -> Read:
    """A column of texts; what could not be read is missing where it is a blank with space around it."""
    blank = unread & mask(pc.is_in(text, value_set=blanks))
    return Read(found, mask(text.is_null()) | blank, unread & ~blank)


def mask(values: pa.Array) -> Array:
    """Booleans of Arrow for numpy."""
    return np.asarray(values.to_numpy(zero_copy_only=False))


def numbers(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """Numbers, or texts of numbers: finite ones, and no larger than single precision holds."""
    unread = np.zeros(len(values), dtype=bool)
    if is_text(values.type):
        values = _given(values, blanks)
        try:
            values = values.cast(pa.float64())
        except pa.ArrowInvalid:
            text = pc.utf8_trim_whitespace(values)
            is_number = pc.fill_null(pc.match_substring_regex(text, NUMBER), True)
            unread = _read(unread, text, ~mask(is_number), blanks).wrong
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
    text = pc.utf8_trim_whitespace(_given(values, blanks))
    place = pc.index_in(pc.utf8_lower(text), value_set=pa.array([*NO, *YES])).to_numpy(zero_copy_only=False)
    unknown = np.isnan(place)
    return _read(np.where(unknown, np.nan, place >= len(NO)), text, unknown & mask(text.is_valid()), blanks)


def dates(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """Moments in UTC, of the years 1 to 9999; as text in the form of ISO 8601."""
    if is_text(values.type):
        import pandas as pd

        text = pc.utf8_trim_whitespace(_given(values, blanks))
        # pandas would take '2025-12' and 'now', too; one moment finer than a microsecond would narrow all others' range
        whole = pc.if_else(pc.match_substring_regex(text, DATE), text, None)
        whole = pc.replace_substring_regex(whole, r"(\.\d{6})\d+", r"\1")
        read = pd.to_datetime(whole.to_pandas(), format="ISO8601", utc=True, errors="coerce")
        found = read.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        return _read(found, text, ~_in_range(found) & mask(text.is_valid()), blanks)
    # what is finer than a microsecond is cut off; what is too far off for microseconds is in range of seconds
    found = values.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
    far = values.cast(pa.timestamp("s"), safe=False).to_numpy(zero_copy_only=False)
    return Read(found, mask(values.is_null()), ~_in_range(far) & mask(values.is_valid()))


def times(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """Times of day as seconds since midnight."""
    if is_text(values.type):
        text = pc.utf8_trim_whitespace(_given(values, blanks))
        whole = pc.if_else(pc.match_substring_regex(text, TIME), text, None)
        return _read(_seconds(convert(pa.chunked_array([whole]), "time")), text, mask(_unread(whole, text)), blanks)
    found = _seconds(values.cast(pa.time64("us"), safe=False))
    missing = np.isnan(found)
    return Read(found, missing, ~missing & ~((found >= 0) & (found < DAY)))


def _unread(whole: pa.Array, text: pa.Array) -> pa.Array:
    return pc.and_(pc.is_null(whole), pc.is_valid(text))


def _seconds(times: pa.Array | pa.ChunkedArray) -> Array:
    return np.asarray(times.cast(pa.int64()).cast(pa.float64()).to_numpy(zero_copy_only=False) / 1e6)


def _in_range(moments: Array) -> Array:
    """Whether it is a moment that Python has, and the service, too."""
    low, high = (np.datetime64(each, "s") for each in (datetime.datetime.min, datetime.datetime.max))
    return np.asarray((moments >= low) & (moments.astype("datetime64[s]") <= high))


def texts(values: pa.Array, field: Field, blanks: pa.Array) -> Read:
    """Names and sentences, each held once; a name must be on the list where there is one."""
    encoded = values.cast(pa.string()).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    places = encoded.indices.fill_null(-1).to_numpy()
    # with the one before the first, which is the last, for missing values
    words = set(blanks.to_pylist())
    blank = np.array([*(name in words for name in names), True])
    allowed = set(field.values or names)
    strange = np.array([*(name not in allowed for name in names), False]) & ~blank
    missing = blank[places]
    return Read(Encoded(np.where(missing, -1, places), names), missing, strange[places])


READERS: dict[str, Callable[[pa.Array, Field, pa.Array], Read]] = {
    "numeric": numbers,
    "boolean": booleans,
    "date": dates,
    "time": times,
    "categorical": texts,
    "text": texts,
}
