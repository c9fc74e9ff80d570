"""`make relock-pack` and `make relock-push`: a rebuilt `dvc.lock` for the branch of a pull request.

Packing runs beside the branch's own code and can write nowhere else. Pushing runs main's code: it reads a zip that
anybody may have made, takes small text files with expected names from it, and makes a commit without checking out a
file. It needs nothing but Python and Git, so that nothing is installed where the token is.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from mlops.stage import UserError, errors_in_words

# what a run of the pipeline keeps in Git; no name that begins with a dot, and no dvc.yaml, which could hold commands
ALLOWED = re.compile(
    r"dvc\.lock|data/prepared/catalogue\.json|models/CARD\.md|reports/(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.(?:json|csv)",
    re.A,
)
PACKED = Path("build/relock")
DOWNLOADED = Path("build/download")
MOST_FILES = 200
MOST_BYTES = 1_000_000
AUTHOR = {"NAME": "github-actions[bot]", "EMAIL": "41898282+github-actions[bot]@users.noreply.github.com"}


def pack(target: Path = PACKED) -> list[str]:
    """Copy what the pipeline keeps in Git to `target`, and return the names."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    names = sorted({name for name in listed if ALLOWED.fullmatch(name) and Path(name).is_file()})
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, target / name)
    return names


def unpack(path: Path) -> dict[str, bytes]:
    """The files of a zip that anybody may have made, by name; nothing is written.

    Raises
    ------
    UserError
        Where the zip is damaged, too large, without `dvc.lock`, or holds anything but small text files with the
        names that the pipeline gives.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES:
                raise UserError(f"the rebuilt files are refused: {len(entries):,} entries, at most {MOST_FILES}")
            files: dict[str, bytes] = {}
            for entry in entries:
                name = entry.orig_filename
                if name in files or not ALLOWED.fullmatch(name) or entry.filename != name:
                    raise UserError(f"the rebuilt files are refused: {name[:100]!r} is no file that the pipeline keeps")
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise UserError(f"the rebuilt files are refused: {name} is no ordinary file")
                with archive.open(entry) as file:
                    files[name] = _text(name, file.read(MOST_BYTES + 1))
    # what zipfile raises for bytes that it cannot make sense of
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"the rebuilt files are no sound zip: {type(error).__name__}") from None
    if "dvc.lock" not in files:
        raise UserError("the rebuilt files hold no dvc.lock")
    return files


def push(environment: Mapping[str, str] = os.environ, downloaded: Path = DOWNLOADED) -> str:
    """Put the rebuilt files on top of the branch as one commit, and return its hash.

    Files that the pipeline keeps and that are not among the rebuilt ones are removed.
    """
    missing = [name for name in ("BRANCH", "COMMIT", "DEFAULT_BRANCH") if not environment.get(name)]
    if missing:
        raise UserError(f"not set in the environment: {', '.join(missing)}", "leave this to the workflow `relock`")
    branch, commit = environment["BRANCH"], environment["COMMIT"]
    if branch == environment["DEFAULT_BRANCH"]:
        raise UserError(f"{branch} is changed by pull requests only", "name the branch of your pull request")
    zips = list(downloaded.iterdir()) if downloaded.is_dir() else []
    if len(zips) != 1:
        raise UserError(f"{downloaded} holds {len(zips)} files; the one artifact of the first job is expected")
    files = unpack(zips[0])
    header = signed(environment)
    _git("fetch", "--quiet", "--depth=1", "origin", f"refs/heads/{branch}", environment=header)
    tip = _git("rev-parse", "FETCH_HEAD")
    if tip != commit:
        raise UserError(f"{branch} has moved from {commit[:10]} to {tip[:10]} in the meantime", "start `relock` again")
    made = commit_files(commit, files)
    # no force: a push of somebody else between these two lines wins
    _git("push", "--quiet", "origin", f"{made}:refs/heads/{branch}", environment=header)
    return made


def commit_files(parent: str, files: Mapping[str, bytes]) -> str:
    """A commit on `parent` in which the files of the pipeline are `files`; nothing is checked out."""
    ignored = subprocess.run(["git", "check-ignore", "--no-index", *files], capture_output=True, text=True, check=False)
    if ignored.stdout:
        raise UserError(f"the rebuilt files are refused: {ignored.stdout.split()[0]} is kept out of Git")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git("read-tree", parent, environment=index)
        there = _git("ls-files", "-z", environment=index).split("\0")
        for name in there:
            if ALLOWED.fullmatch(name) and name not in files:
                _git("update-index", "--force-remove", "--", name, environment=index)
        for name, content in files.items():
            blob = _git("hash-object", "-w", "--stdin", given=content)
            _git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", environment=index)
        tree = _git("write-tree", environment=index)
    if tree == _git("rev-parse", f"{parent}^{{tree}}"):
        raise UserError(f"nothing moved: dvc.lock of {parent[:10]} is what its code makes")
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in AUTHOR.items()}
    message = f"Run the pipeline of {parent[:10]}\n\nThe workflow `relock` rebuilt dvc.lock and the metric files."
    return _git("commit-tree", tree, "-p", parent, "-m", message, environment=who)


def _text(name: str, content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise UserError(f"the rebuilt files are refused: {name} has more than {MOST_BYTES:,} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"the rebuilt files are refused: {name} is no text")
    return content


def signed(environment: Mapping[str, str]) -> dict[str, str]:
    """The token for git, where no other process and no file sees it."""
    token = environment.get("GITHUB_TOKEN", "")
    if not token:
        return {}
    header = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {header}",
    }


def _git(*arguments: str, environment: Mapping[str, str] | None = None, given: bytes | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments], env={**os.environ, **(environment or {})}, input=given, capture_output=True, check=False
    )
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode().strip()


def main() -> None:
    if sys.argv[1:] == ["pack"]:
        print(f"packed {', '.join(pack())}")
    else:
        print(f"pushed {push()[:10]}")
        print(
            "::notice title=relock::GitHub starts no run for this push. Close and reopen the pull request to start it."
        )


if __name__ == "__main__":
    with errors_in_words():
        main()
