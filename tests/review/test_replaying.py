"""Recorded rows through main's model and a change's: real models, as their services run them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project, copied
from test_hostile_text import RUN_URL, Page, report_of

from mlops.core import files, git, paths
from mlops.core.errors import UserError
from mlops.core.lock import outputs, read_lock
from mlops.core.logoptions import LogOptions
from mlops.core.replayed import Replayed
from mlops.core.report import Report
from mlops.data import project as projects
from mlops.data import tables
from mlops.inference import runtime
from mlops.release import check
from mlops.review import __main__ as reviewing
from mlops.review import baseline, replaying
from mlops.review.render import MOST_BYTES, comment
from mlops.serving import codec
from mlops.serving.log_writer import Entry, Lines

ROWS = 400


@pytest.fixture
def here(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of a project that has run, which is the current folder, with a log in data/replay."""
    project = copied(done, tmp_path)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    record(Path("data/replay"))
    return project


def record(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda row: None) -> None:
    """A log of what the service in this folder would answer, written by the service's own code."""
    contract, model = runtime.load()
    md5 = outputs(read_lock())[str(paths.MODEL)]["md5"]
    decode, encode = codec.Decoder(contract), codec.Encoder(contract, "1.0.0", md5)
    lines = Lines(LogOptions(), "1.0.0", md5, b"")
    table = tables.read(paths.TRAIN)
    rng = np.random.default_rng(0)
    names = [field.name for field in contract.fields]
    rows = table.select(names).take(rng.integers(table.num_rows, size=ROWS)).to_pylist()
    for row in rows:
        for name in names:
            row[name] = abs(row[name] * (1 + 0.1 * rng.normal()))
        edit(row)
    folder.mkdir(parents=True, exist_ok=True)
    content = b""
    for number in range(0, ROWS, 8):
        body = json.dumps({"rows": rows[number : number + 8]}).encode()
        answer = model(decode.columns(*decode(body)))
        entry = Entry(
            1.7e9 + number,
            f"id-{number}",
            8,
            body,
            encode(answer, f"id-{number}"),
            {k: v.tolist() for k, v in (answer.computed or {}).items()},
        )
        content += b"".join(lines(entry))
    (folder / "20260101T000000Z-000000000001.jsonl.gz").write_bytes(gzip.compress(content))


def logged() -> list[dict[str, Any]]:
    path = next(Path("data/replay").glob("*.gz"))
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def changed(here: Project, **params: Any) -> None:
    """Train another model, on top of the commit that is main."""
    here.edit_params(lambda document: document["model"]["params"].update(**params))
    here.run("dvc", "repro", "export")


def replayed() -> Replayed:
    project = projects.open()
    main = baseline.find(git.git("rev-parse", "HEAD"), project.settings)
    return replaying.run(Path("data/replay"), project, main)[0]


def test_the_same_model_changes_nothing_and_gives_what_was_recorded(here: Project) -> None:
    found = replayed()
    assert (found.rows, found.compared, found.changed) == (ROWS, ROWS, 0)
    assert found.skew is not None
    assert (found.skew.rows, found.skew.differ) == (ROWS, 0)
    assert found.moves == found.largest == found.obstacles == []
    assert sum(each.rows for each in found.slices) == ROWS


def test_what_changes_is_what_the_services_of_both_models_would_answer(here: Project, tmp_path: Path) -> None:
    before = logged()
    changed(here, C=0.002)
    labels = tmp_path / "labels.csv"
    truth = ["malignant" if place % 2 else "benign" for place in range(100)]
    known = [f"{row['request_id']},{row['row']},{y},2026-01-02\n" for row, y in zip(before, truth, strict=False)]
    labels.write_text("request_id,row,diagnosis,known_at\n" + "".join(known))

    def configure(document: Any) -> None:
        document["evaluate"]["costs"] = {"false_negative": 10, "false_positive": 1}
        document["monitor"] = {"labels": {"source": str(labels), "row": "row", "time": "known_at"}}

    here.edit_params(configure)
    found = replayed()

    contract, model = runtime.load()
    decode = codec.Decoder(contract)
    answer = model(decode.columns(*decode(json.dumps({"rows": [row["features"] for row in before]}).encode())))
    old = np.array([row["prediction"] for row in before])
    moves = {(move.before, move.after): move.rows for move in found.moves}
    for pair in (("malignant", "benign"), ("benign", "malignant")):
        assert moves.get(pair, 0) == int(((old == pair[0]) & (answer.predicted == pair[1])).sum())
    assert found.changed == int((old != answer.predicted).sum()) > 0
    assert answer.probabilities is not None
    likely = np.array([row["probabilities"]["malignant"] for row in before]), answer.probabilities[:, 1]
    order = np.argsort(-np.abs(likely[1] - likely[0]))[:10]
    assert [(each.request_id, each.row) for each in found.largest] == [
        (before[place]["request_id"], before[place]["row"]) for place in order
    ]
    assert found.largest[0].value_after == pytest.approx(likely[1][order[0]], rel=1e-5)

    prices = np.array([[0, 1], [10, 0]])  # of benign and malignant rows
    decided = [(each == "malignant").astype(int) for each in (old, answer.predicted)]
    costs = {each.basis: (each.rows, each.before, each.after) for each in found.prices}
    y = (np.array(truth) == "malignant").astype(int)
    expected = [prices[y, each[:100]].mean() for each in decided]
    assert costs["labels"] == (100, pytest.approx(expected[0], rel=1e-5), pytest.approx(expected[1], rel=1e-5))
    for basis, probability in zip(("main", "change"), likely, strict=True):
        expected = [((1 - probability) * prices[0, each] + probability * prices[1, each]).mean() for each in decided]
        assert costs[basis] == (ROWS, pytest.approx(expected[0], rel=1e-4), pytest.approx(expected[1], rel=1e-4))
    right = [each[:100] == y for each in decided]
    assert (found.labelled, found.repaired, found.broken) == (
        100,
        int((~right[0] & right[1]).sum()),
        int((right[0] & ~right[1]).sum()),
    )


def test_main_s_model_is_rebuilt_where_no_cache_has_it(here: Project) -> None:
    here.commit("a log")
    changed(here, C=0.002)
    expected = replayed()
    shutil.rmtree(".dvc/cache")
    assert replayed() == expected
    assert expected.skew is not None
    assert expected.skew.differ == 0


def test_a_corrupt_file_of_main_s_service_is_not_used(here: Project) -> None:
    changed(here, C=0.002)
    main = baseline.find(git.git("rev-parse", "HEAD"), projects.open().settings)
    folder = baseline.service(main)
    md5 = files.md5(folder / "model.onnx")
    cached = Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.write_bytes(b"corrupt")
    shutil.rmtree(folder)
    assert files.md5(baseline.service(main) / "model.onnx") == md5


def test_main_s_model_that_answers_otherwise_than_recorded_is_seen(here: Project) -> None:
    path = next(Path("data/replay").glob("*.gz"))
    rows = logged()
    for row in rows[:7]:
        row["probabilities"] = {"benign": 0.5, "malignant": 0.5}
    path.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))
    found = replayed()
    assert found.skew is not None
    assert found.skew.differ == 7
    assert found.skew.named[0] == "id-0, row 0"
    assert "another prediction" in comment(whole(found))


def test_a_column_that_the_change_drops_is_left_out_and_said(here: Project) -> None:
    here.edit_params(lambda document: document["data"].update(drop=["symmetry error"]))
    here.run("dvc", "repro", "export")
    found = replayed()
    assert found.compared == ROWS
    assert [(each.model, each.rows, each.refused) for each in found.obstacles] == [("change", ROWS, False)]
    assert "symmetry error is not a column of this model" in found.obstacles[0].why


def test_a_column_that_the_log_lacks_is_a_reason_and_not_a_traceback(here: Project) -> None:
    path = next(Path("data/replay").glob("*.gz"))
    rows = logged()
    for row in rows[:100]:
        del row["features"]["worst area"]
    rows[200]["features"]["worst area"] = "large"
    rows[201]["features"] = {}
    path.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))
    found = replayed()
    assert found.compared == ROWS - 102
    reasons = {each.why: each.rows for each in found.obstacles if each.model == "change"}
    assert reasons["worst area is needed by this model, and not in the log"] == 100
    assert sum(reasons.values()) == 102


@pytest.mark.parametrize("key", ["leave_out", "pseudonymise"])
def test_a_log_without_the_values_of_a_column_is_refused(here: Project, key: str) -> None:
    here.edit_params(lambda document: document.update(monitor={"log": {key: ["worst area"]}, "replay": "data/replay"}))
    project = projects.open()
    main = baseline.find(git.git("rev-parse", "HEAD"), project.settings)
    found = reviewing.replayed(main)
    assert found is not None
    assert found.problem == (
        f"the rows cannot be replayed: the model takes 'worst area', which monitor.log.{key} keeps out of the log"
    )
    assert "Recorded rows were not replayed" in comment(whole(found))


def whole(found: Replayed) -> Report:
    """A report with this replay."""
    return Report(head="1" * 40, base="2" * 40, dirty=False, touched=True, verdict="pass", blocks=False, replayed=found)


def test_a_review_has_the_section_where_main_names_a_log(here: Project) -> None:
    here.edit_params(lambda document: document.update(monitor={"replay": "data/replay"}))
    here.commit("a log")
    changed(here, C=0.002)
    here.edit_params(lambda document: document.pop("monitor"))  # a change cannot take the section away
    main = baseline.find(git.git("rev-parse", "HEAD"), projects.open().settings)
    found = reviewing.replayed(main)
    assert found is not None
    assert found.changed
    text = comment(whole(found))
    assert f"Recorded rows: {found.changed} of 400 decisions change" in text
    assert f"<code>{found.largest[0].request_id}</code>" in text
    assert "| request | row | decision | probability of <code>malignant</code> |" in text
    assert len(text.encode()) < MOST_BYTES


def test_a_log_that_dvc_tracks_comes_from_its_cache(here: Project) -> None:
    shutil.move("data/replay", "data/raw/replay")
    here.run("dvc", "add", "data/raw/replay")
    here.edit_params(lambda document: document.update(monitor={"replay": "data/raw/replay"}))
    main = baseline.find(git.git("rev-parse", "HEAD"), projects.open().settings)
    shutil.rmtree("data/raw/replay")
    found = reviewing.replayed(main)
    assert found is not None
    assert (found.problem, found.compared) == (None, ROWS)
    shutil.rmtree("data/raw/replay")
    shutil.rmtree(".dvc/cache")
    found = reviewing.replayed(main)
    assert found is not None
    assert found.problem == "neither DVC's cache nor its remote has data/raw/replay"


@pytest.mark.parametrize("path", ["/var/log/model", "../log", "data/../../log"])
def test_a_log_outside_of_the_repository_is_refused(here: Project, path: str) -> None:
    here.edit_params(lambda document: document.update(monitor={"replay": path}))
    with pytest.raises(UserError, match=r"monitor\.replay.* must be a folder of this repository"):
        projects.open()


def test_without_a_log_there_is_no_section(here: Project) -> None:
    main = baseline.find(git.git("rev-parse", "HEAD"), projects.open().settings)
    assert reviewing.replayed(main) is None


def test_text_from_a_log_stays_text_in_the_section() -> None:
    text = "@ada <script>x</script> | a | [x](y) #1 `"
    found = report_of(text).replayed
    assert found is not None
    found = found.model_copy(update={"problem": None, "rows": 9, "compared": 9, "changed": 3, "labelled": 4})
    page = Page(comment(whole(found), run_url=RUN_URL))
    assert page.open == []
    assert "script" not in page.outline
    assert "a" not in page.outline[:-1]


def test_make_replay_leaves_a_page_and_says_what_changes(here: Project) -> None:
    here.commit("a log")
    changed(here, C=0.002)
    done = here.run(sys.executable, "-P", "-m", "mlops.review.replay", "data/replay", "--base", "HEAD")
    assert "of 400 decisions change" in done.stdout
    assert "main's model differs from its own log in 0 of 400 rows" in done.stdout
    report = json.loads(here.read("build/replay/report.json"))
    assert report["features_of_largest"][0]["features"]["mean radius"]
    assert "mean radius" in here.read("build/replay/report.html")
    for command in ((), ("data/raw",), ("nowhere",)):
        failed = here.run(sys.executable, "-P", "-m", "mlops.review.replay", *command, "--base", "HEAD", check=False)
        assert failed.returncode == 1
        assert failed.stdout.startswith("error: ")
        assert "try: " in failed.stdout


def test_a_release_is_replayed_against_the_one_before_it(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.replay() == "there is no release before this one to compare with"
    here.git("tag", "v1.0.0")
    changed(here, C=0.002)
    here.commit("a change")
    here.git("tag", "v1.1.0")
    monkeypatch.setenv("LOG", "data/replay")
    monkeypatch.setenv("PYTHONPATH", str(here.folder / "src"))
    said = check.replay()
    assert said.startswith("with v1.0.0\n")
    assert "of 400 decisions change" in said
