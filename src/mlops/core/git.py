"""Git: commits, files of other commits, and the files that a change touches."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from mlops.core.errors import UserError


def git(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    given: str | bytes | None = None,
    check: bool = True,
) -> str:
    """Run git and return what it prints.

    Parameters
    ----------
    environment : mapping, optional
        All environment variables; by default those of this process.
    given : str or bytes, optional
        Standard input of git.
    check : bool
        Whether to raise an error if git fails.

    Raises
    ------
    UserError
        Contains git's message.
    """
    content = given.encode() if isinstance(given, str) else given
    done = subprocess.run(["git", *arguments], env=environment, input=content, capture_output=True, check=False)
    if done.returncode and check:
        raise UserError(f"git {' '.join(arguments[:3])} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace").strip()


def resolve(name: str) -> str:
    """The commit that a branch, tag or hash names."""
    done = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"there is no commit {name!r} to compare with", "git fetch origin, or make review BASE=main")
    return done.stdout.strip()


def show(commit: str, path: str | Path) -> bytes | None:
    """A file in a commit; None if it did not exist."""
    done = subprocess.run(["git", "show", f"{commit}:{path}"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def fork_point(base: str) -> str:
    """The merge base of this change and `base`; `base` itself if they have no common history."""
    done = subprocess.run(["git", "merge-base", base, "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or base


def changed_files(since: str) -> list[str]:
    """Files that differ from a commit in the working tree, untracked ones included, sorted."""
    changed = git("-c", "core.quotePath=false", "diff", "--name-only", "--no-renames", "-z", since).split("\0")
    untracked = git("ls-files", "--others", "--exclude-standard", "-z").split("\0")
    return sorted(filter(None, {*changed, *untracked}))


def dirty() -> bool:
    """Whether tracked files differ from the commit."""
    return bool(git("status", "--porcelain", "--untracked-files=no"))
