"""What a task hands to the next ones, beside the files that DVC pushes: its entry of `dvc.lock`, and its files for Git.

They are an archive in DVC's remote, under the run and the stage, because that is the one place that the tasks of any
platform share. It is written last, after `dvc push`, so a task that stopped before leaves no result, and a second
attempt replaces all of it.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from mlops.core import paths
from mlops.core.errors import UserError, described
from mlops.core.files import tree_md5
from mlops.core.lock import read_lock
from mlops.pipeline.platforms.graph import Task

FOLDER = "tasks"
ENTRY = "dvc.lock.json"  # the stage's part of dvc.lock


def save(run: str, task: Task) -> None:
    """Store the result of a stage that is here."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "result.tar"
        entry = json.dumps(read_lock()[task.stage]).encode()
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as file:
            described_by = tarfile.TarInfo(ENTRY)
            described_by.size = len(entry)
            file.addfile(described_by, io.BytesIO(entry))
            for path in task.uncached:
                file.add(path)
        _transfer(run, task, archive, store=True)


def restore(run: str, tasks: Iterable[Task]) -> None:
    """Put the results of stages into `dvc.lock` and the working tree; all of them or none.

    Raises
    ------
    UserError
        Where the run has no result of a stage, or one whose files are not those of its entry.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = [(task, *_fetch(run, task, Path(folder) / task.name)) for task in tasks]
        for task, files, entry in found:
            _put(task, files, entry)


def _fetch(run: str, task: Task, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Unpack the result of a stage into a folder and check it."""
    files = folder / "files"
    files.mkdir(parents=True)
    _transfer(run, task, folder / "result.tar", store=False)
    try:
        with tarfile.open(folder / "result.tar") as archive:
            for member in archive:
                if member.isfile() and _expected(member.name, task):
                    target = files / member.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
        entry: dict[str, Any] = json.loads((files / ENTRY).read_text(encoding="utf-8"))
        hashes = {out["path"]: out["md5"] for out in entry["outs"]}
        whole = all(tree_md5(files / path) == hashes[path] for path in task.uncached)
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"run {run}: the result of stage {task.stage} is damaged", "run that stage's task again")
    return files, entry


def _expected(name: str, task: Task) -> bool:
    """Whether a result may hold a file; nothing else of an archive is unpacked."""
    path = PurePosixPath(name)
    return name == ENTRY or (".." not in path.parts and any(path.is_relative_to(each) for each in task.uncached))


def _put(task: Task, files: Path, entry: dict[str, Any]) -> None:
    from dvc.utils.serialize import modify_yaml

    for path in task.uncached:
        if Path(path).is_dir():
            shutil.rmtree(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(files / path, path)
    # as DVC itself writes its lock, so that the run leaves the same bytes as `dvc repro`
    with modify_yaml(str(paths.LOCK)) as document:
        document.setdefault("schema", "2.0")
        document.setdefault("stages", {})[task.stage] = entry


def _transfer(run: str, task: Task, archive: Path, *, store: bool) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            remote = repo.cloud.get_remote()
            path = remote.fs.join(remote.path, FOLDER, run, f"{task.name}.tar")
            if store:
                remote.fs.makedirs(remote.fs.parent(path), exist_ok=True)
                remote.fs.put_file(str(archive), path)
            else:
                remote.fs.get_file(path, str(archive))
    except FileNotFoundError:
        raise UserError(
            f"run {run} has no result of stage {task.stage}", "start its task first, or all tasks of a new run"
        ) from None
    except (DvcException, OSError) as error:
        raise UserError(
            f"DVC's remote does not {'take' if store else 'give'} the result of stage {task.stage}: {described(error)}",
            "make remote URL=…, in a task DVC_REMOTE_URL, and check the credentials",
        ) from None
