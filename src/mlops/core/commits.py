"""Commits that a workflow makes and pushes as GitHub's bot, without a checkout."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlops.core.git import git

AUTHOR = {"NAME": "github-actions[bot]", "EMAIL": "41898282+github-actions[bot]@users.noreply.github.com"}


def commit_files(parent: str, files: Mapping[str, bytes], message: str, removed: Iterable[str] = ()) -> str:
    """Make a commit on `parent` and return its hash.

    Parameters
    ----------
    files : mapping of str to bytes
        Path → new content.
    removed : iterable of str
        Paths to delete.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {**os.environ, "GIT_INDEX_FILE": str(Path(folder) / "index")}
        git("read-tree", parent, environment=index)
        for name in removed:
            git("update-index", "--force-remove", "--", name, environment=index)
        for name, content in files.items():
            blob = git("hash-object", "-w", "--stdin", given=content)
            git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", environment=index)
        tree = git("write-tree", environment=index)
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in AUTHOR.items()}
    return git("commit-tree", tree, "-p", parent, "-m", message, environment={**os.environ, **who})


def signed(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that pass the token to git, visible to no other process and in no file."""
    token = environment.get("GITHUB_TOKEN", "")
    if not token:
        return dict(os.environ)
    header = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {header}",
    }
