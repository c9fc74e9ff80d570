"""The digest in `deploy/`: written in every place and nowhere else, and proposed as one pull request."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import ROOT
from release.hub import Clone, environment
from review.github import GitHub

from mlops.core.errors import UserError
from mlops.core.github import Api
from mlops.release import announce, deploy

OLD, NEW = (f"ghcr.io/ada/a-project@sha256:{letter * 64}" for letter in "ab")
NOTES = "https://localhost/ada/a-project/releases/tag/v1.0.0"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone whose main deploys as this project's does."""
    clone = Clone(tmp_path)
    clone.commit("start", {str(path): (ROOT / path).read_text(encoding="utf-8") for path in deploy.PLACES})
    monkeypatch.chdir(clone.folder)
    return clone


def propose(github: GitHub, reference: str = NEW, tag: str = "v1.0.0") -> str | None:
    api = Api(environment(github, tag)["GITHUB_API_URL"], github.token, needed=announce.NEEDED)
    environ = {"GITHUB_SERVER_URL": github.url}
    return deploy.propose(api, f"/repos/{github.repository}", tag, reference, NOTES, environ)


def test_a_digest_is_written_in_every_place_and_nothing_else_changes(clone: Clone) -> None:
    before = {path: path.read_text(encoding="utf-8") for path in deploy.PLACES}
    assert deploy.write(NEW) == list(deploy.PLACES)
    for path, text in before.items():
        now = path.read_text(encoding="utf-8")
        assert deploy.deployed(path, now) == NEW
        assert deploy.deployed(path, text) is not None
        lines = [(old, new) for old, new in zip(text.splitlines(), now.splitlines(), strict=True) if old != new]
        assert len(lines) == (1 if path in deploy.LINES else 2), lines
    assert deploy.write(NEW) == []


@pytest.mark.parametrize(
    "reference",
    [
        "ghcr.io/ada/a-project:latest",
        "ghcr.io/ada/a-project:1.0.0",
        "ghcr.io/ada/a-project@sha256:abc",
        f"{NEW}\nImage=evil",
        f"GHCR.io/x@sha256:{'a' * 64}",
        f"$(id)@sha256:{'a' * 64}",
        "",
    ],
)
def test_only_a_digest_is_written(clone: Clone, reference: str) -> None:
    with pytest.raises(UserError, match="by digest, not by tag"):
        deploy.write(reference)
    assert clone.git("status", "--porcelain") == ""


def test_a_place_that_names_no_image_or_two_is_reported(clone: Clone) -> None:
    path = Path("deploy/compose/.env")
    for text, output in (("# nothing\n", "0 lines"), (f"MODEL_IMAGE={OLD}\nMODEL_IMAGE={OLD}\n", "2 lines")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=output):
            deploy.write(NEW)
    path.unlink()
    overlay = deploy.STAGING
    overlay.write_text("images: []\n", encoding="utf-8")
    with pytest.raises(UserError, match="0 entries of images are named model"):
        deploy.write(NEW)


def test_a_project_that_deploys_by_one_way_only_keeps_the_others_out(clone: Clone) -> None:
    for path in deploy.PLACES[1:]:
        path.unlink()
    assert deploy.write(NEW) == [deploy.PLACES[0]]
    deploy.PLACES[0].unlink()
    with pytest.raises(UserError, match="no file in deploy/ names an image"):
        deploy.write(NEW)


def test_a_release_is_proposed_as_one_commit_on_main(github: GitHub, clone: Clone) -> None:
    clone.commit("my own work", {"notes.txt": "unfinished"}, push=False)
    address = propose(github)
    assert address == f"{github.url}/{github.repository}/pull/1"
    (pull,) = github.pulls
    assert (pull["title"], pull["head"]["ref"], pull["base"]["ref"]) == ("Deploy v1.0.0", "deploy/v1.0.0", "main")
    assert NEW in pull["body"]
    assert NOTES in pull["body"]
    assert clone.on_origin("log", "--format=%an %s", "main..deploy/v1.0.0") == "github-actions[bot] Deploy v1.0.0"
    changed = clone.on_origin("diff", "--name-only", "main", "deploy/v1.0.0").splitlines()
    assert changed == sorted(map(str, deploy.PLACES))
    assert f"MODEL_IMAGE={NEW}" in clone.on_origin("show", "deploy/v1.0.0:deploy/compose/.env")
    assert clone.git("status", "--porcelain") == ""


def test_proposing_again_brings_the_same_pull_request_up_to_date(github: GitHub, clone: Clone) -> None:
    first = propose(github, OLD)
    clone.commit("main has moved", {"other.txt": "1"})
    assert propose(github, NEW) == first
    assert len(github.pulls) == 1
    assert NEW in github.pulls[0]["body"]
    assert clone.on_origin("log", "--format=%s", "main..deploy/v1.0.0") == "Deploy v1.0.0"
    assert clone.on_origin("merge-base", "main", "deploy/v1.0.0") == clone.on_origin("rev-parse", "main")


def test_what_main_deploys_already_is_not_proposed(github: GitHub, clone: Clone) -> None:
    deploy.write(NEW)
    clone.commit("Deploy v1.0.0", {})
    assert propose(github) is None
    assert github.pulls == []
    assert "deploy/" not in clone.on_origin("for-each-ref", "--format=%(refname:short)")


def test_a_release_candidate_goes_to_staging_only(github: GitHub, clone: Clone) -> None:
    propose(github, tag="v1.0.0-rc.1")
    changed = clone.on_origin("diff", "--name-only", "main", "deploy/v1.0.0-rc.1").splitlines()
    assert changed == [str(deploy.STAGING)]
    assert "to staging" in github.pulls[0]["body"]


def test_where_no_workflow_may_open_pull_requests_a_person_gets_a_form_that_is_filled_in(
    github: GitHub, clone: Clone
) -> None:
    message = "GitHub Actions is not permitted to create or approve pull requests."
    github.failures["pulls/create"] = lambda: (403, {"message": message}, {})
    address = urlsplit(propose(github) or "")
    assert f"{address.scheme}://{address.netloc}" == github.url
    assert address.path == f"/{github.repository}/compare/main...deploy/v1.0.0"
    form = dict(parse_qsl(address.query))
    assert (form["expand"], form["title"]) == ("1", "Deploy v1.0.0")
    assert NEW in form["body"]
    assert NOTES in form["body"]
    assert f"MODEL_IMAGE={NEW}" in clone.on_origin("show", "deploy/v1.0.0:deploy/compose/.env")
    # once a person has opened it, it is brought up to date
    github.add_pull("deploy/v1.0.0", "0" * 40)
    assert propose(github) == f"{github.url}/{github.repository}/pull/1"
    assert NEW in github.pulls[0]["body"]


def test_a_token_that_may_not_push_or_ask_is_answered_with_the_permissions_it_needs(
    github: GitHub, clone: Clone
) -> None:
    github.failures["pulls/list"] = lambda: (403, {"message": "Resource not accessible by integration"}, {})
    with pytest.raises(UserError, match="contents and pull-requests: write"):
        propose(github)
