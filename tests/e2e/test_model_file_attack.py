"""Main's model file is altered so that it crashes the process that predicts with it; a review ends in words anyway.

Its hash in main's `dvc.lock` is that of the altered file, so nothing else would notice.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import Project, copied
from model.test_modelfile import BEYOND, edited, set_to

from mlops.core.files import md5
from mlops.core.report import Report, read

MODEL = "models/model.skops"
ATTACKS = {
    "a child beyond the nodes": set_to(BEYOND, 0, "left_child"),
    "a tree that leads back to itself": set_to(0, 0, "left_child"),
}


@pytest.fixture(scope="module")
def planted(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose model is a small forest."""
    project = copied(done, tmp_path_factory.mktemp("planted"))

    def forest(params: dict[str, dict[str, object]]) -> None:
        params["model"].update(estimator="sklearn.ensemble.RandomForestClassifier", params={"n_estimators": 3})

    project.edit_params(forest)
    project.run("dvc", "repro")
    project.commit("forest")
    return project


@pytest.fixture
def attacked(planted: Project, tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    """A project whose main names the altered file as its own, also in the cache.

    Each test has one of the attacks; tests/model/test_modelfile.py has both and more, without a review.
    """
    project = copied(planted, tmp_path)
    path = project.folder / MODEL
    whole = path.read_bytes()
    path.unlink()  # a link into the cache of DVC
    path.write_bytes(whole)
    edited(path, {"nodes": ATTACKS[request.param]})
    altered = path.read_bytes()
    lock = project.read("dvc.lock")
    assert (md5(whole) in lock, len(whole)) == (True, len(altered))
    (project.folder / "dvc.lock").write_text(lock.replace(md5(whole), md5(altered)), encoding="utf-8")
    cached = project.folder / ".dvc/cache/files/md5" / md5(altered)[:2] / md5(altered)[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(altered)
    project.commit("altered")
    project.git("branch", "--force", "base")
    return project


def review(project: Project) -> tuple[Report, str]:
    """What a review of the project says, which ends with an exit code of its own."""
    project.commit("change")
    project.git("clean", "-fdxq", "--exclude=.dvc/cache")
    command = (sys.executable, "-m", "mlops.review", "--base", "base")
    ran = project.run("timeout", "300", *command, check=False)
    assert ran.returncode == 1, ran.stdout
    assert "Traceback" not in ran.stdout
    return read(project.folder / "build/review/report.json"), ran.stdout


@pytest.mark.parametrize("attacked", ["a child beyond the nodes"], indirect=True)
def test_a_model_of_main_that_would_crash_is_not_compared_with(attacked: Project) -> None:
    attacked.edit_params(lambda params: params["model"]["params"].update(n_estimators=4))
    report, _ = review(attacked)
    assert report.blocks
    assert report.baseline is not None
    assert report.baseline.problem is not None
    assert report.baseline.problem.startswith("main's model cannot be loaded: ")
    assert "would crash the process that predicts with it" in report.baseline.problem


@pytest.mark.parametrize("attacked", ["a tree that leads back to itself"], indirect=True)
def test_a_model_that_a_change_takes_from_main_stops_the_pipeline(attacked: Project) -> None:
    attacked.edit_params(lambda params: params["evaluate"].update(seed=7))
    report, said = review(attacked)
    error = f"{MODEL} would crash the process that predicts with it: Tree at model.steps[1][1].estimators_[0]"
    assert str(report.problem).startswith(f"the pipeline failed: {error}")
    assert error in said
