"""A tag on GitLab: what must have been merged before it is released, and where it is published."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from review.github import serve
from review.gitlab import API, BOT, GitLab

from mlops.core.errors import UserError
from mlops.release.gitlab_gate import passed
from mlops.release.place import place


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def gitlab(certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitLab]:
    """A project with merge request !7, merged by fast-forward; the working directory is a clone at that commit."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(origin))
    (origin / "params.yaml").write_text("a: 1\n")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "change")
    head = git(origin, "rev-parse", "HEAD")
    git(origin, "update-ref", "refs/merge-requests/7/head", head)
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))
    monkeypatch.chdir(clone)
    with serve(GitLab(certificate[0]), certificate[1]) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        request = server.add_merge_request(7, head, None)
        request.update(state="merged", merge_commit_sha=None, squash_commit_sha=None)
        server.statuses.append(
            {"id": 1, "status": "success", "name": "mlops-review", "author": BOT, "sha": head, "pipeline_id": 700}
        )
        yield server
    assert server.complaints == []


def environment(gitlab: GitLab) -> dict[str, str]:
    return {
        "CI_API_V4_URL": f"{gitlab.url}{API}",
        "CI_PROJECT_ID": "42",
        "CI_PROJECT_URL": gitlab.page,
        "CI_DEFAULT_BRANCH": "main",
        "RELEASE_TOKEN": gitlab.token,
    }


def test_a_commit_that_a_merge_request_merged_and_whose_status_passed_is_released(gitlab: GitLab) -> None:
    head = git(Path(), "rev-parse", "HEAD")
    found = passed(environment(gitlab), head)
    assert found == {"pull_request": 7, "head": head, "url": f"{gitlab.page}/-/merge_requests/7"}


def test_a_failed_or_missing_status_stops_the_release(gitlab: GitLab) -> None:
    gitlab.statuses.append({**gitlab.statuses[0], "id": 2, "status": "failed"})
    with pytest.raises(UserError, match="it is 'failed'"):
        passed(environment(gitlab), git(Path(), "rev-parse", "HEAD"))
    gitlab.statuses.clear()
    with pytest.raises(UserError, match="it is 'missing'"):
        passed(environment(gitlab), git(Path(), "rev-parse", "HEAD"))


def test_what_no_merge_request_merged_is_not_released(gitlab: GitLab) -> None:
    gitlab.merge_requests[0]["state"] = "opened"
    with pytest.raises(UserError, match="no merge request was merged as"):
        passed(environment(gitlab), git(Path(), "rev-parse", "HEAD"))


def test_a_merge_of_other_files_than_those_judged_is_not_released(gitlab: GitLab) -> None:
    Path("params.yaml").write_text("a: 2\n")
    git(Path(), "commit", "--quiet", "--all", "--message", "merged beside another change")
    commit = git(Path(), "rev-parse", "HEAD")
    gitlab.merge_requests[0]["merge_commit_sha"] = commit
    with pytest.raises(UserError, match="its branch was behind"):
        passed(environment(gitlab), commit)


def test_the_registry_is_the_project_s_own() -> None:
    names = {
        "GITLAB_CI": "true",
        "CI_COMMIT_TAG": "v1.0.0",
        "CI_REGISTRY_IMAGE": "registry.gitlab.com/ada/a-project",
        "CI_REGISTRY_USER": "gitlab-ci-token",
        "CI_REGISTRY_PASSWORD": "secret",
    }
    assert place(names)[:3] == ("v1.0.0", "registry.gitlab.com/ada/a-project", "gitlab-ci-token")
    with pytest.raises(UserError, match="missing environment variables: CI_COMMIT_TAG"):
        place({**names, "CI_COMMIT_TAG": ""})
    github = {"GITHUB_REF_NAME": "v1.0.0", "GITHUB_REPOSITORY": "Ada/A", "GITHUB_ACTOR": "ada", "GITHUB_TOKEN": "x"}
    assert place(github).name == "ghcr.io/ada/a"
    assert place({**github, "REGISTRY": "r.example"}).name == "r.example/ada/a"
