"""Main's model, from wherever it can be had with the hash of main's lock; or why not, in words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from mlops.core import files
from mlops.core import settings as settings_module
from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.lock import hash_of, parse_lock
from mlops.core.madeon import LINE
from mlops.review import baseline
from mlops.review.baseline import FOLDER, Baseline, find


def found() -> Baseline:
    """The baseline of a change to HEAD."""
    return find(git("rev-parse", "HEAD"), settings_module.load())


def cached(path: str) -> Path:
    """A file in DVC's cache, by its hash in the lock."""
    md5 = str(hash_of(parse_lock(Path("dvc.lock").read_bytes()) or {}, path))
    return Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def lose_cache() -> None:
    shutil.rmtree(".dvc/cache")


def add_remote(project: Project) -> Path:
    """A folder as DVC's remote, which has everything."""
    remote = project.folder.parent / "remote"
    project.run("dvc", "remote", "add", "--default", "store", str(remote))
    project.run("dvc", "push", "--quiet")
    project.commit("a remote")
    return remote


def no_worktree_is_left() -> bool:
    return len(git("worktree", "list").splitlines()) == 1 and not (FOLDER / "worktree").exists()


def works(main: Baseline) -> bool:
    """Whether it is a model with its training rows."""
    return (
        main.problem is None
        and not main.first
        and main.model is not None
        and list(main.model.classes_) == ["benign", "malignant"]
        and main.train is not None
        and main.train.num_rows == 426
    )


def test_it_comes_from_the_cache(here: Project) -> None:
    main = found()
    assert works(main)
    assert main.origin == "cache"
    assert main.commit == here.git("rev-parse", "HEAD")
    assert main.project is not None
    assert main.project.catalogue is not None
    # the files of the change are not what is read
    Path("models/model.skops").unlink()
    Path("data/prepared/train.parquet").unlink()
    assert works(found())


@pytest.mark.parametrize("path", ["models/model.skops", "data/prepared/train.parquet"])
def test_one_flipped_bit_in_the_cache_is_removed_and_the_remote_helps(
    here: Project, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    add_remote(here)
    damaged = cached(path)
    flip(damaged)
    main = found()
    assert works(main)
    assert main.origin == "remote"
    assert not damaged.exists()
    assert f"{damaged.name} is corrupt (its hash differs) and was removed" in capfd.readouterr().err


def test_it_comes_from_the_remote_where_the_cache_is_empty(here: Project) -> None:
    add_remote(here)
    lose_cache()
    main = found()
    assert works(main)
    assert main.origin == "remote"


@pytest.mark.e2e
def test_one_flipped_bit_in_the_remote_is_refused_and_the_model_rebuilt_and_nothing_left_behind(
    here: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    remote = add_remote(here)
    model = cached("models/model.skops")
    flip(remote / "files/md5" / model.parent.name / model.name)
    lose_cache()
    # the change's own files may be anything while main's model is rebuilt, and a killed run may have left a worktree
    here.edit_params(lambda params: params["model"]["params"].update(C=0.001))
    git("worktree", "add", "--quiet", "--detach", str(FOLDER / "worktree"), "HEAD")
    before = here.git("status", "--porcelain")
    main = found()
    assert works(main)
    assert main.origin == "rebuilt"
    assert files.md5(FOLDER / "model.skops") == hash_of(main.lock, "models/model.skops")
    assert [value for name, value in main.model.get_params().items() if name.endswith("C")] == [1.0]  # type: ignore[union-attr]
    assert no_worktree_is_left()
    assert here.git("status", "--porcelain") == before
    message = capfd.readouterr().err
    assert "is corrupt (its hash differs) and is not used" in message
    assert "because neither the cache nor the remote has it" in message


@pytest.mark.e2e
def test_a_lock_that_names_another_model_is_reported_after_the_rebuild(here: Project) -> None:
    lock = Path("dvc.lock")
    md5 = str(hash_of(parse_lock(lock.read_bytes()) or {}, "models/model.skops"))
    lock.write_text(lock.read_text(encoding="utf-8").replace(md5, "f0" * 16), encoding="utf-8")
    here.commit("forge")
    main = found()
    assert main.model is None
    assert not main.first
    assert main.problem is not None
    assert "models/model.skops rebuilt from" in main.problem
    assert main.problem.endswith("does not match main's dvc.lock")
    assert no_worktree_is_left()


@pytest.mark.e2e
def test_a_main_of_another_platform_is_rebuilt_and_held_against_its_recorded_metrics(here: Project) -> None:
    lock, evaluation = Path("dvc.lock"), Path("reports/evaluation.json")
    md5 = str(hash_of(parse_lock(lock.read_bytes()) or {}, "models/model.skops"))
    other = LINE.sub(b"", lock.read_bytes()).replace(md5.encode(), b"f0" * 16)
    lock.write_bytes(b"# made on plan9 mips\n" + other)
    here.commit("made elsewhere")
    main = found()
    assert works(main)
    assert main.origin == "another platform"
    assert files.md5(FOLDER / "model.skops") == md5

    recorded = json.loads(evaluation.read_text(encoding="utf-8"))
    recorded["metrics"]["log_loss"]["value"] += 1e-5
    evaluation.write_text(json.dumps(recorded), encoding="utf-8")
    here.commit("other metrics")
    assert str(found().problem).endswith("does not match main's dvc.lock")
    assert no_worktree_is_left()


def test_a_main_that_does_not_run_is_reported(here: Project) -> None:
    Path("src/mlops/pipeline/train.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    here.commit("break")
    lose_cache()
    main = found()
    assert main.model is None
    assert "cannot be rebuilt: its pipeline fails" in str(main.problem)
    assert no_worktree_is_left()


def remove_lock() -> None:
    Path("dvc.lock").unlink()


def empty_lock() -> None:
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")


def remove_params() -> None:
    Path("params.yaml").unlink()


@pytest.mark.parametrize("lose", [remove_lock, empty_lock, remove_params])
def test_a_main_without_a_model_is_the_first_time(here: Project, lose: Callable[[], None]) -> None:
    settings = settings_module.load()
    lose()
    here.commit("no model yet")
    main = find(git("rev-parse", "HEAD"), settings)
    assert main.first
    assert main.problem == "main has no trained model yet"
    assert main.model is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("task", "regression", "data.task is classification on main and regression here"),
        ("target", "mean radius", "data.target is diagnosis on main and mean radius here"),
        ("positive", "benign", "data.positive is malignant on main and benign here"),
    ],
)
def test_what_is_predicted_may_not_change_without_a_word(here: Project, key: str, value: str, message: str) -> None:
    settings = settings_module.load()
    changed = settings.model_copy(update={"data": settings.data.model_copy(update={key: value})})
    main = find(git("rev-parse", "HEAD"), changed)
    assert main.problem == f"{message}, so no metric can be compared"
    assert main.model is None
    assert not main.first
    # but what does not depend on the target is known
    assert main.project is not None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("params.yaml", "data: {}\n", "data.source is missing"),
        ("params.yaml", "later: 1\n", "unknown key later"),
        ("params.yaml", "a: [", "is not valid YAML"),
        ("params.yaml", "", "data is missing"),
        ("data/prepared/catalogue.json", "{}", "data/prepared/catalogue.json: Field required"),
        ("data/prepared/catalogue.json", "{", "data/prepared/catalogue.json: Invalid JSON"),
    ],
)
def test_files_of_main_that_this_code_cannot_read_are_reported(
    here: Project, name: str, content: str, message: str
) -> None:
    settings = settings_module.load()
    Path(name).write_text(content, encoding="utf-8")
    here.commit("another age")
    main = find(git("rev-parse", "HEAD"), settings)
    assert str(main.problem).startswith("main's files cannot be read by this change's code: ")
    assert message in str(main.problem)
    assert not main.first


def test_a_model_file_that_cannot_be_loaded_is_reported(here: Project) -> None:
    """Its hash is right, but it is none."""
    lock = Path("dvc.lock")
    junk = here.folder / "junk"
    junk.write_bytes(b"no model")
    md5 = files.md5(junk)
    old = str(hash_of(parse_lock(lock.read_bytes()) or {}, "models/model.skops"))
    lock.write_text(lock.read_text(encoding="utf-8").replace(old, md5), encoding="utf-8")
    place = Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    place.parent.mkdir(exist_ok=True)
    junk.rename(place)
    here.commit("junk")
    main = found()
    assert str(main.problem).startswith("main's model cannot be loaded: ")
    assert not main.first


def test_a_lock_without_the_training_rows_is_reported(here: Project) -> None:
    lock = Path("dvc.lock")
    text = lock.read_text(encoding="utf-8").replace(
        "path: data/prepared/train.parquet", "path: data/prepared/old.parquet"
    )
    lock.write_text(text, encoding="utf-8")
    here.commit("an older layout")
    assert found().problem == "main's model cannot be loaded: main's dvc.lock does not name data/prepared/train.parquet"


# main's gate


def test_the_gate_is_that_of_the_commit_and_not_of_the_files(here: Project) -> None:
    def loosen(gate: Any) -> None:
        del gate["rules"][1:]

    here.edit_gate(loosen)
    main = baseline.gate(git("rev-parse", "HEAD"))
    assert main is not None
    assert len(main.rules) > 10
    here.commit("loosen")
    loosened = baseline.gate(git("rev-parse", "HEAD"))
    assert loosened is not None
    assert len(loosened.rules) == 1


def test_a_main_without_a_gate_has_none(here: Project) -> None:
    Path("gate.yaml").unlink()
    here.commit("no file")
    assert baseline.gate(git("rev-parse", "HEAD")) is None


@pytest.mark.parametrize("content", ["rules: [{rule: from the future}]", "7", "rules: []", "a: ["])
def test_a_gate_of_main_that_this_code_cannot_read_is_an_error_and_not_no_gate(here: Project, content: str) -> None:
    Path("gate.yaml").write_text(content, encoding="utf-8")
    here.commit("another age")
    with pytest.raises(UserError, match="main's"):
        baseline.gate(git("rev-parse", "HEAD"))


def test_an_unknown_commit_is_an_error_of_the_user(here: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlops.review", "--base", "origin/nowhere"],
        cwd=here.folder,
        env=here.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no commit 'origin/nowhere' to compare with")
    assert "Traceback" not in done.stderr
