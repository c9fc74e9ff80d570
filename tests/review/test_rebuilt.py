"""A lock of another platform is distinguished from an outdated or forged one, by what was committed, as data."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Project

from mlops.core import files, madeon, paths
from mlops.core.lock import Lock, read_lock
from mlops.data import tables
from mlops.review.rebuilt import Rebuilt, apart, compare

FAR = b"# made on macOS arm64\n"
PROBABILITIES = np.linspace(0.1, 0.9, 5)


def predictions(**columns: Any) -> pa.Table:
    """Of five rows, two classes."""
    good = {
        "actual": ["a", "b", "a", "b", "a"],
        "predicted": ["a", "b", "a", "b", "b"],
        "probability_a": PROBABILITIES,
    }
    return pa.table({**good, **columns})


def test_last_bits_are_measured_and_anything_else_is_another_result() -> None:
    ours = predictions()
    assert apart(ours, ours) == 0
    assert 0 < apart(predictions(probability_a=np.nextafter(PROBABILITIES, 1)), ours) < 1e-15
    assert apart(predictions(probability_a=PROBABILITIES + 0.25), ours) == 0.25
    for other in (
        predictions(predicted=["b", "b", "a", "b", "b"]),
        predictions(actual=["b", "b", "a", "b", "a"]),
        predictions(probability_a=[*PROBABILITIES[:4], None]),
        predictions(probability_a=[*PROBABILITIES[:4], math.nan]),
        predictions(probability_a=PROBABILITIES.astype(np.float32)),
        predictions(more=PROBABILITIES),
        ours.slice(1),
    ):
        assert apart(other, ours) == math.inf


def test_numbers_are_measured_in_standard_deviations() -> None:
    ours = pa.table({"actual": [1e6, 2e6, 4e6], "predicted": [1e6, 2e6, 3e6]})
    theirs = pa.table({"actual": [1e6, 2e6, 4e6], "predicted": [1e6, 2e6, 3e6 + 1]})
    assert apart(theirs, ours) == pytest.approx(1 / np.std([1e6, 2e6, 3e6]))


@pytest.fixture
def committed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """The lock of a commit; what the review rebuilt lies beside it, with other last bits."""
    monkeypatch.chdir(project.folder)
    tables.write(predictions(probability_a=np.nextafter(PROBABILITIES, 1)), paths.PREDICTIONS)
    theirs = read_lock()
    for out in theirs["evaluate"]["outs"]:
        if out["path"] == str(paths.PREDICTIONS):
            out["md5"] = files.md5(paths.PREDICTIONS)
    shutil.move(paths.PREDICTIONS, "theirs")
    tables.write(predictions(), paths.PREDICTIONS)
    return theirs


def cached(md5: str) -> None:
    """Keep the committed predictions in DVC's cache under this hash."""
    place = paths.LOCK.parent / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile("theirs", place)


def test_the_committed_predictions_are_compared_or_else_the_metrics(committed: Lock) -> None:
    made = read_lock()
    here = madeon.here()
    # neither cache nor remote has them
    assert compare(FAR, committed, made) == Rebuilt("macOS arm64", here, 0, 0.0)
    cached(next(out["md5"] for out in committed["evaluate"]["outs"] if out["path"] == str(paths.PREDICTIONS)))
    found = compare(b"", committed, made)
    assert found is not None
    assert (found.made_on, found.rows) == (None, 5)
    assert 0 < found.difference < 1e-15


def test_other_metrics_are_another_result(committed: Lock) -> None:
    def edit(change: Callable[[Any], None]) -> float:
        evaluation = copy.deepcopy(before)
        change(evaluation)
        paths.EVALUATION.write_text(json.dumps(evaluation), encoding="utf-8")
        found = compare(FAR, committed, read_lock())
        assert found is not None
        return found.difference

    before = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
    value = before["metrics"]["roc_auc"]["value"]
    assert edit(lambda each: each["metrics"]["roc_auc"].update(value=value - 0.25)) == pytest.approx(0.25)
    assert edit(lambda each: each["metrics"]["roc_auc"].update(low=None)) == math.inf
    assert edit(lambda each: each["metrics"].pop("recall")) == math.inf
    assert edit(lambda each: each["rows"].update(test=1)) == 142
    assert edit(lambda each: each.update(metrics="none")) == math.inf


def test_a_lock_of_other_code_parameters_or_data_is_outdated(committed: Lock) -> None:
    made = read_lock()
    edits: dict[str, Callable[[Any], object]] = {
        "params": lambda lock: lock["train"]["params"]["params.yaml"]["model"]["params"].update(C=2.0),
        "code": lambda lock: lock["train"]["deps"][-1].update(md5="0" * 32),
        "cmd": lambda lock: lock["train"].update(cmd="python other.py"),
        "stage": lambda lock: lock.pop("card"),
        "out": lambda lock: lock["train"]["outs"].pop(),
        "by hand": lambda lock: lock.update(train="nothing"),
    }
    for edit in edits.values():
        theirs = copy.deepcopy(committed)
        edit(theirs)
        assert compare(FAR, theirs, made) is None


@pytest.mark.parametrize("md5", ["../../../../../../etc/passwd", "", 7, None, "a" * 31])
def test_a_hash_that_is_none_opens_no_file(committed: Lock, md5: Any) -> None:
    for out in committed["evaluate"]["outs"]:
        if out["path"] == str(paths.PREDICTIONS):
            out["md5"] = md5
    found = compare(FAR, committed, read_lock())
    assert found is not None
    assert found.rows == 0


@pytest.mark.parametrize(
    "line",
    [b"", b"# made on <b>x</b> y\n", b"# made on macOS " + b"a" * 21 + b"\n", b"schema: 1\n# made on macOS arm64\n"],
)
def test_a_platform_is_two_short_plain_words_in_the_first_line(line: bytes) -> None:
    assert madeon.read(line + b"stages: {}\n") is None
    assert madeon.read(FAR + line) == "macOS arm64"
