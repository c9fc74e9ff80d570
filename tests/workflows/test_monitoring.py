"""`monitor.yaml` run by act: from a log in a real bucket to the issue and the pull request of a retraining."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from conftest import ROOT, Project
from services.stores import s3_server
from workflows.machine import GitHub
from workflows.releasing import Asked, asked

IMAGE = "ghcr.io/acme/model@sha256:" + "1" * 64
PASSWORD = "the-password-of-the-labels"
SEES = """

import json as _json, os as _os

with open({seen!r}, "a") as _file:
    _file.write(_json.dumps(dict(_os.environ)) + "\\n")
"""


def watched(seen: Path) -> Any:
    """A main with a release that is deployed, whose feature writes down what its process can see."""

    def start(project: Project) -> None:
        features = project.folder / "src/project/features.py"
        features.write_text(features.read_text(encoding="utf-8") + SEES.format(seen=str(seen)), encoding="utf-8")
        source = {"source": "labels.csv", "row": "row", "time": "known_at"}
        project.edit_params(lambda params: params.update(monitor={"labels": source, "retrain": {"when": "alarm"}}))
        project.run("dvc", "repro")
        project.run(sys.executable, str(ROOT / "tests/monitoring/production.py"), "build/log", "concept")
        shutil.copy(project.folder / "build/log/labels.csv", project.folder)
        project.commit("Add a model")
        project.git("tag", "v1.0.0")
        project.run(sys.executable, "-c", f"from mlops.release import deploy; deploy.write({IMAGE!r})")
        project.commit("Deploy v1.0.0 (#1)")

    return start


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seen") / "environments"


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory, seen: Path) -> GitHub:
    github = GitHub(tmp_path_factory.mktemp("github"), watched(seen))
    github.work.git("push", "--quiet", "origin", "v1.0.0")
    return github


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with asked(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture(scope="module")
def bucket(github: GitHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The log, and how to get it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as found:
        system = s3fs.S3FileSystem(
            key=found["AWS_ACCESS_KEY_ID"],
            secret=found["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=found["AWS_ENDPOINT_URL"],
            client_kwargs={"region_name": found["AWS_DEFAULT_REGION"]},
        )
        system.mkdir("logs")
        for path in sorted((github.work.folder / "build/log").glob("*.jsonl.gz")):
            system.put(str(path), f"logs/model/{path.name}")
        yield found


def flags(bucket: dict[str, str]) -> list[str]:
    variables = {
        "LOG_URL": "s3://logs/model",
        "LOG_ENDPOINT_URL": bucket["AWS_ENDPOINT_URL"],
        "LOG_REGION": bucket["AWS_DEFAULT_REGION"],
    }
    secrets = {
        "LOG_ACCESS_KEY_ID": bucket["AWS_ACCESS_KEY_ID"],
        "LOG_SECRET_ACCESS_KEY": bucket["AWS_SECRET_ACCESS_KEY"],
        "LABELS_DATABASE_URL": f"sqlite:///{PASSWORD}",
    }
    return [
        *(part for name, value in variables.items() for part in ("--var", f"{name}={value}")),
        *(part for name, value in secrets.items() for part in ("--secret", f"{name}={value}")),
    ]


def test_nothing_runs_where_no_log_is_named(github: GitHub, api: Asked) -> None:
    run = github.act("monitor.yaml", "workflow_dispatch", {"ref": "refs/heads/main"}, *api.flags())
    assert run.jobs == {}, run.log


def test_a_log_becomes_an_issue_and_a_retraining_and_again_the_same(
    github: GitHub, api: Asked, bucket: dict[str, str], seen: Path
) -> None:
    for _ in range(2):
        run = github.act("monitor.yaml", "workflow_dispatch", {"ref": "refs/heads/main"}, *flags(bucket), *api.flags())
        assert run.jobs == {"compare": "success", "issue": "success", "retrain": "success"}, run.log
    hub = api.hub
    assert hub.complaints == []
    (issue,) = hub.issues
    assert issue["title"] == "Monitoring: the model is worse than at its release"
    assert "alarm since" in issue["body"]
    assert "### Retraining" in issue["body"]
    (pull,) = hub.pulls
    assert pull["title"].startswith("Retrain on ")
    (branch,) = github.work.git("ls-remote", "--heads", "origin", "refs/heads/retrain/*").splitlines()
    assert branch.split("\t")[1] == f"refs/heads/{pull['head']['ref']}"
    environments = [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]
    inside = [each for each in environments if each.get("GITHUB_JOB")]
    assert inside, "the team's code ran in the workflow"
    shown = json.dumps(inside)
    assert PASSWORD not in shown + run.log
    assert bucket["AWS_SECRET_ACCESS_KEY"] not in shown + run.log
    assert {each["GITHUB_JOB"] for each in inside} == {"compare"}
