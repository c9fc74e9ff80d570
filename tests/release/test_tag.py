"""Which tags may be released: a version, on main, whose files passed the gate; whatever is missing refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from release.hub import Clone, environment, merged
from review.github import GitHub

from mlops.core.errors import UserError
from mlops.release import tag


@pytest.fixture
def github(github: GitHub) -> Iterator[GitHub]:
    yield github
    assert github.changes == []


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """Main with one commit, tagged v1.0.0, checked out."""
    clone = Clone(tmp_path)
    clone.commit("start", {"model": "1"})
    clone.git("tag", "v1.0.0")
    monkeypatch.chdir(clone.folder)
    return clone


def verify(github: GitHub, name: str = "v1.0.0") -> dict[str, object]:
    tag.main(environment(github, name))
    found: dict[str, object] = json.loads(Path("build/release/tag.json").read_text(encoding="utf-8"))
    return found


def test_a_commit_of_main_that_passed_as_a_pull_request_may_be_released(github: GitHub, clone: Clone) -> None:
    commit = clone.git("rev-parse", "HEAD")
    pull = merged(github, clone, commit)
    check = github.add_check(pull["head"]["sha"])
    found = verify(github)
    assert found == {
        "tag": "v1.0.0",
        "commit": commit,
        "previous": None,
        "pull_request": 1,
        "head": pull["head"]["sha"],
        "url": check["html_url"],
    }


def test_an_annotated_tag_names_its_commit(github: GitHub, clone: Clone) -> None:
    commit = clone.git("rev-parse", "HEAD")
    github.add_check(merged(github, clone, commit)["head"]["sha"])
    clone.git("tag", "--annotate", "--message", "the second", "v1.1.0")
    found = verify(github, "v1.1.0")
    assert (found["commit"], found["previous"]) == (commit, "v1.0.0")


def test_a_commit_of_a_merge_queue_passed_itself(github: GitHub, clone: Clone) -> None:
    commit = clone.git("rev-parse", "HEAD")
    github.trees[commit] = clone.git("rev-parse", "HEAD^{tree}")
    github.add_check(commit, event="merge_group")
    # what a push to main leaves under the same name
    github.add_check(commit, "skipped", event="push")
    assert verify(github)["pull_request"] is None


@pytest.mark.parametrize(
    "name", ["v1", "v1.0", "1.0.0", "v1.0.0.0", "v01.0.0", "v1.0.0-beta", "v1.0.0-rc.0", "v1.0.0\n", "v1.0.٣", "vx"]
)
def test_a_tag_that_is_no_version_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is not a version"):
        tag.parse(name)


def test_versions_are_in_order() -> None:
    names = ["v0.9.0", "v1.0.0-rc.2", "v1.0.0-rc.10", "v1.0.0", "v1.0.1", "v1.2.0", "v1.10.0", "v2.0.0"]
    assert sorted(names, key=tag.parse) == names
    assert [name for name in names if tag.parse(name).is_candidate] == ["v1.0.0-rc.2", "v1.0.0-rc.10"]


def test_a_commit_beside_main_is_refused(github: GitHub, clone: Clone) -> None:
    clone.git("checkout", "--quiet", "-b", "better")
    commit = clone.commit("try", {"model": "2"})
    clone.git("tag", "v1.1.0")
    github.add_check(merged(github, clone, commit)["head"]["sha"])
    with pytest.raises(UserError, match="is not on main"):
        verify(github, "v1.1.0")
    assert github.requests == []


def test_a_tag_that_has_moved_since_the_checkout_is_refused(github: GitHub, clone: Clone) -> None:
    clone.commit("more", {"model": "2"})
    clone.git("checkout", "--quiet", "--detach", "main~1")
    clone.git("tag", "--force", "v1.0.0", "main")
    with pytest.raises(UserError, match="is not the commit checked out"):
        verify(github)


def test_a_commit_that_nobody_judged_is_refused(github: GitHub, clone: Clone) -> None:
    with pytest.raises(UserError, match="no pull request was merged as this commit"):
        verify(github)


def test_a_pull_request_without_the_check_is_refused(github: GitHub, clone: Clone) -> None:
    merged(github, clone, clone.git("rev-parse", "HEAD"))
    with pytest.raises(UserError, match=r"`gate` was not found for .*pull request #1"):
        verify(github)


@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out", "neutral", "skipped", None])
def test_a_check_that_has_not_succeeded_is_refused(github: GitHub, clone: Clone, conclusion: str | None) -> None:
    pull = merged(github, clone, clone.git("rev-parse", "HEAD"))
    github.add_check(pull["head"]["sha"], conclusion)
    with pytest.raises(UserError, match=f"it is '{conclusion or 'in_progress'}'"):
        verify(github)


def test_the_last_check_counts(github: GitHub, clone: Clone) -> None:
    head = merged(github, clone, clone.git("rev-parse", "HEAD"))["head"]["sha"]
    github.add_check(head, "failure")
    github.add_check(head, "success")
    assert verify(github)["head"] == head
    github.add_check(head, "failure")
    with pytest.raises(UserError, match="has not passed"):
        verify(github)


@pytest.mark.parametrize(
    "different",
    [
        {"app": {"id": 7, "slug": "somebody"}},
        {"name": "gates"},
        {"path": ".github/workflows/other.yaml"},
        {"event": "workflow_dispatch"},
        {"event": "push"},
    ],
)
def test_a_check_of_another_app_name_workflow_or_event_is_none(
    github: GitHub, clone: Clone, different: dict[str, object]
) -> None:
    pull = merged(github, clone, clone.git("rev-parse", "HEAD"))
    github.add_check(pull["head"]["sha"], **different)
    with pytest.raises(UserError, match="was not found"):
        verify(github)


@pytest.mark.parametrize(
    "different", [{"merged_at": None}, {"merge_commit_sha": "f" * 40}, {"base": {"ref": "develop"}}]
)
def test_a_pull_request_that_was_not_merged_into_main_as_this_commit_is_none(
    github: GitHub, clone: Clone, different: dict[str, object]
) -> None:
    commit = clone.git("rev-parse", "HEAD")
    pull = merged(github, clone, commit, **different)
    pull["contains"] = [commit]
    github.add_check(pull["head"]["sha"])
    with pytest.raises(UserError, match="no pull request was merged as this commit"):
        verify(github)


def test_what_was_merged_must_be_what_was_judged(github: GitHub, clone: Clone) -> None:
    head = merged(github, clone, clone.git("rev-parse", "HEAD"))["head"]["sha"]
    github.add_check(head)
    github.trees[head] = "d" * 40
    with pytest.raises(UserError, match="differ: its branch"):
        verify(github)


def test_the_release_before_is_the_highest_below_in_this_history(github: GitHub, clone: Clone) -> None:
    commit = clone.git("rev-parse", "HEAD")
    for name in ("v1.9.0", "v1.10.0", "v1.11.0-rc.1", "v2.0.0", "vintage"):
        clone.git("tag", name)
    assert tag.previous("v1.11.0", commit) == "v1.10.0"
    assert tag.previous("v1.0.0", commit) is None
    clone.commit("later", {"model": "2"})
    clone.git("tag", "v2.1.0")
    assert tag.previous("v3.0.0", commit) == "v2.0.0"


def test_on_a_persons_machine_it_says_what_to_do_instead(clone: Clone) -> None:
    with pytest.raises(UserError, match="make release-check"):
        tag.main({})


def test_a_token_that_may_not_look_is_answered_with_the_permissions_it_needs(github: GitHub, clone: Clone) -> None:
    merged(github, clone, clone.git("rev-parse", "HEAD"))
    github.failures["checks/list-for-ref"] = lambda: (403, {"message": "Resource not accessible by integration"}, {})
    with pytest.raises(UserError, match="actions, checks, contents and pull-requests: read"):
        verify(github)
