"""The tasks of a platform, each in a copy of the project of its own: together they leave what `dvc repro` leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from conftest import Project, copied

from mlops.pipeline.platforms import graph
from mlops.pipeline.platforms.graph import Task


def tasks_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, Task]:
    monkeypatch.chdir(project.folder)
    return graph.read()


def start(
    origin: Project, stage: str, storage: Path, known: str, scratch: Path, **options: Any
) -> CompletedProcess[str]:
    """What a container of the image does: the files of the commit, without Git and without a cache."""
    folder = scratch / "container"
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns(".git", "cache", "tmp")
    shutil.copytree(origin.folder, folder, ignore=ignored)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    command = ("python", "-m", "mlops.pipeline.platforms.task", stage, "--run", options.pop("run", "night/1"))
    container = Project.at(folder)
    return container.run(*command, "--graph", known, DVC_REMOTE_URL=str(storage), PIPELINE_COMMIT="c" * 40, **options)


def test_tasks_in_containers_of_their_own_leave_the_dvc_lock_of_one_machine(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = copied(done, tmp_path / "one machine")
    # what takes long is left to tests/platforms, where engines run all stages
    expected._edit("dvc.yaml", lambda found: [found["stages"].pop(name) for name in [*found["stages"]][4:]])
    expected.commit("four stages")
    expected.edit_params(lambda params: params["split"].update(seed=params["split"]["seed"] + 1))
    commit = tmp_path / "commit"
    commit.mkdir()
    for name in expected.git("ls-files").splitlines():
        (commit / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(expected.folder / name, commit / name)
    origin = Project.at(commit)
    expected.run("dvc", "repro")
    tasks = tasks_of(expected, monkeypatch)
    known, storage = graph.fingerprint(tasks), tmp_path / "storage"
    results = storage / "tasks/night-1"
    storage.mkdir()

    early = start(origin, "split", storage, known, tmp_path, check=False)
    assert early.returncode == 1
    assert "error: run night-1 has no result of stage ingest" in early.stdout
    container = Project.at(tmp_path / "container")
    (container.folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    task = ("python", "-m", "mlops.pipeline.platforms.task", "ingest", "--graph", known, "--run")
    nowhere = container.run(*task, "1", check=False)
    assert "error: the tasks share no storage: DVC_REMOTE_URL is not set" in nowhere.stdout
    assert "Traceback" not in nowhere.stdout

    pushed: set[Path] = set()
    for stage in tasks:
        said = start(origin, stage, storage, known, tmp_path).stdout
        assert f"stored the result of stage {stage} under run night-1" in said
        if stage == "split":  # it stopped when half was pushed, and is started again
            new = sorted({*(storage / "files").rglob("*")} - pushed)
            for path in (*[path for path in new if path.is_file()][::2], results / "split.tar"):
                path.unlink()
            start(origin, stage, storage, known, tmp_path)
        pushed = {*(storage / "files").rglob("*")}
        if stage == "validate":
            damaged = results / "validate.tar"
            whole = damaged.read_bytes()
            damaged.write_bytes(whole.replace(b'"passed"', b'"Passed"'))
            refused = start(origin, "split", storage, known, tmp_path, check=False)
            assert "error: run night-1: the result of stage validate is damaged" in refused.stdout
            damaged.write_bytes(whole)

    # into a checkout, as make platform-result does
    taken = copied(done, tmp_path / "taken")
    shutil.copyfile(expected.folder / "dvc.yaml", taken.folder / "dvc.yaml")
    taken.commit("four stages")
    taken.run("dvc", "remote", "add", "--local", "--default", "storage", str(storage))
    missing = taken.run("python", "-m", "mlops.pipeline.platforms.collect", "other", check=False)
    assert "error: run other has no result of stage ingest" in missing.stdout
    assert taken.git("status", "--porcelain") == ""
    taken.run("python", "-m", "mlops.pipeline.platforms.collect", "night/1")
    assert taken.read("dvc.lock") == expected.read("dvc.lock")
    taken.run("dvc", "pull")
    shutil.copyfile(expected.folder / "params.yaml", taken.folder / "params.yaml")
    assert taken.git("status", "--porcelain") == expected.git("status", "--porcelain")
    assert "Data and pipelines are up to date." in taken.run("dvc", "status").stdout
    changed = expected.git("diff", "--name-only", "HEAD").splitlines()
    assert {"dvc.lock", "data/prepared/split.json"} <= {*changed}
    assert all(taken.read(name) == expected.read(name) for name in changed)

    # another run of the same commit has nothing to do where its results are in the remote
    (taken.folder / ".dvc/config.local").unlink()
    repeated = start(taken, "ingest", storage, known, tmp_path, run="2").stdout
    assert "Stage 'ingest' didn't change, skipping" in repeated
    assert "Running stage 'ingest'" in container.run(*task, "3", "--force", DVC_REMOTE_URL=str(storage)).stdout
