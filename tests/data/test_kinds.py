"""Which kind a column is, and what becomes of its values."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from mlops.data.kinds import MisfitError, convert, infer


def column(values: list[Any], found: pa.DataType | None = None) -> pa.ChunkedArray:
    """Values in two chunks, as large files give them."""
    middle = len(values) // 2
    array = pa.array(values, found)
    return pa.chunked_array([array[:middle], array[middle:]])


DAY = datetime(2024, 5, 17)

BY_TYPE = [
    ([True, False, None], "boolean"),
    ([1, 2, None], "numeric"),
    ([1.5, 2.0, None], "numeric"),
    ([Decimal("1.50"), Decimal("2.00")], "numeric"),
    ([None, None], "numeric"),
    ([DAY, None], "date"),
    ([DAY.date(), None], "date"),
    ([time(11, 38, 36), None], "time"),
    (["a", "b"], "categorical"),
    ([{"a": 1}], None),
    ([[1, 2]], None),
    ([b"bytes"], None),
    ([timedelta(seconds=1)], None),
]


@pytest.mark.parametrize(("values", "kind"), BY_TYPE, ids=str)
def test_a_typed_column_is_of_the_kind_that_its_type_says(values: list[Any], kind: str | None) -> None:
    assert infer(column(values), typed=True) == kind


BY_TEXT = [
    (["1", "2.5", "-3e4", "oops"], "numeric"),
    (["2024-05-17", "2024-05-18T10:00:00Z", "soon"], "date"),
    (["17/05/2024", "18/05/2024"], "categorical"),
    (["11:38:36", "9:05", "midnight"], "time"),
    (["4:99", "1:72", "2:80"], "categorical"),
    (["1", "low", "high"], "categorical"),
    (["the battery died", "works as it should", "I would buy it again"], "text"),
    (["New York City", "New York City", "New York City"], "categorical"),
    (["red", "green", "blue"], "categorical"),
]


@pytest.mark.parametrize(("values", "kind"), BY_TEXT, ids=str)
def test_a_column_of_texts_is_of_the_kind_that_most_values_suggest(values: list[Any], kind: str) -> None:
    assert infer(column(values), typed=False) == kind


def test_texts_that_look_like_numbers_are_texts_where_the_source_has_types() -> None:
    assert infer(column(["01099", "80331"]), typed=True) == "categorical"


UTC_DAY = datetime(2024, 5, 17, tzinfo=UTC)

CONVERTED = [
    ("numeric", ["1", " 2.5 ", "NaN", None], pa.float64(), [1.0, 2.5, None, None]),
    ("numeric", [1, None], pa.int64(), [1, None]),
    ("numeric", [1.5, float("nan")], pa.float64(), [1.5, None]),
    ("numeric", [True, False], pa.float64(), [1.0, 0.0]),
    ("numeric", [Decimal("1.50"), None], pa.float64(), [1.5, None]),
    ("boolean", ["Yes", "no ", "T", "0", None], pa.bool_(), [True, False, True, False, None]),
    ("boolean", [1, 0], pa.bool_(), [True, False]),
    ("categorical", [1, None], pa.string(), ["1", None]),
    ("text", ["as  it is "], pa.string(), ["as  it is "]),
    ("date", ["2024-05-17", "2024-05-17T12:30:00+02:00"], pa.timestamp("us"), [DAY, DAY.replace(hour=10, minute=30)]),
    ("date", ["17.05.2024", "18.05.2024"], pa.timestamp("us"), [DAY, DAY.replace(day=18)]),
    (
        "date",
        ["03/04/2024", "13/05/2024", None],
        pa.timestamp("us"),
        [datetime(2024, 4, 3), datetime(2024, 5, 13), None],
    ),
    ("date", ["03/04/2024", "05/13/2024"], pa.timestamp("us"), [datetime(2024, 3, 4), datetime(2024, 5, 13)]),
    ("date", [date(2024, 5, 17)], pa.timestamp("us"), [DAY]),
    ("date", [UTC_DAY.astimezone()], pa.timestamp("us"), [DAY]),
    ("date", [None, None], pa.timestamp("us"), [None, None]),
]


@pytest.mark.parametrize(("kind", "values", "becomes", "expected"), CONVERTED, ids=str)
def test_values_take_the_one_type_of_their_kind(
    kind: Any, values: list[Any], becomes: pa.DataType, expected: list[Any]
) -> None:
    converted = convert(column(values), kind)
    assert converted.type == becomes
    assert converted.to_pylist() == expected


MISFITS = [
    ("numeric", ["1", "2", "3", "oops", "5"], 3, "'oops'"),
    ("numeric", ["1", None, "3", "4", "1,5"], 4, "'1,5'"),
    ("boolean", ["yes", "no", None, "maybe"], 3, "'maybe'"),
    ("boolean", [1, 0, 2], 2, "2"),
    ("date", ["2024-05-17", "2024-13-17"], 1, "'2024-13-17'"),
    ("date", ["17.05.2024", None, "soon"], 2, "'soon'"),
    ("date", ["soon", "later"], 0, "'soon'"),
    ("date", ["03/04/2024", "05/05/2024", "06/07/2024"], 0, "'03/04/2024', which is ambiguous: day or month first"),
    ("date", ["05/05/2024", "06/07/2024"], 1, "'06/07/2024', which is ambiguous: day or month first"),
]


@pytest.mark.parametrize(("kind", "values", "row", "shown"), MISFITS, ids=str)
def test_the_first_value_that_does_not_fit_is_found(kind: Any, values: list[Any], row: int, shown: str) -> None:
    with pytest.raises(MisfitError) as misfit:
        convert(column(values), kind)
    assert (misfit.value.row, misfit.value.value) == (row, shown)


def test_bytes_that_are_no_text_are_found() -> None:
    """Arrow does not look when it reads Parquet."""
    hidden = pa.array([b"fine", b"K\xe4se"]).view(pa.string())
    with pytest.raises(MisfitError) as misfit:
        convert(pa.chunked_array([hidden]), "categorical")
    assert (misfit.value.row, misfit.value.value) == (1, "'K\ufffdse', which is not UTF-8")


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(MisfitError) as misfit:
        convert(column(["1", "x" * 10_000]), "numeric")
    assert len(misfit.value.value) < 50


def test_nanoseconds_are_cut_to_microseconds() -> None:
    fine = pa.chunked_array([pa.array([1_234_567_891], pa.timestamp("ns"))])
    assert convert(fine, "date").cast(pa.int64()).to_pylist() == [1_234_567]


@pytest.mark.parametrize("kind", ["numeric", "date", "boolean"])
def test_a_list_is_of_no_kind(kind: Any) -> None:
    with pytest.raises((pa.ArrowNotImplementedError, MisfitError)):
        convert(column([[1], [2]]), kind)


def test_times_of_day_are_read_as_people_write_them() -> None:
    written = ["11:38:36", " 9:05 ", "00:00", "23:59:59.25", "12:30:00.123456", None]
    expected = [time(11, 38, 36), time(9, 5), time(0), time(23, 59, 59, 250_000), time(12, 30, 0, 123_456), None]
    found = convert(column(written), "time")
    assert found.type == pa.time64("us")
    assert found.to_pylist() == expected


@pytest.mark.parametrize("wrong", ["24:00", "11:60", "11:38:60", "noon", "11.38", "11:38 PM", "11:38:36Z", ""])
def test_what_is_no_time_of_day_is_found_with_its_row(wrong: str) -> None:
    with pytest.raises(MisfitError) as misfit:
        convert(column(["11:38", None, wrong, "12:00"]), "time")
    assert (misfit.value.row, misfit.value.value) == (2, repr(wrong))


@pytest.mark.parametrize("found", [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")], ids=str)
def test_typed_times_of_any_unit_are_times_of_day(found: pa.DataType) -> None:
    assert convert(column([time(11, 38, 36), None], found), "time").to_pylist() == [time(11, 38, 36), None]


def test_a_typed_time_beyond_midnight_is_found() -> None:
    late = pa.chunked_array([pa.array([0, 86_400], pa.int32()).cast(pa.time32("s"))])
    with pytest.raises(MisfitError, match="no time of a day") as misfit:
        convert(late, "time")
    assert misfit.value.row == 1
