"""CSV, Parquet and JSON Lines files, whole and broken: what comes out, and what is said."""

from __future__ import annotations

import bz2
import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mlops.core.errors import UserError
from mlops.core.settings import Data
from mlops.data import sources
from mlops.data.formats import read_file

CSV = "x,y\n" + "1.5,a\n2,b\n" * 20
JSON_LINES = '{"x": 1.5, "y": "a"}\n{"x": 2, "y": "b"}\n' * 20
TABLE = pa.table({"x": [1.5, 2.0] * 20, "y": ["a", "b"] * 20})


def read(folder: Path, content: str | bytes, name: str = "t.csv", **data: object) -> pa.Table:
    """Read `content` from a file called `name`; messages call it that, too."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = Data.model_validate({"source": "data/raw/*", "task": "classification", "target": "y", **data})
    return read_file(path, settings, name)


def parquet(folder: Path) -> bytes:
    pq.write_table(TABLE, folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", CSV.encode()),
        ("t.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("t.csv", CSV.replace("\n", "\r\n").encode()),
        ("t.csv", CSV.rstrip().encode()),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("t.csv.bz2", bz2.compress(CSV.encode())),
        ("t.jsonl", JSON_LINES.encode()),
        ("t.ndjson", JSON_LINES.encode()),
        ("t.jsonl.gz", gzip.compress(JSON_LINES.encode(), mtime=0)),
    ],
)
def test_each_format_gives_the_same_table(tmp_path: Path, name: str, content: bytes) -> None:
    assert read(tmp_path, content, name).equals(TABLE)


def test_parquet_keeps_its_types_and_loses_the_writers_notes(tmp_path: Path) -> None:
    pq.write_table(TABLE.replace_schema_metadata({"written by": "Ada"}), tmp_path / "t.parquet")
    table = read(tmp_path, (tmp_path / "t.parquet").read_bytes(), "t.parquet")
    assert table.equals(TABLE)
    assert not table.schema.metadata


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "iso8859-15"])
def test_a_csv_in_a_declared_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    table = read(tmp_path, CSV.replace("a\n", "Käse\n").encode(encoding), encoding=encoding)
    assert table["y"][:2].to_pylist() == ["Käse", "b"]


def test_another_delimiter_is_taken(tmp_path: Path) -> None:
    assert read(tmp_path, CSV.replace(",", ";"), delimiter=";").equals(TABLE)


def test_cells_with_quotes_delimiters_and_line_breaks_are_one_cell(tmp_path: Path) -> None:
    table = read(tmp_path, 'x,y\n1,"a, ""b""\nc"\n2,"d\ne"\n')
    assert table["y"].to_pylist() == ['a, "b"\nc', "d\ne"]


def test_cells_of_many_lines_are_whole_in_a_large_file(tmp_path: Path) -> None:
    """Arrow reads in blocks, each of which would end at a line break."""
    poem = "\n".join(f"line {number}" for number in range(100))
    table = read(tmp_path, "x,y\n" + f'1,"{poem}"\n' * 12_000)
    assert table.num_rows == 12_000
    assert table["y"].unique().to_pylist() == [poem]


@pytest.mark.parametrize("text", ["", "NA", "N/A", "NaN", "null", "None", "?"])
def test_texts_that_mean_missing_are_missing(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, f"x,y\n1.5,a\n{text},b\n3,\n", missing_values=["?"])
    assert table.to_pydict() == {"x": [1.5, None, 3.0], "y": ["a", "b", None]}


def test_a_type_that_holds_for_the_start_only_changes_nothing_above(tmp_path: Path) -> None:
    """The start that types are guessed from is 16 MiB; texts below it must not be lost, nor numbers above."""
    rows = 2_500_000
    table = read(tmp_path, "x,y\n" + "10001,a\n" * rows + "oops,b\n" + "10002,a\n")
    assert table.num_rows == rows + 2
    assert table["x"].type == pa.string()
    assert [table["x"][row].as_py() for row in (0, rows, rows + 1)] == ["10001", "oops", "10002"]


def test_a_row_with_a_cell_too_many_is_named_far_down_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.csv: row 2,500,001 has 3 cells, but the header has 2"):
        read(tmp_path, "x,y\n" + "10001,a\n" * 2_500_000 + "1,2,a\n" + "10002,a\n" * 1_000_000)


def test_codes_with_leading_zeros_keep_them_where_they_are_categories(tmp_path: Path) -> None:
    content = "zip,y\n01099,a\n80331,b\n"
    assert read(tmp_path, content, types={"zip": "categorical"})["zip"].to_pylist() == ["01099", "80331"]


def test_texts_that_look_like_dates_stay_as_written_where_json_lines_declare_text(tmp_path: Path) -> None:
    content = '{"x": "2024-01-02T03:04:05Z", "y": "a"}\n' * 3
    assert pa.types.is_timestamp(read(tmp_path, content, "t.jsonl").schema.field("x").type)
    table = read(tmp_path, content, "t.jsonl", types={"x": "text"})
    assert table["x"].to_pylist() == ["2024-01-02T03:04:05Z"] * 3


BROKEN_CSV = [
    ("empty", "", "t.csv is empty\n  try: check the export, then copy the file again"),
    ("a line break only", "\n", "t.csv has no rows\n  try: check the export, then copy the file again"),
    ("a byte order mark only", b"\xef\xbb\xbf", "t.csv has no rows"),
    ("header only", "x,y\n", "t.csv has no rows"),
    ("header without line break", "x,y", "t.csv has no rows"),
    ("twice the same name", "x,x,y\n1,2,a\n", "t.csv: the column name 'x' appears 2 times\n  try: rename one"),
    ("no name", ",x,y\n1,2,a\n", "t.csv: column 1 has no name\n  try: name it; if it numbers the rows, export with"),
    ("blank name", "x, ,y\n1,2,a\n", "t.csv: column 2 has no name"),
    (
        "a cell too many",
        CSV + "1,2,a\n1,a\n",
        "t.csv: row 41 has 3 cells, but the header has 2\n  try: correct that row",
    ),
    ("a cell too few", CSV + "1\n1,a\n", "t.csv: row 41 has 1 cell, but the header has 2"),
    ("semicolons", CSV.replace(",", ";"), "t.csv has one column, 'x;y'\n  try: data.delimiter: ';'"),
    ("no delimiter", "x\n1,a\n", "t.csv: row 1 has 2 cells, but the header has 1\n  try: set data.delimiter"),
    ("an open quote", CSV + '1,"a\n1,b\n1,a\n', "t.csv: a quote that opens in row 41 is never closed"),
    (
        "latin-1",
        CSV.replace("a\n", "Käse\n").encode("latin-1"),
        "t.csv is not encoded in utf-8: column 'y'\n  try: data",
    ),
    ("latin-1 names", "x,ö\n1,a\n".encode("latin-1"), "t.csv is not encoded in utf-8: 'utf-8' codec can't decode byte"),
    ("utf-16", CSV.encode("utf-16"), "t.csv is encoded in UTF-16, not utf-8\n  try: data.encoding: utf-16"),
    (
        "utf-16 without mark",
        CSV.encode("utf-16-le"),
        "t.csv is encoded in UTF-16, not utf-8\n  try: data.encoding: utf-16-le",
    ),
    ("html", "\n<!DOCTYPE html><p>Sign in", "t.csv is an HTML or XML page\n  try: use the address of the file itself"),
    ("html with mark", b"\xef\xbb\xbf<html><p>Sign in", "t.csv is an HTML or XML page"),
    ("xml", '<?xml version="1.0"?><Error>AccessDenied</Error>', "t.csv is an HTML or XML page"),
]


@pytest.mark.parametrize(("content", "message"), [row[1:] for row in BROKEN_CSV], ids=[row[0] for row in BROKEN_CSV])
def test_a_broken_csv_is_reported_with_file_place_and_way_out(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(UserError) as output:
        read(tmp_path, content)
    assert str(output.value).startswith(message)


BROKEN_JSON_LINES = [
    ("a type that changes", JSON_LINES + '{"x": "oops"}\n', "Column(/x) changed from number to string in row 41"),
    ("half an object", JSON_LINES + '{"x":\n', "Invalid value. in row 41"),
    ("an array", '[{"x": 1}]\n', "Column() changed from object to array in row 1"),
    ("a name twice", '{"x": 1, "x": 2}\n' * 3, "Column(/x) was specified twice in row 1"),
]


@pytest.mark.parametrize(
    ("content", "message"), [row[1:] for row in BROKEN_JSON_LINES], ids=[row[0] for row in BROKEN_JSON_LINES]
)
def test_broken_json_lines_are_reported_with_their_row(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError) as output:
        read(tmp_path, content, "t.jsonl")
    assert (
        str(output.value)
        == f"t.jsonl: JSON parse error: {message}\n  try: write one JSON object per line, with one type per key"
    )


UNSEEN_NAMES = {
    "Hangul filler": ("x\u3164", "'x�', contains U+3164 (HANGUL FILLER)"),
    "nothing but a filler": ("\u3164", "'�', contains U+3164 (HANGUL FILLER)"),
    "zero-width space": ("x\u200b", "'x�', contains U+200B (ZERO WIDTH SPACE)"),
    "blank Braille pattern": ("\u2800", "'�', contains U+2800 (BRAILLE PATTERN BLANK)"),
    "emoji with its variation selector": ("❤\ufe0f", "'❤�', contains U+FE0F (VARIATION SELECTOR-16)"),
    "variation selector of a second plane": ("x\U000e0100", "'x�', contains U+E0100 (VARIATION SELECTOR-17)"),
    "right-to-left override": ("x\u202ey", "'x�y', contains U+202E (RIGHT-TO-LEFT OVERRIDE)"),
    "private use": ("x\ue000", "'x�', contains U+E000, "),
    "no-break space": ("x\u00a0y", "'x�y', contains U+00A0 (NO-BREAK SPACE)"),
    "flood of marks": (
        "x" + "\u0301" * 9,
        "'x\u0301\u0301\u0301\u0301�����', contains U+0301 (COMBINING ACUTE ACCENT)",
    ),
}


@pytest.mark.parametrize(("column", "message"), UNSEEN_NAMES.values(), ids=list(UNSEEN_NAMES))
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_column_name_with_an_unseen_letter_is_refused_with_file_position_and_code_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, column: str, message: str
) -> None:
    """`x` and `x` with a filler behind it look the same in a table, a gate and a review."""
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    table = pa.table({"x": [1.5, 2.0], column: [1.0, 2.0], "y": ["a", "b"]})
    name = f"data/raw/t.{ending}"
    if ending == "parquet":
        pq.write_table(table, name)
    elif ending == "jsonl":
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        pyarrow.csv.write_csv(table, name)
    settings = Data.model_validate({"source": name, "task": "classification", "target": "y"})
    with pytest.raises(UserError) as output:
        sources.read(settings)
    assert str(output.value).startswith(f"{name}: the name of column 2, {message}")
    assert str(output.value).endswith("which is invisible or hides other letters\n  try: rename the column")


def test_values_with_unseen_letters_stay_as_they_are(tmp_path: Path) -> None:
    content = 'x,y\n1.5,"a\u3164"\n2,❤\ufe0f\n3,a\n'
    assert read(tmp_path, content)["y"].to_pylist() == ["a\u3164", "❤\ufe0f", "a"]


@pytest.mark.parametrize("length", [8, 50, -1, -50])
def test_a_truncated_parquet_file_is_reported(tmp_path: Path, length: int) -> None:
    with pytest.raises(UserError, match=r"^t\.parquet is not a complete Parquet file: .*\n  try: copy it again$"):
        read(tmp_path, parquet(tmp_path)[:length], "t.parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", CSV.encode()),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-20]),
        ("t.jsonl.gz", b"\x1f\x8b" + b"?" * 99),
    ],
)
def test_a_damaged_archive_is_reported(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(UserError, match=rf"^{name} is damaged: .*\n  try: copy it again$"):
        read(tmp_path, content, name)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("klingon", "params.yaml: data.encoding: unknown encoding 'klingon'\n  try: utf-8, latin-1, cp1252"),
        ("ascii", "t.csv is not encoded in ascii: 'ascii' codec can't decode byte 0xc3"),
        ("utf-16", "t.csv is not encoded in utf-16: UTF-16 stream does not start with BOM"),
    ],
)
def test_a_declared_encoding_that_does_not_fit_is_reported(tmp_path: Path, encoding: str, message: str) -> None:
    with pytest.raises(UserError) as output:
        read(tmp_path, CSV.replace("a\n", "Käse\n"), encoding=encoding)
    assert str(output.value).startswith(message)


def test_an_unknown_ending_and_a_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^t\.xlsx: the name has no known extension\n  try: use the extension"):
        read(tmp_path, CSV, "t.xlsx")
    (tmp_path / "folder.csv").mkdir()
    data = Data.model_validate({"source": "data/raw/*", "task": "classification", "target": "y"})
    with pytest.raises(UserError, match=r"^folder\.csv is a folder\n  try: folder\.csv/\*\.csv$"):
        read_file(tmp_path / "folder.csv", data, "folder.csv")


def test_ten_million_bytes_of_noise_are_reported(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(10_000_000)
    for name in ("t.csv", "t.csv.gz", "t.parquet", "t.jsonl"):
        with pytest.raises(UserError, match=f"^{name}"):
            read(tmp_path, noise, name)


def test_a_private_value_is_in_no_message(tmp_path: Path) -> None:
    """A row with a cell too many, an open quote, a type that changes: the row's text is not shown."""
    for name, content in {
        "t.csv": "name,y\n" + "1,a\n" * 20 + "Grace Hopper,1,a\n",
        "open.csv": "name,y\n" + "1,a\n" * 20 + '1,"Grace Hopper\n2,b\n',
        "t.jsonl": '{"name": 1}\n' * 20 + '{"name": "Grace Hopper"}\n',
        "half.jsonl": '{"name": "Grace Hopper"}\n' * 20 + '{"name": "Grace Hopper"\n',
    }.items():
        with pytest.raises(UserError) as output:
            read(tmp_path, content, name, private={"name": "pseudonymise"})
        assert "Hopper" not in str(output.value)
