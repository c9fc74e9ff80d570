"""Get the model in main's `dvc.lock` from the cache or the remote, or rebuild it, and check its hash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from mlops.core import dvcfiles, files, madeon, paths
from mlops.core import settings as settings_module
from mlops.core.environment import apart
from mlops.core.errors import UserError
from mlops.core.git import git, show
from mlops.core.lock import Lock, hash_of, maker, parse_lock
from mlops.core.settings import PARAMS, Settings
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.project import Project
from mlops.data.tables import Catalogue
from mlops.model import modelfile
from mlops.review import policy
from mlops.review.policy import GATE, Gate
from mlops.review.recorded import RECORDED, metrics_apart
from mlops.review.room import Room
from mlops.review.store import folder_from_store, from_store

FOLDER = Path("build/review/baseline")

Origin = Literal["cache", "remote", "rebuilt", "another platform"]


class Baseline(NamedTuple):
    """Main's model and its data.

    Attributes
    ----------
    commit : str
    lock : dict
        The stages of its `dvc.lock`; empty if there is none.
    project : Project or None
        Its settings, catalogue and features.
    model : Any or None
        None if it cannot be compared; `problem` says why.
    train : pyarrow.Table or None
        Its training rows.
    origin : {'cache', 'remote', 'rebuilt', 'another platform'} or None
        The last one is a rebuild whose hash cannot be main's, because main's lock was made on another platform.
    problem : str or None
    first : bool
        Whether main has no model yet, so that no comparison is possible.
    room : Room or None
        Main's `src/project/`, with its features and estimators.
    """

    commit: str
    lock: Lock
    project: Project | None = None
    model: Any | None = None
    train: pa.Table | None = None
    origin: Origin | None = None
    problem: str | None = None
    first: bool = False
    room: Room | None = None

    def own_code(self) -> AbstractContextManager[None]:
        """Use main's version of the team's code in the block."""
        return nullcontext() if self.room is None else self.room.entered()


def find(commit: str, settings: Settings) -> Baseline:
    """Get main's model and training rows.

    Parameters
    ----------
    commit : str
        The commit that the change is compared with.
    settings : Settings
        Settings of the change.
    """
    lock = parse_lock(show(commit, paths.LOCK)) or {}
    if not hash_of(lock, paths.MODEL) or show(commit, PARAMS) is None:
        return Baseline(commit, lock, problem="main has no trained model yet", first=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    room = Room(commit, FOLDER / "src")
    try:
        with room.entered():
            theirs = projects.opened(settings_of(commit), _catalogue(commit))
    except UserError as error:
        return Baseline(commit, lock, problem=f"main's files cannot be read by this change's code: {error}")
    found = Baseline(commit, lock, theirs, room=room)
    for key in ("task", "target", "positive"):
        was, now = getattr(theirs.settings.data, key), getattr(settings.data, key)
        if was != now:
            return found._replace(problem=f"data.{key} is {was} on main and {now} here, so no metric can be compared")
    try:
        copies, origin = _files(commit, lock, [paths.MODEL, paths.TRAIN])
        with found.own_code():
            model = modelfile.load(theirs.settings, copies[paths.MODEL])
        train = tables.read(copies[paths.TRAIN])
    except (UserError, pa.ArrowInvalid) as error:
        return found._replace(problem=f"main's model cannot be loaded: {error}")
    return found._replace(model=model, train=train, origin=origin)


def gate(commit: str) -> Gate | None:
    """The policy of a commit; None if it has none.

    Raises
    ------
    UserError
        If this change's code cannot read it.
    """
    text = show(commit, GATE)
    if text is None:
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / GATE.name
    path.write_bytes(text)
    try:
        return policy.load(path)
    except UserError as error:
        raise UserError(f"this change's code cannot read main's gate: {error}") from None


def settings_of(commit: str) -> Settings:
    """The settings of a commit, as this change's code reads them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / PARAMS.name
    path.write_bytes(show(commit, PARAMS) or b"")
    return settings_module.load(path)


def _catalogue(commit: str) -> Catalogue:
    path = FOLDER / paths.CATALOGUE.name
    path.write_bytes(show(commit, paths.CATALOGUE) or b"")
    try:
        return tables.read_catalogue(path)
    except ValidationError as error:
        raise UserError(f"{paths.CATALOGUE}: {error.errors()[0]['msg']}") from None


def service(main: Baseline) -> Path:
    """A folder with the form of main's model that its service runs, from the cache, the remote, or a rebuild.

    Raises
    ------
    UserError
        If it cannot be had, with the reason.
    """
    md5 = hash_of(main.lock, paths.SERVICE)
    if not md5:
        raise UserError(f"main's dvc.lock does not name {paths.SERVICE}")
    folder, _ = folder_from_store(md5, FOLDER / paths.SERVICE.name)
    return folder or _rebuild(main.commit, main.lock, {paths.SERVICE: md5})[0][paths.SERVICE]


def _files(commit: str, lock: Lock, wanted: list[Path]) -> tuple[dict[Path, Path], Origin]:
    """Copies of outputs, and their origin."""
    hashes = {path: hash_of(lock, path) for path in wanted}
    missing = [str(path) for path, md5 in hashes.items() if not md5]
    if missing:
        raise UserError(f"main's dvc.lock does not name {', '.join(missing)}")
    found: dict[Path, Path] = {}
    origin: Origin = "cache"
    for path, md5 in hashes.items():
        store = folder_from_store if str(md5).endswith(".dir") else from_store
        here, from_remote = store(str(md5), FOLDER / path.name)
        if here is None:
            copies, same = _rebuild(commit, lock, hashes)
            return copies, "rebuilt" if same else "another platform"
        found[path] = here
        origin = "remote" if from_remote else origin
    return found, origin


def _rebuild(commit: str, lock: Lock, hashes: dict[Path, str | None]) -> tuple[dict[Path, Path], bool]:
    """Run main's pipeline up to the stage that writes the first of these outputs, in a separate worktree.

    Returns
    -------
    dict
        Copies of the outputs.
    bool
        Whether they have these hashes; False where main's lock was made on another platform, and names other last bits.
    """
    print(
        f"  rebuilding main's model at {commit[:10]}, because neither the cache nor the remote has it", file=sys.stderr
    )
    found = {}
    stage = maker(lock, next(iter(hashes)))
    same = True
    with _worktree(commit) as folder:
        _run(commit, folder, stage)
        for path, md5 in hashes.items():
            if files.tree_md5(folder / path) != md5:
                if same and not _equal_metrics(commit, lock, folder):
                    raise UserError(f"{path} rebuilt from {commit[:10]} does not match main's dvc.lock")
                same = False
            found[path] = FOLDER / path.name
            if (folder / path).is_dir():
                shutil.copytree(folder / path, found[path], dirs_exist_ok=True)
            else:
                found[path].write_bytes((folder / path).read_bytes())
    return found, same


def _run(commit: str, folder: Path, stage: str) -> None:
    """Run main's pipeline in its worktree up to a stage."""
    if show(commit, "uv.lock") == Path("uv.lock").read_bytes():
        dvcfiles.fetch(dvcfiles.present(folder), folder)
        command = [sys.executable, "-P", "-m", "dvc", "repro", stage]
    else:
        command = ["make", "--file=Makefile", "pipeline", f"FLAGS={stage}"]
    environment = {**apart(), "PYTHONPATH": str(folder / "src")}
    if subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr, check=False).returncode:
        raise UserError(f"commit {commit[:10]} cannot be rebuilt: its pipeline fails")


def _equal_metrics(commit: str, lock: Lock, folder: Path) -> bool:
    """Whether main's lock names another platform, and the rebuilt model has the metrics that main has recorded."""
    if madeon.read(show(commit, paths.LOCK) or b"") in (None, madeon.here()):
        return False
    _run(commit, folder, maker(lock, paths.EVALUATION))
    return metrics_apart(show(commit, paths.EVALUATION), (folder / paths.EVALUATION).read_bytes()) <= RECORDED


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    """A separate checkout of a commit, with the same DVC cache."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        cache = Path(repo.cache.local.path).parents[1]
    folder = (FOLDER / "worktree").resolve()
    subprocess.run(["git", "worktree", "remove", "--force", str(folder)], capture_output=True, check=False)
    git("worktree", "prune")
    git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        config = folder / ".dvc/config.local"
        config.write_text(f"['cache']\n    dir = {cache}\n", encoding="utf-8")
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))
