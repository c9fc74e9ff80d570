"""What Git's history says about models: the commits that changed one, the tags that released one, and what ran where.

Everything comes from the clone, without a network. One process lists commits and one reads files, however many there
are. Names, subjects and files of old commits are not trusted: they are decoded with care and escaped where shown.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml.error import YAMLError

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.lock import parse_lock
from mlops.release.deploy import NOTHING, PLACES, deployed
from mlops.release.tag import MAIN, VERSION

MODEL = str(paths.MODEL)
ENVIRONMENTS = {
    path: f"{path.parts[1]}, {path.parts[-2]}" if "overlays" in path.parts else path.parts[1] for path in PLACES
}  # deploy/compose/.env → compose; deploy/kubernetes/overlays/staging/… → kubernetes, staging
FIELDS = ("%H", "%P", "%aN", "%aI", "%B", "%(trailers:key=Reviewed-by,key=Approved-by,valueonly,unfold,separator=%x0A)")
SQUASHED = re.compile(r"\s*\(#([1-9][0-9]{0,8})\)$")
MERGED = re.compile(r"Merge pull request #([1-9][0-9]{0,8}) from ")
OUT = re.compile(rb"^    - path: (\S+)\n      hash: md5\n      md5: ([0-9a-f]{32}(?:\.dir)?)$", re.M)
MOST_BYTES = 50_000_000  # of a file; the outputs that Git holds are small


class Commit(NamedTuple):
    """A commit, as `git log` gives it."""

    sha: str
    parents: tuple[str, ...]
    author: str
    date: str
    """ISO 8601, of the author."""
    message: str
    approvers: tuple[str, ...]
    """From the trailers Reviewed-by and Approved-by."""

    @property
    def subject(self) -> str:
        """What was done: of the merge of a pull request, its title."""
        first, _, rest = self.message.partition("\n")
        if MERGED.match(first):
            return next((line.strip() for line in rest.splitlines() if line.strip()), first)
        return SQUASHED.sub("", first.strip())

    @property
    def pull_request(self) -> int | None:
        """The number that GitHub writes into the message of a merge or a squash."""
        first = self.message.partition("\n")[0].strip()
        found = MERGED.match(first) or SQUASHED.search(first)
        return int(found[1]) if found else None


class Tag(NamedTuple):
    """A tag of a commit."""

    name: str
    commit: str
    date: str
    author: str
    """Who tagged; empty where the tag has no message."""


class Deployment(NamedTuple):
    """A commit after which `deploy/` names other images."""

    commit: Commit
    images: dict[Path, str]
    """Place → `name@sha256:…`; places that wait for a first release are left out."""


def main_branch() -> str:
    """The commit of main as the clone knows it.

    Raises
    ------
    UserError
        Where there is no commit.
    """
    for name in (f"refs/remotes/origin/{MAIN}", f"refs/heads/{MAIN}", "HEAD"):
        if found := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False):
            return found
    raise UserError("this folder is no Git repository with a commit", "git clone the project, and run this there")


def is_shallow() -> bool:
    return git("rev-parse", "--is-shallow-repository") == "true"


def log(tip: str, *files: str | Path) -> list[Commit]:
    """First parents of `tip` that changed one of the files, newest first."""
    return _commits("--first-parent", tip, "--", *map(str, files))


def described(shas: Iterable[str]) -> dict[str, Commit]:
    """Commits by their hashes."""
    wanted = list(dict.fromkeys(shas))
    return {each.sha: each for each in _commits("--no-walk", "--stdin", given="\n".join(wanted))} if wanted else {}


def _commits(*arguments: str, given: str | None = None) -> list[Commit]:
    settings = ("-c", "log.showSignature=false", "-c", "i18n.logOutputEncoding=UTF-8")
    command = ("git", *settings, "log", "-z", f"--format={'%x00'.join(FIELDS)}", *arguments)
    done = subprocess.run(command, input=(given or "").encode(), capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"git log failed: {done.stderr.decode(errors='replace').strip()}")
    fields = done.stdout.decode(errors="replace").split("\0")
    records = (fields[start : start + len(FIELDS)] for start in range(0, len(fields) - 1, len(FIELDS)))
    return [
        Commit(sha, tuple(parents.split()), author, date, message, tuple(filter(None, approved.split("\n"))))
        for sha, parents, author, date, message, approved in records
    ]


def tags() -> list[Tag]:
    """All tags of commits, oldest first; of two at the same time, by name."""
    fields = (
        "refname:strip=2",
        "objecttype",
        "objectname",
        "*objecttype",
        "*objectname",
        "creatordate:iso-strict",
        "taggername",
    )
    form = "%00".join(f"%({field})" for field in fields)
    found = []
    for line in git("for-each-ref", "--sort=creatordate", f"--format={form}", "refs/tags").splitlines():
        name, kind, sha, inner, inner_sha, date, author = line.split("\0")
        if "commit" in (kind, inner):
            found.append(Tag(name, inner_sha if inner == "commit" else sha, date, author))
    return found


def releases() -> list[Tag]:
    """The tags that name a version."""
    return [tag for tag in tags() if VERSION.fullmatch(tag.name)]


def files(names: Iterable[str]) -> Iterator[tuple[str, bytes] | None]:
    """Hash and content of each object, such as `<commit>:dvc.lock`; None for one that is not there."""
    with tempfile.TemporaryFile() as wanted:
        wanted.write("".join(f"{name}\n" for name in names).encode())
        wanted.seek(0)
        command = ["git", "cat-file", "--batch", "--buffer"]
        with subprocess.Popen(command, stdin=wanted, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
            assert reader.stdout is not None  # noqa: S101
            while header := reader.stdout.readline():
                if header.endswith(b" missing\n") or header.endswith(b" ambiguous\n"):
                    yield None
                    continue
                sha, kind, size = header.decode().split()
                if int(size) > MOST_BYTES:
                    raise UserError(f"Git holds a file of {int(size):,} bytes where a report is expected: {sha}")
                content = reader.stdout.read(int(size) + 1)[:-1]
                yield (sha, content) if kind == "blob" else None
    if reader.returncode:
        raise UserError(
            "Git cannot read every file of the history", "git fsck; of a partial clone: git fetch --refetch"
        )


def file(commit: str, path: str | Path) -> bytes | None:
    """A file of a commit; None if it did not exist."""
    return next((found[1] for found in files([f"{commit}:{path}"]) if found), None)


def hashes(content: bytes | None) -> dict[str, str]:
    """The hash of each output and dependency in the bytes of a `dvc.lock`.

    DVC always writes an entry in the same way; reading one as YAML takes a hundred times as long.
    """
    found = {path.decode(): md5.decode() for path, md5 in OUT.findall(content or b"")}
    if MODEL not in found:
        stages = (parse_lock(content) or {}).values()
        entries = [entry for stage in stages for key in ("deps", "outs") for entry in stage.get(key) or []]
        found |= {str(entry["path"]): str(entry["md5"]) for entry in entries if "md5" in entry}
    return found


def models(commits: list[Commit]) -> list[dict[str, str]]:
    """The hashes in the `dvc.lock` of each commit; empty where it has none."""
    known: dict[str, dict[str, str]] = {}
    return [_once(known, found, hashes) for found in files(f"{each.sha}:{paths.LOCK}" for each in commits)]


def merged_models(tip: str) -> list[tuple[Commit, dict[str, str]]]:
    """The commits that gave main another model, oldest first, with the hashes in their `dvc.lock`."""
    commits = log(tip, paths.LOCK)[::-1]
    changed, last = [], None
    for commit, found in zip(commits, models(commits), strict=True):
        if found.get(MODEL) not in (None, last):
            changed.append((commit, found))
        last = found.get(MODEL, last)
    return changed


def deployments(tip: str) -> list[Deployment]:
    """What `deploy/` named after each commit that changed it, oldest first."""
    commits = log(tip, *PLACES)[::-1]
    contents = files(f"{commit.sha}:{path}" for commit in commits for path in PLACES)
    known: dict[str, str] = {}
    found: list[Deployment] = []
    for commit in commits:
        images = {}
        for path in PLACES:
            image = _once(known, next(contents), lambda content, path=path: _image(path, content))
            if image and not image.endswith(f"@{NOTHING}"):
                images[path] = image
        if images != (found[-1].images if found else {}):
            found.append(Deployment(commit, images))
    return found


def versions(history: list[Deployment]) -> dict[str, str]:
    """Digest → the version under which it was first deployed, where the commit names one."""
    found: dict[str, str] = {}
    for each in history:
        named = VERSION.search(each.commit.message.partition("\n")[0]) or VERSION.search(each.commit.subject)
        for image in each.images.values():
            found.setdefault(image.partition("@")[2], named[0] if named else "")
    return found


def _image(path: Path, content: bytes) -> str:
    try:
        return deployed(path, content.decode()) or ""
    except (YAMLError, ValueError, AttributeError, TypeError):  # of an old commit, which nobody can repair
        return ""


def _once(known: dict[str, Any], found: tuple[str, bytes] | None, read: Any) -> Any:
    """What `read` makes of a file; the same file is read once."""
    if found is None:
        return type(read(b""))()
    if found[0] not in known:
        known[found[0]] = read(found[1])
    return known[found[0]]


def parsed(content: bytes | None) -> dict[str, Any]:
    """The object in a JSON file; empty if it is missing or something else."""
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def estimates(evaluation: dict[str, Any], metrics: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Value, low and high of each metric of a commit; without `reports/evaluation.json`, there are no intervals."""
    found = {}
    named = evaluation.get("metrics")
    for name, each in (named if isinstance(named, dict) and named else metrics).items():
        values = each if isinstance(each, dict) else {"value": each}
        numbers = {key: _number(values.get(key)) for key in ("value", "low", "high")}
        if numbers["value"] is not None:
            found[str(name)] = numbers
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


def page() -> str | None:
    """Address of the repository's page, from the remote `origin`; without any password in it."""
    remote = git("remote", "get-url", "origin", check=False)
    name = r"([A-Za-z0-9.-]+(?::[0-9]+)?)[/:]([A-Za-z0-9._-]+/[A-Za-z0-9._-]+?)(?:\.git)?/?"
    found = re.fullmatch(rf"(?:https://(?:[^@/]*@)?|ssh://git@|git@){name}", remote)
    return f"https://{found[1]}/{found[2]}" if found else None
