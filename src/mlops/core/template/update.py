"""An update that exists in Git's database only: no file of the project changes, and none of the template runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mlops.core.errors import UserError
from mlops.core.git import git, show
from mlops.core.template import record, text, versions
from mlops.core.template.merge import Merged, merge, with_file
from mlops.core.template.record import Record
from mlops.core.template.versions import Version


class Update(NamedTuple):
    """An update that has been merged, conflicts included.

    Attributes
    ----------
    branch, title, body : str
        Of the pull request.
    """

    now: Version
    new: Version
    merged: Merged
    branch: str
    title: str
    body: str


class Wanted(NamedTuple):
    """What a person asks for; all of it may be empty."""

    to: str = ""
    since: str = ""
    repository: str = ""


def branch_of(version: str) -> str:
    """The branch of an update."""
    return f"template-{version.replace('/', '-')}"


def known(wanted: Wanted) -> Record:
    """The record of the last commit, with the address that is to be used.

    Raises
    ------
    UserError
        If no address is known.
    """
    found = record.parse((show("HEAD", record.PATH) or b"{}").decode("utf-8", errors="replace"))
    found = found._replace(repository=wanted.repository or found.repository)
    if not found.repository:
        raise UserError(
            f"{record.PATH} does not say where the template is",
            "make update TEMPLATE=https://github.com/OWNER/NAME, which also records it",
        )
    return found


def prepare(
    wanted: Wanted, environment: Mapping[str, str] | None = None, leave_workflows: bool = False
) -> Update | None:
    """Fetch the template, and merge; None if the project has this version already.

    Parameters
    ----------
    environment : mapping, optional
        Environment variables for the fetch.
    leave_workflows : bool
        Whether `.github/workflows` must stay as it is.
    """
    versions.check_git()
    found = known(wanted)
    versions.fetch(found.repository, environment)
    new = versions.named(wanted.to or versions.newest())
    now = versions.current(found, new, wanted.since)
    if versions.older(new, now):
        raise UserError(
            f"{new.name} is older than {now.name}, which this project has", "git revert the commit of the update"
        )
    stuck = found.workflows if not wanted.since else ""
    if now.tree == new.tree and (not stuck or leave_workflows):
        return None
    merged = merge(now.tree, new.tree, "HEAD", new.name, stuck, leave_workflows)
    older = (stuck or now.tree) if merged.left else ""
    text_of_record = Record(found.repository, new.name, new.tree, older).text()
    merged = merged._replace(tree=with_file(merged.tree, record.PATH, text_of_record))
    commit = git("rev-parse", "HEAD")
    body = text.text(now, new, merged, commit, versions.subjects(now, new))
    return Update(now, new, merged, branch_of(new.name), text.title(now, new), body)
