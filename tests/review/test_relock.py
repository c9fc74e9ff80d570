"""Relocking: what the review rebuilt becomes one commit on the branch; all else is refused, and nothing moves."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from review.github import API, GitHub

from mlops.core.errors import UserError
from mlops.review import relock

# the job holds a token, so that none of the team's code may run in it
pytestmark = pytest.mark.usefixtures("hostile")

SYMLINK = (stat.S_IFLNK | 0o777) << 16


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def zipped(*files: tuple[str, bytes], mode: int = 0) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return content.getvalue()


LOCK = ("dvc.lock", b"schema: '2.0'\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine of the job: main is checked out, a branch `better` waits in the bare `origin.git`."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
    origin, machine = tmp_path / "origin.git", tmp_path / "machine"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], check=True)
    subprocess.run(["git", "clone", "--quiet", str(origin), str(machine)], check=True, capture_output=True)
    git(machine, "checkout", "--quiet", "-B", "main")
    for name, content in {
        "dvc.lock": "old\n",
        "params.yaml": "C: 1\n",
        "reports/metrics.json": "{}\n",
        "reports/plots/roc.csv": "fpr,tpr\n",
        "reports/.gitignore": "/validation_failures.json\n",
    }.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(content, encoding="utf-8")
    git(machine, "add", "--all")
    git(machine, "commit", "--quiet", "--message", "start")
    git(machine, "push", "--quiet", "origin", "main")
    git(machine, "checkout", "--quiet", "-b", "better")
    (machine / "params.yaml").write_text("C: 2\n", encoding="utf-8")
    git(machine, "commit", "--quiet", "--all", "--message", "try")
    git(machine, "push", "--quiet", "origin", "better")
    git(machine, "checkout", "--quiet", "main")
    monkeypatch.chdir(machine)
    return machine


@pytest.fixture
def github(machine: Path, github: GitHub) -> Iterator[GitHub]:
    """Ada's pull request 1 from her branch `better`, whose review, run 100, has ended."""
    head = git(machine, "rev-parse", "better")
    github.add_pull("better", head)
    github.add_push("better", git(machine, "rev-parse", "main"))
    github.add_push("better", head)
    github.add_run(head, "failure")
    yield github
    assert github.changes == []


def start(github: GitHub, number: str = "1") -> str:
    """Start the workflow."""
    return relock.main(
        {
            "GITHUB_API_URL": f"{github.url}{API}",
            "GITHUB_REPOSITORY": github.repository,
            "GITHUB_TOKEN": github.token,
            "PULL_REQUEST": number,
        }
    )


def left(github: GitHub, *files: tuple[str, bytes], mode: int = 0, run: int = 100) -> None:
    """What the review has left."""
    github.add_artifact(run, zipped(*(files or (LOCK,)), mode=mode), name="relock")


def refused(github: GitHub, machine: Path, output: str, number: str = "1") -> None:
    before = on_the_branch(machine, "for-each-ref")
    with pytest.raises(UserError, match=output):
        start(github, number)
    assert on_the_branch(machine, "for-each-ref") == before


def commit_on(machine: Path, branch: str) -> str:
    """A commit on top of a branch, which nobody has pushed yet."""
    return git(machine, "commit-tree", f"{branch}^{{tree}}", "-p", branch, "-m", "more")


def on_the_branch(machine: Path, *arguments: str) -> str:
    return git(machine.parent / "origin.git", *arguments)


def test_what_was_packed_arrives_as_one_commit_on_the_branch(machine: Path, github: GitHub) -> None:
    git(machine, "checkout", "--quiet", "better")
    (machine / "dvc.lock").write_text("new\n", encoding="utf-8")
    (machine / "reports/plots/roc.csv").unlink()
    (machine / "reports/plots/errors.csv").write_text("row\n", encoding="utf-8")
    (machine / "reports/validation_failures.json").write_text('["a value"]\n', encoding="utf-8")
    (machine / "reports/.hidden.json").write_text("{}", encoding="utf-8")
    (machine / "models").mkdir()
    (machine / "models/CARD.md").write_text("# Model card\n", encoding="utf-8")
    (machine / "models/release.json").write_text("{}", encoding="utf-8")
    packed = relock.pack()
    assert packed == ["dvc.lock", "models/CARD.md", "reports/metrics.json", "reports/plots/errors.csv"]
    files = [(name, (machine / "build/relock" / name).read_bytes()) for name in packed]
    git(machine, "checkout", "--quiet", "--force", "main")
    left(github, *files)

    made = start(github)

    assert on_the_branch(machine, "rev-parse", "better") == made
    assert on_the_branch(machine, "log", "--format=%an: %s", "main..better").splitlines() == [
        f"github-actions[bot]: Run the pipeline of {git(machine, 'rev-parse', f'{made}^')[:10]}",
        "Ada: try",
    ]
    assert on_the_branch(machine, "show", "better:dvc.lock") == "new"
    assert on_the_branch(machine, "diff", "--name-status", "better^", "better").splitlines() == [
        "M\tdvc.lock",
        "A\tmodels/CARD.md",
        "A\treports/plots/errors.csv",
        "D\treports/plots/roc.csv",
    ]
    assert on_the_branch(machine, "show", "better:params.yaml") == "C: 2"
    assert git(machine, "status", "--porcelain", "--untracked-files=no") == ""


@pytest.mark.parametrize(
    ("name", "content", "mode"),
    [
        ("params.yaml", b"x", 0),
        (".github/workflows/ci.yaml", b"x", 0),
        ("src/mlops/review/gate.py", b"x", 0),
        ("../dvc.lock", b"x", 0),
        ("reports/../params.json", b"x", 0),
        ("reports/../../x.json", b"x", 0),
        ("/etc/x.json", b"x", 0),
        ("reports\\..\\x.json", b"x", 0),
        ("reports/.git/x.json", b"x", 0),
        ("reports/.hidden.json", b"x", 0),
        ("reports/dvc.yaml", b"stages: {x: {cmd: id}}", 0),
        ("reports/page.html", b"<script>", 0),
        ("reports/x.json\n", b"x", 0),
        ("reports/ä.json", b"x", 0),
        ("reports/metrics.json", b"../../params.yaml", SYMLINK),
        ("reports/metrics.json", b"\0", 0),
        ("reports/metrics.json", b"\xff\xfe", 0),
        ("reports/metrics.json", b" " * 1_000_001, 0),
        ("reports/validation_failures.json", b"[]", 0),
        ("models/release.json", b"{}", 0),
        ("models/model.skops", b"x", 0),
        ("models/CARDxmd", b"x", 0),
        ("models/CARD.md/x.json", b"{}", 0),
        ("docs/canvas.md", b"x", 0),
    ],
)
def test_a_file_that_the_pipeline_does_not_keep_is_refused(
    machine: Path, github: GitHub, name: str, content: bytes, mode: int
) -> None:
    left(github, LOCK, (name, content), mode=mode)
    refused(github, machine, "rejected")


def test_the_same_name_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        content = zipped(LOCK, LOCK)
    with pytest.raises(UserError, match="rejected"):
        relock.unpack(content)


def test_a_name_that_is_cut_at_a_nul_is_refused() -> None:
    content = zipped(LOCK, ("reports/xQ.json", b"{}")).replace(b"reports/xQ.json", b"reports/x\0.json")
    with pytest.raises(UserError, match=r"rejected|not a valid zip"):
        relock.unpack(content)


def test_a_bomb_is_not_unpacked() -> None:
    content = zipped(LOCK, ("reports/metrics.json", b" " * 300_000_000))
    assert len(content) < 1_000_000
    with pytest.raises(UserError, match="larger than 1,000,000 bytes"):
        relock.unpack(content)


def test_too_many_files_are_refused() -> None:
    many = [(f"reports/plots/{number}.csv", b"") for number in range(relock.MOST_FILES)]
    with pytest.raises(UserError, match="201 entries"):
        relock.unpack(zipped(LOCK, *many))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 torn"])
def test_what_is_no_zip_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(UserError, match="not a valid zip file"):
        relock.unpack(content)


def test_a_torn_zip_is_said_to_be_torn() -> None:
    content = bytearray(zipped(("dvc.lock", bytes(range(48, 122)) * 20)))
    content[60:80] = bytes(20)
    with pytest.raises(UserError, match="not a valid zip file"):
        relock.unpack(bytes(content))


def test_without_a_lock_there_is_nothing_to_commit() -> None:
    with pytest.raises(UserError, match=r"do not include dvc\.lock"):
        relock.unpack(zipped(("reports/metrics.json", b"{}")))


def test_somebody_who_pushed_to_the_branch_of_another_cannot_make_a_bot_the_last_pusher(
    machine: Path, github: GitHub
) -> None:
    """Mallory pushes to Ada's branch and starts this. The bot would push last, and she could approve her own work."""
    git(machine, "push", "--quiet", "origin", f"{commit_on(machine, 'better')}:better")
    head = on_the_branch(machine, "rev-parse", "better")
    github.pulls[0]["head"]["sha"] = head
    github.add_push("better", head, "mallory")
    left(github, run=github.add_run(head))
    refused(github, machine, "mallory pushed to better as well as its author ada")


def test_a_push_that_was_covered_up_counts_as_well(machine: Path, github: GitHub) -> None:
    """Mallory's commit is still in the branch when Ada has pushed on top of it, or the bot has."""
    head = github.pulls[0]["head"]["sha"]
    github.add_push("better", "1" * 40, "mallory", "force_push")
    github.add_push("better", "2" * 40, "github-actions[bot]")
    github.add_push("better", head, "ada")
    left(github)
    refused(github, machine, "mallory pushed to better")


def test_a_branch_that_somebody_else_made_is_refused(machine: Path, github: GitHub) -> None:
    github.activities[0]["actor"] = {"login": "mallory", "type": "User"}
    left(github)
    refused(github, machine, "mallory pushed to better")


def test_a_push_of_somebody_who_left_is_refused(machine: Path, github: GitHub) -> None:
    github.activities[1]["actor"] = None
    left(github)
    refused(github, machine, "somebody who left pushed to better")


def test_pushes_of_the_author_and_of_the_bot_are_accepted(machine: Path, github: GitHub) -> None:
    head = github.pulls[0]["head"]["sha"]
    # others pushed to another branch, and to one of this name that is gone
    mallory = {"login": "mallory", "type": "User"}
    gone = {**github.activities[0], "after": "3" * 40, "actor": mallory}
    github.activities[:0] = [gone, {**gone, "before": "3" * 40, "after": "0" * 40, "activity_type": "branch_deletion"}]
    github.add_push("other", "1" * 40, "mallory")
    github.add_push("better", "2" * 40, "github-actions[bot]")
    github.add_push("better", head, "ada", "force_push")
    left(github)
    assert start(github) == on_the_branch(machine, "rev-parse", "better")


def test_the_pushes_to_a_branch_must_be_known_from_its_head_back_to_its_beginning(
    machine: Path, github: GitHub
) -> None:
    left(github)
    first, last = github.activities
    for known in (
        [last],  # the beginning is missing
        [first],  # GitHub does not list the last push yet
        [first, {**last, "before": "1" * 40}],  # one in between is missing
        [],
    ):
        github.activities = known
        refused(github, machine, "GitHub does not list every push to better")
    # a hundred are asked for
    github.activities = [first]
    for number in range(100):
        github.add_push("better", f"{number:040x}")
    github.activities[-1]["after"] = last["after"]
    refused(github, machine, "GitHub does not list every push to better")


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (lambda pull: pull.update(state="closed"), "is not open"),
        (lambda pull: pull["head"].update(repo={"id": 2}), "comes from a fork"),
        (lambda pull: pull["head"].update(repo=None), "comes from a fork"),
        (lambda pull: pull["base"].update(ref="other"), "not from a separate branch into main"),
        (lambda pull: pull["head"].update(ref="main"), "not from a separate branch into main"),
    ],
    ids=["closed", "fork", "deleted fork", "other base", "main itself"],
)
def test_a_pull_request_that_no_workflow_may_push_to_is_refused(
    machine: Path, github: GitHub, change: Callable[[dict[str, Any]], None], output: str
) -> None:
    left(github)
    pull = github.pulls[0]
    change(pull)
    # past the description, which knows no pull request whose fork is gone; GitHub does
    github.failures["pulls/get"] = lambda: (200, pull, {})
    refused(github, machine, output)


def test_a_branch_behind_main_is_refused(machine: Path, github: GitHub) -> None:
    """The review has rebuilt the merge of both, which is not what the branch holds."""
    left(github)
    github.behind[github.pulls[0]["head"]["sha"]] = 1
    refused(github, machine, "is behind main")


def test_only_the_review_of_this_very_commit_counts(machine: Path, github: GitHub) -> None:
    run = github.workflow_runs[0]
    head = run["head_sha"]
    left(github)
    for different in (
        {"head_sha": "1" * 40},
        {"path": ".github/workflows/other.yaml"},
        {"event": "push"},
        {"status": "in_progress", "conclusion": None},
    ):
        github.workflow_runs = [{**run, **different}]
        refused(github, machine, f"no review of {head[:10]} has finished")
    github.workflow_runs = []
    refused(github, machine, f"no review of {head[:10]} has finished")


def test_a_review_that_has_rebuilt_nothing_is_reported_with_its_run(machine: Path, github: GitHub) -> None:
    github.add_artifact(100, zipped(LOCK), name="report")
    github.add_artifact(100, zipped(LOCK), name="relock", expired=True)
    refused(github, machine, r"rebuilt nothing(?s:.*)run 100")


def test_the_last_review_that_has_ended_counts(machine: Path, github: GitHub) -> None:
    head = github.pulls[0]["head"]["sha"]
    left(github, ("dvc.lock", b"the first\n"))
    left(github, ("dvc.lock", b"the second\n"), run=github.add_run(head))
    left(github, ("dvc.lock", b"still going\n"), run=github.add_run(head, None))
    start(github)
    assert on_the_branch(machine, "show", "better:dvc.lock") == "the second"


def test_too_large_an_artifact_is_not_fetched(machine: Path, github: GitHub) -> None:
    github.add_artifact(100, zipped(LOCK), name="relock", size_in_bytes=relock.MOST_ZIPPED + 1)
    refused(github, machine, "the limit is 20,000,000")
    assert not any("/zip" in target for _, target in github.requests)
    # one that GitHub says is small
    github.add_artifact(100, bytes(relock.MOST_ZIPPED + 1), name="relock", size_in_bytes=100)
    refused(github, machine, "more than 20,000,000 bytes")


def test_a_branch_that_moves_in_between_is_left_alone(machine: Path, github: GitHub) -> None:
    left(github)
    moved = commit_on(machine, "better")
    github.before["actions/download-artifact"] = lambda: git(machine, "push", "--quiet", "origin", f"{moved}:better")
    with pytest.raises(UserError, match=f"better moved from .* to {moved[:10]}"):
        start(github)
    assert on_the_branch(machine, "rev-parse", "better") == moved


def test_a_push_at_the_last_moment_wins(machine: Path, github: GitHub) -> None:
    left(github)
    moved = commit_on(machine, "better")
    # git runs this while the commit is made
    hook = machine / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\nexec git -C "{machine.parent}/origin.git" update-ref refs/heads/better {moved}\n')
    git(machine, "push", "--quiet", "origin", f"{moved}:refs/heads/elsewhere")
    hook.chmod(0o755)
    with pytest.raises(UserError, match=r"git push .*failed"):
        start(github)
    assert on_the_branch(machine, "rev-parse", "better") == moved


@pytest.mark.parametrize("number", ["better", "1/../2", "1?state=open", "-1", "0", "1.0", "\u0661", "1 2", "#"])
def test_what_is_no_number_is_not_asked_for(machine: Path, github: GitHub, number: str) -> None:
    refused(github, machine, "is not the number of a pull request", number)
    assert github.requests == []


def test_a_number_may_be_written_as_github_shows_it(machine: Path, github: GitHub) -> None:
    left(github)
    assert start(github, " #1 ") == on_the_branch(machine, "rev-parse", "better")


def test_a_token_that_may_not_look_is_answered_with_the_permissions_it_needs(machine: Path, github: GitHub) -> None:
    github.failures["pulls/get"] = lambda: (403, {"message": "Resource not accessible by integration"}, {})
    refused(github, machine, "actions and pull-requests: read, and contents: write")


def test_nothing_is_pushed_when_nothing_moved(machine: Path, github: GitHub) -> None:
    same = [
        (name, git(machine, "show", f"main:{name}").encode() + b"\n") for name in ("dvc.lock", "reports/metrics.json")
    ]
    left(github, *same, ("reports/plots/roc.csv", b"fpr,tpr\n"))
    refused(github, machine, "nothing to do")


def test_a_link_in_the_branch_leads_nowhere(machine: Path, github: GitHub, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    git(machine, "checkout", "--quiet", "better")
    git(machine, "rm", "--quiet", "-r", "reports")
    (machine / "reports").symlink_to(outside)
    (machine / "dvc.lock").unlink()
    (machine / "dvc.lock").symlink_to(outside / "lock")
    git(machine, "add", "--all")
    git(machine, "commit", "--quiet", "--message", "links")
    git(machine, "push", "--quiet", "origin", "better")
    git(machine, "checkout", "--quiet", "--force", "main")
    head = on_the_branch(machine, "rev-parse", "better")
    github.pulls[0]["head"]["sha"] = head
    github.add_push("better", head)
    left(github, LOCK, ("reports/metrics.json", b"{}\n"), run=github.add_run(head))
    refused(github, machine, "update-index .*failed")
    assert not list(outside.iterdir())


def test_the_target_tells_a_mistake_without_a_traceback(machine: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "GITHUB_TOKEN": "", "PULL_REQUEST": ""}
    command = [sys.executable, "-m", "mlops.review.relock"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: missing environment variables: ")
    assert "GITHUB_TOKEN, PULL_REQUEST" in done.stderr
    assert "Traceback" not in done.stderr
