"""The versions of the template: fetches its history, and finds the version that a project has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import NamedTuple

from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.template.record import PATH, Record

# not below refs/tags or refs/remotes: the template's v1.0 is not the project's, and nothing here is pushed
REFS = "refs/template"
TAGS = f"{REFS}/tags"
# names that need no quotes in a shell or in Markdown
SIMPLE = re.compile(r"\w[\w.+/-]*", re.ASCII)
RELEASE = re.compile(r"v?\d+(\.\d+)*", re.ASCII)
OLDEST_GIT = (2, 38)


class Version(NamedTuple):
    """A version of the template."""

    name: str
    commit: str
    tree: str


def check_git() -> None:
    """Refuse a Git that cannot merge without a working tree."""
    found = git("version")
    match = re.search(r"(\d+)\.(\d+)", found)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_GIT:
        needed = ".".join(map(str, OLDEST_GIT))
        raise UserError(f"make update needs Git {needed} or newer; this is {found}", "https://git-scm.com/downloads")


def fetch(repository: str, environment: Mapping[str, str] | None = None) -> None:
    """Fetch the history of the template, and nothing into the working tree.

    Raises
    ------
    UserError
        If the address is wrong, or cannot be reached.
    """
    refs = [f"+refs/{kind}/*:{REFS}/{kind}/*" for kind in ("tags", "heads")]
    options = ("--quiet", "--no-tags", "--prune", "--no-recurse-submodules", "--no-write-fetch-head")
    try:
        git("fetch", *options, "--end-of-options", repository, *refs, environment=environment)
    except UserError as error:
        reason = str(error).partition("failed: ")[2].splitlines() or ["no reason given"]
        raise UserError(
            f"the template cannot be fetched from {repository}: {reason[0]}",
            f"check the network, or the address in {PATH}; make update TEMPLATE=address uses another one",
        ) from None


def newest() -> str:
    """The tag with the highest version; pre-releases do not count."""
    tags = [tag for tag in _tags() if RELEASE.fullmatch(tag)]
    if not tags:
        raise UserError("the template has no tag that is a version, such as v2.0", "make update TO=tag")
    return max(tags, key=lambda tag: [int(part) for part in re.findall(r"\d+", tag)])


def named(tag: str) -> Version:
    """The version with a tag.

    Raises
    ------
    UserError
        Names the tags that are closest, or the newest ones.
    """
    known = _tags()
    if tag not in known:
        close = difflib.get_close_matches(tag, known, n=5, cutoff=0.3) or known[-5:]
        raise UserError(f"the template has no tag {tag[:100]!r}", f"one of {', '.join(close)}" if close else "")
    commit = git("rev-parse", f"{TAGS}/{tag}^{{commit}}")
    return Version(tag, commit, _tree(commit))


def current(record: Record, new: Version, given: str = "") -> Version:
    """The version of the template that this project has: what both sides changed since is merged.

    Parameters
    ----------
    record : Record
        What `.template.json` says.
    given : str
        A tag that a person names instead.

    Raises
    ------
    UserError
        If neither the record nor the history of the project leads to a version.
    """
    if given:
        return named(given)
    history = _history()
    commit = history.get(record.tree)
    if commit is None:
        # a fork has the template's history
        commit = git("merge-base", "HEAD", new.commit, check=False) or None
    if commit is None:
        # 'Use this template' makes one commit with the template's files
        mine = reversed(git("log", "--first-parent", "--format=%T", "HEAD").splitlines())
        commit = next((history[tree] for tree in mine if tree in history), None)
    if commit is None:
        raise UserError(
            f"it is not known which version of the template this project has: {PATH} "
            f"{'names none' if not record.tree else 'names one that the template does not have'}, "
            "and no commit here has the files of one",
            "make update FROM=tag, with the version that it was made from",
        )
    return Version(_name(commit), commit, _tree(commit))


def older(new: Version, now: Version) -> bool:
    """Whether `new` is a version before `now`."""
    return new.commit != now.commit and git("merge-base", new.commit, now.commit, check=False) == new.commit


def subjects(now: Version, new: Version) -> list[str]:
    """The subjects of the commits between two versions, newest first."""
    return git("log", "--first-parent", "--format=%s", f"{now.commit}..{new.commit}").splitlines()


def _history() -> dict[str, str]:
    """Tree → the newest commit of the template with it."""
    lines = git("log", f"--glob={REFS}/tags", f"--glob={REFS}/heads", "--format=%T %H").splitlines()
    return dict(reversed([(tree, commit) for tree, _, commit in (line.partition(" ") for line in lines)]))


def _tags(at: str = "") -> list[str]:
    """The tags of the template, by version; only those at a commit, if it is given."""
    points = ("--points-at", at) if at else ()
    names = git("for-each-ref", "--sort=version:refname", *points, "--format=%(refname)", TAGS).splitlines()
    return [name for ref in names if SIMPLE.fullmatch(name := ref.removeprefix(f"{TAGS}/"))]


def _name(commit: str) -> str:
    """Its tag, or the beginning of its hash."""
    return next(iter(_tags(commit)), commit[:10])


def _tree(commit: str) -> str:
    return git("rev-parse", f"{commit}^{{tree}}")
