"""The prediction log in a bucket: written by the service, copied by rclone to a real S3 server, read by the monitor."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs
from conftest import ROOT, Project
from serving.served import PATIENCE, serving
from stores import SECRET, add_user, s3_server

from mlops.inference.contract import Contract
from mlops.monitoring.log import Reading

SHIP = ROOT / "deploy/log/ship.sh"
# what deploy/README.md says that either must be allowed
SHIPPER = {"s3:ListBucket": "logs", "s3:PutObject": "logs/*"}
READER = {"s3:ListBucket": "logs", "s3:GetObject": "logs/*"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3")


@pytest.fixture(scope="module")
def server(s3: Path) -> Iterator[dict[str, str]]:
    with s3_server(s3) as environment:
        yield environment


@pytest.fixture(scope="module")
def bucket(server: dict[str, str]) -> s3fs.S3FileSystem:
    system = store(server)
    system.mkdir("logs")
    return system


@pytest.fixture(scope="module")
def users(server: dict[str, str], bucket: s3fs.S3FileSystem) -> dict[str, dict[str, str]]:
    """The environments of the shipper, which may list and put, and of the monitor, which may list and get."""
    found, statements = {}, []
    for name, allowed in (("shipper", SHIPPER), ("reader", READER)):
        found[name] = add_user(server, name, f"the+secret/of+{name}")
        for action, resource in allowed.items():
            to = {"Principal": {"AWS": [name]}, "Resource": [f"arn:aws:s3:::{resource}"]}
            statements.append({"Effect": "Allow", "Action": [action], **to})
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    bucket.call_s3("put_bucket_policy", Bucket="logs", Policy=policy)
    return found


def store(environment: dict[str, str]) -> s3fs.S3FileSystem:
    return fsspec.filesystem(
        "s3",
        key=environment["AWS_ACCESS_KEY_ID"],
        secret=environment["AWS_SECRET_ACCESS_KEY"],
        client_kwargs={
            "endpoint_url": environment["AWS_ENDPOINT_URL"],
            "region_name": environment["AWS_DEFAULT_REGION"],
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def eventually(true: Callable[[], Any], why: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, why()
        time.sleep(0.1)


class Shipper:
    """ship.sh, as the containers of deploy/ run it."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process, self.output = process, output

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def more_rounds(self, number: int) -> None:
        """Wait until it has looked at the folder again, so often."""
        rounds = self.said.count("There was nothing to transfer")
        eventually(lambda: self.said.count("There was nothing to transfer") >= rounds + number, lambda: self.said)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.said


@contextmanager
def shipping(folder: Path, log: Path, user: dict[str, str], **more: str) -> Iterator[Shipper]:
    """A shipper that looks every second; it may only read the log."""
    path = f"{os.environ['PATH']}{os.pathsep}{Path.home() / 'go/bin'}"
    quick = {"PATH": path, "LOG_FOLDER": str(log), "SHIP_SECONDS": "1", "LOG_BUCKET": "logs/model"}
    output = folder / "shipper.log"
    with output.open("wb") as file:
        process = subprocess.Popen(["/bin/sh", SHIP], env={**quick, **user, **more}, stdout=file, stderr=file)
    try:
        yield Shipper(process, output)
    finally:
        process.kill()
        process.wait()


def contract(project: Project) -> Contract:
    return Contract.model_validate_json(project.read("models/service/schema.json"))


def fetch(project: Project, folder: Path, source: str = "s3://logs/model", **user: str) -> str:
    """`make fetch-log`, with what the tests have installed."""
    make = ("make", "--old-file", ".venv/.ready", "fetch-log", f"FROM={source}", f"LOG={folder}")
    return project.run(*make, check=False, HOME=str(project.folder), AWS_EC2_METADATA_DISABLED="true", **user).stdout


def test_every_logged_row_reaches_the_monitor_once(
    released: Project, bucket: s3fs.S3FileSystem, users: dict[str, dict[str, str]], server: Any, tmp_path: Path
) -> None:
    log, asked = tmp_path / "log", []
    log.mkdir()

    def ask(times: int) -> None:
        """Predict, and seal the log by a stop."""
        with serving(released, tmp_path / f"home {len(asked)}", PREDICTION_LOG=str(log)) as served:
            for _ in range(times):
                asked.append(f"order-{len(asked)}")
                served.predict(served.example, served.example, **{"X-Request-ID": asked[-1]})
            eventually(lambda: served.count("prediction_log_rows_total") == 2 * times, lambda: "not logged")
            # one that is in use is not copied, nor is one that is being compressed
            (log / "20260101T000000Z-000000000000.01234567.partial").write_bytes(b"\x1f\x8b")
            shipper.more_rounds(2)
            assert {path.suffix for path in log.iterdir()} >= {".jsonl", ".partial"}
            assert names(bucket) == sealed_before

    with shipping(tmp_path, log, users["shipper"]) as shipper:
        sealed_before: set[str] = set()
        ask(20)
        eventually(lambda: len(names(bucket)) == 1, lambda: shipper.said)
        sealed_before = names(bucket)
        ask(30)
        eventually(lambda: len(names(bucket)) == 2, lambda: shipper.said)
        shipper.more_rounds(2)
        assert shipper.said.count("Copied (new)") == 2
        assert names(bucket) == {path.name for path in log.glob("*.jsonl.gz")}
        # the service deletes old files; the bucket keeps them
        for path in log.glob("*.jsonl.gz"):
            assert bucket.cat_file(f"logs/model/{path.name}") == path.read_bytes()
            path.unlink()
        shipper.more_rounds(1)
        assert len(names(bucket)) == 2
        assert "ERROR" not in shipper.said

    copy = tmp_path / "copy"
    assert fetch(released, copy, **users["reader"]).startswith("2 new files (0.0 MB), 0 were there → ")
    reading = Reading(copy, contract(released), json.loads(released.read("models/release.json"))["model_md5"])
    rows = [(request, row) for part in reading for request, row in zip(part.request_id, part.row, strict=True)]
    assert sorted(rows) == sorted((request, row) for request in asked for row in (0, 1))
    assert (reading.damaged, reading.unreadable.total(), reading.others.total()) == ([], 0, 0)
    (first, second) = sorted(copy.iterdir())
    first.unlink()
    before = second.stat().st_mtime_ns
    assert fetch(released, copy, **users["reader"]).startswith("1 new file (0.0 MB), 1 were there → ")
    assert second.stat().st_mtime_ns == before
    assert len(list(copy.iterdir())) == 2


def names(bucket: s3fs.S3FileSystem, folder: str = "logs/model") -> set[str]:
    return {name.rpartition("/")[2] for name in bucket.find(folder)}


def segment(log: Path, number: int, content: bytes = b"sealed") -> Path:
    log.mkdir(exist_ok=True)
    path = log / f"20260101T000000Z-{number:012x}.jsonl.gz"
    path.write_bytes(content)
    return path


def test_what_is_sealed_last_is_copied_when_the_pod_stops(
    bucket: s3fs.S3FileSystem, users: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    segment(log, 1)
    with shipping(
        tmp_path, log, users["shipper"], SHIP_SECONDS="600", POD="model-1", LOG_BUCKET="logs/pods"
    ) as shipper:
        eventually(lambda: len(names(bucket, "logs/pods/model-1")) == 1, lambda: shipper.said)
        last = segment(log, 2)
        shipper.stop()
    assert last.name in names(bucket, "logs/pods/model-1")


def test_what_is_in_the_bucket_is_never_replaced(
    bucket: s3fs.S3FileSystem, users: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    path = segment(log, 3)
    with shipping(tmp_path, log, users["shipper"], LOG_BUCKET="logs/kept") as shipper:
        eventually(lambda: path.name in names(bucket, "logs/kept"), lambda: shipper.said)
        segment(log, 3, b"another content")
        shipper.more_rounds(2)
    assert bucket.cat_file(f"logs/kept/{path.name}") == b"sealed"


def test_the_shipper_needs_no_right_to_read_or_delete(
    bucket: s3fs.S3FileSystem, users: dict[str, dict[str, str]], s3: Path, tmp_path: Path
) -> None:
    path = segment(tmp_path / "log", 5)
    with shipping(tmp_path, tmp_path / "log", users["shipper"], LOG_BUCKET="logs/least") as shipper:
        eventually(lambda: path.name in names(bucket, "logs/least"), lambda: shipper.said)
    # some servers let who may put also ask for what it has put; Amazon's does not
    asked = re.findall(r"\| (\w+) \| /logs/least/", (s3 / "log").read_text(encoding="utf-8", errors="replace"))
    assert asked == ["PUT"]
    with pytest.raises(PermissionError):
        store(users["shipper"]).cat_file(f"logs/least/{path.name}")
    with pytest.raises(PermissionError):
        store(users["shipper"]).rm_file(f"logs/least/{path.name}")
    with pytest.raises(PermissionError):
        store(users["reader"]).pipe_file("logs/least/other", b"content")


def test_a_bucket_that_fails_is_reported_and_tried_again(
    bucket: s3fs.S3FileSystem, users: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    path = segment(log, 4)
    wrong = {**users["shipper"], "AWS_SECRET_ACCESS_KEY": "wrong"}
    with shipping(tmp_path, log, wrong, LOG_BUCKET="logs/failing") as shipper:
        printed = "error: not all of the prediction log was copied; the next attempt follows"
        eventually(lambda: shipper.said.count(printed) > 1, lambda: shipper.said)
        assert shipper.process.poll() is None
    with shipping(tmp_path, log, users["shipper"], LOG_BUCKET="logs/failing") as shipper:
        eventually(lambda: path.name in names(bucket, "logs/failing"), lambda: shipper.said)


def test_a_shipper_without_a_bucket_says_so(users: dict[str, dict[str, str]], tmp_path: Path) -> None:
    with shipping(tmp_path, tmp_path, users["shipper"], LOG_BUCKET="") as shipper:
        assert shipper.process.wait(PATIENCE) != 0
    assert "LOG_BUCKET: names no bucket/folder" in shipper.said


def test_a_log_that_cannot_be_fetched_is_reported(
    released: Project,
    server: dict[str, str],
    bucket: s3fs.S3FileSystem,
    users: dict[str, dict[str, str]],
    tmp_path: Path,
) -> None:
    bucket.pipe_file("logs/other/notes.txt", b"no log")
    bucket.pipe_file("logs/other/20260101T000000Z-00000000000a.jsonl", b"in use")
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    down = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    for source, other, message in (
        ("s3://logs/other", {}, "s3://logs/other holds no sealed file of a prediction log\n  try: check FROM"),
        ("s3://nowhere/log", {}, "s3://nowhere/log: there is no such bucket or folder"),
        ("logs/model", {}, "FROM=logs/model is not a folder in a bucket\n  try: FROM=s3://bucket/folder"),
        ("file:///etc", {}, "FROM=file:///etc is not a folder in a bucket"),
        ("s3://", {}, "FROM=s3:// is not a folder in a bucket"),
        ("gs://logs", {}, "gs://logs: ImportError: "),
        ("s3://logs/model", nobody, "s3://logs/model: access denied: "),
        ("s3://logs/model", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://logs/model: access denied: "),
        ("s3://logs/model", down, "s3://logs/model cannot be read: "),
    ):
        user = server if "nowhere" in source else users["reader"]
        said = fetch(released, tmp_path / "copy", source, **{**user, **other})
        assert said.startswith(f"error: {message}"), said
        assert "Traceback" not in said
        assert SECRET not in said
    said = fetch(released, Path("/dev/null"), **users["reader"])
    assert said.startswith("error: LOG=/dev/null cannot be made a folder: File exists"), said
    assert list((tmp_path / "copy").iterdir()) == []


def test_only_files_of_a_log_are_fetched_and_into_one_folder(
    released: Project, bucket: s3fs.S3FileSystem, users: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    name = "20260101T000000Z-00000000000b.jsonl.gz"
    for number, key in enumerate((name, f"deep/er/{name[:-10]}c.jsonl.gz", ".bashrc", "out.jsonl.gz", f"{name}.gz")):
        bucket.call_s3("put_object", Bucket="logs", Key=f"hostile/{key}", Body=b"%d" % number)
    fetch(released, tmp_path / "copy", "s3://logs/hostile", **users["reader"])
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {
        "copy",
        f"copy/{name}",
        f"copy/{name[:-10]}c.jsonl.gz",
    }
