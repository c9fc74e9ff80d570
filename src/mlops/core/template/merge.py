"""The three-way merge of two versions of the template and this project, without a working tree.

The base is the recorded version. Three commits are made of the files of base, template and project, the last two on top
of the first, so that `git merge-tree` merges them whatever the histories are: after a squash merge, or in a repository
that began with 'Use this template'. Files that belong to the project are not part of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.template import record

WORKFLOWS = ".github/workflows/"
LOCK = "uv.lock"

# The project's from its first day: `make start`, the pipeline or a person writes them.
YOURS = re.compile(
    r"params\.yaml|gate\.yaml|dvc\.lock|docs/canvas\.md|data/(?!(.*/)?\.gitignore$).*|models/CARD\.md"
    rf"|reports/plots/.*|reports/[^/]+\.json|{re.escape(record.PATH)}"
)
# The project's as soon as it changes them. Half a README of each is worth less than either.
EDITED = re.compile(
    r"README\.md|CONTRIBUTING\.md|LICENSE|notebooks/.*|src/project/.*|tests/project/.*|tests/behaviour/.*"
    rf"|{re.escape(LOCK)}"
)
# What tests and measures the template itself. `make start` removes it.
TEMPLATE_ONLY = re.compile(r"(benchmarks|examples|\.ci)/.*|tests/(?!project/|behaviour/).*|CONTRIBUTING\.md")

Files = dict[str, tuple[str, str]]
"""Path → mode and hash."""

KINDS = {
    "123": "both changed the same lines",
    "23": "both added it",
    "12": "the template deleted it, and this project changed it",
    "13": "this project deleted it, and the template changed it",
}


class Merged(NamedTuple):
    """The result of a merge.

    Attributes
    ----------
    tree : str
        All files; those in conflict have conflict markers.
    conflicts : dict of str to str
        Path → what happened.
    stages : list of str
        The conflicts as `git update-index --index-info` reads them.
    edited : list of str
        Files that both have changed, and that merged without a conflict.
    kept : list of str
        Files that the template changed, and that stay as this project has them.
    deleted : list of str
        Files that the template changed or added, and that stay away because this project deleted them or their folder.
    left : list of str
        Files below `.github/workflows` that the template changed, and that were left out.
    """

    tree: str
    conflicts: dict[str, str]
    stages: list[str]
    edited: list[str]
    kept: list[str]
    deleted: list[str]
    left: list[str]


def merge(base: str, new: str, ours: str, label: str, workflows: str = "", leave_workflows: bool = False) -> Merged:
    """Merge the change from `base` to `new` into `ours`.

    Parameters
    ----------
    base, new, ours : str
        Trees or commits: the recorded version of the template, its new version, and this project.
    label : str
        What conflict markers call the new version.
    workflows : str
        The version of the workflows that this project has, if it is another one than `base`.
    leave_workflows : bool
        Whether `.github/workflows` must stay as it is.
    """
    old, their, mine = files(base), files(new), files(ours)
    offered = their.keys()
    if workflows:
        old = {path: what for path, what in old.items() if not path.startswith(WORKFLOWS)}
        old |= {path: what for path, what in files(workflows).items() if path.startswith(WORKFLOWS)}
    everything = old.keys() | their.keys() | mine.keys()
    changed = {path for path in everything if old.get(path) != their.get(path)}
    apart = {path for path in everything if YOURS.fullmatch(path)}
    kept = {
        path
        for path in everything & mine.keys()
        if EDITED.fullmatch(path) and mine[path] not in (old.get(path), their.get(path))
    }
    left = {path for path in everything if leave_workflows and path.startswith(WORKFLOWS)}
    without = apart | kept | left
    result = {path: what for path, what in mine.items() if path in without}
    old, their, mine = (
        {path: what for path, what in side.items() if path not in without} for side in (old, their, mine)
    )
    deleted = gone(old, their, mine)
    old, their = ({path: what for path, what in side.items() if path not in deleted} for side in (old, their))
    tree, conflicts, stages = three_way(old, their, mine, label)
    result |= files(tree)
    both = [path for path in mine if path in changed and mine[path] not in (old.get(path), their.get(path))]
    return Merged(
        tree=tree_of(result),
        conflicts=conflicts,
        stages=stages,
        edited=sorted(path for path in both if path in old and path not in conflicts),
        kept=sorted(kept & changed),
        deleted=sorted(deleted & changed & offered),
        left=sorted(left & changed),
    )


def gone(old: Files, their: Files, mine: Files) -> set[str]:
    """Files that stay away because the project deleted them, all of their folder, or all that is the template's only.

    What was renamed is not deleted: Git finds out by the content.
    """
    before, after, now = tree_of(old), tree_of(their), tree_of(mine)
    found = {path for _, path, _ in _changes(before, now, "D")}
    # what the template moves out of its own part is new to a project that make start made
    found |= {
        target
        for _, source, target in _changes(before, after, "R")
        if source in found and (not TEMPLATE_ONLY.fullmatch(source) or TEMPLATE_ONLY.fullmatch(target))
    }
    held = {folder for path in old.keys() - found for folder in _folders(path)} | {
        folder for path in mine for folder in _folders(path)
    }
    emptied = {folder for path in found for folder in _folders(path)} - held
    kept = {_top(path) for path in old.keys() & mine.keys() if TEMPLATE_ONLY.fullmatch(path)}
    return found | {
        path
        for path in their.keys() - old.keys() - mine.keys()
        if emptied & set(_folders(path)) or (TEMPLATE_ONLY.fullmatch(path) and _top(path) not in kept)
    }


def three_way(old: Files, their: Files, mine: Files, label: str) -> tuple[str, dict[str, str], list[str]]:
    """A tree, conflicts by path, and their entries for the index."""
    base = _commit(tree_of(old))
    names = {"template/project": _commit(tree_of(mine), base), f"template/{label}": _commit(tree_of(their), base)}
    for name, commit in names.items():
        git("update-ref", f"refs/{name}", commit)
    try:
        settings = (
            "merge.renames=true",
            "merge.directoryRenames=true",
            "merge.renameLimit=0",
            "merge.conflictStyle=diff3",
        )
        options = [part for setting in settings for part in ("-c", setting)]
        command = ["git", *options, "merge-tree", "--write-tree", "-z", "--no-messages", *names]
        done = subprocess.run(command, capture_output=True, check=False)
    finally:
        for name in names:
            git("update-ref", "-d", f"refs/{name}")
    if done.returncode not in (0, 1):
        raise UserError(f"git merge-tree failed: {done.stderr.decode(errors='replace').strip()}")
    tree, *stages = filter(None, done.stdout.decode("utf-8", errors="surrogateescape").split("\0"))
    seen: dict[str, str] = {}
    for entry in stages:
        stage, _, path = entry.partition("\t")
        seen[path] = seen.get(path, "") + stage[-1]
    return tree, {path: KINDS.get(found, "both renamed or moved it") for path, found in seen.items()}, stages


def files(tree: str) -> Files:
    """The files of a tree or commit."""
    listed = _raw("ls-tree", "-r", "-z", "--full-tree", tree)
    found: Files = {}
    for entry in filter(None, listed.split("\0")):
        what, _, path = entry.partition("\t")
        mode, _, digest = what.split(" ")
        found[path] = (mode, digest)
    return found


def tree_of(content: Files) -> str:
    """Write a tree."""
    lines = "".join(f"{mode} {digest}\t{path}\0" for path, (mode, digest) in content.items())
    with tempfile.TemporaryDirectory() as folder:
        index = {**os.environ, "GIT_INDEX_FILE": str(Path(folder) / "index")}
        given = lines.encode("utf-8", errors="surrogateescape")
        git("update-index", "-z", "--add", "--index-info", given=given, environment=index)
        return git("write-tree", environment=index)


def with_file(tree: str, path: str, text: str) -> str:
    """A tree in which one file has another content."""
    return tree_of({**files(tree), path: ("100644", git("hash-object", "-w", "--stdin", given=text))})


def changes(before: str, after: str) -> list[tuple[str, str, str]]:
    """What differs between two trees: a letter (A, D, M, R, T), the path, and the new path of a renamed file."""
    return list(_changes(before, after, "ADMRT"))


def _changes(before: str, after: str, kinds: str) -> Iterable[tuple[str, str, str]]:
    options = ("-r", "-z", "--name-status", "--find-renames", "-l0", f"--diff-filter={kinds}")
    parts = iter(_raw("diff-tree", *options, before, after).split("\0"))
    for letter in parts:
        if letter:
            path = next(parts)
            yield letter[0], path, next(parts) if letter[0] == "R" else path


def _top(path: str) -> str:
    return path.partition("/")[0]


def _folders(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def _commit(tree: str, parent: str = "") -> str:
    who = {f"GIT_{role}_{what}": "template" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {f"GIT_{role}_DATE": "2000-01-01T00:00:00Z" for role in ("AUTHOR", "COMMITTER")}
    parents = ("-p", parent) if parent else ()
    return git("commit-tree", tree, *parents, "-m", "template", environment={**os.environ, **who, **when})


def _raw(*arguments: str) -> str:
    """What git prints, with names of files as they are: they may begin or end with a space, and be of any bytes."""
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode("utf-8", errors="surrogateescape")
