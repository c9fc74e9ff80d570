"""A month of production in which everything goes wrong that can: `make monitor` says so, and reads the rest."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Project, copied
from monitoring.logged import line, segment
from monitoring.test_collect import collected, of_day, truth

from mlops.monitoring import collect as collecting
from mlops.monitoring import findings
from mlops.monitoring.findings import Findings

Line = dict[str, Any]
HOSTILE = "<script>alert(1)</script> @ada"


def lines(path: Path) -> list[Line]:
    return [json.loads(each) for each in gzip.decompress(path.read_bytes()).splitlines()]


def write(path: Path, content: list[Line]) -> None:
    path.write_bytes(gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in content)))


@pytest.fixture(scope="module")
def project(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A release with a month of calm production."""
    project = copied(done, tmp_path_factory.mktemp("bad_days"))
    project.run(sys.executable, str(ROOT / "tests/monitoring/production.py"), "build/log", "none")
    labels = {"source": "build/labels.csv", "row": "row", "time": "known_at"}
    project.edit_params(lambda params: params.update(monitor={"labels": labels}))
    return project


def monitored(project: Project, log: Path, until: str = "2026-01-31") -> Findings:
    run = project.run(sys.executable, "-P", "-m", "mlops.monitoring", str(log), "--until", until, check=False)
    assert run.returncode in (0, 3), run.stdout
    return findings.read(project.folder / findings.REPORT)


def test_each_is_counted_and_the_rest_is_read(project: Project, tmp_path: Path) -> None:
    log, labels = tmp_path / "log", project.folder / "build/labels.csv"
    shutil.copytree(project.folder / "build/log", log)
    shutil.copy(log / "labels.csv", labels)
    calm = monitored(project, log)
    assert (calm.rows, calm.labels.rows, calm.alarms, calm.log.misdated_rows) == (1_800, 1_800, [], 0)
    assert calm.log.most_frequent_request == pytest.approx(1 / 1_680, rel=0.01)

    files = sorted(log.glob("*.gz"))
    first = lines(files[0])
    # out of order and doubled: the first day's file has the last name, and a copy has another one
    files[0].rename(log / f"20260131T000000Z-{0:012x}.jsonl.gz")
    shutil.copy(files[1], log / f"20260131T000001Z-{1:012x}.jsonl.gz")
    same = monitored(project, log)
    assert same.model_dump(exclude={"log"}) == calm.model_dump(exclude={"log"})

    # truncated; of another version; of a clock that was an hour, and years, off; and a folder that is none of it
    files[2].write_bytes(files[2].read_bytes()[:-2_000])
    write(
        log / f"20260131T000002Z-{2:012x}.jsonl.gz", [each | {"model": "0" * 32, "version": HOSTILE} for each in first]
    )
    odd = [
        "2026-01-30T23:59:59Z",
        "2026-01-31T00:30:00Z",
        "2026-02-01T00:30:00Z",
        "9999-12-31T00:00:00Z",
        "1970-01-01T00:00:07Z",
    ]
    write(
        log / f"20260131T000003Z-{3:012x}.jsonl.gz",
        [each | {"request_id": f"odd-{n}", "time": odd[n]} for n, each in enumerate(first[:5])],
    )
    (log / "lost+found").mkdir()
    # a column vanished on the last day, and one of the clients sends 90 % of the last rows
    last = lines(files[-1])
    for each in last:
        del each["features"]["mean radius"]
    write(
        files[-1],
        last + [last[0] | {"request_id": HOSTILE, "time": f"2026-01-30T0{n % 9}:00:00Z"} for n in range(15_000)],
    )
    # labels of rows that never were, that contradict, and of a request that came thousands of times
    with labels.open("a", encoding="utf-8", newline="") as file:
        known = "2026-01-30T00:00:00+00:00"
        csv.writer(file).writerows(
            [
                ("never", 0, "benign", known),
                (first[0]["request_id"], 0, "malignant", known),
                (first[0]["request_id"], 0, "benign", known),
                (HOSTILE, last[0]["row"], "benign", known),
            ]
        )
    found = monitored(project, log)
    lost = 1_800 + 2 + 15_000 - found.rows
    assert 0 < lost <= 60, "only of the truncated file"
    assert found.start == "2026-01-01"
    assert (found.log.misdated_rows, found.log.damaged_files) == (3, 1)
    assert list(found.log.other_releases.values()) == [60]
    assert found.labels.rows == 1_800 - lost
    assert (found.labels.of_repeated_requests, found.labels.corrected) == (1, 1)
    assert found.labels.of_rows_that_were_not_logged == 1 + lost
    assert found.log.most_frequent_request > 0.7
    assert found.log.most_frequent_row > 0.7
    week = {each.column: each for each in found.columns if each.days == 7}
    assert week["mean radius"].warns
    assert "missing" in week["mean radius"].change.what  # type: ignore[union-attr]
    page = (project.folder / findings.FOLDER / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "largest share of rows with one request id" in page

    # the next day, the rows of the clock that was ahead count
    assert monitored(project, log, "2026-02-01").log.misdated_rows == 2
    # a log of before the release says so
    run = project.run(sys.executable, "-P", "-m", "mlops.monitoring", str(log), "--until", "2025-12-31", check=False)
    assert "holds no row of the model" in run.stdout
    assert "Traceback" not in run.stdout


def test_rows_of_one_request_id_are_sampled_as_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "MOST_ROWS", 100)
    rows = of_day(1, range(2_000))
    for number, each in enumerate(rows):
        each["time"] = f"2026-01-01T10:00:00.{number:06}Z"
    same = [each | {"request_id": "one"} for each in rows[:1_000]]
    segment(tmp_path, 1, *same, *rows[1_000:])
    (sample,) = collected(tmp_path).samples.values()
    _, count = np.unique(sample.hashes, return_counts=True)
    assert 30 < count.max() < 70


def test_rows_of_one_request_id_with_a_label_fill_neither_memory_nor_disk(tmp_path: Path) -> None:
    for number in range(20):
        segment(tmp_path, number, *[line(0, request_id="one") for _ in range(500)])
    found = collected(tmp_path, truth("one")).labelled
    assert found is not None
    assert (len(found), found.repeated) == (0, 1)
    assert found.file.tell() == 0
    assert not list(found)
