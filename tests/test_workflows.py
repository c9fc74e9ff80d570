"""Rules for `.github` that linters do not know: who may do what, and that the YAML itself decides nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from mlops.review import required

WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
MAKE = "make --file=Makefile"
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def read(path: Path) -> dict[str, Any]:
    # YAML 1.2, as GitHub reads it: `on` is a word, not true
    document: dict[str, Any] = YAML(typ="safe").load(path)
    return document


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield path.stem, name, job


def steps() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for workflow, name, job in jobs():
        for step in job["steps"]:
            yield workflow, name, step


def runs_for_a_pull_request(job: dict[str, Any]) -> bool:
    return job.get("if", "") != "github.event_name == 'push'"


HOSTED = "ubuntu-24.04"
# what trains may have a runner of its own, and code that nobody has approved another one
TRAINING = {("ci", "review"): "${{ vars.REVIEW_RUNNER || 'ubuntu-24.04' }}"} | dict.fromkeys(
    [("ci", "main"), ("release", "verify"), ("register", "build"), ("history", "build")],
    "${{ vars.TRAINING_RUNNER || 'ubuntu-24.04' }}",
)
CI = read(ROOT / ".github" / "workflows" / "ci.yaml")
RELEASE = read(ROOT / ".github" / "workflows" / "release.yaml")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_grants_nothing_that_a_job_does_not_ask_for(path: Path) -> None:
    assert read(path)["permissions"] == {}


def test_every_job_says_what_it_may_where_it_runs_and_for_how_long() -> None:
    for workflow, name, job in jobs():
        assert isinstance(job["permissions"], dict), f"{workflow}/{name}"
        assert job["runs-on"] in (HOSTED, TRAINING.get((workflow, name))), f"{workflow}/{name}"
        assert 0 < job["timeout-minutes"] <= 120, f"{workflow}/{name}"


def test_a_tag_is_verified_before_anything_that_can_write_starts() -> None:
    jobs = RELEASE["jobs"]
    assert "write" not in jobs["verify"]["permissions"].values()
    assert jobs["publish"]["needs"] == "verify"
    for name in ("announce", "register"):
        assert "publish" in jobs[name]["needs"]
    commands = [step["run"] for step in jobs["verify"]["steps"] if "run" in step]
    assert commands == [
        f"{MAKE} release-verify",
        MAKE,
        f"{MAKE} unmoved",
        f"{MAKE} release-facts",
        f"{MAKE} release-check",
    ]


def test_the_version_is_set_after_the_image_was_checked_and_attested() -> None:
    steps = [step.get("run") or step["uses"].split("@")[0] for step in RELEASE["jobs"]["publish"]["steps"]]
    assert steps[-8:] == [
        f"{MAKE} release-image",
        f"{MAKE} release-wheel",
        "actions/upload-artifact",
        f"{MAKE} release-publish",
        *["actions/attest"] * 3,
        f"{MAKE} release-tag",
    ]


def test_no_job_of_a_release_holds_more_than_its_one_token() -> None:
    granted = {
        name: {key for key, value in job["permissions"].items() if value == "write"}
        for name, job in RELEASE["jobs"].items()
    }
    assert granted == {
        "verify": set(),
        "publish": {"attestations", "id-token", "packages"},
        "announce": {"contents", "pull-requests"},
        "register": set(),
    }
    for name, job in RELEASE["jobs"].items():
        text = json.dumps(job)
        # the build itself sees no token, and the server's password is where nothing can be written
        assert ("MLFLOW_TRACKING_PASSWORD" in text) == (name == "register"), name
        for step in job["steps"]:
            target = step.get("run", "").removeprefix(MAKE).strip()
            if "run" in step and target in ("", "release-image", "unmoved", "release-facts", "release-check"):
                assert "env" not in step, f"{name}: {step['run']}"


def test_a_release_that_has_begun_is_not_broken_off() -> None:
    assert RELEASE["concurrency"] == {"group": "release-${{ github.ref }}", "cancel-in-progress": False}
    assert RELEASE["on"] == {"push": {"tags": ["v*"]}}


def test_the_job_that_publishes_the_history_runs_nothing_of_this_repository() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "history.yaml")["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert jobs["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert [step["uses"].split("@")[0] for step in jobs["deploy"]["steps"]] == ["actions/deploy-pages"]
    assert all(job["if"] == "vars.HISTORY_PAGE == 'yes'" for job in jobs.values())


def test_no_pull_request_run_sees_a_secret_or_a_token() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yaml").read_text(encoding="utf-8")
    assert not re.search(r"secrets\.|github\.token|GITHUB_TOKEN|id-token", text)
    for workflow, name, step in steps():
        if workflow == "relock" and name == "rebuild":
            assert not re.search(r"secrets\.|github\.token", json.dumps(step))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_trigger_gives_rights_of_main_to_the_code_of_a_stranger(path: Path) -> None:
    assert set(read(path)["on"]) <= {
        *("pull_request", "merge_group", "push", "workflow_run", "workflow_dispatch", "schedule")
    }


def test_no_change_passes_by_because_of_its_paths() -> None:
    for trigger, settings in CI["on"].items():
        assert not {"paths", "paths-ignore"} & set(settings), trigger


def test_a_check_is_earned_against_main_only() -> None:
    assert all(settings["branches"] == ["main"] for settings in CI["on"].values())
    assert set(CI["on"]) == {"pull_request", "merge_group", "push"}


def test_actions_are_pinned_by_commit_with_the_version_beside_it() -> None:
    for path in WORKFLOWS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"\s*(- )?uses:", line):
                assert re.search(r"uses: actions/[a-z/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), f"{path.name}: {line}"


def test_an_action_has_the_same_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for _, _, step in steps():
        if "uses" in step:
            action, commit = step["uses"].split("@")
            pins.setdefault("/".join(action.split("/")[:2]), set()).add(commit)
    assert all(len(commits) == 1 for commits in pins.values()), pins


def test_every_command_is_one_call_of_make() -> None:
    for workflow, name, step in steps():
        if "run" in step:
            match = re.fullmatch(rf"{MAKE}( [a-z0-9-]+)?", step["run"])
            assert match, f"{workflow}/{name}: {step['run']}"
            assert (match[1] or " all").strip() in TARGETS, f"{workflow}/{name}: {step['run']}"


def test_no_step_may_fail_without_failing_its_job() -> None:
    for workflow, name, job in jobs():
        for part in (job, *job["steps"]):
            assert "continue-on-error" not in part, f"{workflow}/{name}"
            assert "shell" not in part, f"{workflow}/{name}"


def test_the_gate_needs_every_job_of_a_pull_request() -> None:
    others = {name for name, job in CI["jobs"].items() if name != "gate" and runs_for_a_pull_request(job)}
    assert set(CI["jobs"]["gate"]["needs"]) == others == set(required.JOBS)


def test_the_gate_runs_whatever_became_of_the_others() -> None:
    gate = CI["jobs"]["gate"]
    assert gate["if"].startswith("always()")
    assert gate["steps"][-1]["run"] == f"{MAKE} gate-required"
    assert gate["steps"][-1]["env"] == {"NEEDS": "${{ toJSON(needs) }}"}


def test_the_rules_of_main_require_the_gate_by_the_name_that_it_has() -> None:
    rules = {
        rule["type"]: rule.get("parameters", {})
        for rule in json.loads((ROOT / ".github" / "ruleset.json").read_text(encoding="utf-8"))["rules"]
    }
    checks = rules["required_status_checks"]
    actions = 15368  # the id of GitHub Actions: a status that somebody else sets under this name does not count
    assert checks["required_status_checks"] == [{"context": CI["jobs"]["gate"]["name"], "integration_id": actions}]
    assert checks["strict_required_status_checks_policy"]
    assert rules["pull_request"]["require_code_owner_review"]
    assert rules["pull_request"]["dismiss_stale_reviews_on_push"]
    assert {"non_fast_forward", "deletion", "required_linear_history"} <= set(rules)


def test_the_run_cache_is_shared_with_nobody() -> None:
    paths = [step["with"]["path"] for _, _, step in steps() if "cache" in step.get("uses", "")]
    assert set(paths) == {".dvc/cache/files"}


def test_no_artifact_takes_along_rows_of_the_data() -> None:
    uploaded = {
        line
        for _, _, step in steps()
        if re.search("/upload-(pages-)?artifact@", step.get("uses", ""))
        for line in step["with"]["path"].split()
    }
    shown = {f"build/review/{name}" for name in ("report.json", "comment.md", "preview.html", "profile.html", "plots")}
    released = {"build/release", "build/wheel/dist", "models/model.skops", "models/portable", "models/service"}
    # rows are in build/monitor only where monitor.retrain puts them into a pull request
    assert uploaded == shown | released | {"build/relock", "build/history", "build/monitor"}


def test_every_ecosystem_waits_before_it_takes_a_release() -> None:
    updates = read(ROOT / ".github" / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {
        "github-actions",
        "uv",
        "npm",
        "docker-compose",
        "docker",
    }
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)


def test_cml_is_pinned_by_commit_and_everything_under_it_by_hash() -> None:
    wanted = json.loads((ROOT / ".github/cml/package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((ROOT / ".github/cml/package-lock.json").read_text(encoding="utf-8"))["packages"]
    commit = wanted["@dvcorg/cml"].split("#")[1]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert locked["node_modules/@dvcorg/cml"]["resolved"].endswith(f"#{commit}")
    others = {name: package for name, package in locked.items() if name not in ("", "node_modules/@dvcorg/cml")}
    assert others
    assert all(package["integrity"].startswith("sha512-") for package in others.values())


def test_the_other_systems_run_the_same_targets() -> None:
    gitlab = read(ROOT / ".gitlab-ci.yml")
    commands = {line for job in gitlab.values() if isinstance(job, dict) for line in job.get("script", [])}
    jenkins = set(re.findall(r"sh '([^']*)'", (ROOT / "Jenkinsfile").read_text(encoding="utf-8")))
    ours = {step["run"] for workflow, _, step in steps() if workflow in ("ci", "report", "release") and "run" in step}
    of_ci = {step["run"] for workflow, _, step in steps() if workflow == "ci" and "run" in step}
    on_github_only = {"gate-required", "release-register", "setup-registry"}
    assert commands == ours - {f"{MAKE} {target}" for target in on_github_only}
    assert jenkins == of_ci - {f"{MAKE} gate-required"}


def test_no_job_of_a_merge_request_on_gitlab_runs_beside_a_token() -> None:
    gitlab = read(ROOT / ".gitlab-ci.yml")
    jobs = {name: {**gitlab.get(job.get("extends", ""), {}), **job} for name, job in gitlab.items() if "script" in job}
    assert jobs
    for name, job in jobs.items():
        for_changes = any("merge_request_event" in rule["if"] for rule in job["rules"])
        trusted = job.get("tags") == ["trusted"]
        assert for_changes != trusted or name in ("main", "release-build"), name
        assert "environment" not in job or trusted, name
        # these install nothing beside an access token
        if "environment" in job and job["environment"]["name"] in ("review", "release-announce"):
            assert job["script"] in ([f"{MAKE} publish"], [f"{MAKE} release-announce"])


def test_a_variable_chooses_the_runner_of_what_trains_and_an_unset_one_leaves_it_as_it_was() -> None:
    gitlab = read(ROOT / ".gitlab-ci.yml")
    # GitLab drops an empty tag; a variable that is not defined would stay in the tag, and the job would wait forever
    assert [gitlab["variables"].get(name) for name in ("REVIEW_RUNNER", "TRAINING_RUNNER")] == ["", ""]
    chosen = {name: job["tags"] for name, job in gitlab.items() if "script" in job and "tags" in job}
    training = ["$TRAINING_RUNNER"]
    assert chosen == {"review": ["$REVIEW_RUNNER"], "main": training, "release-build": training}
    # without one, a release is built on a protected runner
    assert gitlab["release-build"]["variables"] == {"TRAINING_RUNNER": "trusted"}
