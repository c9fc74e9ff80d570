"""`ci.yaml`, `relock.yaml` and `register.yaml` run by act: what becomes of each kind of change, job by job.

Among them are changes of somebody who wants a token, a secret, or a gate that says yes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from workflows.machine import GitHub, Run
from workflows.releasing import Asked, asked

WAY_THROUGH = {"test": "success", "e2e": "success", "review": "success", "gate": "success"}
STOPPED = {"test": "success", "e2e": "success", "review": "failure", "gate": "failure"}
BROKEN = dict.fromkeys(WAY_THROUGH, "failure")


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
    assert merged.jobs == {"test": "success", "e2e": "success", "main": "success"}, merged.log
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
    assert "compared with main; at most" in run.log


def test_a_change_of_nothing_is_not_blocked_by_luck(github: GitHub) -> None:
    run = github.pull_request(parameters(max_iter=2000))
    assert run.jobs == WAY_THROUGH, run.log
    assert all(metric["difference"]["value"] == 0 for metric in run.report["metrics"])


@pytest.fixture(scope="module")
def forgotten(github: GitHub) -> tuple[str, Run]:
    """A branch whose author has changed a parameter and not run the pipeline, and its review."""
    run = github.pull_request(parameters(C=0.5), reproduce=False)
    return f"change-{github.runs}", run


def test_a_lock_that_was_not_made_by_its_code_is_refused(forgotten: tuple[str, Run]) -> None:
    _, run = forgotten
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


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with asked(tmp_path_factory.mktemp("api")) as found:
        yield found
        assert found.hub.complaints == []
        assert found.hub.changes == []


def relock(github: GitHub, api: Asked, forgotten: tuple[str, Run]) -> Run:
    """Start `relock` for the pull request of a branch, which holds what the review has seen."""
    branch, reviewed = forgotten
    hub, head = api.hub, reviewed.report["head"]
    github.work.git("push", "--quiet", "--force", "origin", f"{head}:refs/heads/{branch}")
    if not hub.pulls:
        hub.add_pull(branch, head)
        hub.add_push(branch, head)
        hub.add_artifact(hub.add_run(head, "failure"), (reviewed.artifacts / "relock.zip").read_bytes(), name="relock")
    payload = {"ref": "refs/heads/main", "inputs": {"pull_request": "1"}}
    return github.act("relock.yaml", "workflow_dispatch", payload, *api.flags())


def test_relock_commits_what_the_code_of_a_branch_makes(github: GitHub, api: Asked, forgotten: tuple[str, Run]) -> None:
    branch, reviewed = forgotten
    run = relock(github, api, forgotten)
    assert run.jobs == {"push": "success"}, run.log
    assert "Running stage" not in run.log
    work = github.work
    work.git("fetch", "--quiet", "origin", branch)
    assert work.git("rev-parse", "FETCH_HEAD^") == reviewed.report["head"]
    changed = work.git("diff", "--name-only", "FETCH_HEAD^", "FETCH_HEAD").splitlines()
    assert "dvc.lock" in changed
    assert all(name in ("dvc.lock", "models/CARD.md") or name.startswith("reports/") for name in changed), changed
    # what it committed is what this machine makes of the branch
    work.git("checkout", "--quiet", "--force", "FETCH_HEAD")
    work.run("dvc", "repro")
    assert work.git("status", "--porcelain") == ""
    work.git("checkout", "--quiet", "--force", "main")


def test_relock_is_started_from_main_only(github: GitHub) -> None:
    payload = {"ref": "refs/heads/better", "inputs": {"pull_request": "1"}}
    run = github.act("relock.yaml", "workflow_dispatch", payload)
    assert run.jobs == {}, run.log
    assert "Error" not in run.log


def intrusive(mark: Path) -> Callable[[Project], None]:
    """Files that take the place of our makefile, and of Python's own modules, where somebody lets them."""

    def change(project: Project) -> None:
        targets = "all gate-required relock register setup-trusted setup-registry unmoved"
        (project.folder / "GNUmakefile").write_text(f"{targets}:\n\techo GNUmakefile $@ >> {mark}\n", encoding="utf-8")
        for name in ("json", "sitecustomize", "mlops"):
            text = f"with open({str(mark)!r}, 'a') as file:  file.write('{name}.py ')\n"
            (project.folder / f"{name}.py").write_text(text, encoding="utf-8")

    return change


def installed(name: str, mark: Path) -> Callable[[Project], None]:
    """A program where programs are installed, in a commit."""

    def change(project: Project) -> None:
        path = project.folder / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\necho {name} >> {mark}\n", encoding="utf-8")
        path.chmod(0o755)
        project.git("add", "--force", name)

    return change


HELD = "Git tracks files where programs are installed: "


def test_a_change_that_brings_a_makefile_and_modules_meets_our_gate(github: GitHub, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    def change(project: Project) -> None:
        intrusive(mark)(project)
        (project.folder / "params.yaml").write_text("no: parameters\n", encoding="utf-8")

    run = github.pull_request(change, reproduce=False)
    assert run.jobs == BROKEN | {"e2e": "success"}, run.log  # the only test there reads nothing
    assert "this change cannot be merged: review ended as 'failure'; test ended as 'failure'" in run.log
    assert not mark.exists(), mark.read_text(encoding="utf-8")


def test_a_change_that_brings_an_interpreter_stops_before_it_runs(github: GitHub, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in (".venv/bin/python3", ".uv/bin/uv"):
        run = github.pull_request(installed(name, mark), reproduce=False)
        assert run.jobs == BROKEN, run.log
        assert run.log.count(f"{HELD}{name}") == 4, run.log
    assert not mark.exists(), mark.read_text(encoding="utf-8")


@contextmanager
def merged(github: GitHub, *changes: Callable[[Project], None]) -> Iterator[None]:
    """A main that holds changes which a code owner has let pass."""
    work = github.work
    before = work.git("rev-parse", "main")
    for change in changes:
        change(work)
    work.commit("merged by mistake")
    work.git("push", "--quiet", "origin", "main")
    try:
        yield
    finally:
        work.git("reset", "--quiet", "--hard", before)
        work.git("push", "--quiet", "--force", "origin", "main")


def test_relock_runs_our_targets_whatever_else_is_on_main(
    github: GitHub, api: Asked, forgotten: tuple[str, Run], tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    with merged(github, intrusive(mark)):
        run = relock(github, api, forgotten)
        assert run.jobs == {"push": "success"}, run.log
        assert f"to {forgotten[0]}" in run.log
    with merged(github, installed(".trusted/bin/python", mark)):
        run = relock(github, api, forgotten)
        assert run.jobs == {"push": "failure"}, run.log
        assert f"{HELD}.trusted/bin/python" in run.log
    assert not mark.exists(), mark.read_text(encoding="utf-8")


CURIOUS = """

def _look(seen: str) -> None:
    import json, os, shutil, sys
    from pathlib import Path

    if "GITHUB_PATH" not in os.environ:
        return
    folder = Path(seen).with_name("programs")
    folder.mkdir(exist_ok=True)
    dump = "import json, os; print(json.dumps(dict(os.environ)))"
    for name in ("make", "git"):
        lines = ("#!/bin/sh", f"{sys.executable} -I -c '{dump}' >> {seen}", f'exec {shutil.which(name)} "$@"')
        (folder / name).write_text("\\n".join(lines))
        (folder / name).chmod(0o755)
    with open(os.environ["GITHUB_PATH"], "a") as file:
        file.write(f"{folder}\\n")
    with open(seen, "a") as file:
        file.write(json.dumps(dict(os.environ)) + "\\n")


_look(SEEN)
"""


def curious(seen: Path) -> Callable[[Project], None]:
    """A stage that writes down its environment, and that of programs in later steps of its job."""

    def change(project: Project) -> None:
        path = project.folder / "src/mlops/pipeline/evaluate.py"
        path.write_text(path.read_text(encoding="utf-8") + CURIOUS.replace("SEEN", repr(str(seen))), encoding="utf-8")
        project.run("dvc", "repro")

    return change


def test_a_merge_becomes_the_challenger_and_no_stage_sees_the_password_of_the_registry(
    github: GitHub, tmp_path: Path
) -> None:
    without = github.merged("register.yaml")
    assert without.jobs == {}, without.log
    assert "Error" not in without.log
    mark, seen, password = tmp_path / "ran", tmp_path / "seen", "a-password-of-mlflow"
    flags = ["--var", f"MLFLOW_TRACKING_URI=sqlite:///{tmp_path / 'mlflow.db'}"]
    flags += ["--secret", f"MLFLOW_TRACKING_PASSWORD={password}", "--env", "GITHUB_REPOSITORY=acme/model"]
    with merged(github, intrusive(mark), curious(seen)):
        run = github.merged("register.yaml", *flags)
    assert run.jobs == {"build": "success", "challenger": "success"}, run.log
    assert "is version 1 of model in MLflow, and its challenger" in run.log
    assert not mark.exists(), mark.read_text(encoding="utf-8")
    logged = seen.read_text(encoding="utf-8")
    environments = [json.loads(line) for line in logged.splitlines()]
    # the stage, and what ran after it
    assert len(environments) > 1
    assert {each["GITHUB_JOB"] for each in environments} == {"build"}
    assert "MLFLOW_TRACKING_PASSWORD" not in {name for each in environments for name in each}
    assert password not in logged + run.log
