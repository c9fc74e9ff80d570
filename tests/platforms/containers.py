"""What the tests of platforms share: their tools, and the image of a commit where an engine can start it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from conftest import ROOT, Project, copied
from images.making import BASE, PATIENCE, serving
from workflows.machine import GitHub
from workflows.releasing import WORLD

TOOLS = ROOT / "build/tools/platforms"


def tool(
    platform: str, *command: str | Path, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in the environment of a platform's own package."""
    folder = TOOLS / platform / "bin"
    assert folder.is_dir(), f"{platform} is not installed; run .ci/platforms"
    foreign = ("PYTHON", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    done = subprocess.run(
        [folder / command[0], *command[1:]],
        env={**kept, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout[-8000:]}"
    )
    return done


def define(project: Project, platform: str, **changed: Any) -> Path:
    """Write a platform's definition after a change of the settings."""
    project._edit("deploy/pipelines/settings.yaml", lambda settings: settings.update(changed))
    said = project.run(sys.executable, "-m", "mlops.pipeline.platforms", TO=platform).stdout
    found = re.search(r"in (\S+)$", said.strip())
    assert found
    return project.folder / found[1]


def taken_over(project: Project, remote: str, run: str, server: dict[str, str], folder: Path) -> str:
    """The `dvc.lock` that `make platform-result` writes in another checkout."""
    other = copied(project, folder)
    shutil.rmtree(other.folder / ".dvc/cache", ignore_errors=True)
    other.run("dvc", "remote", "add", "--local", "--default", "storage", remote)
    other.run("python", "-m", "mlops.pipeline.platforms.collect", run, **server)
    return other.read("dvc.lock")


class Engine(NamedTuple):
    """Where containers start."""

    socket: str
    """Of the API that Docker's clients speak."""
    image: str
    """The image of main, by its digest."""


@contextmanager
def engine(github: GitHub, folder: Path) -> Iterator[Engine]:
    """Podman's service, and in it the image that the workflow of main has pushed to a registry."""
    socket = folder / "podman.sock"
    with serving(folder) as registry:
        given = {name: value for name, value in os.environ.items() if name.startswith((*WORLD, "SSL_CERT_"))}
        given |= {"BUILDER": "podman", "BASE_IMAGE": BASE, "CONTAINERS_CONF": os.environ["CONTAINERS_CONF"]}
        given |= {"REGISTRY": registry, "GITHUB_REPOSITORY": "acme/model"}
        flags = [part for name, value in given.items() for part in ("--env", f"{name}={value}")]
        flags += ["--var", "PIPELINE_IMAGE=yes", "--secret", "GITHUB_TOKEN=of-this-run", "--actor", "ada"]
        run = github.merged("pipeline-image.yaml", *flags)
        assert run.jobs == {"publish": "success"}, run.log
        found = re.search(rf"pushed: ({registry}/acme/model-pipeline@sha256:[0-9a-f]{{64}})", run.log)
        assert found, run.log
        subprocess.run(["podman", "pull", "--quiet", "--tls-verify=false", found[1]], check=True, capture_output=True)
        service = subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{socket}"])
        try:
            end = time.monotonic() + PATIENCE
            while not socket.exists():
                assert service.poll() is None
                assert time.monotonic() < end, "podman's service does not answer"
                time.sleep(0.05)
            yield Engine(f"unix://{socket}", found[1])
        finally:
            service.terminate()
            service.wait()
            names = (found[1], f"model-pipeline:{github.work.git('rev-parse', 'main')[:12]}")
            subprocess.run(["podman", "rmi", "--force", *names], check=False, capture_output=True)
