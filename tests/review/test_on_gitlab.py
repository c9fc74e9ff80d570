"""`make publish` before a stand-in of GitLab: the note and the status, whatever a merge request's pipeline claims.

The working directory is a checkout of main. Everything of the merge request is data in the stand-in.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from review.github import serve
from review.gitlab import API, BOT, MALLORY, GitLab
from review.test_publish import main_s  # noqa: F401
from review.test_verdict import HEAD, honest

from mlops.core.errors import UserError
from mlops.core.gitlab import quiet
from mlops.core.markdown import JOINER
from mlops.review import publish

# the job holds a token, so that none of the team's code may run in it
pytestmark = pytest.mark.usefixtures("hostile")

OTHER = "f" * 40
NOTES, STATUSES = "/projects/42/merge_requests/7/notes", f"/projects/42/statuses/{HEAD}"

# What CML is asked to do is checked here, and done as CML's own driver does it
CML = """#!{python}
import json, os, pathlib, ssl, sys, urllib.parse, urllib.request
arguments, file = sys.argv[1:-1], pathlib.Path(sys.argv[-1])
number = arguments[4].removeprefix("--target=pr/")
expected = ["comment", "create", "--publish=false", "--driver=gitlab", "--target=pr/" + number, "--repo={page}",
            "--watermark-title=mlops-review"]
assert arguments == expected and number.isdecimal(), arguments
assert set(os.environ) <= {{"PATH", "HOME", "LC_CTYPE", "NODE_EXTRA_CA_CERTS", "GITLAB_TOKEN", "CI_COMMIT_SHA",
                            "ITERATIVE_DO_NOT_TRACK"}}, sorted(os.environ)
mark = '![](https://cml.dev/watermark.png#' + os.environ["CI_COMMIT_SHA"] + ' "CML watermark mlops-review")'
body = urllib.parse.urlencode({{"body": file.read_text(encoding="utf-8") + "\\n\\n" + mark}}).encode()
request = urllib.request.Request(
    "{url}/api/v4/projects/ada%2Fa-project/merge_requests/" + number + "/notes",
    body, {{"PRIVATE-TOKEN": os.environ["GITLAB_TOKEN"]}},
)
context = ssl.create_default_context(cafile=os.environ["NODE_EXTRA_CA_CERTS"])
urllib.request.urlopen(request, context=context).close()
"""


def reviewed(edit: Callable[[dict[str, Any]], Any] = lambda document: None, **evidence: Any) -> bytes:
    """An honest report of the gate about a model, and what somebody made of it."""
    document = json.loads(honest(**evidence)[0].model_dump_json())
    edit(document)
    return json.dumps(document).encode()


def job_of(server: GitLab, cml: Path) -> dict[str, str]:
    """The environment of the job, as a scheduled pipeline of the default branch has it."""
    cml.write_text(CML.format(python=sys.executable, url=server.url, page=server.page), encoding="utf-8")
    cml.chmod(0o755)
    return {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": f"{server.url}{API}",
        "CI_PROJECT_ID": str(server.project_id),
        "CI_PROJECT_URL": server.page,
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_PROTECTED": "true",
        "CI_PIPELINE_SOURCE": "schedule",
        "REVIEW_TOKEN": server.token,
        "REQUESTS_CA_BUNDLE": str(server.certificate),
        "NODE_EXTRA_CA_CERTS": str(server.certificate),
        "CML": str(cml),
    }


@pytest.fixture
def gitlab(
    certificate: tuple[Path, Path],
    main_s: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[GitLab]:
    """A project with merge request !7, whose pipeline left a good report; and the job that publishes."""
    monkeypatch.chdir(main_s)
    with serve(GitLab(certificate[0]), certificate[1]) as server:
        server.add_merge_request(7, HEAD, reviewed())
        for name in [name for name in os.environ if name.startswith(("GITHUB_", "CI", "CML"))]:
            monkeypatch.delenv(name)
        for name, value in job_of(server, tmp_path / "cml").items():
            monkeypatch.setenv(name, value)
        yield server
    assert server.complaints == []


def state(gitlab: GitLab) -> tuple[str, str]:
    """The first line of the one note of !7, and its status."""
    (note,) = [each for each in gitlab.notes[7] if each["author"] == BOT]
    return note["body"].splitlines()[0], gitlab.statuses[-1]["status"]


def withdrawn(gitlab: GitLab, output: str) -> str:
    """The job fails with this message, the note says that there is no review, and the status fails."""
    with pytest.raises(UserError, match=output) as error:
        publish.main()
    assert state(gitlab) == ("## ❌ No review for this commit", "failed")
    body = str(gitlab.notes[7][-1]["body"])
    assert "✅" not in body
    assert gitlab.token not in str(error.value) + body
    return body


def test_a_review_is_posted_once_and_a_second_start_changes_nothing(gitlab: GitLab) -> None:
    publish.main()
    assert state(gitlab) == ("## ✅ May be merged: all rules pass", "success")
    assert gitlab.changes == [("POST", NOTES.replace("42", "ada%2Fa-project")), ("POST", STATUSES)]
    assert f"{gitlab.page}/-/pipelines/700" in gitlab.notes[7][0]["body"]
    publish.main()
    assert len(gitlab.changes) == 2


def test_a_new_commit_s_review_replaces_the_note(gitlab: GitLab) -> None:
    publish.main()
    gitlab.merge_requests.clear()
    worse = reviewed(lambda document: document.update(head=OTHER), misrecorded=["recall"])
    gitlab.add_merge_request(7, OTHER, worse, id=701, status="failed")
    gitlab.jobs[701][2]["status"] = "failed"
    publish.main()
    assert state(gitlab) == ("## ❌ Do not merge: 1 rule fails", "failed")
    assert gitlab.changes[2:] == [("PUT", f"{NOTES}/7000"), ("POST", f"/projects/42/statuses/{OTHER}")]


def test_every_open_merge_request_is_published_whatever_becomes_of_another(gitlab: GitLab) -> None:
    gitlab.add_merge_request(3, OTHER, b"no JSON")
    gitlab.add_merge_request(5, OTHER, reviewed())["state"] = "closed"
    gitlab.add_merge_request(8, OTHER, reviewed(), status="running")
    gitlab.add_merge_request(9, OTHER, reviewed())["head_pipeline"] = None
    with pytest.raises(UserError, match="report"):
        publish.main()
    assert state(gitlab) == ("## ✅ May be merged: all rules pass", "success")
    assert sorted(gitlab.notes) == [3, 7]


def test_a_pipeline_for_merged_results_is_of_a_commit_made_of_both_branches(gitlab: GitLab) -> None:
    gitlab.merge_requests[0]["head_pipeline"]["sha"] = OTHER
    withdrawn(gitlab, "pipeline 700 is of commit ffffffffff, not of 0123456789")
    gitlab.parents[OTHER] = ["a" * 40, HEAD]
    publish.main()
    assert state(gitlab) == ("## ✅ May be merged: all rules pass", "success")
    assert gitlab.statuses[-1]["sha"] == OTHER


# -- attacks


def test_a_report_about_another_commit_is_refused(gitlab: GitLab) -> None:
    gitlab.artifacts[702] = reviewed(lambda document: document.update(head=OTHER))
    withdrawn(gitlab, r"report\.json is about commit ffffffffff, but the run was of 0123456789")


def test_a_pass_that_the_results_contradict_is_no_pass(gitlab: GitLab) -> None:
    def forge(document: dict[str, Any]) -> None:
        document.update(verdict="pass", blocks=False)
        document["policy"].update(verdict="pass", blocks=False)

    gitlab.artifacts[702] = reviewed(forge, misrecorded=["recall"])
    publish.main()
    title, status = state(gitlab)
    assert title.startswith("## ❌ Do not merge")
    assert status == "failed"


@pytest.mark.parametrize("job", ["test", "e2e", "review"])
def test_a_pipeline_without_a_required_job_is_no_pass(gitlab: GitLab, job: str) -> None:
    # the merge request's .gitlab-ci.yml has dropped it
    for each in gitlab.jobs[700]:
        each["name"] = each["name"].replace(job, "another")
    if job == "review":
        withdrawn(gitlab, "pipeline 700 has no job `review`")
        return
    publish.main()
    assert state(gitlab)[1] == "failed"


def test_a_claim_that_the_model_is_untouched_is_held_against_gitlab_s_list(gitlab: GitLab) -> None:
    least = {"head": HEAD, "base": None, "dirty": False, "touched": False, "verdict": "pass", "blocks": False}
    gitlab.artifacts[702] = json.dumps(least).encode()
    withdrawn(gitlab, "the change touches other files")


@pytest.mark.parametrize("count", ["1000+", None, "3"])
def test_a_list_of_files_that_is_not_whole_blocks(gitlab: GitLab, count: str | None) -> None:
    gitlab.merge_requests[0]["changes_count"] = count
    publish.main()
    title, status = state(gitlab)
    assert title == "## ❌ Do not merge: GitLab lists 2 files of this change and leaves out the others"
    assert status == "failed"


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[" * 100_000, b" " * 1_000_001], ids=range(5))
def test_a_file_that_is_no_report_is_refused(gitlab: GitLab, content: bytes) -> None:
    gitlab.artifacts[702] = content
    withdrawn(gitlab, "report|download has more than")


def test_markdown_html_mentions_and_quick_actions_of_a_report_stay_text(gitlab: GitLab) -> None:
    evil = "/merge @all !1 ~label %v1 &2 <img src=x onerror=y> [a](http://x) ![](http://x) ```"

    def forge(document: dict[str, Any]) -> None:
        document["problem"] = evil

    gitlab.artifacts[702] = reviewed(forge)
    publish.main()
    body = gitlab.notes[7][0]["body"].rpartition("![](https://cml.dev")[0]
    assert "merge" in body
    for raw in ("<img", "](http:", "@all", "!1", "~label", "%v1", "```\n/"):
        assert raw not in body
    assert not [line for line in body.splitlines() if line.lstrip(" >").startswith("/")]
    assert state(gitlab)[1] == "failed"


def test_what_gitlab_alone_reads_is_broken_outside_of_charts() -> None:
    chart = "```mermaid\n%%{init: {}}%%\n/x\n```"
    found = quiet(f"/merge\n> /close\n5 % of &#33;1 &#126;a %1\n{chart}\n /assign x")
    assert chart in found
    assert found.startswith(f"&#47;merge\n> &#47;close\n5 % of &#33;{JOINER}1 &#126;{JOINER}a %{JOINER}1")
    assert found.endswith("\n &#47;assign x")


def test_a_pipeline_of_a_fork_gives_no_review(gitlab: GitLab) -> None:
    gitlab.merge_requests[0]["head_pipeline"]["project_id"] = 43
    with pytest.raises(UserError, match="ran in a fork"):
        publish.main()
    assert gitlab.notes[7][0]["body"].startswith("## ❌ No review for this commit")
    assert gitlab.statuses == []  # the commit has no pipeline here, which GitLab requires for a merge


def test_a_merge_request_that_moves_on_meanwhile_gets_no_note(gitlab: GitLab) -> None:
    gitlab.before["notes"] = lambda: gitlab.merge_requests[0].update(sha=OTHER)
    with pytest.raises(UserError, match="merge request !7 was updated or closed"):
        publish.main()
    assert gitlab.changes == []


def test_the_note_of_somebody_else_with_our_watermark_is_left_alone(gitlab: GitLab) -> None:
    publish.main()
    copied = gitlab.notes[7].pop()["body"]
    gitlab.add_note(7, MALLORY, copied)
    publish.main()
    assert [note["author"] for note in gitlab.notes[7]] == [MALLORY, BOT]


def test_a_status_that_somebody_else_has_set_is_replaced(gitlab: GitLab) -> None:
    gitlab.artifacts[702] = reviewed(misrecorded=["recall"])
    publish.main()
    gitlab.statuses.append({**gitlab.statuses[-1], "id": 9000, "status": "success", "author": MALLORY})
    publish.main()
    assert [each["status"] for each in gitlab.statuses] == ["failed", "success", "failed"]


@pytest.mark.parametrize(
    "different",
    [
        {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_COMMIT_BRANCH": ""},
        {"CI_PIPELINE_SOURCE": "push"},
        {"CI_COMMIT_BRANCH": "better-model"},
        {"CI_COMMIT_REF_PROTECTED": "false"},
    ],
    ids=["merge request", "push", "branch", "unprotected"],
)
def test_another_pipeline_publishes_nothing(
    gitlab: GitLab, different: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in different.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="only by a scheduled or triggered pipeline of the protected default branch"):
        publish.main()
    assert gitlab.requests == []


def test_a_missing_token_and_a_wrong_one_are_reported(gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEW_TOKEN", "wrong")
    with pytest.raises(UserError, match="GitLab answers 401 to GET /user"):
        publish.main()
    monkeypatch.delenv("REVIEW_TOKEN")
    with pytest.raises(UserError, match="missing environment variables: REVIEW_TOKEN"):
        publish.main()
