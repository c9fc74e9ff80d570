"""Where the gate lets a review not train, it takes over the author's model as data, or says why it does not."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skops.io
from conftest import Project, copied
from dvc.repo import Repo
from pydantic import ValidationError
from sklearn.preprocessing import FunctionTransformer

from mlops.core import files, paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.lock import Lock, hash_of, read_lock
from mlops.model import modelfile
from mlops.review.believed import MOST_MODEL, MOST_TRIALS, read_before, run_number, take
from mlops.review.rules.record import Lock as LockRule

BOTH = ["tune", "train"]


class Claim:
    """A change of a parameter: the lock on disk is main's, the claimed one names a model that only the remote has."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.base = git("rev-parse", "HEAD")
        self.remote = project.folder.parent / "remote"
        config = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {self.remote}\n"
        Path(".dvc/config.local").write_text(config, encoding="utf-8")
        model = modelfile.load(settings_module.load())
        project.edit_params(lambda params: params["model"]["params"].update(C=0.5))
        self.lock: Lock = copy.deepcopy(read_lock())
        for stage in BOTH:
            self.lock[stage]["params"]["params.yaml"]["model"]["params"]["C"] = 0.5
        model.steps[-1][1].set_params(C=0.5)
        self.claim(modelfile.canonical(skops.io.dumps(model)))

    def claim(self, content: bytes) -> None:
        """Name these bytes as the model, and put them into the remote."""
        md5 = files.md5(content)
        self.lock["train"]["outs"][0].update(md5=md5, size=len(content))
        self.stored = self.remote / "files/md5" / md5[:2] / md5[2:]
        self.stored.parent.mkdir(parents=True, exist_ok=True)
        self.stored.write_bytes(content)

    def take(self) -> list[Any]:
        return list(take(self.lock, self.base))

    def refused(self) -> str:
        """Why it is refused; nothing of the claim remains."""
        before = paths.LOCK.read_bytes(), paths.MODEL.read_bytes()
        with pytest.raises(UserError) as error:
            self.take()
        assert (paths.LOCK.read_bytes(), paths.MODEL.read_bytes()) == before
        return str(error.value)


@pytest.fixture
def claim(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Claim:
    project = copied(done, tmp_path)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return Claim(project)


def needs_to_run() -> set[str]:
    """Which of both stages DVC would run."""
    with Repo(".") as repo:
        return {*repo.status(targets=BOTH)}


def test_the_author_s_model_is_taken_by_its_hash_and_dvc_finds_its_stages_up_to_date(claim: Claim) -> None:
    main = read_lock()
    assert needs_to_run() == {*BOTH}
    assert claim.take() == BOTH
    assert needs_to_run() == set()
    assert files.md5(paths.MODEL) == hash_of(claim.lock, paths.MODEL) != hash_of(main, paths.MODEL)
    # of every other stage, the lock is main's
    assert read_lock() == {**main, **{stage: claim.lock[stage] for stage in BOTH}}


def test_what_main_has_run_is_not_called_the_author_s(claim: Claim) -> None:
    claim.project.git("checkout", "params.yaml")
    claim.lock = read_lock()
    paths.MODEL.unlink()
    assert claim.take() == []
    assert needs_to_run() == set()


def test_dvc_names_the_stages_before_training(claim: Claim) -> None:
    assert read_before() == ["ingest", "split", "validate"]


def test_a_missing_model_is_reported_with_what_to_do_on_a_branch_and_for_a_fork(claim: Claim) -> None:
    claim.stored.unlink()
    message = claim.refused()
    assert "models/model.skops is not available: the remote does not have" in message
    assert "run make and dvc push (for a fork, somebody who may write to the remote runs both" in message


def test_without_a_remote_the_error_says_so(claim: Claim) -> None:
    Path(".dvc/config.local").unlink()
    assert "DVC has no remote; run make and dvc push" in claim.refused()


def test_other_bytes_than_the_lock_names_are_refused(claim: Claim) -> None:
    content = bytearray(claim.stored.read_bytes())
    content[len(content) // 2] ^= 1
    claim.stored.write_bytes(content)
    assert "is corrupt (its hash differs) and is not used" in claim.refused()


@pytest.mark.parametrize("place", ["remote", "cache"])
def test_a_model_that_is_too_large_is_neither_downloaded_nor_read(claim: Claim, place: str) -> None:
    path = claim.stored
    if place == "cache":
        path = Path(".dvc/cache/files/md5") / path.parent.name / path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.truncate(path, MOST_MODEL + 1)
    path.chmod(0o444)  # otherwise DVC hashes it, and removes it
    assert f"has 2,000,000,001 bytes in the {place}; at most 2,000,000,000 are read" in claim.refused()


def test_trials_are_those_of_the_lock_and_not_too_long(claim: Claim) -> None:
    paths.TRIALS.write_text("[{}]\n", encoding="utf-8")
    assert "reports/tuning.json has another hash than in dvc.lock" in claim.refused()
    paths.TRIALS.write_text("[" + " " * MOST_TRIALS + "]", encoding="utf-8")
    assert "reports/tuning.json is missing, or larger than 1,000,000 bytes" in claim.refused()


def other_code(lock: Lock) -> None:
    next(each for each in lock["train"]["deps"] if each["path"].endswith("estimators.py"))["md5"] = "0" * 32


def other_rows(lock: Lock) -> None:
    next(each for each in lock["tune"]["deps"] if each["path"] == str(paths.TRAIN))["md5"] = "0" * 32


STALE: dict[str, tuple[Callable[[Lock], Any], str]] = {
    "parameters": (
        lambda lock: lock["train"]["params"]["params.yaml"]["model"]["params"].update(C=2.0),
        "does not run train, which ran with another model in params.yaml; run make and dvc push",
    ),
    "code": (other_code, "does not run train, which ran with another src/mlops/model/estimators.py"),
    "data": (other_rows, "does not run tune, which ran with another data/prepared/train.parquet"),
    "command": (lambda lock: lock["train"].update(cmd="true"), "which ran with another command"),
}


@pytest.mark.parametrize("edit", STALE)
def test_a_lock_of_other_code_parameters_or_data_is_outdated_and_says_which(claim: Claim, edit: str) -> None:
    change, message = STALE[edit]
    change(claim.lock)
    assert message in claim.refused()


@pytest.mark.parametrize(
    "edit",
    [
        lambda lock: lock.pop("train"),
        lambda lock: lock.update(train="models/model.skops"),
        lambda lock: lock["train"]["outs"][0].update(md5="../../../../etc/passwd"),
        lambda lock: lock["train"]["outs"][0].update(cloud={"store": {"etag": "x"}}),
        lambda lock: lock["train"]["outs"].append({"path": ".git/config", "hash": "md5", "md5": "0" * 32, "size": 1}),
    ],
    ids=["none", "text", "a path as hash", "another place", "another output"],
)
def test_an_entry_that_dvc_does_not_write_is_refused(claim: Claim, edit: Callable[[Lock], Any]) -> None:
    edit(claim.lock)
    assert "dvc.lock has no entry of train as DVC writes it" in claim.refused()


def test_a_model_that_would_run_a_command_is_trained_here_even_where_the_change_trusts_it(
    claim: Claim, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = claim.project.folder / "trap"
    claim.project.edit_params(lambda params: params["model"].update(trusted=["posix.system"]))
    for stage in BOTH:
        claim.lock[stage]["params"]["params.yaml"]["model"]["trusted"] = ["posix.system"]
    claim.claim(skops.io.dumps(FunctionTransformer(os.system, kw_args={"command": f"touch {trap}"})))
    before, model = paths.LOCK.read_bytes(), paths.MODEL.read_bytes()
    assert claim.take() == []
    assert (paths.LOCK.read_bytes(), paths.MODEL.read_bytes()) == (before, model)
    assert needs_to_run() == {*BOTH}
    assert not trap.exists()
    assert "tune and train run here: by main's settings, the model is rejected" in capsys.readouterr().err


# which reviews run both stages


def test_a_share_of_the_runs_trains_and_a_commit_alone_does_not_decide_which() -> None:
    rule = LockRule.model_validate({"rule": "lock", "recompute": 0.1})
    drawn = [rule.recomputes("a" * 40, str(run)) for run in range(2000)]
    assert sum(drawn) == pytest.approx(200, abs=50)
    assert drawn == [rule.recomputes("a" * 40, str(run)) for run in range(2000)]
    assert drawn != [rule.recomputes("b" * 40, str(run)) for run in range(2000)]


@pytest.mark.parametrize(("recompute", "runs"), [("always", True), ("never", False)])
def test_always_and_never_depend_on_nothing(recompute: str, runs: bool) -> None:
    rule = LockRule.model_validate({"rule": "lock", "recompute": recompute})
    assert {rule.recomputes("a" * 40, str(run)) for run in range(50)} == {runs}


@pytest.mark.parametrize("value", ["sometimes", 0.0, 1.0, 1, True, -0.1, None])
def test_another_value_is_one_error_that_says_what_is_allowed(value: Any) -> None:
    with pytest.raises(ValidationError, match="must be always, never, or a share between 0 and 1") as error:
        LockRule.model_validate({"rule": "lock", "recompute": value})
    assert error.value.error_count() == 1


def test_the_number_of_a_run_is_its_forge_s() -> None:
    assert run_number({"GITHUB_RUN_ID": "7", "HOME": "/"}) == "7"
    assert run_number({"CI_PIPELINE_ID": "8"}) == "8"
    assert run_number({"BUILD_TAG": "jenkins-models-9"}) == "jenkins-models-9"
    assert run_number({}) == ""
