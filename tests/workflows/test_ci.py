"""`ci.yaml` and `relock.yaml` run by act: what becomes of each kind of change, job by job, and what the report says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from machine import GitHub, Run

WAY_THROUGH = {"test": "success", "review": "success", "gate": "success"}
STOPPED = {"test": "success", "review": "failure", "gate": "failure"}


def parameters(**values: float) -> Callable[[Project], None]:
    return lambda project: project.edit_params(lambda params: params["model"]["params"].update(values))


def weak(project: Project) -> None:
    """A main that leaves room for improvement."""
    parameters(C=0.01)(project)
    project.run("dvc", "repro")


def untrained(project: Project) -> None:
    """A main on which nothing was run yet."""
    project.git("rm", "--quiet", "-r", "dvc.lock", "reports/metrics.json", "reports/plots")


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> GitHub:
    github = GitHub(tmp_path_factory.mktemp("github"), weak)
    merged = github.merged()
    assert merged.jobs == {"test": "success", "main": "success"}, merged.log
    assert len(list(github.cache.iterdir())) == 1
    return github


def rules(run: Run) -> dict[str, dict[str, Any]]:
    return {f"{result['rule']} {result['subject']}".strip(): result for result in run.report["policy"]["results"]}


def test_an_improvement_may_be_merged(github: GitHub) -> None:
    run = github.pull_request(parameters(C=1.0))
    assert run.jobs == WAY_THROUGH, run.log
    report = run.report
    assert (report["blocks"], report["touched"], report["problem"]) == (False, True, None)
    compared = [result["verdict"] for name, result in rules(run).items() if name.startswith("no_worse")]
    # a small slice may be too small to tell, which warns
    assert set(compared) == {"pass"}
    assert "fail" not in {result["verdict"] for result in rules(run).values()}
    assert report["head"] == github.work.git("rev-parse", "change-2")
    assert report["base"] == github.work.git("rev-parse", "main")
    assert report["baseline"]["origin"] == "cache"
    loss = next(metric for metric in report["metrics"] if metric["metric"] == "log_loss")
    assert loss["candidate"] < loss["baseline"]
    assert loss["difference"]["high"] < 0
    assert [change["name"] for change in report["changes"]["params"]] == ["model.params.C"]


def test_a_regression_may_not(github: GitHub) -> None:
    run = github.pull_request(parameters(C=1e-6))
    assert run.jobs == STOPPED, run.log
    report = run.report
    assert (report["verdict"], report["blocks"], report["problem"]) == ("fail", True, None)
    failed = [name for name, result in rules(run).items() if result["blocks"]]
    assert any(name.startswith("no_worse") for name in failed), failed
    assert "this change cannot be merged: review ended as 'failure'" in run.log
    assert "worse than main's" in run.log


def test_a_change_of_nothing_is_not_blocked_by_luck(github: GitHub) -> None:
    run = github.pull_request(parameters(max_iter=2000))
    assert run.jobs == WAY_THROUGH, run.log
    assert all(metric["difference"]["value"] == 0 for metric in run.report["metrics"])


def test_a_lock_that_was_not_made_by_its_code_is_refused(github: GitHub) -> None:
    run = github.pull_request(parameters(C=1.0), reproduce=False)
    assert run.jobs == STOPPED, run.log
    blocking = [name for name, result in rules(run).items() if result["blocks"]]
    assert "lock" in blocking, blocking


def test_documentation_leaves_the_model_untouched(github: GitHub) -> None:
    def change(project: Project) -> None:
        path = project.folder / "README.md"
        path.write_text(path.read_text(encoding="utf-8") + "\nA word more.\n", encoding="utf-8")

    run = github.pull_request(change, reproduce=False)
    assert run.jobs == WAY_THROUGH, run.log
    assert (run.report["touched"], run.report["verdict"], run.report["blocks"]) == (False, "pass", False)
    assert "Running stage" not in run.log


def test_a_broken_table_is_said_to_be_broken(github: GitHub) -> None:
    def change(project: Project) -> None:
        table = "size,diagnosis\n1.5,benign\n2.5,malignant,what\n"
        (project.folder / "data/raw/broken.csv").write_text(table, encoding="utf-8")
        project.edit_params(lambda params: params["data"].update(source="data/raw/broken.csv"))

    run = github.pull_request(change, reproduce=False)
    assert run.jobs == STOPPED, run.log
    assert (run.report["verdict"], run.report["blocks"]) == ("fail", True)
    assert run.report["problem"].startswith("the pipeline failed")
    assert "broken.csv" in run.log
    assert "Traceback" not in run.log


def test_the_first_model_is_judged_by_what_needs_no_other(tmp_path: Path) -> None:
    github = GitHub(tmp_path / "github", untrained)
    run = github.pull_request(parameters(C=1.0))
    report = run.report
    assert report["baseline"]["problem"] == "main has no trained model yet"
    assert report["baseline"]["model_md5"] is None
    assert run.jobs == (STOPPED if report["blocks"] else WAY_THROUGH), run.log
    assert rules(run)["floor recall"]["verdict"] == "pass"
    assert all(metric["difference"]["value"] is None for metric in report["metrics"])


def test_a_merge_becomes_the_challenger_where_there_is_an_mlflow_server(github: GitHub, tmp_path: Path) -> None:
    without = github.merged("register.yaml")
    assert set(without.jobs.values()) <= {"skipped"}, without.log
    server = f"MLFLOW_TRACKING_URI=sqlite:///{tmp_path / 'mlflow.db'}"
    run = github.merged("register.yaml", "--var", server, "--env", "GITHUB_REPOSITORY=acme/model")
    assert run.jobs == {"challenger": "success"}, run.log
    assert "is version 1 of model in MLflow, and its challenger" in run.log


def test_relock_commits_what_the_code_of_a_branch_makes(github: GitHub) -> None:
    github.pull_request(parameters(C=0.5), False, "--job", "test")
    branch = f"change-{github.runs}"
    before = github.work.git("rev-parse", branch)
    payload = {"ref": "refs/heads/main", "inputs": {"branch": branch}}
    run = github.act("relock.yaml", "workflow_dispatch", payload)
    assert run.jobs == {"rebuild": "success", "push": "success"}, run.log
    work = github.work
    work.git("fetch", "--quiet", "origin", branch)
    assert work.git("rev-parse", "FETCH_HEAD^") == before
    changed = work.git("diff", "--name-only", "FETCH_HEAD^", "FETCH_HEAD").splitlines()
    assert "dvc.lock" in changed
    assert all(name in ("dvc.lock", "models/CARD.md") or name.startswith("reports/") for name in changed), changed
    # what it committed is what this machine makes of the branch
    work.git("checkout", "--quiet", "--force", "FETCH_HEAD")
    work.run("dvc", "repro")
    assert work.git("status", "--porcelain") == ""
    work.git("checkout", "--quiet", "--force", "main")


def test_relock_never_pushes_to_main(github: GitHub) -> None:
    before = github.work.git("ls-remote", "origin", "refs/heads/main")
    run = github.act("relock.yaml", "workflow_dispatch", {"ref": "refs/heads/main", "inputs": {"branch": "main"}})
    assert run.jobs["push"] == "failure", run.log
    assert "main is changed by pull requests only" in run.log
    assert github.work.git("ls-remote", "origin", "refs/heads/main") == before
