"""Real reviews of the project, published on main's side: what an honest report says is posted without any doubt.

A false alarm here would stand in every pull request.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Project
from e2e.test_review import Change, change, regularised, replaced, verdicts, with_gate, with_params  # noqa: F401
from review.github import GitHub
from review.test_artifact import zipped
from review.test_publish import RUN, github, main_s, write_event  # noqa: F401

from mlops.core.report import Report
from mlops.review import publish
from mlops.review.render import comment


def worse(project: Project) -> None:
    """A worse model, and a gate of its own that would let it pass."""
    regularised(0.001)(project)
    with_gate(lambda gate: gate.update(rules=[{"rule": "floor", "metric": "recall", "at_least": 0.0}]))(project)


class Publishing:
    """The job that follows a review, in a checkout of main."""

    def __init__(self, github: GitHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
        self.github, self.folder, self.monkeypatch = github, folder, monkeypatch

    def post(self, change: Change, report: Report) -> str:  # noqa: F811
        """Publish a report as the run left it; the comment must be the one that the review wrote."""
        project, main = change.project, self.folder / "main"
        project.git("worktree", "add", "--quiet", "--detach", str(main), "base")
        head = project.git("rev-parse", "HEAD")
        assert report.head == head
        self.github.pulls[0]["head"]["sha"] = head
        self.github.files = [
            {"filename": name, "status": {"A": "added", "D": "removed"}.get(status, "modified")}
            for status, name in (
                line.split("\t") for line in project.git("diff", "--no-renames", "--name-status", "base").splitlines()
            )
        ]
        self.github.artifacts.clear()
        content = (project.folder / "build/review/report.json").read_bytes()
        self.github.add_artifact(RUN, zipped(("report.json", content)))
        write_event(self.folder, head_sha=head, conclusion="failure" if change.code else "success")
        self.monkeypatch.chdir(main)
        publish.main()
        (posted,) = self.github.comments
        expected = comment(report, run_url=f"{self.github.url}/{self.github.repository}/actions/runs/{RUN}")
        text: str = posted["body"].rpartition("\n\n![](")[0]
        assert text.strip() == expected.strip()
        return text


@pytest.fixture
def publishing(github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publishing:  # noqa: F811
    return Publishing(github, tmp_path, monkeypatch)


def test_a_change_that_changes_nothing_is_posted_without_a_doubt(change: Change, publishing: Publishing) -> None:  # noqa: F811
    change.commit(with_params(lambda params: params["model"]["params"].update(max_iter=2000)))
    report = change.review()
    assert (change.code, report.verdict) == (0, "pass")
    assert all(each.difference.value == 0 for each in report.metrics)
    assert report.owned == []
    text = publishing.post(change, report)
    assert text.startswith("## ✅ May be merged")
    assert "edits the gate" not in text
    assert "approval" not in text


def test_main_s_gate_decides_and_the_change_s_own_is_shown(change: Change, publishing: Publishing) -> None:  # noqa: F811
    change.commit(worse)
    report = change.review()
    assert change.code == 1
    assert report.proposed is not None
    assert (report.verdict, report.proposed.verdict) == ("fail", "pass")
    assert [(place.place, place.files) for place in report.owned] == [("/gate.yaml", ["gate.yaml"])]
    text = publishing.post(change, report)
    assert text.startswith("## ❌ Do not merge: ")
    assert "edits the gate" in text
    assert "🔒 **1 file needs a code owner's approval:**" in text.splitlines()[:6]


def test_the_first_model_is_judged_without_a_comparison(change: Change, publishing: Publishing) -> None:  # noqa: F811
    change.project.git("rm", "--quiet", "dvc.lock")
    change.project.commit("no model yet")
    change.project.git("branch", "--force", "base")
    change.commit(regularised(1.0))
    report = change.review(clean=True)
    assert (change.code, report.verdict) == (0, "inconclusive")
    assert report.baseline is not None
    assert "main has no trained model yet" in str(report.baseline.problem)
    assert verdicts(report)["no_worse roc_auc"] == "inconclusive"
    assert verdicts(report)["floor recall"] == "pass"
    text = publishing.post(change, report)
    assert text.startswith("## ⚠️ May be merged, with care: ")
    assert "edits the gate" not in text


def test_an_estimator_that_would_run_something_is_refused(change: Change, publishing: Publishing) -> None:  # noqa: F811
    change.commit(with_params(lambda params: params["model"].update(estimator="os.system", params={})), run=False)
    report = change.review()
    assert (change.code, report.verdict) == (1, "fail")
    assert "os.system" in change.output
    text = publishing.post(change, report)
    assert text.startswith("## ❌ The review failed")
    assert "edits the gate" not in text


def test_a_waiver_counts_when_main_has_it_and_until_its_day(change: Change, publishing: Publishing) -> None:  # noqa: F811
    waiver = {"rule": "no_worse", "subject": "log_loss", "reason": "the new data are harder", "until": "2999-12-31"}
    change.base(with_gate(lambda gate: gate.update(waivers=[waiver])))
    change.commit(regularised(0.02))
    report = change.review()
    (waived,) = [each for each in report.policy.results if each.waiver]
    assert (waived.subject, waived.blocks, waived.verdict) == ("log_loss", False, "fail")
    assert "waived until 2999-12-31: the new data are harder" in publishing.post(change, report)

    own = {**waiver, "subject": "roc_auc"}
    change.commit(with_gate(lambda gate: gate.update(waivers=[waiver, own])), run=False)
    report = change.review()
    assert "roc_auc" not in {each.subject for each in report.policy.results if each.waiver}


def test_documentation_alone_is_not_trained(change: Change, publishing: Publishing) -> None:  # noqa: F811
    change.commit(replaced("README.md", "# Model changes", "# Model  changes"), run=False)
    report = change.review()
    assert (change.code, report.touched, report.verdict) == (0, False, "pass")
    assert "Running stage" not in change.output
    assert publishing.post(change, report).startswith("## ✅ The model is not affected")
