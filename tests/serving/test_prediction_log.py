"""The prediction log on a real service: each row is a line, and nothing that happens to the folder fails a request."""

from __future__ import annotations

import asyncio
import ctypes
import gzip
import hmac
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client as prometheus
import psutil
import pytest
from conftest import Project, copied
from serving.served import Served, eventually, identify, serving

from mlops.core.logoptions import LogOptions
from mlops.serving import prediction_log
from mlops.serving.log_writer import Entry, Lines
from mlops.serving.prediction_log import PredictionLog
from mlops.serving.segments import Sealer

KEY = "a key of more than sixteen characters"
ABORT_AND_DETACH = 3  # MNT_FORCE and MNT_DETACH
Line = dict[str, Any]


def read(folder: Path) -> list[Line]:
    """All lines, of sealed files and of those in use."""
    found = []
    for path in sorted(folder.glob("*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found += [json.loads(line) for line in content.splitlines()]
    return found


@pytest.fixture
def logging(released: Project, tmp_path: Path) -> Iterator[Served]:
    with serving(released, tmp_path / "home", PREDICTION_LOG=str(tmp_path / "log")) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_each_row_is_a_line_with_what_was_asked_and_answered(logging: Served, folder: Path) -> None:
    other = logging.example | {"mean radius": 20.5}
    answer = logging.predict(logging.example, other, **{"X-Request-ID": "order-7"}).json()
    # on several lines, as people write JSON
    logging.send(json.dumps({"rows": [other]}, indent=2), **{"X-Request-ID": "order-8"})
    eventually(lambda: len(read(folder)) == 3)
    lines = read(folder)
    assert [(line["request_id"], line["row"]) for line in lines] == [("order-7", 0), ("order-7", 1), ("order-8", 0)]
    assert [line["features"] for line in lines] == [logging.example, other, other]
    answers = [{key: line[key] for key in ("prediction", "probabilities")} for line in lines]
    assert answers == [*answer["predictions"], answer["predictions"][1]]
    first = lines[0]
    assert (first["version"], first["model"]) == (answer["version"], logging.release["model_md5"])
    assert first["computed"].keys() == {"irregularity"}
    assert first["time"].endswith("Z")
    assert len({path.name for path in folder.iterdir()}) == 1
    assert logging.count("prediction_log_rows_total") == 3


def test_a_stop_writes_all_that_waits_and_seals_the_file(released: Project, tmp_path: Path, folder: Path) -> None:
    with serving(released, tmp_path / "home", PREDICTION_LOG=str(folder)) as served:
        for _ in range(50):
            served.predict(served.example)
    assert [path.suffixes for path in folder.iterdir()] == [[".jsonl", ".gz"]]
    assert len(read(folder)) == 50


def test_several_workers_lose_no_row(released: Project, tmp_path: Path, folder: Path) -> None:
    with serving(released, tmp_path / "home", PREDICTION_LOG=str(folder), SERVICE_WORKERS="2") as served:
        for _ in range(40):
            served.client.post("/predict", json={"rows": [served.example]}, headers={"Connection": "close"})
    assert all(path.suffix == ".gz" for path in folder.iterdir())
    assert len(read(folder)) == 40


def test_a_service_that_was_killed_loses_at_most_the_last_moment(
    released: Project, tmp_path: Path, folder: Path
) -> None:
    with (
        suppress(AssertionError),  # it does not end in order
        serving(released, tmp_path / "home", PREDICTION_LOG=str(folder)) as served,
    ):
        served.predict(served.example)
        eventually(lambda: served.count("prediction_log_rows_total") == 1)
        for _ in range(19):
            served.predict(served.example)
        time.sleep(10 * prediction_log.FLUSH_SECONDS)
        served.process.kill()
        served.process.wait()
    eventually(lambda: [path.suffixes for path in folder.iterdir()] == [[".jsonl", ".gz"]])
    assert len(read(folder)) == 20


def test_a_machine_that_stops_loses_at_most_the_last_second_and_the_next_service_seals_the_file(
    released: Project, tmp_path: Path, folder: Path
) -> None:
    with (
        suppress(AssertionError),
        serving(released, tmp_path / "home", PREDICTION_LOG=str(folder)) as served,
    ):
        for _ in range(20):
            served.predict(served.example)
        time.sleep(1)
        for process in (*psutil.Process(served.process.pid).children(), served.process):
            process.kill()
        served.process.wait()
    assert [path.suffix for path in folder.iterdir()] == [".jsonl"]
    assert len(read(folder)) == 20
    (left,) = folder.iterdir()
    os.utime(left, (time.time() - 60, time.time() - 60))
    with serving(released, tmp_path / "home", PREDICTION_LOG=str(folder)) as served:
        served.predict(served.example)
        eventually(lambda: not left.exists())
        assert left.with_suffix(".jsonl.gz").exists()
    assert len(read(folder)) == 21


def test_a_folder_that_cannot_be_is_counted_and_fails_no_request(released: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with serving(released, tmp_path / "home", PREDICTION_LOG=str(tmp_path / "file/log")) as served:
        assert served.works()
        assert served.works()
        eventually(lambda: served.count("prediction_log_dropped_rows_total", reason="write") == 2)
        assert served.log.read_text().count("the prediction log cannot be written: NotADirectoryError") == 1


def test_a_full_disk_is_counted_leaves_whole_lines_and_is_survived(logging: Served, folder: Path) -> None:
    logging.predict(logging.example)
    eventually(lambda: len(read(folder)) == 1)
    (process,) = psutil.Process(logging.process.pid).children()
    (size,) = (path.stat().st_size for path in folder.iterdir())
    process.rlimit(psutil.RLIMIT_FSIZE, (int(1.5 * size), psutil.RLIM_INFINITY))  # type: ignore[attr-defined]
    assert logging.predict(logging.example, logging.example, logging.example).status_code == 200
    eventually(lambda: logging.count("prediction_log_dropped_rows_total", reason="write") == 3)
    assert len(read(folder)) == 1, "no line is cut"
    process.rlimit(psutil.RLIMIT_FSIZE, (size // 2, psutil.RLIM_INFINITY))  # type: ignore[attr-defined]
    for count in range(4, 7):
        logging.predict(logging.example)
        eventually(lambda count=count: logging.count("prediction_log_dropped_rows_total", reason="write") == count)
    assert len(list(folder.iterdir())) == 1, "no empty file is left by each try"
    process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))  # type: ignore[attr-defined]
    logging.predict(logging.example)
    eventually(lambda: len(read(folder)) == 2)


def test_a_folder_that_is_deleted_is_made_again(logging: Served, folder: Path) -> None:
    logging.predict(logging.example)
    eventually(lambda: len(read(folder)) == 1)
    shutil.rmtree(folder)
    logging.predict(logging.example)
    eventually(lambda: len(read(folder)) == 1)
    assert logging.count("prediction_log_dropped_rows_total") == 0


def test_a_writer_that_hangs_slows_no_request_and_loses_none(logging: Served, folder: Path) -> None:
    (process,) = psutil.Process(logging.process.pid).children()
    process.suspend()
    for _ in range(3):
        assert logging.predict(*[logging.example] * 1_000).status_code == 200  # 3 MB: more than the pipe holds
    start = time.perf_counter()
    assert logging.works()
    assert time.perf_counter() - start < 1
    process.resume()
    eventually(lambda: logging.count("prediction_log_rows_total") == 3_001)
    assert len(read(folder)) == 3_001


@contextmanager
def dead_mount(folder: Path) -> Iterator[Callable[[], None]]:
    """A file system that never answers, as that of a server that is gone; yields what ends it."""
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        if libc.mount(b"dead", str(folder).encode(), b"fuse", 0, options):
            pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
        yield lambda: libc.umount2(str(folder).encode(), ABORT_AND_DETACH)
    finally:
        libc.umount2(str(folder).encode(), ABORT_AND_DETACH)
        os.close(device)


def test_a_folder_on_a_dead_mount_slows_no_request_is_counted_and_does_not_hold_the_stop(
    released: Project, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    with dead_mount(mount) as unmount:
        with serving(released, tmp_path / "home", PREDICTION_LOG=str(mount / "log")) as served:
            (process,) = psutil.Process(served.process.pid).children()
            large = json.dumps({"rows": [served.example] * 1_000}, indent=8)  # spaces fill the queue sooner
            sent = 0
            while not served.count("prediction_log_dropped_rows_total", reason="queue"):
                assert served.send(large).status_code == 200
                sent += 1_000
                assert sent < 300_000
            assert process.status() == psutil.STATUS_DISK_SLEEP
            start = time.perf_counter()
            assert served.works()
            assert time.perf_counter() - start < 1
            stop = time.perf_counter()
        assert time.perf_counter() - stop < 30
        assert "the prediction log could not be closed within 8 seconds" in served.log.read_text()

        with serving(released, tmp_path / "again", PREDICTION_LOG=str(mount / "log")) as served:
            assert served.works()
            unmount()  # what waits fails, or is written into the folder below
            eventually(lambda: served.works() and served.count("prediction_log_rows_total") > 0)
    assert read(mount / "log")


def test_a_writer_that_was_killed_starts_again_and_what_it_took_with_it_is_counted(
    logging: Served, folder: Path
) -> None:
    logging.predict(logging.example)
    eventually(lambda: logging.count("prediction_log_rows_total") == 1)
    (process,) = psutil.Process(logging.process.pid).children()
    process.suspend()
    logging.predict(*[logging.example] * 3)
    logging.predict(*[logging.example] * 3_000)  # does not fit into the pipe
    logging.predict(logging.example)  # waits behind
    process.kill()
    eventually(lambda: logging.count("prediction_log_dropped_rows_total", reason="write") == 3_003)
    logging.predict(logging.example, logging.example)
    eventually(lambda: logging.count("prediction_log_rows_total") == 4)
    assert "the process of the prediction log ended with -9; it starts again" in logging.log.read_text()
    assert len(read(folder)) == 4


def test_what_params_yaml_leaves_out_or_hides_is_not_in_the_log(done: Project, tmp_path: Path, folder: Path) -> None:
    project = copied(done, tmp_path / "project")

    def edit(params: Any) -> None:
        params["monitor"] = {"log": {"leave_out": ["mean radius", "irregularity"], "pseudonymise": ["mean texture"]}}

    project.edit_params(edit)
    identify(project)
    with serving(project, tmp_path / "home", PREDICTION_LOG=str(folder), PSEUDONYM_KEY=KEY) as served:
        example = served.example
        served.predict(example)
    (line,) = read(folder)
    assert line["features"].keys() == example.keys() - {"mean radius"}
    hidden = hmac.digest(KEY.encode(), str(example["mean texture"]).encode(), "sha256").hex()[:32]
    assert line["features"]["mean texture"] == hidden
    assert "computed" not in line or line["computed"] == {}


# without a service


def entry(number: int = 0, **computed: list[Any]) -> Entry:
    body = json.dumps({"rows": [{"x": number, "town": 'a "b"\n'}]}).encode()
    answer = json.dumps({"predictions": [{"prediction": 1.5}], "version": "1", "model": "m"}).encode()
    return Entry(1e9 + number, f"id-{number}", 1, body, answer, computed)


def log(folder: Path, *counts: int, **options: Any) -> PredictionLog:
    """Log this many requests at a time, and close the log."""

    async def run() -> PredictionLog:
        opened = PredictionLog(folder, LogOptions(**options), "1", "m", prometheus.CollectorRegistry())
        opened.start()
        number = 0
        for count in counts:
            for _ in range(count):
                each = entry(number)
                opened.put(each.request_id, each.body, each.answer, each.rows, {"ratio": np.array([0.5])})
                number += 1
            await asyncio.sleep(0.1)
        await opened.close()
        return opened

    return asyncio.run(run())


def test_a_line_holds_computed_features_and_missing_values() -> None:
    lines = Lines(LogOptions(sample=0.5), "1.0%s", "m", b"")
    (line,) = map(json.loads, lines(entry(3, ratio=[float("nan")])))
    assert line == {
        "time": "2001-09-09T01:46:43.000000Z",
        "request_id": "id-3",
        "row": 0,
        "version": "1.0%s",
        "model": "m",
        "sample": 0.5,
        "features": {"x": 3, "town": 'a "b"\n'},
        "computed": {"ratio": None},
        "prediction": 1.5,
    }


def test_files_are_sealed_by_size_and_the_oldest_are_deleted(folder: Path) -> None:
    log(folder, *[200] * 10, segment_mb=0.02, keep_gb=5e-6)
    sealed = sorted(folder.iterdir())
    assert {path.suffix for path in sealed} == {".gz"}
    assert sum(path.stat().st_size for path in sealed) <= 5_000
    found = {line["request_id"] for line in read(folder)}
    assert "id-1999" in found
    assert "id-0" not in found


def test_a_file_that_was_left_just_before_the_start_is_sealed_with_the_next_one(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    left = folder / "20010909T014640Z-000000000000.jsonl"
    left.write_bytes(b"".join(Lines(LogOptions(), "1", "m", b"")(entry(9_999))))
    sealer = Sealer(folder, LogOptions())
    time.sleep(0.5)
    assert left.exists(), "another process may be about to lock it"
    os.utime(left, (time.time() - 60, time.time() - 60))
    sealer.put(folder / "20010909T014641Z-000000000001.jsonl")
    sealer.close(10)
    assert [path.suffixes for path in folder.iterdir()] == [[".jsonl", ".gz"]]
    assert [line["request_id"] for line in read(folder)] == ["id-9999"]


def test_no_row_is_lost_or_doubled_where_files_are_sealed(folder: Path) -> None:
    log(folder, *[400] * 6, segment_mb=0.005)
    assert len(list(folder.iterdir())) > 1
    assert sorted(line["request_id"] for line in read(folder)) == sorted(f"id-{number}" for number in range(2_400))


def test_what_waits_is_limited_and_the_rest_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "MOST_WAITING", 100 * 200)
    done = log(folder, 1_000)
    dropped = done.dropped["queue"]._value.get()
    assert 700 <= dropped <= 950
    assert len(read(folder)) == 1_000 - dropped


def test_a_share_of_the_requests_is_logged_where_asked(folder: Path) -> None:
    log(folder, 2_000, sample=0.25)
    assert 400 < len(read(folder)) < 600


def test_a_process_that_cannot_start_fails_no_request_and_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prediction_log, "AGAIN_SECONDS", 0.1)

    async def run() -> PredictionLog:
        opened = PredictionLog(folder, LogOptions(), "1", "m", prometheus.CollectorRegistry())
        works, opened.command = opened.command, ("/nowhere/python",)
        opened.start()
        each = entry()
        opened.put(each.request_id, each.body, each.answer, each.rows, {})
        await asyncio.sleep(0.3)
        opened.command = works
        await asyncio.sleep(0.3)
        await opened.close()
        return opened

    assert asyncio.run(run()).written._value.get() == 1
    assert "the prediction log cannot start its process" in caplog.text
