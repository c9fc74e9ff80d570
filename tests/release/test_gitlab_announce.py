"""The release on GitLab: notes, files and the merge request that deploys it, each by the token that may do so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from release.hub import Clone
from release.test_announce import RELEASE, REPORT, TAG
from review.github import serve
from review.gitlab import API, GitLab
from review.test_hostile_text import report_of

from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.core.markdown import JOINER
from mlops.core.report import Report
from mlops.release import announce, deploy
from mlops.release.place import VARIABLES, hand_on

# the job holds tokens, so that none of the team's code may run in it
pytestmark = pytest.mark.usefixtures("hostile")

REFERENCE = f"registry.gitlab.example:5050/ada/a-project@sha256:{'a' * 64}"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The machine of the job: the tag is checked out, and the files of the jobs before are there."""
    clone = Clone(tmp_path)
    commit = clone.commit("start", {str(path): (ROOT / path).read_text(encoding="utf-8") for path in deploy.PLACES})
    for name in ("v1.1.0", "v1.1.0-rc.1"):
        clone.git("tag", name)
    clone.git("push", "--quiet", "origin", "--tags")
    clone.git("checkout", "--quiet", "--detach")
    monkeypatch.chdir(clone.folder)
    left(commit)
    return clone


def left(commit: str, tag: str = "v1.1.0", report: Report = REPORT) -> None:
    """What the jobs before leave."""
    write_json({**TAG, "tag": tag, "commit": commit}, "build/release/tag.json")
    write_json({**RELEASE.model_dump(), "commit": commit}, "build/release/release.json")
    write_json(json.loads(report.model_dump_json()), "build/release/report.json")
    write_json({"bomFormat": "CycloneDX"}, "build/release/sbom.json")


@pytest.fixture
def gitlab(certificate: tuple[Path, Path], clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitLab]:
    with serve(GitLab(certificate[0]), certificate[1]) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        server.origin = clone.origin
        yield server
    assert server.complaints == []


def run(gitlab: GitLab, tag: str = "v1.1.0", **others: str) -> None:
    job = {
        "GITLAB_CI": "true",
        "CI_COMMIT_TAG": tag,
        "CI_API_V4_URL": f"{gitlab.url}{API}",
        "CI_PROJECT_ID": "42",
        "CI_PROJECT_URL": gitlab.page,
        "CI_JOB_TOKEN": gitlab.job_token,
        "DEPLOYMENT_TOKEN": gitlab.token,
        "REFERENCE": REFERENCE,
    }
    announce.main({**job, **others})


def test_a_release_has_notes_and_one_merge_request_however_often_it_is_run(
    gitlab: GitLab, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    run(gitlab)
    text = gitlab.releases["v1.1.0"]["description"]
    assert REFERENCE in text
    assert "in !12" in text
    assert f"{gitlab.page}/-/compare/v1.0.0...v1.1.0" in text
    assert "attestation" not in text
    (request,) = gitlab.merge_requests
    assert (request["title"], request["source_branch"], request["target_branch"]) == (
        "Deploy v1.1.0",
        "deploy/v1.1.0",
        "main",
    )
    assert REFERENCE in request["description"]
    assert f"merge this to deploy it: {request['web_url']}" in capsys.readouterr().out
    assert clone.on_origin("log", "--format=%s", "main..deploy/v1.1.0") == "Deploy v1.1.0"
    changed = clone.on_origin("diff", "--name-only", "main", "deploy/v1.1.0").splitlines()
    assert changed == sorted(map(str, deploy.PLACES))
    assert f"MODEL_IMAGE={REFERENCE}" in clone.on_origin("show", "deploy/v1.1.0:deploy/compose/.env")

    Path("build/release/CARD.md").write_text("A card since.", encoding="utf-8")
    clone.git("push", "--quiet", "origin", f"{clone.git('commit-tree', 'HEAD^{tree}', '-p', 'HEAD', '-m', 'x')}:main")
    run(gitlab)
    assert "A card since." in gitlab.releases["v1.1.0"]["description"]
    assert [each["iid"] for each in gitlab.merge_requests] == [request["iid"]]
    # on main as it is now
    assert clone.on_origin("log", "--format=%s", "main..deploy/v1.1.0") == "Deploy v1.1.0"
    assert clone.on_origin("merge-base", "main", "deploy/v1.1.0") == clone.on_origin("rev-parse", "main")


def test_the_packages_list_and_the_wheel_are_linked_once(gitlab: GitLab) -> None:
    wheel = Path("build/wheel/dist/model_of_diagnosis-1.1.0-py3-none-any.whl")
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"PK")
    run(gitlab, WHEEL=f"sha256:{hashlib.sha256(b'PK').hexdigest()}")
    run(gitlab, WHEEL=f"sha256:{hashlib.sha256(b'PK').hexdigest()}")
    sbom = Path("build/release/sbom.json")
    assert gitlab.packages == {("release", "1.1.0", each.name): each.read_bytes() for each in (sbom, wheel)}
    where = f"{gitlab.url}{API}/projects/42/packages/generic/release/1.1.0"
    links = [(each["url"], each["direct_asset_path"]) for each in gitlab.links["v1.1.0"]]
    assert links == [(f"{where}/{each.name}", f"/{each.name}") for each in (sbom, wheel)]
    text = gitlab.releases["v1.1.0"]["description"]
    # a job of a merge request can write to the package registry too, but not to the notes of a protected tag
    assert f"pip install {gitlab.page}/-/releases/v1.1.0/downloads/{wheel.name}#sha256=" in text
    for each in (sbom, wheel):
        assert hashlib.sha256(each.read_bytes()).hexdigest() in text
    with pytest.raises(UserError, match="is not the wheel that was made"):
        run(gitlab, WHEEL=f"sha256:{'0' * 64}")


def test_without_an_access_token_the_release_is_complete_and_says_what_to_do(
    gitlab: GitLab, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    run(gitlab, DEPLOYMENT_TOKEN="")
    assert REFERENCE in gitlab.releases["v1.1.0"]["description"]
    said = capsys.readouterr().out
    assert f"DEPLOYMENT_TOKEN is not set: write {REFERENCE} into deploy/ with a merge request" in said
    assert gitlab.merge_requests == []
    assert "deploy/" not in clone.on_origin("for-each-ref", "--format=%(refname:short)")


def test_a_token_that_may_not_open_merge_requests_says_what_it_needs(gitlab: GitLab) -> None:
    with pytest.raises(UserError, match="the token is wrong or has expired"):
        run(gitlab, DEPLOYMENT_TOKEN="glpat-another")
    assert list(gitlab.releases) == ["v1.1.0"]


def test_a_merge_request_of_a_fork_s_branch_of_this_name_is_left_alone(gitlab: GitLab) -> None:
    fork = {"iid": 3, "state": "opened", "source_branch": "deploy/v1.1.0", "target_branch": "main", "title": "Mine"}
    gitlab.merge_requests.append({**fork, "source_project_id": 666, "target_project_id": 42})
    run(gitlab)
    assert [each["title"] for each in gitlab.merge_requests] == ["Mine", "Deploy v1.1.0"]


def test_a_candidate_goes_to_staging_only(gitlab: GitLab, clone: Clone) -> None:
    left(clone.git("rev-parse", "HEAD"), "v1.1.0-rc.1")
    run(gitlab, "v1.1.0-rc.1")
    changed = clone.on_origin("diff", "--name-only", "main", "deploy/v1.1.0-rc.1").splitlines()
    assert changed == [str(deploy.STAGING)]


def test_what_main_deploys_already_is_not_proposed(
    gitlab: GitLab, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    clone.git("checkout", "--quiet", "main")
    deploy.write(REFERENCE)
    clone.git("commit", "--quiet", "--all", "--message", "Deploy v1.1.0")
    clone.git("push", "--quiet", "origin", "main")
    run(gitlab)
    assert "deploy/ on main names this image already" in capsys.readouterr().out
    assert gitlab.merge_requests == []


@pytest.mark.parametrize(("moved", "message"), [(True, "v1.1.0 was moved from"), (False, "find remote ref")])
def test_a_tag_that_is_gone_or_moved_is_not_announced(gitlab: GitLab, clone: Clone, moved: bool, message: str) -> None:
    other = clone.git("commit-tree", "HEAD^{tree}", "-m", "x")
    clone.git("push", "--quiet", "--force", "origin", f"{other}:refs/tags/v1.1.0" if moved else ":refs/tags/v1.1.0")
    with pytest.raises(UserError, match=message):
        run(gitlab)
    assert gitlab.requests == []


def test_what_only_gitlab_reads_in_a_text_is_broken(gitlab: GitLab, clone: Clone) -> None:
    left(clone.git("rev-parse", "HEAD"), report=report_of("~bug !1"))
    run(gitlab)
    text = gitlab.releases["v1.1.0"]["description"]
    assert f"&#126;{JOINER}bug &#33;{JOINER}1" in text


def test_the_job_before_hands_on_the_digests_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hand_on({"GITLAB_CI": "true"}, "WHEEL", "sha256:1", name="a.whl", digest="sha256:1")
    hand_on({"GITLAB_CI": "true"}, "REFERENCE", "r@sha256:2", name="r", digest="sha256:2")
    assert VARIABLES.read_text(encoding="utf-8") == "WHEEL=sha256:1\nREFERENCE=r@sha256:2\n"
    hand_on({"GITHUB_OUTPUT": "output"}, "WHEEL", "sha256:1", name="a.whl", digest="sha256:1")
    assert Path("output").read_text(encoding="utf-8") == "name=a.whl\ndigest=sha256:1\n"


def test_a_missing_variable_is_named(gitlab: GitLab) -> None:
    with pytest.raises(UserError, match="missing environment variables: CI_JOB_TOKEN, REFERENCE"):
        run(gitlab, CI_JOB_TOKEN="", REFERENCE="")
