"""When a retraining is proposed, and when not: on a project that has run, and the log of its service."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, Project, copied
from monitoring.found import finding

from mlops.core import dvcfiles, paths
from mlops.core.errors import UserError
from mlops.core.files import md5, write_json
from mlops.core.lock import outputs, read_lock
from mlops.data import project as projects
from mlops.monitoring import branch, findings, reference, retrain, store
from mlops.monitoring.proposal import Proposal, read, write

LABELS = {"source": "build/log/labels.csv", "request_id": "request_id", "row": "row", "time": "known_at"}
NOW = datetime.now(UTC)
ROWS = 1800  # that production has labelled


@pytest.fixture(scope="module")
def released(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the log of a quiet month."""
    project = copied(done, tmp_path_factory.mktemp("released"))
    project.run(sys.executable, str(ROOT / "tests/monitoring/production.py"), "build/log", "none")
    return project


@pytest.fixture
def project(released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = copied(released, tmp_path)
    monkeypatch.chdir(project.folder)
    policy(project, when="labels")
    return project


def policy(project: Project, **options: Any) -> None:
    project.edit_params(lambda params: params.update(monitor={"labels": LABELS, "retrain": options}))


def propose(now: datetime = NOW) -> tuple[Proposal, dict[str, bytes]]:
    project = projects.open()
    known, options = reference.read(project), project.settings.monitor
    return retrain.propose(Path("build/log"), project, known, options, now, store.has_remote())


def accept() -> str:
    """Put what is proposed on its branch."""
    found, contents = propose()
    made = branch.commit(found, contents, found.main)
    branch.create(found.branch, made)
    return made


def waits(now: datetime = NOW) -> str:
    found, contents = propose(now)
    assert (found.state, contents) == ("waiting", {})
    return found.why


def alarms(*names: str, model: str = "") -> None:
    model = model or str(outputs(read_lock())[str(paths.MODEL)]["md5"])
    found = finding(model=model, alarms=list(names))
    write_json(found.model_dump(), findings.REPORT)


def test_enough_new_labels_are_proposed_with_the_same_bytes_each_time(project: Project) -> None:
    found, contents = propose()
    assert (found.state, found.rows("more"), found.rows("recent")) == ("proposed", 426, 540)
    assert (found.first, found.last) == ("2026-01-01", "2026-01-30")
    assert any(f"{ROWS - 426 - 540} older new rows are left out" in note for note in found.notes)
    assert [each.md5 for each in found.files] == [md5(content) for content in contents.values()]
    assert propose() == (found, contents)


def test_nothing_is_proposed_by_default(project: Project) -> None:
    policy(project)
    assert waits() == "monitor.retrain.when is never"


def test_with_the_policy_alarm_nothing_is_proposed_without_one(project: Project) -> None:
    policy(project, when="alarm")
    with pytest.raises(UserError, match=r"report\.json cannot be read"):
        propose()
    alarms(model="f" * 32)
    with pytest.raises(UserError, match="about another model"):
        propose()
    alarms()
    assert waits() == "the monitor has no alarm"
    alarms("accuracy, all rows")
    found, _ = propose()
    assert (found.state, found.alarms) == ("proposed", ["accuracy, all rows"])


def test_too_few_or_no_labels_wait(project: Project) -> None:
    policy(project, when="labels", least_rows=ROWS + 1)
    assert waits() == "the log has 1,800 new labelled rows; monitor.retrain.least_rows is 1,801"
    lines = Path(LABELS["source"]).read_text(encoding="utf-8").splitlines()
    Path(LABELS["source"]).write_text(f"{lines[0]}\n{lines[1].replace('day0-0', 'another')}\n", encoding="utf-8")
    assert waits().startswith("the log has 0 new labelled rows")


def test_of_labels_that_contradict_the_last_one_counts_and_is_reported(project: Project) -> None:
    policy(project, when="labels", most_new_share=0.9)
    _, before = propose()
    labels = Path(LABELS["source"])
    lines = labels.read_text(encoding="utf-8").splitlines()
    other = {"malignant": "benign", "benign": "malignant"}
    first = [line.split(",") for line in lines[1:6]]
    later = [
        ",".join([request, row, f'"{other[label.strip(chr(34))]}"', "2026-02-01"]) for request, row, label, _ in first
    ]
    labels.write_text("\n".join([*lines, *later]) + "\n", encoding="utf-8")
    found, after = propose()
    assert "5 labels were corrected later; the last one counts" in found.notes
    name = found.files[0].path(found.model)
    old, new = (pq.read_table(pa.BufferReader(each[name]))["diagnosis"].to_pylist() for each in (before, after))
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 5


def test_the_cool_down_starts_with_the_last_retraining_of_another_release(project: Project) -> None:
    project.git("branch", "retrain/ffffffffff", "main")
    assert "cool_down_days is 14" in waits()
    assert propose(NOW + timedelta(days=15))[0].state == "proposed"


def test_a_retraining_that_was_merged_is_not_proposed_again(project: Project) -> None:
    made = accept()
    assert "nothing has changed" in waits()
    project.git("update-ref", "refs/heads/main", made)
    project.git("branch", "--delete", "--force", propose()[0].branch)
    assert waits().startswith("main has the rows of this release")


def test_a_column_that_main_has_as_another_kind_stops_it(project: Project) -> None:
    catalogue = json.loads(paths.CATALOGUE.read_text(encoding="utf-8"))
    content = json.loads(json.dumps(catalogue))
    content["columns"][0]["kind"] = "text"
    write_json(content, paths.CATALOGUE)
    project.commit("another kind")
    write_json(catalogue, paths.CATALOGUE)
    with pytest.raises(UserError, match="is numeric in the deployed release and text on main"):
        propose()


def test_rows_that_are_too_many_for_git_need_a_remote_and_are_kept_there(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain, "MOST_IN_GIT", 1000)
    with pytest.raises(UserError, match="Git is for files up to 1,000"):
        propose()
    remote = tmp_path / "remote"
    project.run("dvc", "remote", "add", "--local", "--default", "storage", str(remote))
    before = project.git("status", "--porcelain")
    write(*propose())
    found, _ = read()
    assert store.push(found) == 2
    made = branch.commit(found, {}, found.main)
    assert project.git("status", "--porcelain") == before
    project.git("stash", "--quiet")
    project.git("switch", "--quiet", "--detach", made)

    def brings_the_rows() -> None:
        dvcfiles.fetch(dvcfiles.present())
        for each in found.files:
            assert pq.read_table(each.path(found.model)).num_rows == each.rows
            Path(each.path(found.model)).unlink()

    shutil.rmtree(remote)
    brings_the_rows()
    store.push(found)
    for path in filter(Path.is_file, remote.rglob("*")):  # as a run leaves it that was killed
        path.chmod(0o600)
        path.write_bytes(b"half")
    store.push(found)
    shutil.rmtree(".dvc/cache/files")
    brings_the_rows()
    shutil.rmtree(remote)
    shutil.rmtree(".dvc/cache/files")
    with pytest.raises(UserError, match=r"neither DVC's cache nor its remote has data/raw/production/"):
        dvcfiles.fetch(dvcfiles.present())
    project.run(sys.executable, "-m", "mlops.review.check")
