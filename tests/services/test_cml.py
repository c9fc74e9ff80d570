"""The real CML, as `.github/cml` pins it, before the stand-ins of GitHub and GitLab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from review.github import GitHub
from review.gitlab import GitLab
from review.test_on_gitlab import gitlab  # noqa: F401
from review.test_publish import HEAD, answering, github, main_s  # noqa: F401

from mlops.core.errors import UserError
from mlops.review import publish

CML = Path(os.environ.get("CML") or Path(__file__).parents[2] / ".github/cml/node_modules/.bin/cml")


@pytest.fixture(autouse=True)
def cml(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.getfixturevalue("gitlab" if "gitlab" in request.fixturenames else "github")
    if not CML.is_file():
        pytest.skip("CML is not installed: npm ci --ignore-scripts --prefix .github/cml, or CML=path of another one")
    monkeypatch.setenv("CML", str(CML))


def test_cml_posts_a_comment_that_is_then_found_as_ours(github: GitHub, tmp_path: Path) -> None:  # noqa: F811
    before = {path: path.stat().st_mtime_ns for path in Path.home().glob(".gitconfig")}
    publish.main()
    publish.main()
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]
    assert len(github.comments) == 1
    assert f'![](https://cml.dev/watermark.png#{HEAD} "CML watermark mlops-review")' in github.comments[0]["body"]
    # it asked for nothing else, and left nothing in the settings of who runs it
    assert sum("/issues/7/comments" in target for method, target in github.requests if method == "POST") == 1
    assert {path: path.stat().st_mtime_ns for path in Path.home().glob(".gitconfig")} == before


def test_what_cml_posts_and_what_replaces_it_are_the_same_to_the_letter(github: GitHub) -> None:  # noqa: F811
    publish.main()
    posted = github.comments[0]["body"]
    publish.main()
    assert github.comments[0]["body"] == posted


def test_words_that_there_is_no_review_are_found_as_ours_too(github: GitHub) -> None:  # noqa: F811
    github.artifacts.clear()
    for _ in range(2):
        with pytest.raises(UserError, match="has no artifact"):
            publish.main()
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]
    assert [each["body"].splitlines()[0] for each in github.comments] == ["## ❌ No review for this commit"]


def test_a_refusal_is_reported_without_the_token(github: GitHub) -> None:  # noqa: F811
    github.failures["issues/create-comment"] = answering(403, "Resource not accessible by integration")
    with pytest.raises(UserError, match=r"CML exited with 1: .*Resource not accessible by integration") as error:
        publish.main()
    assert github.token not in str(error.value)
    assert github.comments == []


def test_cml_posts_a_note_on_gitlab_that_is_then_found_as_ours(gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("CML", str(CML))
    publish.main()
    publish.main()
    assert [method for method, _ in gitlab.changes] == ["POST", "POST"]  # the note, and the status
    assert f'![](https://cml.dev/watermark.png#{HEAD} "CML watermark mlops-review")' in gitlab.notes[7][0]["body"]
