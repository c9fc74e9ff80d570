"""The stages of `dvc.yaml` as tasks: which needs which, what each takes from the others, and a hash of it all.

DVC itself reads the file, so variables, `foreach` and `matrix` count as they do in `dvc repro`.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mlops.core.errors import UserError
from mlops.core.files import md5

# names that each platform accepts once `_` and `@` are hyphens
NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_@][a-z0-9]+)*", re.A)
LONGEST = 50


class Task(NamedTuple):
    """A stage, as a platform sees it."""

    stage: str
    name: str
    """The stage's name with hyphens, which every platform accepts."""
    needs: tuple[str, ...]
    """Stages whose results it reads, sorted."""
    pulls: tuple[str, ...]
    """What `dvc pull` has to fetch for it: outputs of these stages, and pointers to raw data."""
    uncached: tuple[str, ...]
    """Its outputs that are in Git instead of DVC's remote."""


def read() -> dict[str, Task]:
    """Stage → task, in an order in which they can run.

    Raises
    ------
    UserError
        Where DVC cannot read `dvc.yaml`, or a platform would reject the name of a stage.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            graph = repo.index.graph
            stages = {each.addressing: each for each in repo.index.stages}
            needs = {name: {other.addressing for other in graph.successors(each)} for name, each in stages.items()}
    except DvcException as error:
        raise UserError(f"dvc.yaml: {error}", "make check") from None
    found: dict[str, Task] = {}
    waiting = {name: each for name, each in stages.items() if each.cmd}
    while waiting:
        ready = next(name for name in waiting if not needs[name] & waiting.keys())
        found[ready] = _task(waiting.pop(ready), {name: stages[name] for name in sorted(needs[ready])})
    names = [task.name for task in found.values()]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"dvc.yaml: two stages are called {twice} on a platform", "rename one of them")
    return found


def _task(stage: Any, needed: dict[str, Any]) -> Task:
    name = stage.addressing
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise UserError(
            f"dvc.yaml: a platform does not accept {name!r} as the name of a stage",
            f"use at most {LONGEST} lower-case letters, digits, hyphens and underscores, and start with a letter",
        )
    deps = [PurePosixPath(dep.def_path) for dep in stage.deps]
    pulls = [
        out.def_path if each.cmd else each.addressing
        for each in needed.values()
        for out in each.outs
        if not each.cmd or (out.use_cache and any(_overlap(PurePosixPath(out.def_path), dep) for dep in deps))
    ]
    return Task(
        name,
        re.sub("[_@]", "-", name),
        tuple(key for key, each in needed.items() if each.cmd),
        tuple(dict.fromkeys(pulls)),
        tuple(out.def_path for out in stage.outs if not out.use_cache),
    )


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def fingerprint(tasks: dict[str, Task]) -> str:
    """A hash of the stages and of what they need; a definition with another one is out of date."""
    return md5(json.dumps({name: task.needs for name, task in tasks.items()}, sort_keys=True).encode())[:12]
