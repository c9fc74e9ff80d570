"""`history.yaml` run by act: the page of main is published where a variable asks for it, and nowhere else."""

from __future__ import annotations

import pytest
from workflows.machine import GitHub


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> GitHub:
    github = GitHub(tmp_path_factory.mktemp("github"))
    github.work.git("tag", "v1.0.0")
    github.work.git("push", "--quiet", "origin", "v1.0.0")
    return github


def test_the_page_of_main_with_its_releases_is_published(github: GitHub) -> None:
    run = github.merged("history.yaml", "--var", "HISTORY_PAGE=yes", "--var", "MODEL_PAGE=yes")
    assert run.jobs == {"build": "success", "deploy": "success"}, run.log
    page = (run.artifacts / "pages/index.html").read_text(encoding="utf-8")
    assert github.work.git("rev-parse", "main") in page
    assert "Release v1.0.0" in page
    assert '<a href="model/">Try main' in page
    assert (run.artifacts / "pages/model/model.onnx").stat().st_size > 1_000


@pytest.mark.parametrize("workflow", ["history.yaml", "pipeline-image.yaml"])
def test_nothing_runs_without_the_variable(workflow: str, github: GitHub) -> None:
    run = github.merged(workflow)
    assert set(run.jobs.values()) <= {"skipped"}, run.log
    assert not list(run.artifacts.iterdir())
