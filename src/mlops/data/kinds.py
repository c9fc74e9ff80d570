"""Kinds of columns: infer a column's kind, and convert its values to the Arrow type of that kind.

A value that cannot be converted raises a `MisfitError` with its row; no value is guessed.
"""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.settings import Kind

if TYPE_CHECKING:
    import pandas as pd

NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
ISO_DATE = r"^\s*\d{4}-\d\d-\d\d"
TIME = r"^\s*(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:\.(?P<fraction>\d{1,6}))?)?\s*$"
THREE_WORDS = r"\S\s+\S+\s+\S"

DAY = 86_400_000_000  # microseconds
NO, YES = ["false", "f", "no", "n", "0"], ["true", "t", "yes", "y", "1"]


class MisfitError(ValueError):
    """A value that does not match its column's kind.

    Attributes
    ----------
    row : int
        Counted from 0.
    value : str
        The value, shortened, followed by the reason if it is not obvious.
    """

    def __init__(self, row: int, values: pa.ChunkedArray, why: str = "") -> None:
        value = values[row]
        # text in a wrong encoding cannot be shown as text
        shown = value.cast(pa.binary()) if is_text(value.type) else value
        if pa.types.is_time(value.type):  # it may be none that Python has
            shown = value.cast(pa.time64("us")).cast(pa.int64())
        text = shown.as_py().decode(errors="replace") if is_text(value.type) else shown.as_py()
        self.row = row
        self.value = ", ".join(filter(None, [reprlib.repr(text), why]))
        super().__init__(self.value)


def is_text(found: pa.DataType) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))


def infer(values: pa.ChunkedArray, *, typed: bool) -> Kind | None:
    """The kind that the values of a column suggest.

    Parameters
    ----------
    values : ChunkedArray of shape (n_samples,)
    typed : bool
        Whether the source distinguishes text from numbers. If not, a column of numbers or dates with a few words is
        still a column of numbers or dates, so the words are reported and not learned from.

    Returns
    -------
    Kind or None
        None for types that no model accepts, such as lists.
    """
    found = values.type
    if pa.types.is_boolean(found):
        return "boolean"
    if (
        pa.types.is_null(found)
        or pa.types.is_integer(found)
        or pa.types.is_floating(found)
        or pa.types.is_decimal(found)
    ):
        return "numeric"
    if pa.types.is_date(found) or pa.types.is_timestamp(found):
        return "date"
    if pa.types.is_time(found):
        return "time"
    if not is_text(found):
        return None
    if not typed and share(values, NUMBER) >= 0.5:
        return "numeric"
    if not typed and share(values, ISO_DATE) >= 0.5:
        return "date"
    if not typed and share(values, TIME) >= 0.5:
        return "time"
    filled = len(values) - values.null_count
    # free text: most values are distinct and have three words or more
    if share(values, THREE_WORDS) > 0.5 and pc.count_distinct(values).as_py() > 0.5 * filled:
        return "text"
    return "categorical"


def share(values: pa.ChunkedArray, pattern: str) -> float:
    """Share of the texts that match a pattern; 0 where all are missing."""
    found = pc.mean(pc.match_substring_regex(values, pattern)).as_py()
    return 0.0 if found is None else float(found)


def convert(values: pa.ChunkedArray, kind: Kind) -> pa.ChunkedArray:
    """The values in the type of their kind: int64 or float64, bool, timestamp[us] in UTC, time64[us], string.

    Raises
    ------
    MisfitError
        The first value that does not fit.
    ArrowNotImplementedError
        If the type cannot be converted to the kind at all.
    """
    converters: dict[Kind, Callable[[pa.ChunkedArray], pa.ChunkedArray]] = {
        "numeric": _numbers,
        "boolean": _booleans,
        "date": _dates,
        "time": _times,
        "categorical": _strings,
        "text": _strings,
    }
    if pa.types.is_floating(values.type):
        values = _without_nan(values)
    try:
        return converters[kind](values)
    except pa.ArrowInvalid:
        why = "which is not UTF-8" if converters[kind] is _strings else ""
        raise MisfitError(_first_misfit(values, converters[kind]), values, why) from None


def _first_misfit(values: pa.ChunkedArray, converter: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> int:
    """The first row that cannot be converted, found by bisection, because Arrow does not report it."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            converter(values.slice(low, middle - low))
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _without_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Floats with null instead of NaN, so that missing values have one form."""
    nan = pc.is_nan(values)
    return pc.if_else(nan, None, values) if pc.any(nan).as_py() else values


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if is_text(values.type):
        return _without_nan(pc.utf8_trim_whitespace(values).cast(pa.float64()))
    return values.cast(pa.int64() if pa.types.is_integer(values.type) else pa.float64())


def _booleans(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_boolean(values.type):
        return values
    words = pc.utf8_lower(pc.utf8_trim_whitespace(values.cast(pa.string())))
    position = pc.index_in(words, pa.array([*NO, *YES]))
    unknown = pc.and_(pc.is_null(position), pc.is_valid(words))
    if pc.any(unknown).as_py():
        raise MisfitError(pc.index(unknown, True).as_py(), values)
    return pc.greater_equal(position, len(NO))


def _strings(values: pa.ChunkedArray) -> pa.ChunkedArray:
    text = values.cast(pa.string())
    text.validate(full=True)  # Parquet and JSON may contain bytes that are not UTF-8
    return text


def _dates(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_temporal(values.type) or pa.types.is_null(values.type):
        # nanoseconds are truncated to microseconds
        fine = pa.types.is_timestamp(values.type) and values.type.unit == "ns"
        return values.cast(pa.timestamp("us"), safe=not fine)
    import pandas as pd

    text = pc.utf8_trim_whitespace(_strings(values)).to_pandas()
    misfits, readings = [], []
    for form in _date_formats(text):
        dates = pd.to_datetime(text, format=form, utc=True, errors="coerce")
        unread = dates.isna() & text.notna()
        if unread.any():
            misfits.append(int(unread.to_numpy().argmax()))
        else:
            readings.append(dates)
    if not readings:
        raise MisfitError(max(misfits, default=int(text.notna().to_numpy().argmax())), values)
    differ = ((readings[0] != readings[-1]) & text.notna()).to_numpy()
    if differ.any():
        raise MisfitError(int(differ.argmax()), values, "which is ambiguous: day or month first")
    return pa.chunked_array([pa.Array.from_pandas(readings[0].dt.tz_convert(None))]).cast(
        pa.timestamp("us"), safe=False
    )


def _times(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times of day, from ``9:05`` or ``21:05:30.25``; what is finer than a microsecond is cut off."""
    if not is_text(values.type):
        times = values.cast(pa.time64("us"), safe=False)
        outside = pc.not_equal(pc.divide(times.cast(pa.int64()), DAY), 0)
        if pc.any(outside).as_py():
            raise MisfitError(pc.index(outside, True).as_py(), values, "which is no time of a day")
        return times
    read = pc.extract_regex(values, TIME)
    unread = pc.and_(pc.is_null(read), pc.is_valid(values))
    if pc.any(unread).as_py():
        raise MisfitError(pc.index(unread, True).as_py(), values)
    total: pa.ChunkedArray = pa.chunked_array([pa.repeat(pa.scalar(0, pa.int64()), len(values))])
    for name, unit in {"hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000, "fraction": 1}.items():
        digits = pc.struct_field(read, name)
        digits = pc.utf8_rpad(digits, 6, "0") if name == "fraction" else pc.utf8_lpad(digits, 1, "0")
        total = pc.add(total, pc.multiply(digits.cast(pa.int64()), unit))
    return total.cast(pa.time64("us"))


def _date_formats(text: pd.Series[str]) -> list[str]:
    """Possible formats of the first date: ISO 8601, otherwise month first or day first."""
    from pandas.tseries.api import guess_datetime_format

    filled = text.dropna()
    if filled.empty:
        return ["ISO8601"]
    with warnings.catch_warnings(action="ignore"):  # pandas warns about the order of day and month
        guesses = [guess_datetime_format(filled.iloc[0], dayfirst=day_first) for day_first in (False, True)]
    if guesses[0] and guesses[0].startswith("%Y-%m-"):
        return ["ISO8601"]
    return list(dict.fromkeys(guess for guess in guesses if guess))
