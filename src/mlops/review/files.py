"""Classifies the files of a change: documentation and deployment, and files that need a code owner's approval.

Owners are read from CODEOWNERS, so that the comment agrees with GitHub. The job that posts the comment repeats both
classifications with the file names that GitHub lists.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from codeowners import CodeOwners

from mlops.core import paths
from mlops.core.git import git
from mlops.core.lock import read_lock
from mlops.core.report import CATCH_ALL, Owned, shortened

CODEOWNERS = Path(".github/CODEOWNERS")

# Text and pictures for people: by folder and by ending, because DVC, make and Git act on other files wherever they are
PAGES = frozenset({"README.md", "CONTRIBUTING.md", "LICENSE"})
PICTURES = frozenset({".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"})
FORMS = frozenset({".md", ".yml", ".yaml"})
# Files that configure where a released model runs
DEPLOYMENT = frozenset({".md", ".yaml", ".yml", ".json", ".container", ".env"})

MOST_PLACES, MOST_NAMES = 60, 20


def is_untouched(files: list[str]) -> bool:
    """Whether all files are documentation or deployment, which no stage reads; False for an empty list."""
    if not files or not all(is_documentation(name) or _is_deployment(name) for name in files):
        return False
    root = Path.cwd().resolve()
    tracked = git("ls-files", "--stage", "-z").split("\0")
    links = [line.partition("\t")[2] for line in tracked if line.startswith("120000")]
    stages = read_lock(paths.LOCK).values() if paths.LOCK.is_file() else []
    read = [*links, *(each["path"] for stage in stages for each in stage.get("deps", []))]
    reached = [Path(name).resolve() for name in read]
    return not any(
        (root / name).resolve() != root / name or any((root / name).is_relative_to(place) for place in reached)
        for name in files
    )


def is_documentation(name: str) -> bool:
    """Whether a file is a page or picture for people."""
    path = PurePosixPath(name)
    if str(path) != name or ".." in path.parts or path.name.startswith("."):
        return False
    match path.parts:
        case [page]:
            return page in PAGES
        case ["docs", *_]:
            return path.suffix in PICTURES
        case [".github", _]:
            return path.suffix == ".md"
        case [".github", "ISSUE_TEMPLATE", _]:
            return path.suffix in FORMS
    return False


def _is_deployment(name: str) -> bool:
    path = PurePosixPath(name)
    if str(path) != name or ".." in path.parts or path.parts[0] != "deploy" or path.name.casefold() == "dvc.yaml":
        return False
    return path.suffix in DEPLOYMENT or path.name == ".env"


def _takes_over(name: str) -> bool:
    """Whether a file may stand in for a makefile, a module of Python's own, or an installed program."""
    folder, _, rest = name.partition("/")
    if rest:
        return folder in (".venv", ".uv", ".trusted")
    return name.casefold() in ("gnumakefile", "makefile") or PurePosixPath(name).stem in sys.stdlib_module_names


def owned(files: Iterable[str], codeowners: str | None) -> list[Owned]:
    """Files that need a code owner's approval, by the line of CODEOWNERS that names them, most dangerous first.

    Parameters
    ----------
    files : iterable of str
    codeowners : str or None
        Text of the base branch's file. Its lines are expected to go from harmless to dangerous. Where it is None,
        every file needs approval.

    Returns
    -------
    list of Owned
        First the files that only a catch-all line names, since nothing belongs there; then by line, the last one first.
    """
    owners = CodeOwners(codeowners if codeowners is not None else "* @unknown")
    places: dict[tuple[int, str], list[str]] = {}
    named: dict[str, list[str]] = {}
    for name in sorted(set(files), key=lambda name: (not _takes_over(name), name)):
        who, line, pattern, _ = owners.matching_line(name)
        if line is None or pattern is None or not who or is_documentation(name):
            continue
        # files that only the catch-all matches come first
        rank = -(10**9) if pattern in CATCH_ALL else -line
        places.setdefault((rank, pattern), []).append(name)
        named[pattern] = [owner for _, owner in who]
    return [
        Owned(
            place=shortened(pattern),
            owners=[shortened(owner) for owner in named[pattern][:10]],
            files=[shortened(name) for name in names[:MOST_NAMES]],
            count=len(names),
        )
        for (_, pattern), names in sorted(places.items())[:MOST_PLACES]
    ]
