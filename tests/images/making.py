"""Images on real builders, of copies of the project, and a registry for them. `.ci/images` installs what they need."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from conftest import Project

from mlops.release.builder import Builder

PATIENCE = 180  # seconds that anything may take on a busy machine
BASE = "localhost/base:amd64"


def build(project: Project, builder: Builder = "podman", **environment: str) -> str:
    """`make image`; the image's id."""
    said = project.run(sys.executable, "-m", "mlops.release.image", BUILDER=builder, **environment).stdout
    return said.strip().rpartition(" ")[2]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Debian's registry on a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = folder / "settings.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder / 'images'}'}}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log)
    try:
        end = time.monotonic() + PATIENCE
        while not answers(f"http://{address}/v2/"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "the registry does not answer"
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def clone(project: Project, folder: Path) -> Project:
    """A clone at another path, with the project's cache: another machine that has pulled it."""
    found = object.__new__(Project)
    found.folder = folder / "cloned elsewhere"
    project.git("clone", "--quiet", str(project.folder), str(found.folder))
    found.git("config", "user.name", "Grace")
    found.git("config", "user.email", "grace@example.org")
    found.run("dvc", "cache", "dir", "--local", str(project.folder / ".dvc/cache"))
    found.run("dvc", "checkout", "--quiet")
    return found
