"""`release.yaml` run by act, up to the image: which tags stop before anything is published, and with which words.

What follows needs a builder and a registry; `tests/images/test_publishing.py` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workflows.machine import Run
from workflows.releasing import Releasing, releasing

from mlops.core.files import md5


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


def stopped(run: Run, message: str) -> None:
    assert run.jobs["verify"] == "failure", run.log
    assert set(run.jobs.values()) <= {"failure", "skipped"}, run.log
    assert message in run.log, run.log
    assert "Traceback" not in run.log
    assert not list(run.artifacts.iterdir())


def test_a_tag_off_main_is_stopped(project: Releasing) -> None:
    project.work.git("checkout", "--quiet", "-B", "better")
    project.work.commit("not reviewed")
    stopped(project.tag("v1.0.0"), "is not on main, so it was not reviewed")


def test_a_tag_that_is_no_version_is_stopped(project: Releasing) -> None:
    stopped(project.tag("v1"), "the tag 'v1' is not a version")


def test_a_commit_without_the_check_is_stopped(project: Releasing) -> None:
    project.work.git("checkout", "--quiet", "-B", "main")
    project.merge("merged by somebody who may", None)
    stopped(project.tag("v1.0.1"), "`gate` was not found for")


def test_a_commit_whose_check_failed_is_stopped(project: Releasing) -> None:
    project.merge("merged all the same", "failure")
    stopped(project.tag("v1.0.2"), "`gate` has not passed for")


def test_a_model_that_the_code_does_not_make_is_stopped(project: Releasing) -> None:
    work = project.work
    model = md5(work.folder / "models/model.skops")
    lock = work.read("dvc.lock")
    assert model in lock
    (work.folder / "dvc.lock").write_text(lock.replace(model, "f" * 32), encoding="utf-8")
    project.merge("reviewed by nobody who looked", "success")
    run = project.tag("v1.0.3")
    stopped(run, "error: these files differ from what the code of this commit produces:")
    assert " M dvc.lock" in run.log
