"""Take the outputs of `tune` and `train` from the author, where the gate lets the review not run them again.

The claimed entries of `dvc.lock` are put into the lock that the review starts with, and DVC itself says whether code,
parameters and data in them are those of this commit. The outputs are data: their size is limited, their bytes are
hashed, and the model must load by the types that main trusts. Whether training gives these bytes is not checked.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops.core import files, paths
from mlops.core.errors import UserError
from mlops.core.lock import Lock, read_lock
from mlops.core.paths import LOCK
from mlops.core.report import Expensive
from mlops.model import modelfile
from mlops.review.baseline import FOLDER, settings_of
from mlops.review.store import stored

STAGES: tuple[Expensive, ...] = ("tune", "train")
MOST_MODEL, MOST_TRIALS = 2_000_000_000, 1_000_000  # bytes
REMEDY = "run make and dvc push, and commit what changed"
# the number that GitHub, GitLab or Jenkins has given to this run
RUNS = ("GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILD_TAG")


class File(BaseModel):
    """A file or folder in an entry of `dvc.lock`, with the keys that DVC writes for this pipeline."""

    model_config = ConfigDict(extra="forbid")

    path: str
    hash: Literal["md5"]
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
    size: int
    nfiles: int | None = None
    isexec: bool = False


class Entry(BaseModel):
    """What a change claims about a stage: what it ran on, and the hash of its only output."""

    model_config = ConfigDict(extra="forbid")

    cmd: str
    deps: list[File]
    params: dict[str, dict[str, Any]]
    outs: Annotated[list[File], Field(min_length=1, max_length=1)]


def run_number(environment: Mapping[str, str] = os.environ) -> str:
    """The number of this run; empty on a laptop."""
    return next((environment[name] for name in RUNS if environment.get(name)), "")


def read_before() -> list[str]:
    """The stages whose outputs `tune` and `train` read, directly or not."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        needed = [stage.addressing for stage in repo.stage.collect(STAGES[-1], with_deps=True)]
    return sorted(name for name in needed if name not in STAGES)


def take(claimed: Lock, base: str) -> list[Expensive]:
    """Put the claimed entries and outputs of `tune` and `train` where the next `dvc repro` finds them up to date.

    The stages before them have run, so that their data is there.

    Parameters
    ----------
    claimed : dict
        The stages in this change's `dvc.lock`.
    base : str
        Main's commit.

    Returns
    -------
    list of {'tune', 'train'}
        The stages that are the author's; empty where main has run them, or where the review must run them.

    Raises
    ------
    UserError
        If the lock is outdated, or an output is missing, damaged or too large.
    """
    entries = {stage: _entry(claimed, stage) for stage in STAGES}
    before, lock = LOCK.read_bytes(), read_lock()
    new = [stage for stage in STAGES if entries[stage] != lock.get(stage)]
    _check_trials(entries["tune"])
    try:
        _write(entries)
        _check_current()
        try:
            model = _model(entries["train"])
        except UserError:
            if new:
                raise
            return []  # main ran them; its outputs are rebuilt as its other ones
        try:
            modelfile.load(settings_of(base), model)
        except UserError as error:
            # parameters have no owner, so this change's own `trusted` must not decide what is built of its file
            print(f"  tune and train run here: by main's settings, the model is rejected: {error}", file=sys.stderr)
            LOCK.write_bytes(before)
            return []
        with files.atomic(paths.MODEL) as partial:
            shutil.copyfile(model, partial)
    except BaseException:
        LOCK.write_bytes(before)
        raise
    return new


def _entry(claimed: Lock, stage: str) -> dict[str, Any]:
    try:
        return Entry.model_validate(claimed.get(stage)).model_dump(exclude_unset=True)
    except ValidationError:
        problem = f"{LOCK} has no entry of {stage} as DVC writes it, and this review does not run {stage}"
        raise UserError(f"{problem}; {REMEDY}") from None


def _write(entries: Mapping[Expensive, Any]) -> None:
    from dvc.utils.serialize import modify_yaml

    with modify_yaml(str(LOCK)) as document:
        document["stages"].update(entries)


def _check_current() -> None:
    """Let DVC compare the claimed entries with the code, parameters and data of this commit."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        status = repo.status(targets=list(STAGES))
    for stage, problems in status.items():
        changed = list(_changed(problems))
        if changed:
            which = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
            problem = f"{LOCK} is outdated, and this review does not run {stage}, which ran with another {which}"
            raise UserError(f"{problem}; {REMEDY}")


def _changed(problems: Iterable[Any]) -> Iterable[str]:
    for problem in problems:
        if isinstance(problem, str):
            yield problem.removeprefix("changed ")  # the command
            continue
        for path, how in problem.get("changed deps", {}).items():
            yield from [f"{key} in {path}" for key in how] if isinstance(how, dict) else [path]


def _check_trials(entry: Mapping[str, Any]) -> None:
    """Check the output of `tune`, which is in Git."""
    if not paths.TRIALS.is_file() or paths.TRIALS.stat().st_size > MOST_TRIALS:
        raise UserError(f"{paths.TRIALS} is missing, or larger than {MOST_TRIALS:,} bytes; {REMEDY}")
    if files.md5(paths.TRIALS) != entry["outs"][0]["md5"]:
        raise UserError(f"{paths.TRIALS} has another hash than in {LOCK}; {REMEDY}")


def _model(entry: Mapping[str, Any]) -> Path:
    """Get the output of `train`, which DVC's cache keeps afterwards.

    Raises
    ------
    UserError
        If it is missing, damaged or too large.
    """
    from dvc.repo import Repo

    md5 = entry["outs"][0]["md5"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        found, from_remote = stored(md5, FOLDER / "claimed.skops", MOST_MODEL)
    except UserError as error:
        raise UserError(
            f"this review does not run train, and {paths.MODEL} is not available: {error}; run make and dvc push "
            "(for a fork, somebody who may write to the remote runs both on its branch)"
        ) from None
    if not from_remote:
        return found
    with Repo(".") as repo:
        place = Path(repo.cache.local.oid_to_path(md5))
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(found, place)
    place.chmod(0o444)
    return place
