"""A repository with its origin, and GitHub's API beside it, as a release finds them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from conftest import Project
from review.github import API, GitHub

ADA = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


class Clone:
    """A clone of a bare `origin.git` beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.origin = folder / "origin.git"
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.origin)], check=True)
        subprocess.run(["git", "clone", "--quiet", str(self.origin), str(self.folder)], check=True, capture_output=True)
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.org")
        self.git("checkout", "--quiet", "-B", "main")

    def git(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(["git", "-C", str(self.folder), *arguments], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str, files: dict[str, str], push: bool = True) -> str:
        for name, content in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(content, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        if push:
            self.git("push", "--quiet", "origin", "HEAD")
        return self.git("rev-parse", "HEAD")

    def on_origin(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.origin), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def environment(github: GitHub, tag: str, **others: str) -> dict[str, str]:
    """What a job of the workflow finds in its environment."""
    return {
        "GITHUB_REF_NAME": tag,
        "GITHUB_REF_TYPE": "tag",
        "GITHUB_REPOSITORY": github.repository,
        "GITHUB_API_URL": f"{github.url}{API}",
        "GITHUB_SERVER_URL": github.url,
        "GITHUB_TOKEN": github.token,
        "GITHUB_ACTOR": "ada",
        **others,
    }


def merged(github: GitHub, clone: Clone | Project, commit: str, **different: Any) -> dict[str, Any]:
    """Let a commit of main be a squashed pull request, whose branch held the same files."""
    number = len(github.pulls) + 1
    head = f"{number:040x}"
    owner = {"login": "ada", "type": "User"}
    pull = {
        "number": number,
        "state": "closed",
        "merged_at": "2026-01-01T00:00:00Z",
        "merge_commit_sha": commit,
        "base": {"ref": "main"},
        "head": {"ref": "better", "sha": head, "user": owner, "repo": {"id": 1}},
        **different,
    }
    github.pulls.append(pull)
    github.trees[commit] = github.trees[head] = clone.git("rev-parse", f"{commit}^{{tree}}")
    return pull
