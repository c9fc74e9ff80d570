"""Reading the prediction log: what the service wrote, and files that something has happened to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitoring.logged import CONTRACT, MODEL, line, name, segment

from mlops.core.errors import UserError
from mlops.monitoring import log
from mlops.monitoring.log import Reading, Rows


def read(folder: Path) -> tuple[Reading, list[Rows]]:
    reading = Reading(folder, CONTRACT, MODEL)
    return reading, list(reading)


def ids(rows: list[Rows]) -> list[str]:
    return [each for part in rows for each in part.request_id.tolist()]


def test_rows_come_as_columns_in_the_order_of_the_files(tmp_path: Path) -> None:
    segment(tmp_path, 2, line(3), sealed=False)
    segment(tmp_path, 1, line(1), line(2, features={"size": None, "town": None}, computed={"double": None}))
    reading, (first, second) = read(tmp_path)
    assert first.request_id.tolist() == ["id-1", "id-2"]
    assert first.time.tolist()[0].isoformat() == "2026-01-01T00:00:01.500000"
    np.testing.assert_array_equal(first.columns["size"], [1, np.nan])
    np.testing.assert_array_equal(first.columns["double"], [2, np.nan])
    assert first.columns["town"].tolist() == ["town 1", None]
    assert first.predicted.tolist() == ["yes", "yes"]
    assert first.probabilities is not None
    assert first.probabilities.tolist() == [[0.25, 0.75]] * 2
    assert ids([second]) == ["id-3"]
    assert (reading.others, reading.unreadable.total(), reading.damaged) == ({}, 0, [])


def test_a_file_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    path = segment(tmp_path / "one", 1, line(1))
    segment(tmp_path / "one", 1, line(1), sealed=False)  # of a service that was killed while it sealed
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    _, rows = read(tmp_path)
    assert ids(rows) == ["id-1"]
    assert path in log.segments(tmp_path)


def test_a_copy_under_another_name_is_read_once(tmp_path: Path) -> None:
    path = segment(tmp_path, 1, line(1))
    shutil.copy(path, tmp_path / f"{name(2)}.jsonl.gz")
    segment(tmp_path, 3, line(2))
    (tmp_path / f"{name(4)}.jsonl.gz").write_bytes(b"cut")
    reading, rows = read(tmp_path)
    assert ids(rows) == ["id-1", "id-2"]
    assert reading.damaged == [f"{name(4)}.jsonl.gz"]


def test_rows_of_another_release_are_counted(tmp_path: Path) -> None:
    segment(tmp_path, 1, line(1), line(2, model="b" * 32, version="0.9.0"), line(3, model="b" * 32, version="0.9.0"))
    reading, rows = read(tmp_path)
    assert ids(rows) == ["id-1"]
    assert reading.others == {"0.9.0": 2}


def test_a_file_that_ends_early_gives_what_it_has(tmp_path: Path) -> None:
    path = segment(tmp_path, 1, *(line(number) for number in range(2_000)))
    path.write_bytes(path.read_bytes()[:-500])
    segment(tmp_path, 2, line(5_000), b'{"time": "2026', sealed=False)  # a file in use ends within a line
    reading, rows = read(tmp_path)
    assert 1_000 < len(ids(rows)) < 2_001
    assert ids(rows)[-1] == "id-5000"
    assert reading.damaged == [path.name]
    assert reading.unreadable.total() == 0


@pytest.mark.parametrize(
    "hostile",
    [
        b"\n",
        b"not json\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"time": 1}\n',
        b'"' + b"a" * 2_500 + b'"\n',
        line(time="yesterday"),
        line(time="2026-99-01T00:00:00Z"),
        line(prediction="maybe"),
        line(prediction=None),
        line(probabilities={"no": 1.0}),
        line(probabilities=None),
        line(features=[1, 2]),
        line(row=-1),
        line(row=10**30),
    ],
    ids=lambda value: None,
)
def test_a_line_that_the_service_does_not_write_is_counted_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: Any
) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 1_000)
    segment(tmp_path, 1, line(1), hostile, line(2))
    reading, rows = read(tmp_path)
    assert ids(rows) == ["id-1", "id-2"]
    assert reading.unreadable.total() == 1


def test_a_pseudonym_or_a_vanished_column_is_missing(tmp_path: Path) -> None:
    segment(tmp_path, 1, line(1, features={"size": "4f1e"}), line(2, features={"size": 10**400, "town": 5}))
    _, (rows,) = read(tmp_path)
    assert np.isnan(rows.columns["size"]).all()
    assert rows.columns["town"].tolist() == [None, "5"]


def test_large_files_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "CHUNK", 100)
    segment(tmp_path, 1, *(line(number) for number in range(250)))
    _, rows = read(tmp_path)
    assert [len(each) for each in rows] == [100, 100, 50]


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"log is not a folder\n  try: LOG="):
        read(tmp_path / "log")


def test_a_release_with_other_classes_and_features_is_another_release_and_not_unreadable(tmp_path: Path) -> None:
    other = {"model": "b" * 32, "version": "0.9.0", "prediction": "perhaps", "probabilities": {"perhaps": 1.0}}
    without = {key: value for key, value in line(2).items() if key != "features"}
    segment(tmp_path, 1, line(1), line(2, **other, features={"colour": "red"}), without)
    reading, found = read(tmp_path)
    assert [len(rows) for rows in found] == [1]
    assert (reading.others, reading.unreadable.total()) == ({"0.9.0": 1}, 1)


def test_two_versions_are_read_whatever_their_models(tmp_path: Path) -> None:
    segment(tmp_path, 1, line(1), line(2, version="1.1.0", model="b" * 32), line(3, version="1.2.0"))
    reading = Reading(tmp_path, CONTRACT, MODEL, ("1.0.0", "1.1.0"))
    assert [rows.version.tolist() for rows in reading] == [["1.0.0", "1.1.0"]]
    assert reading.others == {"1.2.0": 1}
