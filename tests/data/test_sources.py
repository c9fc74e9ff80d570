"""Tables from files, servers and databases, whole and out of reach."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import re
import socket
import sqlite3
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project

from mlops.core.errors import UserError
from mlops.core.settings import Data
from mlops.data import addresses, sources

ROWS = [{"x": number + 0.5, "y": "ab"[number % 2]} for number in range(20)]
TABLE = pa.Table.from_pylist(ROWS)
CSV = "x,y\n" + "".join(f"{row['x']},{row['y']}\n" for row in ROWS)
PASSWORD = "hunter2hunter2"
BASIC = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `data/raw` where the test runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(addresses.ALLOW, "yes")  # the servers below are on this machine
    sources.RAW.mkdir(parents=True)
    return sources.RAW


def read(source: object, **data: object) -> tuple[pa.Table, sources.Origin]:
    return sources.read(Data.model_validate({"source": source, "task": "classification", "target": "y", **data}))


def output(source: object, **data: object) -> str:
    """The error for a source that cannot be read."""
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


def test_an_unknown_bundled_table_is_reported_with_the_closest() -> None:
    assert output("sklearn:brest_cancer").endswith("no bundled table 'brest_cancer'; did you mean 'breast_cancer'?")
    assert output("sklearn:titanic").endswith("known: breast_cancer, diabetes, digits, iris, wine")


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


def test_files_that_do_not_fit_together_are_reported(raw: Path) -> None:
    (raw / "a.csv").write_text("x,y\n1,a\n")
    (raw / "b.csv").write_text("x,z\n1,a\n")
    assert output("data/raw/*.csv") == (
        "data/raw/b.csv and data/raw/a.csv have different columns: ['y', 'z']\n  try: use the same columns in both"
    )
    (raw / "b.csv").write_text("x,y\noops,a\n")
    message = output("data/raw/*.csv")
    assert message.startswith("data/raw/b.csv does not fit data/raw/a.csv: Field x has incompatible types: ")
    assert message.endswith("try: declare the column's type in data.types, or correct the file")


def test_a_missing_file_is_reported_with_the_closest_there_is(raw: Path) -> None:
    (raw / "houses.csv").write_text(CSV)
    (raw / "README.md").write_text("what lies here")
    expected = "there is no file data/raw/huoses.csv; did you mean 'data/raw/houses.csv'?"
    assert output("data/raw/huoses.csv") == f"params.yaml: data.source: {expected}"
    assert output("data/raw/*.parquet").endswith("known: data/raw/houses.csv")


@pytest.mark.parametrize("source", ["/etc/passwd", "houses.csv", "data/raw/../houses.csv", "data/prepared/*.parquet"])
def test_a_file_that_dvc_would_not_see_change_is_refused(source: str) -> None:
    assert "is outside data/raw, where DVC does not detect changes\n  try: copy it to data/raw/" in output(source)


def test_a_link_to_a_file_is_followed_and_one_to_a_folder_refused(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/t.csv").write_text(CSV)
    (raw / "t.csv").symlink_to(tmp_path / "elsewhere/t.csv")
    assert read("data/raw/t.csv")[0].equals(TABLE)
    (raw / "folder").symlink_to(tmp_path / "elsewhere")
    assert "is outside data/raw" in output("data/raw/folder/t.csv")


def test_a_local_file_in_the_clothes_of_a_url_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    assert f"file://{tmp_path}/t.csv is a local file" in output(f"file://{tmp_path}/t.csv")


# servers


def archive(kind: str) -> bytes:
    """An archive that holds `t.csv`."""
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("t.csv", CSV)
    else:
        with tarfile.open(fileobj=file, mode="w") as packed:
            entry = tarfile.TarInfo("t.csv")
            entry.size = len(CSV)
            packed.addfile(entry, io.BytesIO(CSV.encode()))
    return file.getvalue()


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
            "/t.zip": (200, archive("zip")),
            "/t.tar": (200, archive("tar")),
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


class Web(NamedTuple):
    """A server at every address of this machine, which is also a proxy, and what it was asked for."""

    port: int
    asked: list[tuple[str, str]]


@pytest.fixture
def everywhere() -> Iterator[Web]:
    """A server that has the table under any name, and redirects to what follows `/to.csv?`."""
    asked: list[tuple[str, str]] = []

    class Open(Handler):
        def do_GET(self) -> None:
            asked.append((self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", ""), self.path))
            where = re.search(r"/(to|twice)\.csv\?(.*)", self.path)
            body = archive("zip") if self.path.endswith(".zip") else CSV.encode()
            self.send_response(302 if where else 200)
            if where:
                self.send_header("Location", where[2] if where[1] == "to" else f"/to.csv?{where[2]}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_CONNECT = do_GET  # noqa: N815

    with ThreadingHTTPServer(("", 0), Open) as running:
        threading.Thread(target=running.serve_forever).start()
        yield Web(running.server_port, asked)
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
    assert f"{server}/private.csv: access denied: status 401" in output(f"{server}/private.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "page.csv",
            "is an HTML or XML page\n  try: use the address of the file itself, not of a page that links to it",
        ),
        ("gone.csv", ": there is no such file\n  try: check data.source in params.yaml"),
        ("empty.csv", " is empty"),
        ("private.csv", ": access denied: status 401\n  try: set them in the environment"),
        ("broken.csv", " cannot be read: status 500\n  try: check the address and the network, then `make`"),
        ("cut.csv", " cannot be read: ClientPayloadError"),
        ("data", ": the name has no known extension\n  try: use the extension .csv"),
    ],
)
def test_what_a_server_gives_instead_of_a_table_is_reported(server: str, name: str, message: str) -> None:
    answer = output(f"{server}/{name}")
    assert answer.startswith(f"{server}/{name}")
    assert message in answer


def test_a_server_that_is_silent_is_left_after_the_timeout(server: str) -> None:
    start = time.monotonic()
    answer = output(f"{server}/silent.csv", timeout=0.3)
    assert answer == (
        f"{server}/silent.csv: no response within 0.3 s\n"
        "  try: try again later, or increase data.timeout in params.yaml"
    )
    assert time.monotonic() - start < 25, "the server's silence, not the timeout, ended the wait"


def test_a_bucket_that_is_silent_is_left_after_a_few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        silent.setblocking(False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        answer = output("s3://bucket/t.csv", timeout=0.2)
        attempts = 0
        with contextlib.suppress(BlockingIOError):
            while connection := silent.accept()[0]:
                connection.close()
                attempts += 1
    assert answer.startswith("s3://bucket/t.csv: no response within 0.2 s\n  try: try again later")
    assert 1 <= attempts <= 5


def test_a_server_that_is_down_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/t.csv"
    answer = output(url)
    assert answer.startswith(f"{url} cannot be read: ClientConnectorError")
    assert answer.endswith("try: check the address and the network, then `make`")


def test_a_name_that_no_server_has_is_reported() -> None:
    assert "http://nowhere.invalid/t.csv cannot be read: " in output("http://nowhere.invalid/t.csv")


@pytest.mark.parametrize("name", MOVED)
def test_the_signature_that_a_redirect_carries_is_not_reported(server: str, name: str) -> None:
    answer = output(f"{server}{name}")
    assert f"{server}{name}" in answer
    assert PASSWORD not in answer


@pytest.mark.parametrize("scheme", ["abfs", "gs"])
def test_a_scheme_that_needs_another_package_is_reported(scheme: str) -> None:
    assert f"{scheme}://bucket/t.csv: " in (answer := output(f"{scheme}://bucket/t.csv"))
    assert "try: use http://, https:// or s3://, or add the package of another protocol with `uv add`" in answer


# where a URL may lead


@pytest.mark.parametrize(
    "chain",
    [
        *("simplecache::", "filecache::", "blockcache::", "cached::", "simplecache::filecache::"),
        *("zip://t.csv::simplecache::", "tar://t.csv::filecache::"),
    ],
)
def test_caches_and_archives_may_stand_before_a_web_server(
    server: str, chain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = "t.csv" if "t.csv" not in chain else f"t.{chain[:3]}"
    assert read(f"{chain}{server}/{name}")[0].equals(TABLE)


LOCAL = [
    *("file://{path}", "local://{path}", "simplecache::file://{path}", "filecache::file://{path}"),
    *("blockcache::file://{path}", "cached::local://{path}", "simplecache::filecache::blockcache::file://{path}"),
    *("simplecache::{path}", "simplecache://{path}", "simplecache://::{path}", "filecache::x://{path}", "x://{path}"),
    *("zip://t.csv::file://{path}.zip", "zip://t.csv::{path}.zip", "zip://t.csv::simplecache::file://{path}.zip"),
    *("tar://t.csv::file://{path}.tar", "libarchive://t.csv::file://{path}.zip", "dir://{path}::file:///"),
    *("dir::file://{path}", "reference://t.csv::file://{path}.json", "reference://::{path}.json"),
    *("generic://{path}", "async_wrapper::file://{path}", "memory://t.csv", "simplecache::memory://t.csv"),
    *("data:text/csv,x://a", "simplecache::data:text/csv;x://a", "SIMPLECACHE::FILE://{path}", "FILE://{path}"),
    *(
        "git://{path}",
        "zip://t.csv::git://{path}",
        "github://data@main/t.csv",
        "gist://1/t.csv",
        "gopher://h/t.csv",
    ),
    *("jupyter://h/t.csv", "dask::file://{path}", "dvc://{path}", "libarchive://t.csv::{web}/t.zip"),
    *("file::{web}/t.csv", "file://{path}::{web}/t.csv", "{web}/t.csv::file://{path}", "https::file://{path}"),
]


@pytest.mark.parametrize("source", LOCAL)
def test_a_url_whose_bytes_come_from_this_machine_is_refused(source: str, server: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(CSV)
    Path(f"{path}.zip").write_bytes(archive("zip"))
    Path(f"{path}.tar").write_bytes(archive("tar"))
    Path(f"{path}.json").write_text(json.dumps({"t.csv": CSV}))
    answer = output(source.format(path=path, web=server))
    assert answer.startswith("params.yaml: data.source: ")
    assert "try: " in answer


def test_what_is_allowed_is_what_fsspec_understands() -> None:
    """fsspec takes a URL apart by itself; where it sees another protocol than was checked, a file may be read."""
    known = sorted({*fsspec.available_protocols(), *addresses.LAYERS} - {"arrow_hdfs"})
    for end in ("https://h/t.csv", "s3://b/t.csv", "file:///t.csv", "x:///t.csv", "/t.csv", "t.csv", "http", "data:x"):
        for layer in [None, *known, "x", "X://", "a b", "", "/etc/passwd", "zip://a://b", "zip://t@x"]:
            url = end if layer is None else f"{layer}::{end}"
            try:
                checked = addresses.check_protocols(url)
            except UserError:
                continue
            with contextlib.suppress(ImportError):
                assert [part[1] for part in fsspec.core._un_chain(url, {})] == checked


def test_a_password_behind_a_cache_is_refused_and_not_shown() -> None:
    answer = output(f"simplecache::https://ada:{PASSWORD}@h/t.csv")
    assert "which belong in the environment" in answer
    assert PASSWORD not in answer


@pytest.mark.parametrize("end", ["ftp", "sftp", "ssh", "smb", "hdfs", "webhdfs"])
def test_a_server_that_a_library_connects_to_by_itself_needs_the_variable(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(addresses.ALLOW)
    assert f"{end}:// may reach a private network" in output(f"simplecache::{end}://127.0.0.1/t.csv")
    monkeypatch.setenv(addresses.ALLOW, "yes")
    assert addresses.check_protocols(f"simplecache::{end}://127.0.0.1/t.csv") == ["simplecache", end]


PRIVATE = {
    "loopback": "127.0.0.1",
    "loopback, another": "127.8.8.8",
    "unspecified": "0.0.0.0",  # noqa: S104
    "metadata of a cloud": "169.254.169.254",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Oracle": "192.0.0.192",
    "host of Azure": "168.63.129.16",
    "RFC 1918, 10": "10.0.0.1",
    "RFC 1918, 172": "172.31.255.255",
    "RFC 1918, 192": "192.168.1.1",
    "broadcast": "255.255.255.255",
    "multicast": "224.0.0.1",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "link-local": "fe80::1%eth0",
    "unique local": "fd00:ec2::254",
    "site local": "fec0::1",
    "mapped": "::ffff:127.0.0.1",
    "mapped metadata": "::ffff:a9fe:a9fe",
    "compatible": "::7f00:1",
    "6to4": "2002:7f00:1::",
    "NAT64": "64:ff9b::a9fe:a9fe",
    "IPv6 multicast": "ff02::1",
}


@pytest.mark.parametrize("address", PRIVATE.values(), ids=list(PRIVATE))
def test_an_address_of_a_private_network_is_not_public(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "172.32.0.1"])
def test_other_addresses_are_public(address: str) -> None:
    assert addresses.is_public(address)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that may not read from its own network, as every machine unless its environment says so."""
    monkeypatch.delenv(addresses.ALLOW)


SPELLINGS = {
    "plain": "127.0.0.1",
    "a name": "localhost",
    "capitals": "LOCALHOST.",
    "decimal": "2130706433",
    "octal": "0177.0.0.1",
    "hexadecimal": "0x7f000001",
    "short": "127.1",
    "circled digits": "①②⑦.0.0.1",
    "full-width": "１２７.0.0.1",
    "another of its network": "127.0.0.2",
    "unspecified": "0.0.0.0",  # noqa: S104
    "mapped": "[0:0:0:0:0:ffff:7f00:1]",
    "percent": "%31%32%37.0.0.1",
}


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("host", SPELLINGS.values(), ids=list(SPELLINGS))
@pytest.mark.parametrize("chain", ["", "simplecache::", "zip://t.csv::"], ids=["bare", "cached", "zipped"])
def test_a_private_address_is_refused_however_it_is_spelt(everywhere: Web, chain: str, host: str) -> None:
    output(f"{chain}http://{host}:{everywhere.port}/t.{'zip' if 'zip' in chain else 'csv'}")
    assert everywhere.asked == []


@pytest.mark.usefixtures("guarded")
def test_a_private_address_is_named_with_the_variable_that_allows_it(server: str) -> None:
    chains = ("", "simplecache::", "blockcache::", "zip://t.csv::", "tar://t.csv::")
    for source in (f"{server}/*.csv", *(f"{chain}{server}/t.csv" for chain in chains)):
        assert output(source) == (
            "params.yaml: data.source: 127.0.0.1 has a private address\n"
            "  try: use a public address, or export ALLOW_PRIVATE_ADDRESSES=yes to allow private networks"
        )


@pytest.mark.parametrize("value", ["", "no", "1", "true", "YES"])
def test_only_yes_allows_private_addresses(server: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.ALLOW, value)
    assert "has a private address" in output(f"{server}/t.csv")


@pytest.mark.usefixtures("guarded")
def test_a_name_that_resolves_to_a_private_address_is_refused(everywhere: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it resolved to before: the address is checked where the connection is made."""
    resolve = socket.getaddrinfo

    def rebound(host: str, *arguments: object, **options: object) -> object:
        return resolve("127.0.0.1" if host == "data.example" else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    assert "data.example has a private address" in output(f"http://data.example:{everywhere.port}/t.csv")
    assert everywhere.asked == []


@pytest.mark.usefixtures("guarded")
def test_a_redirect_to_a_private_address_is_not_followed(everywhere: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    there = f"http://127.0.0.2:{everywhere.port}/t.csv"
    for source in (
        f"http://127.0.0.1:{everywhere.port}/to.csv?{there}",
        f"http://127.0.0.1:{everywhere.port}/twice.csv?{there}",
    ):
        assert "127.0.0.2 has a private address" in output(source)
    assert [asked for asked in everywhere.asked if "127.0.0.2" in asked[0]] == []
    monkeypatch.setenv(addresses.ALLOW, "yes")
    assert read(f"http://127.0.0.1:{everywhere.port}/to.csv?{there}")[0].equals(TABLE)


@pytest.mark.usefixtures("guarded")
class TestThroughAProxy:
    """The proxy stands in the environment and may be private; where it is to connect may not."""

    @pytest.fixture(autouse=True)
    def proxy(self, everywhere: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{everywhere.port}")
        monkeypatch.setenv("no_proxy", "direct.example")

    def test_a_name_that_only_the_proxy_resolves_is_read(self, everywhere: Web) -> None:
        assert read("http://data.invalid/t.csv")[0].equals(TABLE)
        assert everywhere.asked == [("data.invalid", "http://data.invalid/t.csv")]

    @pytest.mark.parametrize("host", SPELLINGS.values(), ids=list(SPELLINGS))
    def test_a_private_address_is_not_asked_for(self, everywhere: Web, host: str) -> None:
        for scheme in ("http", "https"):
            output(f"{scheme}://{host}/t.csv")
        assert everywhere.asked == []

    def test_a_redirect_to_a_private_address_is_not_followed(self, everywhere: Web) -> None:
        answer = output("http://data.invalid/to.csv?http://169.254.169.254/latest/meta-data/")
        assert "169.254.169.254 has a private address" in answer
        assert [host for host, _ in everywhere.asked] == ["data.invalid"]

    def test_an_exception_from_the_proxy_is_checked_by_its_address(
        self, everywhere: Web, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert "127.0.0.1 has a private address" in output(f"http://127.0.0.1:{everywhere.port}/t.csv")
        assert everywhere.asked == []


def test_a_stage_reads_neither_a_file_nor_a_private_address_of_its_machine(
    project: Project, everywhere: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(addresses.ALLOW)
    secret = tmp_path / "secret.csv"
    secret.write_text(f"x,y\n1,{PASSWORD}\n2,b\n" * 10)
    proxy = {"http_proxy": f"http://127.0.0.1:{everywhere.port}"}
    for source, environment in (
        (f"simplecache::file://{secret}", {}),
        (f"http://127.0.0.1:{everywhere.port}/t.csv", {}),
        (f"http://data.invalid/to.csv?http://127.0.0.2:{everywhere.port}/t.csv", proxy),
    ):
        project.edit_params(lambda params, source=source: params["data"].update(source=source, target="y"))
        done = project.stage("ingest", check=False, **environment)
        assert done.returncode == 1
        assert done.stdout.startswith("error: params.yaml: data.source: ")
        for path in filter(Path.is_file, project.folder.rglob("data/prepared/*")):
            assert PASSWORD.encode() not in path.read_bytes()
    assert [host for host, _ in everywhere.asked] == ["data.invalid"]


@pytest.mark.parametrize(
    "bucket",
    [
        "127.0.0.1",
        "evil.example/",
        "x@evil.example",
        "arn:aws:s3:evil.example#:1:accesspoint/a",
        "b?endpoint_url=http://h",
    ],
)
def test_a_url_of_a_bucket_cannot_choose_the_server(
    everywhere: Web, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is the environment's, so it may be private."""
    monkeypatch.delenv(addresses.ALLOW)
    for name, value in {
        "ACCESS_KEY_ID": "ada",
        "SECRET_ACCESS_KEY": PASSWORD,
        "DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{everywhere.port}")
    asked = set()
    resolve = socket.getaddrinfo

    def noted(host: str, *arguments: object, **options: object) -> object:
        asked.add(host)
        return resolve(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    with contextlib.suppress(UserError):
        read(f"s3://{bucket}/t.csv", timeout=1)
    assert {host for host, _ in everywhere.asked} | asked <= {"127.0.0.1"}


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
            "the query returns the column 'x' more than once\n  try: rename one with AS",
        ),
        ("SELECT mixed, y FROM t ORDER BY x", "the query's column 'mixed' has no single type: "),
        ("CREATE TABLE u (a) -- ORDER BY", "the query failed: "),
    ],
)
def test_a_query_that_gives_no_table_is_reported(database: Path, sql: str, message: str) -> None:
    assert message in output({"sql": sql})


def test_types_that_differ_from_batch_to_batch_are_reported(database: Path) -> None:
    answer = output({"sql": "SELECT i, CASE WHEN i > 50000 THEN 'oops' ELSE i END AS y FROM n ORDER BY i"})
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
        ("sqlite:///nowhere.db", "$SHOP names a SQLite file that does not exist\n  try: check the path"),
        (f"sqlite:////etc/{PASSWORD}", "$SHOP names a SQLite file that does not exist"),
        ("AKIA" + PASSWORD, "$SHOP is not the URL of a database that SQLAlchemy knows"),
        (f"https://{PASSWORD}@registry.example/", "$SHOP is not the URL of a database that SQLAlchemy knows"),
        (f"{PASSWORD}://ada@host/db", "$SHOP is not the URL of a database that SQLAlchemy knows"),
        (f"postgresql+{PASSWORD}://ada@host/db", "$SHOP is not the URL of a database that SQLAlchemy knows"),
        (f"sqlite:///{Path(__file__)}?timeout={PASSWORD}", "$SHOP is not the URL of a database that SQLAlchemy knows"),
        ("sqlite://", "$SHOP names a SQLite file that does not exist"),
    ],
)
def test_a_database_that_cannot_be_named_is_reported_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str | None, message: str
) -> None:
    monkeypatch.delenv("SHOP", raising=False) if url is None else monkeypatch.setenv("SHOP", url)
    answer = output({"sql": "SELECT 1 ORDER BY 1", "url_env": "SHOP"})
    assert answer.startswith(message)
    assert PASSWORD not in answer


def test_a_database_that_is_down_is_reported_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:{port}/shop")
    answer = output({"sql": "SELECT 1 ORDER BY 1"})
    assert answer.startswith("params.yaml: data.source: the query failed: connection failed: ")
    assert "Connection refused" in answer
    assert PASSWORD not in answer


def test_a_password_that_is_not_quoted_is_reported_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows its @ would be taken for the host, and printed as such."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://ada:p@{PASSWORD}@127.0.0.1:1/shop")
    answer = output({"sql": "SELECT 1 ORDER BY 1"})
    assert answer.startswith("$DATABASE_URL has a password that contains @\n  try: write it as %40")
    assert PASSWORD not in answer


def test_a_secret_among_the_options_of_a_url_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://ada@127.0.0.1:1/shop?sslmode={PASSWORD}")
    assert 'invalid sslmode value: "***"' in output({"sql": "SELECT 1 ORDER BY 1"})


@pytest.mark.parametrize(
    "part",
    ["{0}:x@127.0.0.1:{1}/shop", "ada:x@{0}.invalid:{1}/shop", "ada:x@127.0.0.1:{1}/{0}"],
    ids=["user", "host", "name"],
)
def test_no_part_of_a_database_s_url_is_reported(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Any variable may be named, and its value may happen to read like such a URL."""
    monkeypatch.setenv("REGISTRY", f"postgresql+psycopg://{part.format(PASSWORD, 1)}")
    answer = output({"sql": "SELECT 1 ORDER BY 1", "url_env": "REGISTRY"})
    assert answer.startswith("params.yaml: data.source: the query failed: ")
    assert answer.endswith("check the query and $REGISTRY")
    assert PASSWORD not in answer


def test_the_catalogue_names_a_database_by_its_variable_only(database: Path) -> None:
    data = Data(source={"sql": "SELECT *\n  FROM t ORDER BY x"}, task="classification", target="y")
    assert sources.describe(data) == "SQL at $DATABASE_URL: SELECT * FROM t ORDER BY x"
