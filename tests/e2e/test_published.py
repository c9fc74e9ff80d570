"""Real reviews of the project, published on main's side: what an honest report says is posted without any doubt.

A false alarm here would stand in every pull request.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project
from e2e.test_review import Change, Edit, change, regularised, replaced, with_gate, with_params  # noqa: F401
from review.github import GitHub
from review.test_artifact import zipped
from review.test_publish import RUN, github, main_s, write_event  # noqa: F401

from mlops.core.report import Report
from mlops.review import publish
from mlops.review.render import comment


def without_a_model(change: Change) -> None:  # noqa: F811
    change.project.git("rm", "--quiet", "dvc.lock")
    change.project.commit("no model yet")
    change.project.git("branch", "--force", "base")


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


@pytest.mark.parametrize(
    ("before", "edit", "heading"),
    [
        (None, with_params(lambda params: params["model"]["params"].update(max_iter=2000)), "✅ May be merged"),
        (None, worse, "❌ Do not merge: "),
        (without_a_model, regularised(1.0), "⚠️ May be merged, with care: "),
        (None, with_params(lambda params: params["model"].update(estimator="os.system")), "❌ The review failed"),
    ],
    ids=["nothing changes", "worse", "first model", "no model"],
)
def test_an_honest_review_is_posted_as_it_is(
    change: Change,  # noqa: F811
    publishing: Publishing,
    before: Callable[[Change], None] | None,
    edit: Edit,
    heading: str,
) -> None:
    if before is not None:
        before(change)
    change.commit(edit, run="failed" not in heading)
    text = publishing.post(change, change.review())
    assert text.startswith(f"## {heading}")
    assert ("edits the gate" in text) == (edit is worse)


def test_a_waiver_of_main_is_posted_without_a_doubt(change: Change, publishing: Publishing) -> None:  # noqa: F811
    waiver = {"rule": "no_worse", "subject": "log_loss", "reason": "the new data are harder", "until": "2999-12-31"}
    change.base(with_gate(lambda gate: gate.update(waivers=[waiver])))
    change.commit(regularised(0.02))
    text = publishing.post(change, change.review())
    assert "waived until 2999-12-31: the new data are harder" in text


def test_a_change_of_documentation_is_posted_as_one(change: Change, publishing: Publishing) -> None:  # noqa: F811
    change.commit(replaced("README.md", "# Model changes", "# Model  changes"), run=False)
    assert publishing.post(change, change.review()).startswith("## ✅ The model is not affected")
