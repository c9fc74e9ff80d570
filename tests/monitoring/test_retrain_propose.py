"""The pull request of a retraining: on a real origin, beside a stand-in of GitHub's API."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from monitoring.test_retrain_branch import CONTENTS, MODEL
from release.hub import Clone, environment
from review.github import GitHub

from mlops.core.errors import UserError
from mlops.core.files import md5
from mlops.monitoring import propose
from mlops.monitoring.proposal import DataFile, Example, Problem, Proposal, write

BRANCH = "retrain/0123456789"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    clone = Clone(tmp_path)
    start = (ROOT / "params.yaml").read_text(encoding="utf-8")
    clone.commit("start", {"params.yaml": start, ".gitignore": "/build/\n"})
    monkeypatch.chdir(clone.folder)
    return clone


def leave(clone: Clone, state: str = "proposed", **different: object) -> None:
    """What `make retrain` leaves for this job."""
    files = [
        DataFile(role=role, rows=1234, size=len(content), md5=md5(content), stored="git")  # type: ignore[arg-type]
        for role, content in zip(("more", "recent"), CONTENTS.values(), strict=True)
    ]
    given = {"files": files, "first": "2026-01-01", "last": "2026-02-01", "training": 1234, **different}
    found = Proposal(state=state, why="After 1 alarm", model=MODEL, main=clone.git("rev-parse", "HEAD"), **given)  # type: ignore[arg-type]
    write(found, CONTENTS)


def run(github: GitHub) -> str | None:
    return propose.main({**environment(github, ""), "PATH": "/usr/bin"})


def test_the_branch_is_pushed_and_its_pull_request_opened_once(
    github: GitHub, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(clone)
    address = run(github)
    (pull,) = github.pulls
    assert pull["html_url"] == address
    assert (pull["title"], pull["head"]["ref"]) == ("Retrain on 1,234 new labelled rows", BRANCH)
    assert "50% of the training rows" in pull["body"]
    tip = clone.on_origin("rev-parse", BRANCH)
    assert clone.on_origin("show", f"{tip}:{next(iter(CONTENTS))}") == "older rows"
    assert clone.on_origin("rev-parse", f"{tip}^") == clone.on_origin("rev-parse", "main")

    assert run(github) == address
    assert (len(github.pulls), clone.on_origin("rev-parse", BRANCH)) == (1, tip)
    assert "nothing has changed" in capsys.readouterr().out


def test_a_branch_whose_run_died_before_it_opened_the_pull_request_gets_one(github: GitHub, clone: Clone) -> None:
    leave(clone)
    github.failures["pulls/create"] = lambda: (500, {"message": "down"}, {})
    with pytest.raises(UserError, match="500"):
        run(github)
    github.failures.clear()
    tip = clone.on_origin("rev-parse", BRANCH)
    for _ in range(2):  # what the next runs leave, because the branch is there
        leave(clone, "waiting", files=[])
        run(github)
    (pull,) = github.pulls
    assert (pull["title"], pull["head"]["ref"]) == ("Retrain on 1,234 new labelled rows", BRANCH)
    assert "After 1 alarm" in pull["body"]
    assert clone.on_origin("rev-parse", BRANCH) == tip


def test_of_two_runs_that_push_at_once_the_first_one_wins(
    github: GitHub, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(clone)
    hook = clone.folder / ".git/hooks/pre-push"  # runs between the look at the remote and the push
    hook.write_text(f'#!/bin/sh\ngit --git-dir "{clone.origin}" branch {BRANCH} main\n', encoding="utf-8")
    hook.chmod(0o755)
    assert run(github) is None
    assert clone.on_origin("rev-parse", BRANCH) == clone.on_origin("rev-parse", "main")
    assert github.pulls == []
    assert f"another run has pushed {BRANCH} meanwhile" in capsys.readouterr().out


def test_a_branch_that_conflicts_with_main_is_left_as_it_is(
    github: GitHub, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(clone)
    run(github)
    tip, changes = clone.on_origin("rev-parse", BRANCH), github.changes
    params = (clone.folder / "params.yaml").read_text(encoding="utf-8")
    clone.commit("meanwhile", {"params.yaml": params.replace("task: classification", "task: classification # !")})
    for state in ("proposed", "waiting"):
        leave(clone, state)
        assert run(github) is None
    assert (clone.on_origin("rev-parse", BRANCH), github.changes) == (tip, changes)
    assert "conflicts with main" in capsys.readouterr().out


def test_nothing_is_pushed_where_nothing_is_proposed(github: GitHub, clone: Clone) -> None:
    for state in ("waiting", "broken"):
        leave(clone, state)
        assert run(github) is None
    assert github.requests == []
    assert clone.on_origin("branch", "--list", "retrain/*") == ""


def test_a_pull_request_that_a_person_closed_is_not_opened_again(github: GitHub, clone: Clone) -> None:
    leave(clone)
    run(github)
    github.pulls[0]["state"] = "closed"
    clone.on_origin("branch", "--delete", "--force", BRANCH)
    assert run(github) is None
    assert clone.on_origin("branch", "--list", "retrain/*") == ""


def test_a_branch_with_a_person_s_commit_is_neither_pushed_nor_described_anew(
    github: GitHub, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(clone)
    run(github)
    clone.git("fetch", "--quiet", "origin", BRANCH)
    clone.git("switch", "--quiet", "--detach", "FETCH_HEAD")
    mine = clone.commit("mine", {"note.md": "mine"}, push=False)
    clone.git("push", "--quiet", "origin", f"{mine}:refs/heads/{BRANCH}")
    changes = github.changes
    assert run(github) is None
    assert clone.on_origin("rev-parse", BRANCH) == mine
    assert github.changes == changes
    assert "left alone, because Ada committed to it" in capsys.readouterr().out


def test_where_workflows_may_open_no_pull_request_a_form_is_named(github: GitHub, clone: Clone) -> None:
    github.failures["pulls/create"] = lambda: (403, {"message": "not permitted"}, {})
    leave(clone)
    address = run(github)
    assert address is not None
    assert address.startswith(f"{github.url}/ada/a-project/compare/main...retrain/0123456789?expand=1&title=Retrain")
    assert clone.on_origin("branch", "--list", "retrain/*")


def test_what_comes_from_the_log_is_text_in_the_pull_request(github: GitHub, clone: Clone) -> None:
    hostile = "</details>@ada ![x](https://evil.example) | `#1`"
    problem = Problem(
        column=hostile, what=hostile, rows=1, examples=[Example(request_id=hostile, row=0, value=hostile)]
    )
    leave(clone, alarms=[hostile], notes=[hostile], problems=[problem])
    run(github)
    text = github.pulls[0]["body"]
    for part in ("</details>", "@ada", "![x]", "https://evil", "`#1`"):
        assert part not in text
