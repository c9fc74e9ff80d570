"""Repositories with a past: models, releases and deployments as real commits and tags, written by `git fast-import`."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from conftest import ROOT

from mlops.core import paths
from mlops.release import deploy
from mlops.release.lineage import hashes

LOCK = (ROOT / "dvc.lock").read_bytes()
NOW = hashes(LOCK)
EVALUATION = json.loads((ROOT / "reports/evaluation.json").read_text(encoding="utf-8"))
START = 1_767_225_600  # 2026-01-01
DAY = 86_400


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def image(number: int) -> str:
    return f"ghcr.io/ada/a-project@sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"


def lock(model: str, rows: str = "rows") -> bytes:
    """This project's `dvc.lock` with another model and other rows."""
    content = LOCK
    for path, new in (
        (paths.MODEL, md5(model)),
        *((each, md5(f"{rows} {each}")) for each in (paths.TABLE, paths.TEST)),
    ):
        content = content.replace(NOW[str(path)].encode(), new.encode())
    return content


def evaluation(**metrics: tuple[float, float, float]) -> dict[str, Any]:
    """This project's `reports/evaluation.json` with other metrics."""
    found = json.loads(json.dumps(EVALUATION))
    for name, (value, low, high) in metrics.items():
        found["metrics"][name] |= {"value": value, "low": low, "high": high}
    return dict(found)


class Past:
    """A history that is written in one go.

    Parameters
    ----------
    folder : Path
        Of the clone, which is checked out when it is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stream: list[bytes] = []
        self.days = 0
        self.tags: list[tuple[str, int]] = []
        self.commits = 0
        start = {
            path: (ROOT / path).read_bytes()
            for path in ("params.yaml", "gate.yaml", str(paths.CATALOGUE), ".gitignore")
        }
        self.commit("Start", start | {str(path): (ROOT / path).read_bytes() for path in deploy.PLACES})

    def commit(
        self,
        message: str,
        files: dict[str, bytes],
        author: str = "Ada",
        parents: tuple[int, ...] = (),
        on: str = "main",
    ) -> int:
        """A commit on main, a day after the one before; returns its number."""
        self.days += 1
        self.commits += 1
        who = f"{author} <{md5(author)[:6]}@example.org> {START + self.days * DAY} +0000"
        lines = [f"commit refs/heads/{on}", f"mark :{self.commits}", f"author {who}", f"committer {who}"]
        self.stream.append("\n".join(lines).encode() + b"\n" + _data(message.encode()))
        self.stream += [f"{'merge' if place else 'from'} :{each}\n".encode() for place, each in enumerate(parents)]
        self.stream += [f"M 100644 inline {name}\n".encode() + _data(content) for name, content in files.items()]
        return self.commits

    def model(self, message: str, name: str, rows: str = "rows", author: str = "Ada", **more: Any) -> int:
        """A commit with another model; `metrics` are those of its evaluation, `files` others that it changes."""
        found = json.dumps(evaluation(**more.pop("metrics", {})))
        files = {"dvc.lock": lock(name, rows), str(paths.EVALUATION): found.encode()} | more.pop("files", {})
        return self.commit(message, files, author, **more)

    def tag(self, name: str) -> None:
        """An annotated tag of the last commit, a minute after it."""
        who = f"tagger Grace <grace@example.org> {START + self.days * DAY + 60} +0000"
        self.stream.append(f"tag {name}\nfrom :{self.commits}\n{who}\n".encode() + _data(f"Release {name}".encode()))

    def deploy(self, version: str, number: int, places: tuple[Path, ...] = deploy.PLACES, message: str = "") -> int:
        """The merge of a deployment's pull request."""
        read = {path: (ROOT / path).read_bytes() for path in deploy.PLACES}
        texts = deploy.changed(image(number), read.__getitem__, places)
        files = {str(path): text.encode() for path, text in texts.items()}
        return self.commit(message or f"Deploy {version} (#{number})", files)

    def write(self, remote: str = "https://github.com/ada/a-project.git") -> Path:
        """Write the repository, check main out and return its folder."""
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(self.folder)], check=True)
        self.git("fast-import", "--quiet", given=b"".join(self.stream))
        self.git("remote", "add", "origin", remote)
        self.git("checkout", "--quiet", "--force", "main")
        return self.folder

    def git(self, *arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], input=given, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)
