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
from services.stores import add_user, s3_server
from workflows.machine import GitHub
from workflows.releasing import Asked, asked

IMAGE = "ghcr.io/acme/model@sha256:" + "1" * 64
PASSWORD = "the-password-of-the-labels"
WRITER, WRITES = "writer", "the+secret/of+the+remote"
SEES = """

import json as _json, os as _os

with open({seen!r}, "a") as _file:
    _file.write(_json.dumps(dict(_os.environ)) + "\\n")
"""


def watched(seen: Path, bucket: dict[str, str]) -> Any:
    """A main with a release that is deployed, whose feature writes down what its process can see.

    Its DVC remote can be read without credentials.
    """

    def start(project: Project) -> None:
        features = project.folder / "src/project/features.py"
        features.write_text(features.read_text(encoding="utf-8") + SEES.format(seen=str(seen)), encoding="utf-8")
        project.run("dvc", "remote", "add", "--default", "storage", "s3://rows/dvc")
        for name, value in (("endpointurl", bucket["AWS_ENDPOINT_URL"]), ("allow_anonymous_login", "true")):
            project.run("dvc", "remote", "modify", "storage", name, value)
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
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server with a bucket for the log, and one that everybody may read and one user may write."""
    with s3_server(tmp_path_factory.mktemp("s3")) as found:
        system = store(found)
        system.mkdir("logs")
        system.mkdir("rows")
        add_user(found, WRITER, WRITES)
        allowed = {"*": ("s3:GetObject", "s3:ListBucket"), WRITER: ("s3:PutObject", "s3:GetObject", "s3:ListBucket")}
        statements = [
            {
                "Effect": "Allow",
                "Principal": {"AWS": [who]},
                "Action": [action],
                "Resource": ["arn:aws:s3:::rows" if action == "s3:ListBucket" else "arn:aws:s3:::rows/*"],
            }
            for who, actions in allowed.items()
            for action in actions
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        system.call_s3("put_bucket_policy", Bucket="rows", Policy=policy)
        yield found


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory, seen: Path, bucket: dict[str, str]) -> GitHub:
    github = GitHub(tmp_path_factory.mktemp("github"), watched(seen, bucket))
    github.work.git("push", "--quiet", "origin", "v1.0.0")
    for path in sorted((github.work.folder / "build/log").glob("*.jsonl.gz")):
        store(bucket).put(str(path), f"logs/model/{path.name}")
    return github


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with asked(tmp_path_factory.mktemp("api")) as api:
        yield api


def store(bucket: dict[str, str]) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        key=bucket["AWS_ACCESS_KEY_ID"],
        secret=bucket["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=bucket["AWS_ENDPOINT_URL"],
        client_kwargs={"region_name": bucket["AWS_DEFAULT_REGION"]},
        use_listings_cache=False,
    )


def flags(bucket: dict[str, str], remote: bool) -> list[str]:
    variables = {
        "LOG_URL": "s3://logs/model",
        "LOG_ENDPOINT_URL": bucket["AWS_ENDPOINT_URL"],
        "LOG_REGION": bucket["AWS_DEFAULT_REGION"],
    }
    secrets = {
        "LOG_ACCESS_KEY_ID": bucket["AWS_ACCESS_KEY_ID"],
        "LOG_SECRET_ACCESS_KEY": bucket["AWS_SECRET_ACCESS_KEY"],
        "LABELS_DATABASE_URL": f"sqlite:///{PASSWORD}",
        "DVC_ACCESS_KEY_ID": WRITER,
        "DVC_SECRET_ACCESS_KEY": WRITES,
    }
    if remote:
        variables |= {
            "DVC_REMOTE_URL": "s3://rows/dvc",
            "DVC_ENDPOINT_URL": bucket["AWS_ENDPOINT_URL"],
            "DVC_REGION": bucket["AWS_DEFAULT_REGION"],
        }
    return [
        *(part for name, value in variables.items() for part in ("--var", f"{name}={value}")),
        *(part for name, value in secrets.items() for part in ("--secret", f"{name}={value}")),
    ]


def proposed(github: GitHub, api: Asked) -> tuple[str, list[str]]:
    """The branch of the only pull request, and what it changes."""
    (pull,) = api.hub.pulls
    assert pull["title"].startswith("Retrain on ")
    (branch,) = github.work.git("ls-remote", "--heads", "origin", "refs/heads/retrain/*").splitlines()
    assert branch.split("\t")[1] == f"refs/heads/{pull['head']['ref']}"
    github.work.git("fetch", "--quiet", "origin", pull["head"]["ref"])
    return pull["head"]["ref"], github.work.git("diff", "--name-only", "main", "FETCH_HEAD").split()


def test_nothing_runs_where_no_log_is_named(github: GitHub, api: Asked) -> None:
    run = github.act("monitor.yaml", "workflow_dispatch", {"ref": "refs/heads/main"}, *api.flags())
    assert run.jobs == {}, run.log


def test_a_log_becomes_one_issue_and_a_retraining_with_its_rows_in_git_or_in_the_remote(
    github: GitHub, api: Asked, bucket: dict[str, str], seen: Path
) -> None:
    hub, work, logs = api.hub, github.work, ""
    for remote in (False, True):
        given = (*flags(bucket, remote), *api.flags())
        run = github.act("monitor.yaml", "workflow_dispatch", {"ref": "refs/heads/main"}, *given)
        jobs = {"compare", "issue", "retrain", *(["store"] if remote else [])}
        assert run.jobs == dict.fromkeys(jobs, "success"), run.log
        logs += run.log
        branch, changed = proposed(github, api)
        epoch = f"data/raw/production/{branch.removeprefix('retrain/')}"
        tables = [f"{epoch}-recent.parquet", f"{epoch}.parquet"]
        if not remote:
            assert changed == [*tables, "params.yaml"]
            hub.pulls.clear()
            work.git("push", "--quiet", "origin", "--delete", branch)
    assert changed == ["data/raw/production/.gitignore", *(f"{name}.dvc" for name in tables), "params.yaml"]
    # the checks of the pull request hold no secret
    work.git("switch", "--quiet", "--detach", "FETCH_HEAD")
    work.run(sys.executable, "-m", "mlops.core.dvcfiles")
    assert all((work.folder / name).is_file() for name in tables)

    assert hub.complaints == []
    (issue,) = hub.issues
    assert issue["title"] == "Monitoring: the model is worse than at its release"
    assert "alarm since" in issue["body"]
    assert "### Retraining" in issue["body"]
    environments = [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]
    inside = [each for each in environments if each.get("GITHUB_JOB")]
    assert inside, "the team's code ran in the workflow"
    for secret in (PASSWORD, bucket["AWS_SECRET_ACCESS_KEY"], WRITES):
        assert secret not in json.dumps(inside) + logs
    assert {each["GITHUB_JOB"] for each in inside} == {"compare"}
