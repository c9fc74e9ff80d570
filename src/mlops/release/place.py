"""Where a release is published, by the environment of a job on GitHub or GitLab, and what its jobs hand on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlops.core.errors import UserError
from mlops.release.tag import FOLDER

GITHUB = ("GITHUB_REF_NAME", "GITHUB_REPOSITORY", "GITHUB_ACTOR", "GITHUB_TOKEN")
GITLAB = ("CI_COMMIT_TAG", "CI_REGISTRY_IMAGE", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD")
VARIABLES = FOLDER / "publish.env"
HINT = "leave this to the release of a tag; `make release-check` rehearses a release here"


class Place(NamedTuple):
    """A repository of a registry."""

    tag: str
    name: str
    """Such as `ghcr.io/owner/name`; registries know small letters only."""
    account: str
    token: str


def place(environment: Mapping[str, str], *more: str, tagged: bool = True) -> Place:
    """Where this job publishes; unless `tagged`, it is not the job of a tag.

    Raises
    ------
    UserError
        Where a variable is missing, one of `more` among them.
    """
    names = GITLAB if environment.get("GITLAB_CI") else GITHUB
    missing = sorted(name for name in (*(names if tagged else names[1:]), *more) if not environment.get(name))
    if missing:
        raise UserError(f"missing environment variables: {', '.join(missing)}", HINT)
    tag, name, account, token = (environment.get(each, "") for each in names)
    if names is GITHUB:
        name = f"{environment.get('REGISTRY') or 'ghcr.io'}/{name}"
    return Place(tag, name.lower(), account, token)


def sha256(path: Path) -> str:
    """`sha256:…` of a file that is handed on."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def hand_on(environment: Mapping[str, str], variable: str, value: str, **outputs: str) -> None:
    """Tell the jobs that follow what was made: as the variable that they read on GitLab, or as GitHub's outputs."""
    if output := environment.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as file:
            file.writelines(f"{name}={each}\n" for name, each in outputs.items())
    if environment.get("GITLAB_CI"):
        VARIABLES.parent.mkdir(parents=True, exist_ok=True)
        with VARIABLES.open("a", encoding="utf-8") as file:
            file.write(f"{variable}={value}\n")
