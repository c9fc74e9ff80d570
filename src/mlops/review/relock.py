"""`make relock`: commit what the review of a pull request has rebuilt to its branch.

The review runs the change's code, writes nowhere, and leaves the files that the pipeline keeps in Git as an artifact.
This runs main's code with a token that may write: it takes small text files with expected names from that artifact,
which anybody may have made, and makes a commit without checking out a file.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from mlops.core.commits import AUTHOR, commit_files, signed
from mlops.core.errors import UserError, errors_in_words
from mlops.core.git import git
from mlops.core.github import Api
from mlops.review.artifact import fetch_artifact

# what a run of the pipeline keeps in Git; no name that begins with a dot, and no dvc.yaml, which could hold commands
ALLOWED = re.compile(
    r"dvc\.lock|data/prepared/catalogue\.json|models/CARD\.md|reports/(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.(?:json|csv)",
    re.A,
)
PACKED = Path("build/relock")
ARTIFACT = "relock"
MOST_FILES = 200
MOST_BYTES = 1_000_000
MOST_ZIPPED = 20_000_000
NEEDED = "the job needs `permissions:` with actions and pull-requests: read, and contents: write"


def pack(target: Path = PACKED) -> list[str]:
    """Copy what the pipeline keeps in Git to `target`, and return the names."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    names = sorted({name for name in listed if ALLOWED.fullmatch(name) and Path(name).is_file()})
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, target / name)
    return names


def unpack(content: bytes) -> dict[str, bytes]:
    """The files of a zip that anybody may have made, by name; nothing is written.

    Raises
    ------
    UserError
        Where the zip is damaged, too large, without `dvc.lock`, or holds anything but small text files with the
        names that the pipeline gives.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES:
                raise UserError(f"the rebuilt files are rejected: {len(entries):,} entries; the limit is {MOST_FILES}")
            files: dict[str, bytes] = {}
            for entry in entries:
                name = entry.orig_filename
                if name in files or not ALLOWED.fullmatch(name) or entry.filename != name:
                    raise UserError(f"the rebuilt files are rejected: {name[:100]!r} is not written by the pipeline")
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise UserError(f"the rebuilt files are rejected: {name} is not a regular file")
                with archive.open(entry) as file:
                    files[name] = _text(name, file.read(MOST_BYTES + 1))
    # what zipfile raises for corrupt files
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"the rebuilt files are not a valid zip file: {type(error).__name__}") from None
    if "dvc.lock" not in files:
        raise UserError("the rebuilt files do not include dvc.lock")
    return files


def main(environment: Mapping[str, str] = os.environ) -> str:
    """Put the rebuilt files on top of a pull request's branch as one commit, and return its hash.

    Files that the pipeline keeps and that are not among the rebuilt ones are removed.
    """
    names = ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "PULL_REQUEST")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UserError(f"missing environment variables: {', '.join(missing)}", "leave this to the workflow `relock`")
    number = environment["PULL_REQUEST"].strip().removeprefix("#")
    if not re.fullmatch("[1-9][0-9]{0,9}", number, re.A):
        raise UserError(f"{number[:50]!r} is not the number of a pull request", "enter a number such as 12")
    address = environment.get("GITHUB_API_URL", "https://api.github.com")
    api = Api(address, environment["GITHUB_TOKEN"], needed=NEEDED)
    repository = f"/repos/{environment['GITHUB_REPOSITORY']}"
    branch, head, author = find_branch(api, repository, number)
    check_pushers(api, repository, branch, head, author)
    files = unpack(rebuilt(api, repository, head))
    with_token = signed(environment)
    git("fetch", "--quiet", "--depth=1", "origin", f"refs/heads/{branch}", environment=with_token)
    tip = git("rev-parse", "FETCH_HEAD")
    if tip != head:
        raise UserError(f"{branch} moved from {head[:10]} to {tip[:10]} during this run", "start `relock` again")
    made = commit_rebuilt(head, files)
    # no force: a push of somebody else between these two lines wins
    git("push", "--quiet", "origin", f"{made}:refs/heads/{branch}", environment=with_token)
    print(f"pushed {made[:10]} to {branch}")
    print("::notice title=relock::Choose 'Approve workflows to run' on the pull request to start its checks.")
    return made


def find_branch(api: Api, repository: str, number: str) -> tuple[str, str, str]:
    """Branch, head and author of a pull request that may be relocked.

    Raises
    ------
    UserError
        Where it is closed, comes from a fork, has another base than the default branch, or is behind it.
    """
    pull = api.get(f"{repository}/pulls/{number}")
    base, head = pull["base"], pull["head"]
    if pull["state"] != "open":
        raise UserError(f"pull request #{number} is not open")
    if head["repo"] is None or head["repo"]["id"] != base["repo"]["id"]:
        raise UserError(
            f"pull request #{number} comes from a fork, to which this workflow cannot push", "run make in the fork"
        )
    main = base["repo"]["default_branch"]
    if base["ref"] != main or head["ref"] == main:
        raise UserError(f"pull request #{number} is not from a separate branch into {main}")
    # what was rebuilt is the merge of both: only where that is the branch itself does it belong there
    if api.get(f"{repository}/compare/{main}...{head['sha']}")["behind_by"]:
        raise UserError(f"the branch of pull request #{number} is behind {main}", f"merge {main} into it first")
    return str(head["ref"]), str(head["sha"]), str(pull["user"]["login"])


def check_pushers(api: Api, repository: str, branch: str, head: str, author: str) -> None:
    """Refuse a branch that somebody other than the author has pushed to.

    GitHub requires an approval by somebody other than the last pusher. After this push that is a bot, so anyone who had
    pushed to the branch before could approve their own change. The author of a pull request never can.
    """
    pushes = api.get(f"{repository}/activity", ref=f"refs/heads/{branch}", per_page=100)
    actors, after, complete = set(), head, False
    for push in pushes:
        # from the head back to where the branch was made, without a gap
        if complete or push["after"] != after:
            break
        actors.add((push["actor"] or {}).get("login", "somebody who left"))
        after, complete = push["before"], push["activity_type"] == "branch_creation"
    if not complete:
        raise UserError(f"GitHub does not list every push to {branch}", "run make on the branch, and push")
    others = sorted(actors - {author, AUTHOR["NAME"]})
    if others:
        raise UserError(
            f"{', '.join(others)} pushed to {branch} as well as its author {author}; "
            "after a push by this workflow they could approve their own change",
            "run make on the branch, and push",
        )


def rebuilt(api: Api, repository: str, head: str) -> bytes:
    """The zip that the last review of a commit has left."""
    answer = api.get(f"{repository}/actions/workflows/ci.yaml/runs", head_sha=head, event="pull_request", per_page=100)
    runs = [run for run in answer["workflow_runs"] if run["status"] == "completed" and run["head_sha"] == head]
    if not runs:
        raise UserError(f"no review of {head[:10]} has finished", "wait for the workflow `ci` of the pull request")
    run = max(runs, key=lambda run: int(run["id"]))
    content = fetch_artifact(api, repository, int(run["id"]), ARTIFACT, MOST_ZIPPED)
    if content is None:
        raise UserError(
            f"the review of {head[:10]} rebuilt nothing: either dvc.lock is up to date, or the pipeline failed",
            f"read the log of run {run['id']}",
        )
    return content


def commit_rebuilt(parent: str, files: Mapping[str, bytes]) -> str:
    """A commit on `parent` in which the files of the pipeline are `files`; nothing is checked out."""
    ignored = git("check-ignore", "--no-index", *files, check=False)
    if ignored:
        raise UserError(f"the rebuilt files are rejected: {ignored.split()[0]} is ignored by Git")
    there = git("ls-tree", "-r", "-z", "--name-only", parent).split("\0")
    removed = [name for name in there if ALLOWED.fullmatch(name) and name not in files]
    message = f"Run the pipeline of {parent[:10]}\n\nThe workflow `relock` rebuilt dvc.lock and the metric files."
    made = commit_files(parent, files, message, removed)
    if git("rev-parse", f"{made}^{{tree}}") == git("rev-parse", f"{parent}^{{tree}}"):
        raise UserError(f"nothing to do: dvc.lock of {parent[:10]} is up to date")
    return made


def _text(name: str, content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise UserError(f"the rebuilt files are rejected: {name} is larger than {MOST_BYTES:,} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"the rebuilt files are rejected: {name} is not text")
    return content


if __name__ == "__main__":
    with errors_in_words():
        main()
