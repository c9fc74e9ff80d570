"""A real S3-compatible server: as the source of the table, and as the remote of data and models."""

from __future__ import annotations

import hashlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from conftest import Project
from ruamel.yaml import YAML
from stores import ACCESS, SECRET, add_user, s3_server

CSV = "x,y\n" + "".join(f"{number}.5,{'ab'[number % 2]}\n" for number in range(20))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture(scope="module")
def store(server: dict[str, str]) -> s3fs.S3FileSystem:
    """The server as a file system, with a bucket for data and one for DVC."""
    system = fsspec.filesystem(
        "s3",
        key=ACCESS,
        secret=SECRET,
        client_kwargs={"endpoint_url": server["AWS_ENDPOINT_URL"], "region_name": server["AWS_DEFAULT_REGION"]},
        use_listings_cache=False,
    )
    for bucket in ("data", "dvc"):
        system.mkdir(bucket)
    return system


def assert_no_credentials(project: Project) -> None:
    """In no file of a project, but for the tests, which hold this file."""
    for path in filter(Path.is_file, project.folder.rglob("*")):
        if path.is_relative_to(project.folder / "tests"):
            continue
        for secret in (ACCESS, SECRET):
            assert secret.encode() not in path.read_bytes(), path


# as a source


def use(project: Project, source: str) -> None:
    def change(params: Any) -> None:
        params["data"] = {"source": source, "task": "classification", "target": "y", "features": [], "timeout": 5}
        params["evaluate"]["slices"] = []

    project.edit_params(change)


def test_a_glob_in_a_bucket_is_the_source_of_the_table(
    project: Project, server: dict[str, str], store: s3fs.S3FileSystem
) -> None:
    head, *lines = CSV.splitlines(keepends=True)
    for number, part in enumerate((lines[:12], lines[12:])):
        store.pipe_file(f"data/2024/part {number}.csv", (head + "".join(part)).encode())
    use(project, "s3://data/2024/*.csv")
    first = project.run("dvc", "repro", "ingest", **server).stdout
    assert "s3://data/2024/*.csv → 20 rows × 2 columns" in first
    table = pq.read_table(project.folder / "data/prepared/table.parquet")
    assert table.to_pydict() == {"x": [n + 0.5 for n in range(20)], "y": ["ab"[n % 2] for n in range(20)]}
    store.pipe_file("data/2024/part 1.csv", (head + "".join(lines[12:]).replace("13.5", "inf")).encode())
    broken = project.run("dvc", "repro", "--force", "ingest", check=False, **server)
    assert broken.returncode != 0
    assert "error: column 'x': row 2 of s3://data/2024/part 1.csv holds an infinite value" in broken.stdout
    assert_no_credentials(project)


def test_a_bucket_that_gives_no_table_is_reported(
    project: Project, server: dict[str, str], store: s3fs.S3FileSystem
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        down = f"http://127.0.0.1:{free.getsockname()[1]}"
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    for source, other, message in (
        ("s3://data/none.csv", {}, "s3://data/none.csv: there is no such file\n  try: check data.source"),
        ("s3://data/none/*.csv", {}, "data.source: nothing matches s3://data/none/*.csv"),
        ("s3://nowhere/t.csv", {}, "s3://nowhere/t.csv: there is no such file"),
        ("s3://data/t.csv", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://data/t.csv: access denied: "),
        ("s3://data/t.csv", nobody, "s3://data/t.csv: access denied: "),
        ("s3://data/t.csv", {"AWS_ENDPOINT_URL": down}, "s3://data/t.csv cannot be read: "),
    ):
        use(project, source)
        done = project.stage("ingest", check=False, **{**server, "HOME": str(project.folder), **other})
        assert done.returncode == 1, done.stdout
        assert f"error: {message}" in done.stdout or f"error: params.yaml: {message}" in done.stdout
        assert "Traceback" not in done.stdout
        assert SECRET not in done.stdout


def test_partitions_in_a_bucket_are_read_one_by_one_and_a_bad_day_names_the_file(
    project: Project, server: dict[str, str], store: s3fs.S3FileSystem
) -> None:
    def part(numbers: range) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"x": [n + 0.5 for n in numbers], "y": ["ab"[n % 2] for n in numbers]}), sink)
        return bytes(sink.getvalue())

    for number in range(3):
        store.pipe_file(f"data/events/{number}.parquet", part(range(10 * number, 10 * number + 10)))
    use(project, "s3://data/events/")
    assert "s3://data/events/ → 30 rows × 2 columns" in project.stage("ingest", **server).stdout
    assert "partitions" in project.stage("split", **server).stdout
    table = project.folder / "data/prepared/table.parquet"
    assert [pq.read_table(path).num_rows for path in sorted(table.glob("*"))] == [10, 10, 10]
    denied = add_user(server, "reader", "not/a/real/secret")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        project.edit_params(lambda params: params["data"].update(timeout=1))
        for other, message in (
            (denied, "s3://data/events/: access denied: "),
            ({**server, **slow}, "s3://data/events/: no response within 1 s"),
        ):
            said = project.stage("ingest", check=False, **other)
            assert said.returncode == 1, said.stdout
            assert f"error: {message}" in said.stdout
            assert "Traceback" not in said.stdout
    store.pipe_file("data/events/1.parquet", part(range(10))[:-40])
    said = project.stage("ingest", check=False, **server)
    assert "error: s3://data/events/1.parquet is not a complete Parquet file" in said.stdout
    assert len(list(table.glob("*"))) == 3, "the last table stays as it was"


# as a remote


def with_remote(project: Project) -> Project:
    """`make remote`, without making `.venv` first: the tests have one."""
    project.run("make", "--assume-old=.venv/.ready", "remote", "URL=s3://dvc/project")
    return project


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, server: dict[str, str], store: s3fs.S3FileSystem) -> Project:
    """A project that has run and has been pushed."""
    folder = tmp_path_factory.mktemp("pushed") / "a project"
    folder.mkdir()
    project = with_remote(Project(folder))
    project.run("dvc", "repro")
    project.commit("run")
    assert "pushed" in project.run("dvc", "push", **server).stdout
    return project


def cloned(pushed: Project, folder: Path) -> Project:
    """A clone with an empty cache."""
    subprocess.run(["git", "clone", "--quiet", pushed.folder, folder / "a clone"], check=True)
    project = object.__new__(Project)
    project.folder = folder / "a clone"
    return with_remote(project)


def outputs(project: Project) -> dict[str, str]:
    """Files that DVC keeps, and the hash that dvc.lock has for each."""
    stages = YAML(typ="safe").load(project.folder / "dvc.lock")["stages"].values()
    tracked = set(project.git("ls-files").splitlines())
    return {
        out["path"]: out["md5"]
        for stage in stages
        for out in stage["outs"]
        if (out["path"] not in tracked and not out["md5"].endswith(".dir"))
    }


def test_what_is_pushed_is_in_sync_and_holds_no_credentials(pushed: Project, server: dict[str, str]) -> None:
    assert "Cache and remote 'storage' are in sync." in pushed.run("dvc", "status", "--cloud", **server).stdout
    assert pushed.git("status", "--porcelain") == ""
    assert_no_credentials(pushed)


def test_a_clone_elsewhere_pulls_the_very_same_files(pushed: Project, server: dict[str, str], tmp_path: Path) -> None:
    clone = cloned(pushed, tmp_path)
    clone.run("dvc", "pull", **server)
    expected = outputs(clone)
    assert "models/model.skops" in expected
    for path, md5 in expected.items():
        assert hashlib.md5((clone.folder / path).read_bytes(), usedforsecurity=False).hexdigest() == md5, path
    assert "Data and pipelines are up to date." in clone.run("dvc", "status").stdout
    assert "Cache and remote 'storage' are in sync." in clone.run("dvc", "status", "--cloud", **server).stdout
    assert "Data and pipelines are up to date." in clone.run("dvc", "repro").stdout
    assert_no_credentials(clone)


def test_a_flipped_byte_in_the_remote_is_not_pulled(
    pushed: Project, server: dict[str, str], store: s3fs.S3FileSystem, tmp_path: Path
) -> None:
    md5 = outputs(pushed)["models/model.skops"]
    key = f"dvc/project/files/md5/{md5[:2]}/{md5[2:]}"
    content = store.cat_file(key)
    store.pipe_file(key, content[:-1] + bytes([content[-1] ^ 1]))
    try:
        clone = cloned(pushed, tmp_path)
        pulled = clone.run("dvc", "pull", check=False, **server)
        assert pulled.returncode != 0, pulled.stdout
        assert not (clone.folder / "models/model.skops").exists()
    finally:
        store.pipe_file(key, content)
    clone.run("dvc", "pull", **server)
    assert (clone.folder / "models/model.skops").read_bytes() == content


def test_a_remote_that_refuses_is_reported(pushed: Project, server: dict[str, str], tmp_path: Path) -> None:
    clone = cloned(pushed, tmp_path)
    refused = clone.run("dvc", "pull", check=False, **{**server, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert refused.returncode != 0
    assert "ERROR" in refused.stdout
    assert SECRET not in refused.stdout
