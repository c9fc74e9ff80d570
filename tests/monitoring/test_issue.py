"""The issue of the monitor: one, kept up to date, closed in the end; whatever the log holds, it is text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from markdown_it import MarkdownIt
from monitoring.found import finding
from review.github import BOT, GitHub
from review.test_hostile_text import HOSTILE

from mlops.monitoring import proposal
from mlops.monitoring.findings import MOST_BYTES, REPORT
from mlops.monitoring.issue import LABEL, MARKER
from mlops.monitoring.proposal import Example, Problem, Proposal

RISING = {"alarm": "2026-01-20", "mean": 0.2}


def run(github: GitHub, folder: Path, content: str | None) -> subprocess.CompletedProcess[str]:
    """The job of the workflow, with this report."""
    (folder / REPORT).parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        (folder / REPORT).write_text(content, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "mlops.monitoring.issue"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "REQUESTS_CA_BUNDLE": str(github.certificate),
            "GITHUB_API_URL": f"{github.url}/api/v3",
            "GITHUB_SERVER_URL": github.url,
            "GITHUB_REPOSITORY": github.repository,
            "GITHUB_TOKEN": github.token,
            "GITHUB_RUN_ID": "42",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def report(github: GitHub, folder: Path, **different: Any) -> str:
    done = run(github, folder, finding(**different).model_dump_json())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_alarm_opens_one_issue_which_is_updated_and_closed_when_it_is_gone(github: GitHub, tmp_path: Path) -> None:
    assert "there is no open issue" in report(github, tmp_path)
    assert github.issues == []
    assert "opened" in report(github, tmp_path, risk=RISING)
    assert "updated" in report(github, tmp_path, risk=RISING, until="2026-02-02")
    (issue,) = github.issues
    assert issue["title"] == "Monitoring: the model is worse than at its release"
    assert "**alarm since 2026-01-20**" in issue["body"]
    assert "to 2026-02-02" in issue["body"]
    assert f"{github.url}/{github.repository}/actions/runs/42" in issue["body"]
    assert "closed" in report(github, tmp_path)
    assert [each["state"] for each in github.issues] == ["closed"]
    report(github, tmp_path, risk=RISING)
    assert [each["state"] for each in github.issues] == ["closed", "open"], "a new alarm is a new issue"


def test_a_warning_says_that_the_model_need_not_be_worse(github: GitHub, tmp_path: Path) -> None:
    report(github, tmp_path, column={"warns": True})
    (issue,) = github.issues
    assert issue["title"] == "Monitoring: inputs or predictions have changed"
    assert "mean radius" in issue["body"]
    assert "does not say that the model is worse" in issue["body"]


def test_broken_rows_are_an_issue_that_names_them(github: GitHub, tmp_path: Path) -> None:
    problem = Problem(
        column="worst radius",
        what="must be at least mean radius",
        rows=1_200,
        examples=[Example(request_id="day10-0", row=0, value="@ada")],
    )
    broken = Proposal(state="broken", why="rows are broken", model="0" * 32, main="0" * 40, problems=[problem])
    proposal.write(broken, {}, tmp_path / proposal.FOLDER)
    report(github, tmp_path)
    (issue,) = github.issues
    assert issue["title"] == "Monitoring: new labelled rows are broken"
    assert "request <code>day10-0</code>, row 0" in issue["body"]
    assert "@ada" not in issue["body"]
    (tmp_path / proposal.FOLDER / proposal.NAME).unlink()
    report(github, tmp_path)
    assert issue["state"] == "closed"


def test_issues_of_others_are_left_alone(github: GitHub, tmp_path: Path) -> None:
    github.add_issue({"login": "eve", "type": "User"}, "x", f"{MARKER}\nmine", [LABEL])
    github.add_issue(BOT, "x", "of another workflow", [LABEL])
    report(github, tmp_path, risk=RISING)
    report(github, tmp_path)
    assert [each["state"] for each in github.issues] == ["open", "open", "closed"]


def test_surplus_issues_are_closed(github: GitHub, tmp_path: Path) -> None:
    for _ in range(3):
        github.add_issue(BOT, "x", f"{MARKER}\n", [LABEL])
    report(github, tmp_path, risk=RISING)
    assert [each["state"] for each in github.issues] == ["open", "closed", "closed"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_text_of_a_log_is_text_in_the_issue(github: GitHub, tmp_path: Path, text: str) -> None:
    visible = " ".join(text.split())
    visible = "".join(letter for letter in visible if letter.isprintable())
    report(
        github,
        tmp_path,
        risk={**RISING, "part": visible, "metric": visible},
        column={"warns": True, "column": visible, "change": {"p_value": 0.0, "effect": 0.5, "what": visible}},
    )
    (issue,) = github.issues
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(issue["body"].removeprefix(MARKER))
    for tag in ("<script", "<img", "<h1", '<a href="https://evil', '<a href="javascript', "<!--"):
        assert tag not in rendered
    assert "@ada" not in issue["body"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("{", "is not a report of the monitor"),
        ('{"model": "x"}', "is not a report of the monitor"),
        ("[" * 100_000, "is not a report of the monitor"),
        (" " * (MOST_BYTES + 1), "has more than 5,000,000 bytes"),
    ],
    ids=["missing", "cut", "other", "deep", "large"],
)
def test_what_is_no_report_changes_nothing(github: GitHub, tmp_path: Path, content: str | None, says: str) -> None:
    done = run(github, tmp_path, content)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert github.changes == []
