"""Where a release is published: the registry of GitHub or of GitLab, from the environment of the job."""

from __future__ import annotations

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


def hand_on(environment: Mapping[str, str], reference: str) -> None:
    """Tell the jobs that follow what was published, as GitHub's outputs or as GitLab's variables."""
    name, _, digest = reference.partition("@")
    if output := environment.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as file:
            file.write(f"reference={reference}\nname={name}\ndigest={digest}\n")
    if environment.get("GITLAB_CI"):
        VARIABLES.write_text(f"REFERENCE={reference}\n", encoding="utf-8")
