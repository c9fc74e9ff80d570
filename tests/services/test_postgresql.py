"""A real PostgreSQL as the source of the table."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML

from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import sources
from mlops.pipeline import ingest

USER, PASSWORD = "ada", "p@ss/word:of%Ada"
QUOTED = "p%40ss%2Fword%3Aof%25Ada"


def run(*command: str | Path) -> None:
    """Run a command of PostgreSQL, which refuses to run as root."""
    other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run([*other, *map(str, command)], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a PostgreSQL of our own, which goes when the tests are done."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not installed:
        pytest.fail("PostgreSQL is not installed; run .ci/services")
    programs = installed[-1].parent
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "password", "postgres")
        how = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={folder}/password", "--encoding=UTF8"]
        run(programs / "initdb", "--pgdata", folder / "data", *how, "--no-locale", "--no-sync")
        options = f"-p {number} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c timezone=Asia/Kathmandu"
        control = [programs / "pg_ctl", "--pgdata", folder / "data"]
        run(*control, "--wait", "--log", folder / "log", "--options", options, "start")
        try:
            yield number
        finally:
            run(*control, "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def url(port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database's URL, as `$DATABASE_URL` holds it."""
    value = f"postgresql+psycopg://{USER}:{QUOTED}@127.0.0.1:{port}/postgres"
    monkeypatch.setenv("DATABASE_URL", value)
    return value


@pytest.fixture(scope="module")
def patients(port: int) -> None:
    """A table with each type that a model may meet, with holes."""
    connect = {"host": "127.0.0.1", "port": port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
    with psycopg.connect(**connect) as connection:
        connection.execute(
            """
            CREATE TABLE patients (
                id bigint PRIMARY KEY, code uuid, age smallint, weight numeric(10, 2), score real,
                seen timestamp, called timestamptz, born date, smoker boolean, town varchar(20), name text,
                notes jsonb, tags text[], y text NOT NULL
            )
            """
        )
        connection.execute(
            """
            INSERT INTO patients
            SELECT i, ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, 20 + i, i + 0.25, i / 4.0,
                   '2024-05-17 12:30'::timestamp + i * interval '1 day', '2024-05-17 12:30+02'::timestamptz,
                   '1990-01-01'::date + i, i % 2 = 0, 'Zürich', 'Grace Hopper', '{"a": 1}', '{x,y}',
                   CASE WHEN i % 3 = 0 THEN 'ill' ELSE 'well' END
            FROM generate_series(0, 29) AS i
            """
        )
        connection.execute(
            """
            UPDATE patients SET code = NULL, age = NULL, weight = NULL, score = NULL, seen = NULL, called = NULL,
                                born = NULL, smoker = NULL, town = NULL, name = NULL
            WHERE id = 0
            """
        )
        connection.execute("UPDATE patients SET weight = 'NaN' WHERE id = 1")


def settings(sql: str, **data: object) -> Settings:
    return Settings.model_validate(
        {
            "data": {"source": {"sql": sql}, "task": "classification", "target": "y", "features": [], **data},
            "validate": {},
            "split": {},
            "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "tuning": None,
            "evaluate": {},
        }
    )


def prepared(sql: str, **data: object) -> tuple[pa.Table, dict[str, Any]]:
    asked = settings(sql, **data)
    return ingest.read_and_prepare(asked)


def output(sql: str, **data: object) -> str:
    with pytest.raises(UserError) as error:
        prepared(sql, **data)
    for secret in (PASSWORD, QUOTED):
        assert secret not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("patients", "url")
def test_each_type_becomes_the_kind_that_it_is() -> None:
    table, catalogue = prepared("SELECT * FROM patients ORDER BY id", drop=["notes", "tags"])
    assert {column["name"]: column["kind"] for column in catalogue["columns"]} == {
        "id": "numeric",
        "code": "categorical",
        "age": "numeric",
        "weight": "numeric",
        "score": "numeric",
        "seen": "date",
        "called": "date",
        "born": "date",
        "smoker": "boolean",
        "town": "categorical",
        "name": "categorical",
        "y": "categorical",
    }
    holes, row = table.slice(0, 1).to_pylist()[0], table.slice(2, 1).to_pylist()[0]
    assert [name for name, value in holes.items() if value is not None] == ["id", "y"]
    assert table["weight"][1].as_py() is None, "NaN is one more way to be missing"
    assert row == {
        "id": 2,
        "code": "00000000-0000-0000-0000-000000000002",
        "age": 22,
        "weight": 2.25,
        "score": 0.5,
        "seen": datetime(2024, 5, 19, 12, 30),
        "called": datetime(2024, 5, 17, 10, 30),
        "born": datetime(1990, 1, 3),
        "smoker": True,
        "town": "Zürich",
        "name": "Grace Hopper",
        "y": "well",
    }


@pytest.mark.usefixtures("patients", "url")
@pytest.mark.parametrize("column", ["notes", "tags"])
def test_a_column_that_no_model_takes_is_named(column: str) -> None:
    answer = output(f"SELECT id, {column}, y FROM patients ORDER BY id")  # noqa: S608
    assert answer.startswith(f"column {column!r} holds values of type ")
    assert f"which no model accepts\n  try: data.drop: [{column}]" in answer


@pytest.mark.usefixtures("url")
def test_a_large_result_comes_in_batches_and_in_order() -> None:
    table, origin = sources.read(settings("SELECT i, i % 2 AS y FROM generate_series(1, 120000) AS i ORDER BY i").data)
    assert table["i"].num_chunks == 3
    assert table["i"].to_pylist() == list(range(1, 120_001))
    assert origin.place(119_999) == "row 120,000 of the query"


@pytest.mark.usefixtures("patients", "url")
def test_percent_signs_and_colons_of_a_query_are_taken_as_they_are() -> None:
    sql = "SELECT id::int, y FROM patients WHERE y LIKE '%el%' AND y <> ':y' AND y <> '%(y)s' ORDER BY id"
    assert prepared(sql.replace("%el%", "%l"), target="id", task="regression")[0].num_rows == 30
    assert output(sql.replace("%el%", "%x%")).startswith("params.yaml: data.source: the query returned no rows")


@pytest.mark.usefixtures("patients", "url")
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT ag FROM patients ORDER BY id", 'column "ag" does not exist'),
        ("SELECT * FROM nowhere ORDER BY id", 'relation "nowhere" does not exist'),
        ("SELECT 1 / (id - 5) AS x, y FROM patients ORDER BY id", "division by zero"),
        ("SELECT y FROM patients ORDER BY", "syntax error at end of input"),
    ],
)
def test_a_failing_query_is_reported(sql: str, message: str) -> None:
    answer = output(sql)
    assert answer.startswith(f"params.yaml: data.source: the query failed: {message}")
    assert answer.endswith("try: check the query and $DATABASE_URL")


@pytest.mark.usefixtures("patients", "url")
def test_a_private_value_that_the_database_tells_is_not_repeated() -> None:
    sql = "SELECT id, name::int AS x, y FROM patients ORDER BY id"
    assert "Hopper" in output(sql)
    answer = output(sql.replace("AS x", "AS name"), private={"name": "pseudonymise"})
    assert "Hopper" not in answer
    assert "InvalidTextRepresentation (message omitted, it may contain private values)" in answer


def test_a_wrong_password_user_or_database_is_reported(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, other, message in (
        (QUOTED, "nonsense", 'password authentication failed for user "***"'),
        ("ada:", "eve:", 'password authentication failed for user "***"'),
        ("/postgres", "/nowhere", 'database "***" does not exist'),
    ):
        monkeypatch.setenv("DATABASE_URL", url.replace(part, other))
        answer = output("SELECT 1 AS y ORDER BY 1")
        assert message in answer
        assert "nonsense" not in answer


def test_dvc_makes_the_bundled_table_from_the_database_bit_for_bit(project: Project, port: int, url: str) -> None:
    """The default table, put into PostgreSQL and read back, has the hash that dvc.lock has."""
    table, _ = sources.read(settings("-").data.model_copy(update={"source": "sklearn:breast_cancer"}))
    columns = ", ".join(f'"{name}" {"text" if name == "diagnosis" else "float8"}' for name in table.column_names)
    connect = {"host": "127.0.0.1", "port": port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
    with psycopg.connect(**connect) as connection:
        connection.execute(f"CREATE TABLE cancer (row serial, {columns})")
        names = ", ".join(f'"{name}"' for name in table.column_names)
        with connection.cursor().copy(f"COPY cancer ({names}) FROM STDIN") as copy:
            for row in zip(*table.to_pydict().values(), strict=True):
                copy.write_row(row)

    def use_database(params: Any) -> None:
        params["data"]["source"] = {"sql": f"SELECT {names} FROM cancer ORDER BY row"}  # noqa: S608

    project.edit_params(use_database)
    (project.folder / "dvc.lock").unlink()
    first = project.run("dvc", "repro", "ingest").stdout
    assert "569 rows × 31 columns" in first
    locks = [YAML(typ="safe").load(folder / "dvc.lock") for folder in (ROOT, project.folder)]
    hashes = [
        next(out["md5"] for out in lock["stages"]["ingest"]["outs"] if "parquet" in out["path"]) for lock in locks
    ]
    assert hashes[0] == hashes[1]
    assert json.loads(project.read("data/prepared/catalogue.json"))["source"].startswith("SQL at $DATABASE_URL: SELECT")
    project.commit("read the database")
    assert "Stage 'ingest' didn't change" in project.run("dvc", "repro", "ingest").stdout
    broken = project.run("dvc", "repro", "--force", "ingest", check=False, DATABASE_URL=url.replace(QUOTED, "nonsense"))
    assert broken.returncode != 0
    assert "error: params.yaml: data.source: the query failed" in broken.stdout
    for text in (first, broken.stdout):
        assert PASSWORD not in text
        assert QUOTED not in text
    shutil.rmtree(project.folder / "tests")  # which holds this file
    for path in filter(Path.is_file, project.folder.rglob("*")):
        content = path.read_bytes()
        assert PASSWORD.encode() not in content, path
        assert QUOTED.encode() not in content, path


STRANGE = [
    ("'infinity'::timestamp", "the query failed: timestamp too large"),
    ("'0044-03-15 BC'::date", "the query failed: date too small"),
    ("'Infinity'::numeric", "column 'x': row 1 of the query holds an infinite value"),
    ("'\\x00'::bytea", "column 'x' holds values of type binary, which no model accepts"),
    ("interval '1 day'", "column 'x' holds values of type duration[us], which no model accepts"),
    ("'127.0.0.1'::inet", "the query's column 'x' has no single type"),
]


@pytest.mark.usefixtures("patients", "url")
@pytest.mark.parametrize(("expression", "message"), STRANGE)
def test_a_value_that_no_table_holds_is_reported(expression: str, message: str) -> None:
    assert message in output(f"SELECT {expression} AS x, y FROM patients ORDER BY id")  # noqa: S608


@pytest.mark.usefixtures("url")
def test_numbers_of_any_length_fit_together() -> None:
    """Of each batch Arrow makes decimals as long as that batch needs."""
    table, _ = prepared(
        "SELECT CASE WHEN i > 60000 THEN 1e30 + i ELSE i + 0.125 END AS x, 'ab' || i % 2 AS y "
        "FROM generate_series(1, 70000) AS i ORDER BY i"
    )
    assert table["x"][0].as_py() == 1.125
    assert table["x"][-1].as_py() == 1e30
