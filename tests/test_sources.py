"""Tables from files, servers and databases, whole and out of reach."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops import sources
from mlops.settings import Data
from mlops.stage import UserError

ROWS = [{"x": number + 0.5, "y": "ab"[number % 2]} for number in range(20)]
TABLE = pa.Table.from_pylist(ROWS)
CSV = "x,y\n" + "".join(f"{row['x']},{row['y']}\n" for row in ROWS)
PASSWORD = "hunter2hunter2"
BASIC = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `data/raw` where the test runs."""
    monkeypatch.chdir(tmp_path)
    sources.RAW.mkdir(parents=True)
    return sources.RAW


def read(source: object, **data: object) -> tuple[pa.Table, sources.Origin]:
    return sources.read(Data.model_validate({"source": source, "task": "classification", "target": "y", **data}))


def told(source: object, **data: object) -> str:
    """What a user is told of a source that cannot be read."""
    with pytest.raises(UserError) as error:
        read(source, **data)
    return str(error.value)


# bundled tables


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("breast_cancer", (569, 31)),
        ("diabetes", (442, 11)),
        ("digits", (1797, 65)),
        ("iris", (150, 5)),
        ("wine", (178, 14)),
    ],
)
def test_each_bundled_table_ends_with_its_target(name: str, shape: tuple[int, int]) -> None:
    table, origin = read(f"sklearn:{name}")
    assert table.shape == shape
    assert table.column_names[-1] == sources.BUNDLED[name]
    assert origin.place(0) == f"row 1 of sklearn:{name}"


def test_classes_of_a_bundled_table_have_their_names() -> None:
    table, _ = read("sklearn:breast_cancer")
    assert set(table["diagnosis"].to_pylist()) == {"malignant", "benign"}


def test_an_unknown_bundled_table_is_told_with_the_closest() -> None:
    assert told("sklearn:brest_cancer").endswith("no bundled table 'brest_cancer'; did you mean 'breast_cancer'?")
    assert told("sklearn:titanic").endswith("known: breast_cancer, diabetes, digits, iris, wine")


# files


def test_files_of_a_glob_become_one_table_in_the_order_of_their_names(raw: Path) -> None:
    lines = CSV.splitlines()[1:]
    (raw / "b.csv").write_text("y,x\n" + "".join(",".join(line.split(",")[::-1]) + "\n" for line in lines[12:]))
    (raw / "a.csv.gz").write_bytes(gzip.compress("\n".join(["x,y", *lines[:5]]).encode()))
    (raw / "deep").mkdir()
    (raw / "deep/a.csv").write_text("\n".join(["x,y", *lines[5:12]]))
    table, origin = read("data/raw/**/*.csv*")
    assert origin.rows == {"data/raw/a.csv.gz": 5, "data/raw/b.csv": 8, "data/raw/deep/a.csv": 7}
    assert table.column_names == ["x", "y"]
    assert table.sort_by("x").equals(TABLE)
    assert origin.place(5) == "row 1 of data/raw/b.csv"
    assert origin.place(19) == "row 7 of data/raw/deep/a.csv"


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_other_formats_are_globbed_too(raw: Path, ending: str) -> None:
    for number, part in enumerate([TABLE[:15], TABLE[15:]]):
        if ending == "parquet":
            pq.write_table(part, raw / f"{number}.parquet")
        else:
            (raw / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part.to_pylist()))
    table, origin = read(f"data/raw/*.{ending}")
    assert table.equals(TABLE)
    assert origin.typed


def test_numbers_that_are_whole_in_one_file_and_not_in_another_fit(raw: Path) -> None:
    (raw / "a.csv").write_text("x,y\n1,a\n")
    (raw / "b.csv").write_text("x,y\n1.5,a\n")
    assert read("data/raw/*.csv")[0]["x"].to_pylist() == [1.0, 1.5]


def test_files_that_do_not_fit_together_are_told(raw: Path) -> None:
    (raw / "a.csv").write_text("x,y\n1,a\n")
    (raw / "b.csv").write_text("x,z\n1,a\n")
    assert told("data/raw/*.csv") == (
        "data/raw/b.csv and data/raw/a.csv differ in the columns ['y', 'z']\n  try: give both the same columns"
    )
    (raw / "b.csv").write_text("x,y\noops,a\n")
    message = told("data/raw/*.csv")
    assert message.startswith("data/raw/b.csv does not fit data/raw/a.csv: Field x has incompatible types: ")
    assert message.endswith("try: name the column's type in data.types, or mend the file")


def test_a_missing_file_is_told_with_the_closest_there_is(raw: Path) -> None:
    (raw / "houses.csv").write_text(CSV)
    (raw / "README.md").write_text("what lies here")
    expected = "there is no file data/raw/huoses.csv; did you mean 'data/raw/houses.csv'?"
    assert told("data/raw/huoses.csv") == f"params.yaml: data.source: {expected}"
    assert told("data/raw/*.parquet").endswith("known: data/raw/houses.csv")


@pytest.mark.parametrize("source", ["/etc/passwd", "houses.csv", "data/raw/../houses.csv", "data/prepared/*.parquet"])
def test_a_file_that_dvc_would_not_see_change_is_refused(source: str) -> None:
    assert "is outside data/raw, where DVC would not see it change\n  try: copy it to data/raw/" in told(source)


def test_a_link_to_a_file_is_followed_and_one_to_a_folder_refused(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/t.csv").write_text(CSV)
    (raw / "t.csv").symlink_to(tmp_path / "elsewhere/t.csv")
    assert read("data/raw/t.csv")[0].equals(TABLE)
    (raw / "folder").symlink_to(tmp_path / "elsewhere")
    assert "is outside data/raw" in told("data/raw/folder/t.csv")


def test_a_local_file_in_the_clothes_of_a_url_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    assert f"file://{tmp_path}/t.csv is a local file" in told(f"file://{tmp_path}/t.csv")


# servers


MOVED = {"/moved.csv": "/gone.csv", "/elsewhere.csv": "gopher://127.0.0.1/t.csv", "/nowhere.csv": "http://[/t.csv"}


class Handler(BaseHTTPRequestHandler):
    """A server with a whole table, and with each thing that goes wrong on the way."""

    def do_GET(self) -> None:
        name = self.path.split("?")[0]
        if name in MOVED:
            self.send_response(302)
            self.send_header("Location", f"{MOVED[name]}?X-Signature={PASSWORD}")
            self.end_headers()
            return
        if name == "/silent.csv":
            self.server.finished.wait(30)  # type: ignore[attr-defined]
            return
        status, body = {
            "/t.csv": (200, CSV.encode()),
            "/t.csv.gz": (200, gzip.compress(CSV.encode())),
            "/page.csv": (200, b"<!DOCTYPE html><title>Sign in</title>"),
            "/empty.csv": (200, b""),
            "/private.csv": (200, CSV.encode()) if self.headers["Authorization"] == f"Basic {BASIC}" else (401, b""),
            "/broken.csv": (500, b"oops"),
            "/cut.csv": (200, CSV.encode()),
            "/data": (200, CSV.encode()),
        }.get(name, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (100 if name == "/cut.csv" else 0)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a web server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.finished = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=running.serve_forever).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.finished.set()  # type: ignore[attr-defined]
        running.shutdown()


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv?version=2"])
def test_a_table_is_read_from_a_web_server(server: str, name: str) -> None:
    table, origin = read(f"{server}/{name}")
    assert table.equals(TABLE)
    assert origin.place(2) == f"row 3 of {server}/{name.split('?')[0]}"


def test_a_password_for_a_web_server_comes_from_netrc(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login ada password {PASSWORD}\n")
    assert read(f"{server}/private.csv")[0].equals(TABLE)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password wrong\n")
    assert f"{server}/private.csv: access denied: status 401" in told(f"{server}/private.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.csv", "is an HTML or XML page\n  try: the address of the file itself, not of a page about it"),
        ("gone.csv", ": there is no such file\n  try: check data.source in params.yaml"),
        ("empty.csv", " is empty"),
        ("private.csv", ": access denied: status 401\n  try: credentials in the environment"),
        ("broken.csv", " cannot be read: status 500\n  try: check the address and the network, then `make`"),
        ("cut.csv", " cannot be read: ClientPayloadError"),
        ("data", ": cannot tell the format from the name\n  try: a name that ends in .csv"),
    ],
)
def test_what_a_server_gives_instead_of_a_table_is_told(server: str, name: str, message: str) -> None:
    answer = told(f"{server}/{name}")
    assert answer.startswith(f"{server}/{name}")
    assert message in answer


def test_a_server_that_is_silent_is_left_after_the_timeout(server: str) -> None:
    start = time.monotonic()
    answer = told(f"{server}/silent.csv", timeout=0.3)
    assert answer == (
        f"{server}/silent.csv: no answer within 0.3 s\n  try: again later, or a larger data.timeout in params.yaml"
    )
    assert time.monotonic() - start < 25, "the server's silence, not the timeout, ended the wait"


def test_a_bucket_that_is_silent_is_left_after_a_few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        silent.setblocking(False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        answer = told("s3://bucket/t.csv", timeout=0.2)
        attempts = 0
        with contextlib.suppress(BlockingIOError):
            while connection := silent.accept()[0]:
                connection.close()
                attempts += 1
    assert answer.startswith("s3://bucket/t.csv: no answer within 0.2 s\n  try: again later")
    assert 1 <= attempts <= 5


def test_a_server_that_is_down_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/t.csv"
    answer = told(url)
    assert answer.startswith(f"{url} cannot be read: ClientConnectorError")
    assert answer.endswith("try: check the address and the network, then `make`")


def test_a_name_that_no_server_has_is_told() -> None:
    assert "http://nowhere.invalid/t.csv cannot be read: " in told("http://nowhere.invalid/t.csv")


@pytest.mark.parametrize("name", MOVED)
def test_the_signature_that_a_redirect_carries_is_not_told(server: str, name: str) -> None:
    answer = told(f"{server}{name}")
    assert f"{server}{name}" in answer
    assert PASSWORD not in answer


@pytest.mark.parametrize("scheme", ["gopher", "abfs"])
def test_a_scheme_that_needs_another_package_is_told(scheme: str) -> None:
    assert f"{scheme}://bucket/t.csv: " in (answer := told(f"{scheme}://bucket/t.csv"))
    assert "try: http://, https:// or s3://; others when `uv add` has added their package" in answer


# databases


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite database that `$DATABASE_URL` names."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x REAL, y TEXT, mixed, note TEXT)")
        connection.executemany("INSERT INTO t VALUES (:x, :y, 'a', NULL)", ROWS)
        connection.execute(
            "CREATE VIEW n AS "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000) SELECT i FROM n"
        )
        connection.execute("UPDATE t SET mixed = 1 WHERE x > 10")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
    return path


def test_a_table_is_read_from_sqlite(database: Path) -> None:
    table, origin = read({"sql": "SELECT x, y FROM t ORDER BY x"})
    assert table.equals(TABLE)
    assert origin.typed
    assert origin.place(3) == "row 4 of the query"


def test_percent_signs_and_colons_of_a_query_are_taken_as_they_are(database: Path) -> None:
    assert read({"sql": "SELECT x, y FROM t WHERE y LIKE '%a%' AND y <> ':b' ORDER BY x"})[0].num_rows == 10


def test_more_rows_than_one_batch_become_one_table(database: Path) -> None:
    """Of a column whose first batch holds only nulls, too."""
    table, _ = read({"sql": "SELECT i, CASE WHEN i > 60000 THEN i / 2.0 END AS y FROM n ORDER BY i"})
    assert table["i"].num_chunks == 3
    assert table["i"].to_pylist() == list(range(1, 120_001))
    assert table["y"].null_count == 60_000


def test_columns_to_be_dropped_are_not_kept(database: Path) -> None:
    table, origin = read({"sql": "SELECT * FROM t ORDER BY x"}, drop=["mixed"], private={"note": "drop"})
    assert table.column_names == ["x", "y"]
    assert origin.columns == ["x", "y", "mixed", "note"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT z FROM t ORDER BY 1", "the query failed: no such column: z\n  try: check the query and $DATABASE_URL"),
        ("SELEC x FROM t ORDER BY 1", 'the query failed: near "SELEC": syntax error'),
        ("SELECT x FROM t WHERE x > 99 ORDER BY 1", "the query returned no rows\n  try: check its WHERE clause"),
        ("SELECT x FROM t", "data.source.sql has no ORDER BY, so its rows have no fixed order\n  try: add ORDER BY"),
        (
            "SELECT x, x FROM t ORDER BY 1",
            "the query gives the column 'x' more than once\n  try: name one differently, with AS",
        ),
        ("SELECT mixed, y FROM t ORDER BY x", "the query's column 'mixed' has no single type: "),
        ("CREATE TABLE u (a) -- ORDER BY", "the query failed: "),
    ],
)
def test_a_query_that_gives_no_table_is_told(database: Path, sql: str, message: str) -> None:
    assert message in told({"sql": sql})


def test_types_that_differ_from_batch_to_batch_are_told(database: Path) -> None:
    answer = told({"sql": "SELECT i, CASE WHEN i > 50000 THEN 'oops' ELSE i END AS y FROM n ORDER BY i"})
    assert answer == (
        "the query: Unable to merge: Field y has incompatible types: int64 vs string\n"
        "  try: CAST that column in the query"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            None,
            "params.yaml: data.source reads a database, but $SHOP is not set\n  try: export SHOP=postgresql+psycopg://",
        ),
        (f"my {PASSWORD}", "$SHOP is not the URL of a database that SQLAlchemy knows\n  try: export SHOP="),
        (f"nosuch://ada:{PASSWORD}@host/db", "$SHOP is not the URL of a database that SQLAlchemy knows"),
        (
            f"postgresql+psycopg://ada:{PASSWORD}@host:port/db",
            "$SHOP is not the URL of a database that SQLAlchemy knows",
        ),
        (f"mysql+pymysql://ada:{PASSWORD}@host/db", "$SHOP needs the package pymysql\n  try: uv add pymysql"),
        ("sqlite:///nowhere.db", "$SHOP names a SQLite file that does not exist: nowhere.db\n  try: check the path"),
        ("sqlite://", "$SHOP names a SQLite file that does not exist"),
    ],
)
def test_a_database_that_cannot_be_named_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str | None, message: str
) -> None:
    monkeypatch.delenv("SHOP", raising=False) if url is None else monkeypatch.setenv("SHOP", url)
    answer = told({"sql": "SELECT 1 ORDER BY 1", "url_env": "SHOP"})
    assert answer.startswith(message)
    assert PASSWORD not in answer


def test_a_database_that_is_down_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:{port}/shop")
    answer = told({"sql": "SELECT 1 ORDER BY 1"})
    assert answer.startswith("params.yaml: data.source: the query failed: connection failed: ")
    assert "Connection refused" in answer
    assert PASSWORD not in answer


def test_a_password_that_is_not_quoted_is_told_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows its @ would be taken for the host, and told as such."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://ada:p@{PASSWORD}@127.0.0.1:1/shop")
    answer = told({"sql": "SELECT 1 ORDER BY 1"})
    assert answer.startswith("$DATABASE_URL holds a password with @\n  try: write it as %40")
    assert PASSWORD not in answer


def test_a_secret_among_the_options_of_a_url_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://ada@127.0.0.1:1/shop?sslmode={PASSWORD}")
    assert 'invalid sslmode value: "***"' in told({"sql": "SELECT 1 ORDER BY 1"})


def test_the_catalogue_names_a_database_by_its_variable_only(database: Path) -> None:
    data = Data(source={"sql": "SELECT *\n  FROM t ORDER BY x"}, task="classification", target="y")
    assert sources.describe(data) == "SQL at $DATABASE_URL: SELECT * FROM t ORDER BY x"
