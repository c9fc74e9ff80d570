"""From a source to a typed table and its catalogue, or to words on why there is none."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import sources, tables
from mlops.pipeline import ingest

CSV = "id,seen,age,smoker,town,y\n" + "".join(
    f"{number:03},2024-05-{number % 28 + 1:02},{20 + number / 2},{'yes' if number % 3 else 'no'},"
    f"{'Zürich' if number % 2 else ''},{'ill' if number % 2 else 'well'}\n"
    for number in range(40)
)
KEY = "a key of more than sixteen characters"


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `data/raw` where the test runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ingest.PSEUDONYM_KEY, KEY)
    sources.RAW.mkdir(parents=True)
    return sources.RAW


def params(**data: object) -> dict[str, Any]:
    return {
        "data": {"source": "data/raw/t.csv", "task": "classification", "target": "y", **data},
        "validate": {},
        "split": {},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }


def prepared(content: str | bytes, name: str = "t.csv", **data: object) -> tuple[pa.Table, dict[str, Any]]:
    """What `ingest` makes of a file with this content."""
    (sources.RAW / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = Settings.model_validate(params(source=f"data/raw/{name}", **data))
    return ingest.read_and_prepare(settings)


def output(content: str | bytes, **data: Any) -> str:
    with pytest.raises(UserError) as error:
        prepared(content, **data)
    return str(error.value)


def stage(**data: object) -> None:
    """Run the stage as DVC does, but in this process."""
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params(**data), file)
    ingest.main()


# the table and its catalogue


def test_each_kind_of_column_has_its_one_type() -> None:
    table, catalogue = prepared(CSV, types={"id": "categorical", "smoker": "boolean"}, units={"age": "years"})
    assert dict(zip(table.column_names, map(str, table.schema.types), strict=True)) == {
        "id": "string",
        "seen": "timestamp[us]",
        "age": "double",
        "smoker": "bool",
        "town": "string",
        "y": "string",
    }
    assert table["id"][7].as_py() == "007"
    age, town = catalogue["columns"][2], catalogue["columns"][4]
    assert age == {"name": "age", "kind": "numeric", "type": "double", "unit": "years", "missing": 0, "distinct": None}
    assert town == {"name": "town", "kind": "categorical", "type": "string", "unit": None, "missing": 20, "distinct": 1}


def test_the_catalogue_says_what_the_table_is(raw: Path) -> None:
    (raw / "t.csv").write_text(CSV, encoding="utf-8")
    stage(drop=["seen"])
    catalogue = tables.read_catalogue()
    table = tables.read(paths.TABLE)
    assert catalogue.names == table.column_names == ["id", "age", "smoker", "town", "y"]
    assert (catalogue.source, catalogue.rows) == ("data/raw/t.csv", 40)
    assert catalogue.sha256 == hashlib.sha256(paths.TABLE.read_bytes()).hexdigest()


@pytest.mark.parametrize("format", ["csv", "csv.gz", "parquet", "jsonl"])
def test_the_same_content_gives_the_same_bytes(raw: Path, format: str) -> None:
    rows = [{"x": number / 4, "y": "ab"[number % 2], "z": None if number % 3 else "é"} for number in range(30)]
    written = []
    for name in (f"t.{format}", f"u.{format}"):
        if format == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), raw / name)
        elif format == "jsonl":
            (raw / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            text = "x,y,z\n" + "".join(f"{row['x']},{row['y']},{row['z'] or ''}\n" for row in rows)
            (raw / name).write_bytes(gzip.compress(text.encode()) if format == "csv.gz" else text.encode())
        stage(source=f"data/raw/{name}")
        written.append(paths.TABLE.read_bytes())
    assert written[0] == written[1]
    assert tables.read(paths.TABLE).to_pylist() == rows


def test_a_table_split_into_files_gives_the_same_bytes(raw: Path) -> None:
    head, *lines = CSV.splitlines(keepends=True)
    (raw / "t.csv").write_text(CSV, encoding="utf-8")
    stage()
    whole = paths.TABLE.read_bytes()
    (raw / "t.csv").unlink()
    for number, part in enumerate((lines[:15], lines[15:])):
        (raw / f"{number}.csv").write_text(head + "".join(part), encoding="utf-8")
    stage(source="data/raw/*.csv")
    assert paths.TABLE.read_bytes() == whole


def test_a_thousand_columns_are_typed() -> None:
    names = [f"größe {number}" for number in range(1000)]
    row = ",".join(str(number) for number in range(1000))
    table, catalogue = prepared(f"{','.join(names)},y\n" + f"{row},a\n{row},b\n" * 10)
    assert table.shape == (20, 1001)
    assert {column["kind"] for column in catalogue["columns"][:-1]} == {"numeric"}


def test_a_dictionary_of_parquet_is_read_as_its_values(raw: Path) -> None:
    town = pa.array(["Bern", "Basel"] * 10).dictionary_encode()
    pq.write_table(pa.table({"town": town, "y": ["a", "b"] * 10}), raw / "t.parquet")
    table, _ = prepared((raw / "t.parquet").read_bytes(), "t.parquet")
    assert table["town"].type == pa.string()


# what stops


def rows(count: int = 20) -> str:
    return "x,y\n" + "".join(f"{number}.5,{'ab'[number % 2]}\n" for number in range(count))


STOPPED = [
    ("one row", rows(1), {}, "data/raw/t.csv has 1 row; at least 10 are required\n  try: a larger table"),
    (
        "an unknown target",
        rows(),
        {"target": "Y"},
        "params.yaml: data.target: the table has no column 'Y'; did you mean 'y'?",
    ),
    (
        "an unknown column",
        rows(),
        {"drop": ["z"]},
        "params.yaml: data.drop: the table has no column 'z'; known: x, y",
    ),
    (
        "a target with holes",
        rows().replace("3.5,b", "3.5,").replace("8.5,a", "8.5,NA"),
        {},
        "the target 'y' is missing in 4 rows: row 4 of data/raw/t.csv, row 9 of data/raw/t.csv, row 14 of "
        "data/raw/t.csv, row 19 of data/raw/t.csv\n  try: data.clean: {missing_target: drop}, or complete the source",
    ),
    (
        "a target of NaN",
        rows().replace("3.5,b", "3.5,NaN"),
        {},
        "the target 'y' is missing in 2 rows: row 4 of data/raw/t.csv",
    ),
    (
        "one class",
        rows().replace("b\n", "a\n"),
        {},
        "the target 'y' is 'a' in every row, so there is nothing to learn\n  try: another target, or a source with",
    ),
    (
        "a constant",
        "x,y\n" + "1,2.5\n" * 20,
        {"task": "regression"},
        "the target 'y' is 2.5 in every row, so there is nothing to learn\n  try: another target",
    ),
    (
        "words for a regression",
        rows(),
        {"task": "regression"},
        "the target 'y' holds 'a', not numbers\n  try: data.task: classification",
    ),
    (
        "numbers for a classification",
        "x,y\n" + "".join(f"1,{number / 7}\n" for number in range(99)),
        {},
        "the target 'y' has 99 classes\n  try: data.task: regression",
    ),
    (
        "no such class",
        rows(),
        {"positive": "A"},
        "params.yaml: data.positive: 'A' is not a class of 'y'; did you mean 'a'?",
    ),
    (
        "a class of another type",
        "x,y\n" + "1,0\n1,1\n" * 20,
        {"positive": "1"},
        "params.yaml: data.positive: '1' is not a class of 'y'\n  try: positive: 1",
    ),
    (
        "a word for a boolean class",
        "x,y\n" + "1,true\n1,false\n" * 20,
        {"positive": "True"},
        "params.yaml: data.positive: 'True' is not a class of 'y'\n  try: positive: true",
    ),
    (
        "three classes",
        rows().replace("7.5,b", "7.5,c"),
        {"positive": "c"},
        "params.yaml: data.positive needs two classes; 'y' has 3\n  try: remove it",
    ),
    (
        "a type that changes half way",
        rows().replace("\n9.5,b", "\noops,b"),
        {},
        "column 'x' has mostly values of kind numeric, but row 10 of data/raw/t.csv holds 'oops'\n"
        "  try: correct it, add it to data.missing_values, or data.types: {x: categorical}",
    ),
    (
        "a declared type that does not hold",
        rows(),
        {"types": {"y": "numeric"}},
        "column 'y' cannot be read as numeric, but row 1 of data/raw/t.csv holds 'a'",
    ),
    (
        "infinity",
        rows().replace("\n9.5,b", "\n-inf,b"),
        {},
        "column 'x': row 10 of data/raw/t.csv holds an infinite value\n  try: correct it, or leave the cell empty",
    ),
    (
        "a number too large",
        rows().replace("\n9.5,b", "\n1e999,b"),
        {},
        "column 'x': row 10 of data/raw/t.csv holds an infinite value",
    ),
    (
        "dates with day or month first",
        "d,y\n" + "01/02/2024,a\n03/04/2024,b\n" * 10,
        {"types": {"d": "date"}},
        "column 'd' cannot be read as date, but row 1 of data/raw/t.csv holds '01/02/2024', which is ambiguous: day or "
        "month first",
    ),
    (
        "a day that is none",
        "d,y\n" + "2024-02-28,a\n2024-02-29,b\n" * 10 + "2024-02-30,a\n",
        {},
        "column 'd' has mostly values of kind date, but row 21 of data/raw/t.csv holds '2024-02-30'",
    ),
    (
        "a nested object",
        '{"x": {"z": 1}, "y": "a"}\n' * 20,
        {"name": "t.jsonl"},
        "column 'x' holds values of type struct",
    ),
    (
        "bytes that are no text",
        '{{"x": "{}", "y": "a"}}\n'.format("Käse").encode("latin-1") * 20,
        {"name": "t.jsonl"},
        "column 'x' has mostly values of kind categorical, but row 1 of data/raw/t.jsonl holds 'K\ufffdse', "
        "which is not UTF-8\n  try: correct it\n",
    ),
]


@pytest.mark.parametrize(
    ("content", "data", "message"), [row[1:] for row in STOPPED], ids=[row[0].replace(" ", "-") for row in STOPPED]
)
def test_what_cannot_be_learned_from_is_reported(content: str, data: dict[str, Any], message: str) -> None:
    assert f"{output(content, **data)}\n".startswith(message)


def test_a_row_of_a_glob_is_named_in_its_own_file(raw: Path) -> None:
    (raw / "a.csv").write_text(rows(12))
    (raw / "b.csv").write_text(rows(12).replace("3.5,b", "inf,b"))
    settings = Settings.model_validate(params(source="data/raw/?.csv"))
    with pytest.raises(UserError, match=r"column 'x': row 4 of data/raw/b\.csv holds an infinite value"):
        ingest.read_and_prepare(settings)


def test_ten_million_cells_of_garbage_are_reported() -> None:
    """Random numbers, words and dates in ten columns: the first word among numbers is named."""
    cells = random.Random(0).choices(["12.5", "-3", "1e5", "2024-13-45", "oops", "", "x y z", "inf"], k=100_000)
    block = "".join(",".join(cells[start : start + 10]) + "\n" for start in range(0, 100_000, 10))
    answer = output("a,b,c,d,e,f,g,h,i,y\n" + block * 100)
    assert answer.startswith("the target 'y' is missing in ")


def test_ten_million_cells_of_one_text_each_are_a_table() -> None:
    table, _ = prepared(
        "a,b,c,d,e,f,g,h,i,y\n" + "~!@,#$%,^&*,(),_+,{},|:,<>,?§,a\n~!@,#$%,^&*,(),_+,{},|:,<>,?§,b\n" * 500_000
    )
    assert table.shape == (1_000_000, 10)


# private columns


PEOPLE = "name,born,mail,y\n" + "".join(
    f"Grace Hopper {number % 7},1906-12-0{number % 7 + 1},grace{number}@navy.example,{'ab'[number % 2]}\n"
    for number in range(28)
)
PRIVATE = {"name": "pseudonymise", "born": "pseudonymise", "mail": "drop"}


def test_private_values_are_in_neither_table_nor_catalogue(raw: Path) -> None:
    (raw / "t.csv").write_text(PEOPLE)
    stage(private=PRIVATE)
    assert tables.read(paths.TABLE).column_names == ["name", "born", "y"]
    everything = paths.CATALOGUE.read_text() + str(tables.read(paths.TABLE).to_pydict())
    for secret in ("Hopper", "1906", "navy", KEY):
        assert secret not in everything
        assert secret.encode() not in paths.TABLE.read_bytes()


def test_equal_values_have_equal_pseudonyms_and_others_other_ones() -> None:
    names = prepared(PEOPLE, private=PRIVATE)[0]["name"].to_pylist()
    assert names[:7] == names[7:14]
    assert len(set(names)) == 7
    assert all(len(name) == 32 for name in names)


def test_a_missing_value_has_no_pseudonym() -> None:
    table, catalogue = prepared(PEOPLE.replace("Grace Hopper 3", ""), private=PRIVATE)
    assert table["name"].null_count == catalogue["columns"][0]["missing"] == 4


def test_a_value_has_one_pseudonym_in_every_format(raw: Path) -> None:
    """A number read from a database or Parquet is the number written in a CSV."""
    lines = ["id,y", *(f"{number},{'ab'[number % 2]}" for number in range(20))]
    (raw / "u.jsonl").write_text("".join(f'{{"id": {number}, "y": "{"ab"[number % 2]}"}}\n' for number in range(20)))
    private = {"id": "pseudonymise"}
    from_csv = prepared("\n".join(lines), private=private)[0]
    from_json = prepared((raw / "u.jsonl").read_bytes(), "u.jsonl", private=private)[0]
    assert from_csv["id"].to_pylist() == from_json["id"].to_pylist()


def test_codes_that_differ_in_zeros_only_have_pseudonyms_of_their_own() -> None:
    table, _ = prepared("id,y\n" + "7,a\n07,b\n007,a\n7.0,b\n" * 5, private={"id": "pseudonymise"})
    assert len(set(table["id"].to_pylist())) == 4


def test_another_key_gives_other_pseudonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(prepared(PEOPLE, private=PRIVATE)[0]["name"].to_pylist())
    monkeypatch.setenv(ingest.PSEUDONYM_KEY, KEY + "!")
    assert not before & set(prepared(PEOPLE, private=PRIVATE)[0]["name"].to_pylist())


@pytest.mark.parametrize("key", [None, "", "short"])
def test_a_missing_or_short_key_is_refused(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    if key is None:
        monkeypatch.delenv(ingest.PSEUDONYM_KEY)
    else:
        monkeypatch.setenv(ingest.PSEUDONYM_KEY, key)
    answer = output(PEOPLE, private=PRIVATE)
    assert answer.startswith(
        "params.yaml: data.private: 'name' needs a key of at least 16 characters in $PSEUDONYM_KEY"
    )
    assert 'try: export PSEUDONYM_KEY="$(openssl rand -hex 32)" once, and keep it' in answer


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PEOPLE + "Grace Hopper,1906,navy\n", "t.csv"),
        (PEOPLE + '"Grace Hopper,1906,navy,a\n', "t.csv"),
        (PEOPLE.replace("Grace Hopper 3", "Grâce Hopper").encode("latin-1"), "t.csv"),
        (PEOPLE.replace(",b\n", ",\n"), "t.csv"),
        ('{"name": "Grace Hopper", "born": "1906", "mail": "navy", "y": "a"}\n' * 20 + '{"name": 1906}\n', "t.jsonl"),
        ('{"name": ["Grace Hopper"], "born": "1906", "mail": "navy", "y": "a"}\n' * 20, "t.jsonl"),
        ('{"name": "Grâce Hopper", "born": "1906", "mail": "navy", "y": "a"}\n'.encode("latin-1") * 20, "t.jsonl"),
    ],
)
def test_private_values_are_in_no_message(content: str | bytes, name: str) -> None:
    answer = output(content, name=name, private=PRIVATE)
    for secret in ("Hopper", "1906", "navy", KEY):
        assert secret not in answer


def test_a_private_target_is_reported_by_its_pseudonym() -> None:
    answer = output("x,y\n" + "1,Hopper\n" * 20, private={"y": "pseudonymise"})
    assert answer.startswith("the target 'y' is '")
    assert "Hopper" not in answer


def test_private_values_of_a_database_are_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "people.db")) as connection, connection:
        connection.execute("CREATE TABLE people (id, name, y)")
        values = [(number, "Hopper" if number % 2 else 1906, "ab"[number % 2]) for number in range(20)]
        connection.executemany("INSERT INTO people VALUES (?, ?, ?)", values)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/people.db")
    source = {"sql": "SELECT * FROM people ORDER BY id"}
    settings = Settings.model_validate(params(source=source, private={"name": "pseudonymise"}))
    table, _ = ingest.read_and_prepare(settings)
    assert len(set(table["name"].to_pylist())) == 2
    assert "Hopper" not in str(table)


# the command


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """A port of this machine that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


FAILING = [
    (
        "missing-file",
        None,
        {"source": "data/raw/x.csv"},
        "there is no file data/raw/x.csv; did you mean 'data/raw/t.csv'?",
    ),
    ("wrong-encoding", CSV.encode("latin-1"), {}, "data/raw/t.csv is not encoded in utf-8"),
    ("ragged", CSV + "1,2\n", {}, "data/raw/t.csv: row 41 has 2 cells, but the header has 6"),
    ("truncated", b"PAR1" + b"\0" * 100, {"source": "data/raw/t.parquet"}, "t.parquet is not a complete Parquet file"),
    ("infinite", CSV.replace("25.0", "inf"), {}, "column 'age': row 11 of data/raw/t.csv holds an infinite value"),
    ("no-key", CSV, {"private": {"town": "pseudonymise"}}, "needs a key of at least 16 characters in $PSEUDONYM_KEY"),
    ("silent", None, {"source": "http://127.0.0.1:{port}/t.csv", "timeout": 0.3}, "t.csv: no response within 0.3 s"),
    ("no-database", None, {"source": {"sql": "SELECT 1 ORDER BY 1"}}, "but $DATABASE_URL is not set"),
    ("one-class", CSV.replace("ill", "well"), {}, "the target 'y' is 'well' in every row"),
]


@pytest.mark.parametrize(("content", "data", "message"), [row[1:] for row in FAILING], ids=[row[0] for row in FAILING])
def test_a_failure_is_one_message_and_leaves_the_last_table_as_it_was(
    raw: Path, silent_port: int, content: str | bytes | None, data: dict[str, Any], message: str
) -> None:
    (raw / "t.csv").write_text(CSV, encoding="utf-8")
    stage()
    before = [path.read_bytes() for path in (paths.TABLE, paths.CATALOGUE)]
    source = data.get("source", "data/raw/t.csv")
    if isinstance(source, str):
        source = source.format(port=silent_port)
    if content is not None:
        Path(source).write_bytes(content if isinstance(content, bytes) else content.encode())
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params(**{**data, "source": source}), file)
    done = subprocess.run(
        [sys.executable, "-m", "mlops.pipeline.ingest"],
        env={
            **{key: value for key, value in os.environ.items() if key not in (ingest.PSEUDONYM_KEY, "DATABASE_URL")},
            "PYTHONPATH": str(ROOT / "src"),
            "ALLOW_PRIVATE_ADDRESSES": "yes",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.read_bytes() for path in (paths.TABLE, paths.CATALOGUE)] == before
    assert {path.name for path in paths.PREPARED.iterdir()} == {"table.parquet", "catalogue.json"}


def test_a_run_tells_what_came_in_and_out(raw: Path) -> None:
    (raw / "t.csv").write_text(CSV, encoding="utf-8")
    stage()
    done = subprocess.run(
        [sys.executable, "-m", "mlops.pipeline.ingest"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].startswith("ingest    data/raw/t.csv → 40 rows × 6 columns  (")
    assert done.stderr == ""
