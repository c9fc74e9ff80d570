"""`release.yaml` run by act, up to the image: which tags stop before anything is published, and with which words.

What follows needs a builder and a registry; `tests/images/test_publishing.py` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workflows.machine import Run
from workflows.releasing import Releasing, releasing

from mlops.lineage import md5


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releasing]:
    with releasing(tmp_path_factory.mktemp("release")) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_published(project: Releasing) -> Iterator[None]:
    project.work.git("checkout", "--quiet", "--force", "main")
    yield
    assert project.hub.changes == []
    assert project.hub.complaints == []
    assert project.work.git("ls-remote", "origin", "refs/heads/deploy/*") == ""


def stopped(run: Run, told: str) -> None:
    assert run.jobs["verify"] == "failure", run.log
    assert set(run.jobs.values()) <= {"failure", "skipped"}, run.log
    assert told in run.log, run.log
    assert "Traceback" not in run.log
    assert not list(run.artifacts.iterdir())


def test_a_tag_off_main_is_stopped(project: Releasing) -> None:
    project.work.git("checkout", "--quiet", "-B", "better")
    project.work.commit("not reviewed")
    stopped(project.tag("v1.0.0"), "is not on main, so nobody has reviewed it")


def test_a_tag_that_is_no_version_is_stopped(project: Releasing) -> None:
    stopped(project.tag("v1"), "the tag 'v1' is no version")


def test_a_commit_without_the_check_is_stopped(project: Releasing) -> None:
    project.work.git("checkout", "--quiet", "-B", "main")
    project.merge("merged by somebody who may", None)
    stopped(project.tag("v1.0.1"), "`gate` was not found for")


def test_a_commit_whose_check_failed_is_stopped(project: Releasing) -> None:
    project.merge("merged all the same", "failure")
    stopped(project.tag("v1.0.2"), "`gate` has not passed for")


def test_one_flipped_byte_in_the_model_is_stopped(project: Releasing) -> None:
    project.merge("reviewed", "success")
    expected = md5(project.work.folder / "models/model.skops")
    (path,) = project.github.cache.glob(f"*/md5/{expected[:2]}/{expected[2:]}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    # read-only is what DVC has hashed, and hashes no more
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)
    # DVC takes it from the cache, and the next stage finds it
    stopped(project.tag("v1.0.3"), "models/model.skops is no whole model file")
