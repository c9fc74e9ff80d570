"""The branch of a retraining: whether it is there, who worked on it, and the commit that it begins with.

The commit is made without a checkout: data files, and their names in `params.yaml`. So nothing that is checked out
changes, and a run that is killed leaves no branch or a complete one.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError

from mlops.core import settings as settings_module
from mlops.core.commits import AUTHOR, commit_files
from mlops.core.errors import UserError
from mlops.core.git import git, show
from mlops.core.settings import PARAMS
from mlops.monitoring.proposal import RAW, Proposal, pointer

MAIN = "main"
REMOTE = "origin"
PREFIX = "retrain/"
TRAILER = "Retrain-Epoch"

Work = Literal["none", "ours", "edited", "merged", "conflict"]


class State(NamedTuple):
    """What there is of a retraining already.

    Attributes
    ----------
    work : {'none', 'ours', 'edited', 'merged', 'conflict'}
        `edited`: somebody else committed to the branch; `merged`: main has its rows.
    why : str
        In a sentence; empty for `none`.
    tip : str or None
        The branch's last commit.
    """

    work: Work
    why: str = ""
    tip: str | None = None


def main_commit() -> str:
    """Main as it is on the remote, or the local one where there is no remote."""
    for name in (f"refs/remotes/{REMOTE}/{MAIN}", f"refs/heads/{MAIN}"):
        if found := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False):
            return found
    raise UserError(f"there is no branch {MAIN}, on which a retraining could be based", f"git fetch {REMOTE} {MAIN}")


def update() -> None:
    """Fetch main and the branches of retrainings; without a remote or a network, what is known here counts."""
    refs = (f"+refs/heads/{each}:refs/remotes/{REMOTE}/{each}" for each in (MAIN, f"{PREFIX}*"))
    git("fetch", "--quiet", "--prune", REMOTE, *refs, check=False)


def tip_of(branch: str) -> str | None:
    """The last commit of a branch, on the remote or here."""
    for name in (f"refs/remotes/{REMOTE}/{branch}", f"refs/heads/{branch}"):
        if found := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False):
            return found
    return None


def state(branch: str, tip: str | None, main: str) -> State:
    """What has become of a branch.

    Parameters
    ----------
    branch : str
        Its name, which ends in the beginning of the deployed model's hash.
    """
    epoch = branch.removeprefix(PREFIX)
    if git("ls-tree", "--name-only", main, f"{RAW}/{epoch}.parquet", f"{RAW}/{epoch}.parquet.dvc"):
        return State("merged", "main has the rows of this release; deploy the model that was trained on them", tip)
    if tip is None:
        return State("none")
    committers = set(git("log", "--format=%cn", f"{main}..{tip}").splitlines())
    conflict = subprocess.run(["git", "merge-tree", "--write-tree", main, tip], capture_output=True, check=False)
    if conflict.returncode == 1:
        hint = "resolve the conflict, or delete the branch to have it made again"
        return State("conflict", f"the branch {branch} is there, but conflicts with main: {hint}", tip)
    others = sorted(committers - {AUTHOR["NAME"]})
    if others:
        return State("edited", f"the branch {branch} is there and left alone, because {others[0]} committed to it", tip)
    return State("ours", f"the branch {branch} is there; nothing has changed", tip)


def last_retraining(branch: str, main: str) -> int | None:
    """When the last retraining other than that of `branch` was merged or proposed, in seconds since 1970."""
    times = [git("log", "-1", "--format=%ct", main, "--", RAW)]
    listed = git(
        "for-each-ref",
        "--format=%(refname) %(committerdate:unix)",
        f"refs/heads/{PREFIX}",
        f"refs/remotes/{REMOTE}/{PREFIX}",
    )
    times += [line.split()[1] for line in listed.splitlines() if not line.split()[0].endswith(f"/{branch}")]
    return max((int(time) for time in times if time), default=None)


def with_files(text: str, found: Proposal) -> str:
    """`params.yaml` with the new files; the earlier recent window becomes training rows."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    null = "tag:yaml.org,2002:null"
    yaml.representer.add_representer(type(None), lambda writer, _: writer.represent_scalar(null, "null"))
    try:
        document: Any = yaml.load(text)
        data = document["data"]
        before = [*(data.get("more") or []), *(data.get("recent") or [])]
    except (YAMLError, KeyError, TypeError, AttributeError):
        raise UserError(f"main's {PARAMS} cannot be read") from None
    names = {each.role: each.path(found.model) for each in found.files}
    place = list(data).index("source") + 1
    for key, values in (("recent", [names["recent"]]), ("more", [*before, names["more"]])):
        if key in data:
            data[key] = CommentedSeq(values)
        else:
            data.insert(place, key, CommentedSeq(values))
        data[key].fa.set_flow_style()
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def commit(found: Proposal, contents: Mapping[str, bytes], main: str) -> str:
    """A commit on main with the files of a proposal, or pointers to them.

    Raises
    ------
    UserError
        If main's `params.yaml` cannot name them.
    """
    text = with_files((show(main, PARAMS) or b"").decode("utf-8"), found)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PARAMS.name
        path.write_text(text, encoding="utf-8")
        settings_module.load(path)
    files = {str(PARAMS): text.encode()}
    ignored = []
    for each in found.files:
        place = each.path(found.model)
        if each.stored == "git":
            files[place] = contents[place]
        else:
            name = Path(place).name
            files[f"{place}.dvc"] = pointer(each, name)
            ignored.append(f"/{name}\n")
    if ignored:
        known = (show(main, f"{RAW}/.gitignore") or b"").decode("utf-8")
        files[f"{RAW}/.gitignore"] = (known + "".join(line for line in ignored if line not in known)).encode()
    body = f"{found.why}\n\nPredicted from {found.first} to {found.last}.\n\n{TRAILER}: {found.model}"
    return commit_files(main, files, f"{found.title}\n\n{body}")


def create(branch: str, made: str) -> None:
    """Create a branch here, unless it is there.

    Raises
    ------
    UserError
        If another run has created it meanwhile.
    """
    try:
        git("update-ref", f"refs/heads/{branch}", made, "0" * 40)
    except UserError:
        raise UserError(f"another run has created {branch} meanwhile", f"git log {MAIN}..{branch}") from None
