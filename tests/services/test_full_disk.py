"""A disk that is really full: a small file system, mounted where only the test sees it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Project

STAGES = ("ingest", "validate", "split", "profile", "train", "export", "evaluate", "card")

# in a mount namespace of its own: a file system of 40 MiB holds the project, and a file fills what is left
FILL = """
set -eu
mkdir -p "$1"
mount -t tmpfs -o size=40m full-disk "$1"
cp -R "$2/." "$1"
cd "$1"
dd if=/dev/zero of=ballast bs=4k status=none || true
for stage in {stages}; do
    code=0
    python -m mlops.pipeline.$stage || code=$?
    echo "$stage exited with $code"
done
find . -name '*.partial'
rm ballast
git status --porcelain
dvc status
"""


@pytest.fixture
def done(project: Project) -> Project:
    """A project in which nothing is left to do."""
    project.run("dvc", "repro")
    project.commit("run the pipeline")
    return project


def test_a_full_disk_is_reported_and_costs_nothing(done: Project, tmp_path: Path) -> None:
    assert shutil.which("unshare"), "no unshare: .ci/services installs it"
    script = FILL.format(stages=" ".join(STAGES))
    small = str(tmp_path / "small")
    command = ("unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash", small, str(done.folder))
    message = done.run(*command, PYTHONPATH=f"{small}/src").stdout
    for stage in STAGES:
        assert f"{stage} exited with 1" in message, message
    assert message.count("error: the disk is full") == len(STAGES)
    assert "Traceback" not in message
    assert ".partial" not in message
    assert "up to date" in message.splitlines()[-1]
