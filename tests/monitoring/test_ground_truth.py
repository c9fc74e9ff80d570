"""Labels of logged rows: late, doubled, corrected, incomplete, and of rows that never were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitoring.logged import SETTINGS

from mlops.core.errors import UserError
from mlops.core.settings import GroundTruth
from mlops.data.tables import Column
from mlops.monitoring import labels
from mlops.monitoring.labels import Truth, hashed, places

TARGET = Column(name="ill", kind="categorical", type="string", unit=None, missing=0, distinct=2)


def read(folder: Path, text: str, **options: Any) -> Truth:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return labels.read(GroundTruth(source=str(path), time="known", **options), SETTINGS, TARGET)


def of(truth: Truth, *ids: str) -> list[tuple[str, str]]:
    """Label and hour of each id."""
    label = places(truth, hashed(np.array(ids, dtype=object), np.zeros(len(ids))))
    assert (label >= 0).all()
    hours = truth.known[label].astype("datetime64[h]").astype(str)
    return list(zip(truth.y[label].tolist(), hours.tolist(), strict=True))


def test_a_label_is_known_from_its_time_on(tmp_path: Path) -> None:
    truth = read(tmp_path, "request_id,ill,known\nb,yes,2026-01-03\na,no,2026-01-01T12:00:00\n")
    assert of(truth, "a", "b") == [("no", "2026-01-01T12"), ("yes", "2026-01-03T00")]
    assert places(truth, np.array([0], dtype=np.uint64)).tolist() == [-1]


def test_the_last_of_several_labels_counts_from_when_the_first_was_known(tmp_path: Path) -> None:
    text = "request_id,ill,known\na,yes,2026-01-05\na,no,2026-01-01\nb,no,2026-01-02\nb,no,2026-01-02\n"
    truth = read(tmp_path, text)
    assert of(truth, "a", "b") == [("yes", "2026-01-01T00"), ("no", "2026-01-02T00")]
    assert (truth.corrected, truth.unusable) == (1, 0)


def test_before_the_first_label_there_are_none(tmp_path: Path) -> None:
    truth = read(tmp_path, "request_id,ill,known\n")
    assert (len(truth.y), truth.unusable) == (0, 0)
    assert places(truth, hashed(np.array(["a"], dtype=object), np.zeros(1))).tolist() == [-1]


def test_incomplete_labels_are_counted(tmp_path: Path) -> None:
    truth = read(tmp_path, "request_id,ill,known\na,,2026-01-01\n,no,2026-01-01\nc,no,\nd,no,2026-01-02\n")
    assert (len(truth.y), truth.unusable) == (1, 3)


def test_a_row_number_that_no_request_has_is_counted_and_joined_to_no_row(tmp_path: Path) -> None:
    rows = "".join(f"a,{number},no,2026-01-01\n" for number in ("1.5", "1e300", "inf", "nan", "", "2.0"))
    truth = read(tmp_path, f"request_id,n,ill,known\n{rows}", row="n")
    assert truth.unusable == 5
    np.testing.assert_array_equal(truth.hashes, hashed(np.array(["a"], dtype=object), np.array([2])))


def test_rows_of_a_request_are_distinguished_by_their_number(tmp_path: Path) -> None:
    truth = read(tmp_path, "request_id,n,ill,known\na,1,yes,2026-01-01\na,0,no,2026-01-01\n", row="n")
    expected = hashed(np.array(["a", "a"], dtype=object), np.array([1, 0]))
    assert truth.y[places(truth, expected)].tolist() == ["yes", "no"]


def test_an_id_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    truth = read(tmp_path, "request_id,ill,known\n007,yes,2026-01-01\n")
    np.testing.assert_array_equal(truth.hashes, hashed(np.array(["007"], dtype=object), np.zeros(1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,ill,known\na,no,2026-01-01\n", "monitor.labels.request_id: .* has no column 'request_id'"),
        ("request_id,sick,known\na,no,2026-01-01\n", "monitor.labels.target: .* has no column 'ill'"),
        ("request_id,ill\na,no\n", "monitor.labels.time: .* has no column 'known'"),
        ("request_id,ill,known\na,no,soon\n", "column 'known' cannot be read as date: row 1 holds 'soon'"),
    ],
    ids=["id", "target", "time", "date"],
)
def test_a_table_that_does_not_fit_is_refused_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"monitor\.labels\.source: there is no file .*gone\.csv"):
        labels.read(GroundTruth(source=str(tmp_path / "gone.csv"), time="known"), SETTINGS, TARGET)
