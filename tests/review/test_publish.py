"""`make publish` before a stand-in of GitHub: the one right comment, or words that say why there is none.

The working directory is a checkout of main, whose gate and CODEOWNERS count. What a report claims does not.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from review.github import API, BOT, GitHub, serve
from review.test_artifact import entry, zipped
from review.test_verdict import BREAKING, EVERY_KIND, HEAD, LATER, honest, metric_of, result_of

from mlops.core.errors import UserError
from mlops.review import publish, render

# the job holds a token, so that none of the team's code may run in it
pytestmark = pytest.mark.usefixtures("hostile")

ROOT = Path(__file__).parents[2]
OTHER = "f" * 40
RUN, FORK = 30433642, 77
BRANCH = "better-model"
LEAST = {"head": HEAD, "base": None, "dirty": False, "touched": False, "verdict": "pass", "blocks": False}
WAIVERS = [
    {"rule": "lock", "reason": "the runner is being replaced", "until": LATER},
    {"rule": "recorded", "reason": "the runner is being replaced", "until": "2026-01-01"},
]

# What CML is asked to do is checked here, and done: a comment with its watermark is posted
CML = """#!{python}
import json, os, pathlib, ssl, sys, urllib.parse, urllib.request
arguments, file = sys.argv[1:-1], pathlib.Path(sys.argv[-1])
repository = "{url}/{repository}"
number = arguments[4].removeprefix("--target=pr/")
expected = ["comment", "create", "--publish=false", "--driver=github", "--target=pr/" + number, "--repo=" + repository,
            "--watermark-title=mlops-review"]
assert arguments == expected and number.isdecimal(), arguments
assert set(os.environ) <= {{"PATH", "HOME", "LC_CTYPE", "NODE_EXTRA_CA_CERTS", "GITHUB_TOKEN", "GITHUB_SHA",
                            "ITERATIVE_DO_NOT_TRACK"}}, sorted(os.environ)
assert os.environ["HOME"] != {home!r}
mark = '![](https://cml.dev/watermark.png#' + os.environ["GITHUB_SHA"] + ' "CML watermark mlops-review")'
request = urllib.request.Request(
    "{url}/api/v3/repos/{repository}/issues/" + number + "/comments",
    json.dumps({{"body": file.read_text(encoding="utf-8") + "\\n\\n" + mark}}).encode(),
    {{"Authorization": "token " + os.environ["GITHUB_TOKEN"], "Accept": "application/json"}},
)
context = ssl.create_default_context(cafile=os.environ["NODE_EXTRA_CA_CERTS"])
with urllib.request.urlopen(request, context=context) as answer:
    print(json.load(answer)["html_url"])
"""


def artifact(**different: Any) -> bytes:
    """A report without results, as of a change of pages."""
    return zipped(("report.json", json.dumps({**LEAST, **different}).encode()))


def reviewed(edit: Callable[[dict[str, Any]], Any] = lambda document: None, **evidence: Any) -> bytes:
    """An honest report of the gate about a model, and what somebody made of it."""
    document = json.loads(honest(**evidence)[0].model_dump_json())
    edit(document)
    return zipped(("report.json", json.dumps(document).encode()))


def pull(number: int = 7, sha: str = HEAD, state: str = "open", repository: int | None = FORK) -> dict[str, Any]:
    owner = {"login": "mallory", "type": "User"}
    head = {"ref": BRANCH, "sha": sha, "user": owner, "repo": None if repository is None else {"id": repository}}
    return {"number": number, "state": state, "head": head}


class Repository(GitHub):
    """Whose comments belong to one pull request each."""

    def issues_list_comments(self, path: dict[str, str], *_: Any) -> tuple[int, Any, dict[str, str]]:
        return 200, [each for each in self.comments if each.get("issue", 7) == int(path["issue_number"])], {}

    def issues_create_comment(
        self, path: dict[str, str], query: Any, body: dict[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        status, comment, headers = super().issues_create_comment(path, query, body)
        comment["issue"] = int(path["issue_number"])
        return status, comment, headers


@pytest.fixture(scope="module")
def main_s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Main's checkout: its owners, and a gate with every kind of rule."""
    folder = tmp_path_factory.mktemp("main")
    (folder / ".github").mkdir()
    shutil.copy(ROOT / ".github/CODEOWNERS", folder / ".github")
    shutil.copy(ROOT / "dvc.lock", folder)
    (folder / "gate.yaml").write_text(json.dumps({"rules": EVERY_KIND, "waivers": WAIVERS}))
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
    return folder


@pytest.fixture
def github(
    certificate: tuple[Path, Path], main_s: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GitHub]:
    """A repository with pull request #7 from a fork, whose run left a good report; and the job that follows it."""
    monkeypatch.chdir(main_s)
    with serve(Repository(certificate[0]), certificate[1]) as server:
        server.pulls = [pull()]
        server.files = [{"filename": "params.yaml"}, {"filename": "dvc.lock"}]
        server.add_artifact(RUN, reviewed())
        cml = tmp_path / "cml"
        cml.write_text(
            CML.format(python=sys.executable, url=server.url, repository=server.repository, home=os.environ["HOME"])
        )
        cml.chmod(0o755)
        for name in [name for name in os.environ if name.startswith(("GITHUB_", "CML"))]:
            if name != "GITHUB_OPENAPI":
                monkeypatch.delenv(name)
        for name, value in {
            "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
            "GITHUB_REPOSITORY": server.repository,
            "GITHUB_API_URL": f"{server.url}{API}",
            "GITHUB_SERVER_URL": server.url,
            "GITHUB_TOKEN": server.token,
            "REQUESTS_CA_BUNDLE": str(server.certificate),
            "NODE_EXTRA_CA_CERTS": str(server.certificate),
            "CML": str(cml),
        }.items():
            monkeypatch.setenv(name, value)
        write_event(tmp_path)
        yield server
    assert server.complaints == []


def write_event(folder: Path, **different: Any) -> None:
    run = {
        "id": RUN,
        "event": "pull_request",
        "head_sha": HEAD,
        "head_branch": BRANCH,
        "head_repository": {"id": FORK, "owner": {"login": "mallory"}},
        "conclusion": "success",
        "pull_requests": [],
    }
    content = {"action": "completed", "workflow_run": {**run, **different}}
    (folder / "event.json").write_text(json.dumps(content))


def leaves(github: GitHub, content: bytes) -> None:
    """The run leaves this artifact, and no other."""
    github.artifacts.clear()
    github.add_artifact(RUN, content)


def heading(github: GitHub) -> str:
    """The first line of the one comment, once it is posted."""
    publish.main()
    (comment,) = github.comments
    return str(comment["body"].splitlines()[0])


def withdrawn(github: GitHub, output: str) -> str:
    """The job fails with this message, and the one comment says that there is no review."""
    with pytest.raises(UserError, match=output) as error:
        publish.main()
    (comment,) = github.comments
    assert comment["body"].startswith(
        f"## ❌ No review for this commit\n\n<code>{HEAD[:10]}</code> has no usable report"
    )
    assert f"{github.url}/ada/a-project/actions/runs/{RUN}" in comment["body"]
    assert "✅" not in comment["body"]
    assert all(line.isprintable() for line in comment["body"].splitlines())
    message = str(error.value)
    assert github.token not in message + comment["body"]
    assert all(line.isprintable() for line in message.splitlines())
    return str(comment["body"])


def refused(github: GitHub, output: str, timeout: float = 30) -> str:
    """Publishing is refused with this message, and nothing is changed at GitHub."""
    before = json.dumps(github.comments)
    with pytest.raises(UserError, match=output) as error:
        publish.main(timeout=timeout)
    message = str(error.value)
    assert github.changes == []
    assert json.dumps(github.comments) == before
    assert github.token not in message
    assert all(line.isprintable() for line in message.splitlines())
    assert len(message.splitlines()) <= 2
    return message


def test_a_review_is_posted_once_and_then_updated_in_place(
    github: GitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert heading(github) == "## ✅ May be merged: all rules pass"
    assert github.comments[0]["body"].endswith(f'#{HEAD} "CML watermark mlops-review")')
    assert f"posted the review of {HEAD[:10]} on {github.url}/ada/a-project/pull/7" in capsys.readouterr().out

    github.pulls = [pull(sha=OTHER)]
    github.add_artifact(RUN + 1, reviewed(lambda document: document.update(head=OTHER), misrecorded=["recall"]))
    write_event(tmp_path, id=RUN + 1, head_sha=OTHER, conclusion="failure")
    publish.main()
    assert len(github.comments) == 1
    assert f"#{OTHER} " in github.comments[0]["body"]
    assert HEAD not in github.comments[0]["body"]
    assert github.comments[0]["body"].startswith("## ❌ Do not merge: 1 rule fails\n")
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]
    assert "updated the review of ffffffffff" in capsys.readouterr().out


def test_the_next_run_updates_what_was_updated(github: GitHub) -> None:
    for _ in range(3):
        publish.main()
    assert len(github.comments) == 1
    assert [method for method, _ in github.changes] == ["POST", "PATCH", "PATCH"]


def test_the_report_of_the_last_attempt_counts(github: GitHub) -> None:
    github.add_artifact(RUN, reviewed())
    github.artifacts[RUN].reverse()
    publish.main()
    assert "/storage/2" not in str(github.requests)  # not asked of the API
    assert any(target.endswith("/artifacts/2/zip") for _, target in github.requests)


# -- which pull request


def test_the_report_of_another_pull_requests_head_is_refused(github: GitHub) -> None:
    github.pulls.append(pull(number=8, sha=OTHER))
    leaves(github, reviewed(lambda document: document.update(head=OTHER)))
    withdrawn(github, r"report\.json is about commit ffffffffff, but the run was of 0123456789")


@pytest.mark.parametrize(
    "pulls",
    [[], [pull(state="closed")], [pull(sha=OTHER)], [pull(repository=FORK + 1)]],
    ids=["none", "closed", "another commit", "another fork's"],
)
def test_without_a_pull_request_nothing_is_posted(github: GitHub, pulls: list[dict[str, Any]]) -> None:
    github.pulls = pulls
    refused(github, "no open pull request has 0123456789 as its head; nothing was posted$")


def test_a_pull_request_whose_fork_is_gone_is_refused(github: GitHub) -> None:
    # GitHub answers null there, of which its description does not speak
    github.failures["pulls/list"] = lambda: (200, [pull(repository=None)], {})
    refused(github, "no open pull request has 0123456789 as its head")


def test_a_pull_request_is_found_among_hundreds_with_the_same_branch_name(github: GitHub) -> None:
    github.pulls = [*(pull(number=1000 + number, sha=OTHER) for number in range(250)), pull()]
    publish.main()
    assert [target for _, target in github.changes] == [f"{API}/repos/ada/a-project/issues/7/comments"]


def test_a_pull_request_that_moves_on_meanwhile_gets_no_comment(github: GitHub) -> None:
    github.before["pulls/get"] = lambda: github.pulls[0]["head"].update(sha=OTHER)
    refused(github, "pull request #7 was updated or closed; nothing was posted for 0123456789")


def test_a_pull_request_that_is_closed_meanwhile_gets_no_comment(github: GitHub) -> None:
    github.before["issues/list-comments"] = lambda: github.pulls[0].update(state="closed")
    refused(github, "pull request #7 was updated or closed")


@pytest.mark.parametrize(
    "branch",
    [
        "$(touch pwned)",
        "`touch pwned`",
        "a;touch pwned;#",
        "a&head=ada:main",
        "a|b>c",
        "x' \"y",
        "a\nb",
        "--help",
        "é%2e%00",
    ],
)
def test_a_branch_name_is_a_name_and_no_command(
    github: GitHub, tmp_path: Path, branch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    github.pulls[0]["head"]["ref"] = branch
    write_event(tmp_path, head_branch=branch)
    before = sorted(tmp_path.iterdir())
    publish.main()
    assert len(github.comments) == 1
    assert branch not in github.comments[0]["body"]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("event", ["push", "workflow_dispatch", "merge_group", "pull_request_target", "\x1b[2J"])
def test_a_run_of_another_event_is_refused(github: GitHub, tmp_path: Path, event: str) -> None:
    write_event(tmp_path, event=event)
    refused(github, "not by a pull request")
    assert github.requests == []


@pytest.mark.parametrize(
    "different",
    [
        {"id": "../../x"},
        {"head_sha": "main"},
        {"head_repository": None},
        {"head_repository": {"id": FORK}},
        {"event": None},
    ],
)
def test_an_event_of_another_form_is_refused(github: GitHub, tmp_path: Path, different: dict[str, Any]) -> None:
    write_event(tmp_path, **different)
    refused(github, r"event\.json is not a workflow_run event")
    assert github.requests == []


def test_outside_of_a_workflow_it_says_what_to_do_instead(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    monkeypatch.delenv("GITHUB_TOKEN")
    refused(github, r"missing environment variables: GITHUB_EVENT_PATH, GITHUB_TOKEN\n  try: .*`make review`")


# -- the artifact and the report


@pytest.mark.parametrize(
    ("content", "output"),
    [
        (b"no zip", "the artifact is not a valid zip file"),
        (artifact()[:-30], "the artifact is not a valid zip file"),
        (zipped(("../report.json", b"{}")), "not named report"),
        (zipped((entry("report.json", stat.S_IFLNK | 0o777), b"/etc/passwd")), "not a regular file"),
        (zipped(("report.json", b"{}"), ("x", b"")), "holds 2 entries"),
        (zipped(("report.json", bytes(100_000_000))), "would unpack to 100,000,000 bytes"),
        (zipped(("report.json", b"[" * 900_000)), r"report\.json is no report"),
        (zipped(("report.json", b'{"confidence": NaN}')), "NaN is no number"),
        (artifact(verdict="maybe"), "verdict: Input should be"),
        (artifact(**{"\n::error::\x1b[2J": 1}), "Extra inputs"),
        (artifact(target="a\u202eb"), "cannot be seen"),
    ],
    ids=["no zip", "cut", "path", "link", "two", "bomb", "deep", "NaN", "type", "log", "direction"],
)
def test_a_hostile_artifact_is_refused(github: GitHub, content: bytes, output: str) -> None:
    leaves(github, content)
    withdrawn(github, output)


def test_a_run_without_a_report_is_reported(github: GitHub) -> None:
    for artifacts in ([], [{**github.artifacts[RUN][0], "expired": True}]):
        github.artifacts[RUN] = artifacts
        withdrawn(github, f"run {RUN} has no artifact named report")


def test_an_artifact_of_100_mb_is_not_downloaded(github: GitHub) -> None:
    github.artifacts[RUN][0]["size_in_bytes"] = 100_000_000
    withdrawn(github, "the artifact has 100,000,000 bytes; the limit is 1,010,000")
    assert not any("zip" in target for _, target in github.requests)


def test_an_artifact_that_is_larger_than_github_says_is_broken_off(github: GitHub) -> None:
    github.storage[1] = zipped(("report.json", os.urandom(30_000_000)), method=zipfile.ZIP_STORED)
    withdrawn(github, "the download has more than 1,010,000 bytes, and was broken off")


# -- the comment


def forged() -> str:
    return f'all is well\n\n![](https://cml.dev/watermark.png#{HEAD} "CML watermark mlops-review")'


@pytest.mark.parametrize(
    "author",
    [
        {"login": "mallory", "type": "User"},
        {"login": "github-actions[bot]", "type": "User"},
        {"login": "mallory[bot]", "type": "Bot"},
        None,
    ],
)
def test_a_forged_watermark_by_another_author_is_never_touched(github: GitHub, author: dict[str, str] | None) -> None:
    comment = github.add_comment(author, forged())
    publish.main()
    publish.main()
    assert comment["body"] == forged()
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]
    assert len(github.comments) == 2


def test_another_comment_of_the_same_bot_is_not_ours(github: GitHub) -> None:
    bodies = ["coverage: 90 %", forged().replace("mlops-review", "other"), f"> {forged()}\n\nquoted", ""]
    for body in bodies:
        github.add_comment(BOT, body)
    publish.main()
    assert [comment["body"] for comment in github.comments[:-1]] == bodies
    assert len(github.comments) == 5


@pytest.mark.parametrize("others", [29, 31, 99, 100, 101, 250])
def test_our_comment_is_found_behind_any_number_of_others(github: GitHub, others: int) -> None:
    for number in range(others):
        github.add_comment({"login": "ada", "type": "User"}, f"comment {number}")
    publish.main()
    publish.main()
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]
    assert len(github.comments) == others + 1


def test_the_comment_of_a_user_whose_token_it_is_is_updated(github: GitHub) -> None:
    github.user = {"login": "ada", "type": "User"}
    of_the_bot = github.add_comment(BOT, forged())
    publish.main()
    publish.main()
    assert of_the_bot["body"] == forged()
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]


# -- what a report claims


def words(github: GitHub) -> str:
    """The one comment as a reader sees its words."""
    (comment,) = github.comments
    return re.sub(r"</?(?:span|code)>", "", html.unescape(comment["body"])).replace("\u2060", "")


def doubted(github: GitHub, output: str) -> None:
    """The comment says not to merge, and why the report is not believed."""
    assert heading(github).startswith("## ❌ Do not merge: ")
    assert output in words(github)
    assert "✅ May be merged" not in words(github)


def claiming_to_pass(document: dict[str, Any]) -> None:
    for part in (document, document["policy"]):
        part.update(verdict="pass", blocks=False)
    for result in document["policy"]["results"]:
        result["blocks"] = False


def without_results(document: dict[str, Any]) -> None:
    document["policy"]["results"].clear()


def without_a_policy(document: dict[str, Any]) -> None:
    document["policy"] = None


def without_a_rule(document: dict[str, Any]) -> None:
    document["policy"]["results"].remove(result_of(document, "no_worse", "log_loss"))


def with_a_rule_more(document: dict[str, Any]) -> None:
    document["policy"]["results"].append({**result_of(document, "lock"), "rule": "ceiling", "subject": "recall"})


def with_a_rule_twice(document: dict[str, Any]) -> None:
    document["policy"]["results"].insert(0, result_of(document, "floor", "recall"))


def with_a_rule_renamed(document: dict[str, Any]) -> None:
    result_of(document, "floor", "recall").update(subject="accuracy")


def with_another_limit(document: dict[str, Any]) -> None:
    result_of(document, "floor", "recall").update(limit=0.1)


def with_another_number(document: dict[str, Any]) -> None:
    metric_of(document, "recall")["candidate"] = 0.1


def with_another_difference(document: dict[str, Any]) -> None:
    metric_of(document, "roc_auc")["difference"]["value"] = -0.3


def without_the_metric(document: dict[str, Any]) -> None:
    document["metrics"] = [each for each in document["metrics"] if each["metric"] != "recall"]


def waived(rule: str, **different: str) -> Callable[[dict[str, Any]], None]:
    """A report that passes because a result that fails is waived."""

    def edit(document: dict[str, Any]) -> None:
        waiver = {"reason": "the runner is being replaced", "until": LATER, **different}
        result_of(document, rule).update(verdict="fail", blocks=False, waiver=waiver)
        claiming_to_pass(document)

    return edit


@pytest.mark.parametrize(
    ("evidence", "edit", "output"),
    [
        ({"leaked": 1}, claiming_to_pass, "the report says 'pass', its results say 'fail'"),
        ({"moved": ["train"], "misrecorded": ["x"]}, claiming_to_pass, "the report says 'pass'"),
        ({}, without_results, "the report has no results"),
        ({}, without_a_policy, "the report has no results"),
        ({}, without_a_rule, "the report has no result for main's rule no_worse log_loss"),
        ({}, with_a_rule_more, "a result for a rule that main's gate does not have: ceiling recall"),
        ({}, with_a_rule_twice, "the report has more than one result for the rule floor recall"),
        ({}, with_a_rule_renamed, "the report has no result for main's rule floor recall"),
        ({}, with_another_limit, "floor recall: its limit is 0.1, main's gate has 0.85"),
        ({}, with_another_number, "the metric's is 0.1"),
        ({}, with_another_difference, "the metric's is -0.3"),
        ({}, without_the_metric, "the metric's is missing"),
        ({}, waived("leakage"), "leakage: main's gate has no such waiver"),
        ({}, waived("lock", reason="because I say so"), "lock: main's gate has no such waiver"),
        ({}, waived("lock", until="2998-12-31"), "lock: main's gate has no such waiver"),
        ({}, waived("recorded", until="2026-01-01"), "recorded: its waiver expired on 2026-01-01"),
        ({"leaked": 1}, lambda document: None, "the run ended as a success although its own results block the change"),
        ({}, lambda document: document.update(problem="x"), "ended as a success although its own results block"),
        ({}, lambda document: document.update(blocks=True), "ended as a success although its own results block"),
    ],
    ids=[
        "a pass over one that fails",
        "a pass over two that fail",
        "no results",
        "no policy",
        "a rule less",
        "a rule more",
        "a rule twice",
        "a rule about another metric",
        "another limit",
        "another number",
        "another difference",
        "no metric",
        "a waiver of another rule",
        "a waiver for another reason",
        "a waiver for longer",
        "a waiver that is over",
        "results that block",
        "a problem",
        "a report that blocks",
    ],
)
def test_a_report_that_contradicts_itself_or_main_s_gate_is_not_believed(
    github: GitHub, evidence: dict[str, Any], edit: Callable[[dict[str, Any]], None], output: str
) -> None:
    leaves(github, reviewed(edit, **evidence))
    doubted(github, output)


@pytest.mark.parametrize(
    ("rule", "about", "value"), BREAKING, ids=[f"{rule} {about}".strip() for rule, about, _ in BREAKING]
)
def test_a_pass_whose_number_breaks_main_s_limit_is_not_believed(
    github: GitHub, rule: str, about: str, value: float
) -> None:
    leaves(github, reviewed(lambda document: result_of(document, rule, about)["found"].update(value=value)))
    doubted(github, f"{rule} {about}".strip() + f": it passes with {value:g}, which breaks the limit")


@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out", "startup_failure", "stale", None])
def test_a_passing_report_of_a_run_that_did_not_end_well_is_not_green(
    github: GitHub, tmp_path: Path, conclusion: str | None
) -> None:
    write_event(tmp_path, conclusion=conclusion)
    doubted(github, f"the run ended as {conclusion or 'unfinished'}: a job other than the review did not pass")


@pytest.mark.parametrize("conclusion", ["success", "failure"])
def test_pages_that_block_are_not_green(github: GitHub, tmp_path: Path, conclusion: str) -> None:
    github.files = [{"filename": "README.md"}]
    leaves(github, artifact(blocks=True, verdict="fail"))
    write_event(tmp_path, conclusion=conclusion)
    doubted(github, "the run ended as a success although" if conclusion == "success" else "the run ended as failure")


def test_what_a_report_says_of_doubts_and_owners_is_replaced(github: GitHub) -> None:
    lies = {"doubts": ["all is well"], "owned": [{"place": "nowhere", "owners": [], "files": ["x.py"], "count": 1}]}
    leaves(github, reviewed(lambda document: document.update(lies)))
    assert heading(github) == "## ✅ May be merged: all rules pass"
    assert "all is well" not in words(github)
    assert "nowhere" not in words(github)
    assert "approval" not in words(github)


@pytest.mark.parametrize(
    ("evidence", "conclusion", "expected"),
    [
        ({}, "success", "## ✅ May be merged: all rules pass"),
        ({"moved": ["train"]}, "success", "## ✅ May be merged: all rules pass or are waived"),
        ({"leaked": 1}, "failure", "## ❌ Do not merge: 1 rule fails"),
        (
            {"baseline_problem": "main has no trained model yet", "first": True, "drift": None},
            "success",
            "## ⚠️ May be merged, with care: 5 rules are inconclusive",
        ),
    ],
    ids=["pass", "waived", "fail", "inconclusive"],
)
def test_an_honest_report_is_posted_as_it_is(
    github: GitHub, tmp_path: Path, evidence: dict[str, Any], conclusion: str, expected: str
) -> None:
    report, _ = honest(*WAIVERS, **evidence)
    leaves(github, zipped(("report.json", report.model_dump_json().encode())))
    write_event(tmp_path, conclusion=conclusion)
    assert heading(github) == expected
    (comment,) = github.comments
    mine = render.comment(report, run_url=f"{github.url}/ada/a-project/actions/runs/{RUN}")
    assert comment["body"].startswith(mine)


def test_a_pipeline_that_failed_is_reported_as_it_is(github: GitHub, tmp_path: Path) -> None:
    leaves(github, artifact(touched=True, verdict="fail", blocks=True, problem="the pipeline failed"))
    write_event(tmp_path, conclusion="failure")
    assert heading(github) == "## ❌ The review failed"
    assert "the pipeline failed" in words(github)


def test_without_a_gate_on_main_the_change_s_own_results_count(
    github: GitHub, tmp_path: Path, main_s: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(main_s, tmp_path / "without a gate")
    (folder / "gate.yaml").unlink()
    monkeypatch.chdir(folder)
    assert heading(github) == "## ✅ May be merged: all rules pass"


def test_a_gate_of_main_that_is_broken_makes_no_green_comment(
    github: GitHub, tmp_path: Path, main_s: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(main_s, tmp_path / "with a broken gate")
    (folder / "gate.yaml").write_text("rules: []\n")
    monkeypatch.chdir(folder)
    withdrawn(github, "gate.yaml")


# -- which files


def files(*names: str, **different: str) -> list[dict[str, str]]:
    return [{"filename": name, **different} for name in names]


@pytest.mark.parametrize(
    "others",
    [
        files("src/x.py"),
        files("docs/tutorial/dvc.yaml"),
        files("docs/evil.py"),
        files("docs/.gitattributes"),
        files("deploy/dvc.yaml"),
        files("deploy/DVC.yaml"),
        files("docs.yaml"),
        files(".github/workflows/ci.yaml"),
        files("GNUmakefile"),
        files("docs/../src/x.md"),
        files("docs//x.md"),
        files("docs/canvas.md"),
        files("docs/new.md", previous_filename="src/mlops/core/errors.py", status="renamed"),
        files("src/gone.py", status="removed"),
        [],
    ],
    ids=lambda others: " ".join(value for each in others for value in each.values()) or "none",
)
def test_a_model_is_untouched_by_documentation_only(github: GitHub, others: list[dict[str, str]]) -> None:
    leaves(github, artifact())
    github.files = [*files("README.md"), *others] if others else []
    withdrawn(github, "says that the model is not affected, but the change touches other files")


def test_a_change_of_documentation_is_said_to_leave_the_model_untouched(github: GitHub) -> None:
    leaves(github, artifact())
    github.files = files("README.md", "docs/page.md", "docs/picture.png", "deploy/kubernetes/service.yaml")
    assert heading(github) == "## ✅ The model is not affected"


def test_a_link_that_leads_to_code_is_no_documentation(
    github: GitHub, tmp_path: Path, main_s: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(main_s, tmp_path / "with a link")
    (folder / "docs").mkdir()
    (folder / "docs/code").symlink_to("../src")
    subprocess.run(["git", "add", "docs"], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    leaves(github, artifact())
    github.files = files("docs/code/page.md")
    withdrawn(github, "says that the model is not affected")


@pytest.mark.parametrize("name", ["docs/dvc.yaml", "src/.dvc/config", "data/raw/sub/dvc.lock", "x.dvc", "Dvc.Yaml"])
def test_a_file_that_dvc_would_load_from_anywhere_is_reported(github: GitHub, name: str) -> None:
    github.files += files(name)
    doubted(github, f"DVC would load {name}, which is in an unexpected place")


def test_a_stray_file_of_dvc_may_be_removed(github: GitHub) -> None:
    github.files += files("docs/dvc.yaml", status="removed")
    assert heading(github) == "## ✅ May be merged: all rules pass"


def places(github: GitHub) -> list[str]:
    """The lines about files that need an approval."""
    lines = words(github).splitlines()
    start = next(number for number, line in enumerate(lines) if "a code owner's approval" in line)
    return [lines[start], *lines[start + 1 : lines.index("", start)]]


def test_files_that_code_owners_must_see_are_taken_from_github(github: GitHub) -> None:
    github.files += files(*(f"src/part_{number}.py" for number in range(150)))
    github.files += files("docs/harmless.yaml", previous_filename=".github/workflows/ci.yaml")
    publish.main()
    assert places(github) == [
        "🔒 **152 files need a code owner's approval:**",
        "- .github/workflows/ci.yaml in /.github/",
        "- " + ", ".join(sorted(f"src/part_{number}.py" for number in range(150))[:20]) + " and 130 more in /src/",
        "- docs/harmless.yaml in /docs/",
    ]


def test_files_that_belong_nowhere_are_shown_first_and_never_cut_off(github: GitHub) -> None:
    """`make` reads the one, and the interpreter imports the other."""
    known = [f"{place}/{'x' * 100}_{number:04}.py" for place in ("src", "tests", "docs") for number in range(967)]
    github.files = files(*known[:1450], "json.py", "GNUmakefile", *known[1450:])
    publish.main()
    output = places(github)
    assert output[0] == "🔒 **2,903 files need a code owner's approval:**"
    assert output[1] == "- GNUmakefile, json.py in no known folder"
    assert [line.rpartition(" in ")[2] for line in output[2:]] == ["/src/", "/tests/", "/docs/"]
    assert words(github).index("GNUmakefile") < 300
    assert len(github.comments[0]["body"].encode()) < 65_536


def test_each_line_of_main_s_codeowners_is_named_whatever_the_number_of_files(github: GitHub) -> None:
    lines = (ROOT / ".github/CODEOWNERS").read_text(encoding="utf-8").splitlines()
    patterns = [line.split()[0] for line in lines if line.startswith("/") and "@" in line]
    patterns = [each for each in patterns if not each.endswith((".md", "LICENSE"))]
    names = []
    for pattern in patterns:
        below = [f"{'<@&' * 60}{number}.py" for number in range(60)] if pattern.endswith("/") else [""]
        names += [pattern.lstrip("/") + name for name in below]
    github.files = files(*names)
    publish.main()
    output = "\n".join(places(github))
    assert all((pattern if pattern.endswith("/") else pattern.strip("/")) in output for pattern in patterns)
    assert len(github.comments[0]["body"].encode()) < 65_536


@pytest.mark.parametrize(
    "name",
    [
        "src/<img src=x onerror=alert(1)>.py",
        "src/`code`.py",
        "src/@everyone.py",
        "src/#1 gh-1 www.example.org.py",
        "src/[link](https://example.org).py",
        "src/| cell |.py",
        "src/\n## ✅ May be merged.py",
        "src/\r\n\n</details>.py",
        "src/a\u202eyp.b.py",
        "src/\x1b[2J.py",
        "src/$x^2$.py",
        "src/&lt;.py",
        "src/" + "x" * 4000 + ".py",
        "../../etc/passwd",
        "/etc/passwd",
        " ",
        "*",
    ],
    ids=[
        "HTML",
        "code",
        "mention",
        "references",
        "link",
        "table",
        "heading",
        "end of a block",
        "direction",
        "terminal",
        "formula",
        "entity",
        "long",
        "above",
        "absolute",
        "space",
        "pattern",
    ],
)
def test_the_name_of_a_file_is_text_and_no_markup(github: GitHub, name: str) -> None:
    github.files = files(name)
    assert heading(github) == "## ✅ May be merged: all rules pass"
    body = github.comments[0]["body"]
    assert places(github)[0] == "🔒 **1 file needs a code owner's approval:**"
    (line,) = [line for line in body.splitlines() if line.startswith("- <code>")]
    inside = line.partition("<code>")[2].partition("</code>")[0]
    assert not re.search(r"[<>`@|$\[\]*]", re.sub(r"</?span>", "", inside))
    assert all(each.isprintable() or each == "\u2060" for each in line)
    assert sum(line.startswith("## ") for line in body.splitlines()) == 1
    assert len(body.encode()) < 65_536


def test_more_files_than_github_lists_are_reported_and_keep_the_comment_from_being_green(github: GitHub) -> None:
    github.files = files(*(f"docs/{number}.md" for number in range(3000)))
    doubted(github, "GitHub lists 3,000 files of this change and leaves out the others")
    leaves(github, artifact())
    withdrawn(github, "says that the model is not affected")


# -- an earlier comment does not stand beside a commit that it is not about


def next_commit(github: GitHub, folder: Path, **different: Any) -> None:
    """A green comment stands there, and the author pushes."""
    assert heading(github) == "## ✅ May be merged: all rules pass"
    github.pulls = [pull(sha=OTHER)]
    github.artifacts.clear()
    write_event(folder, id=RUN + 1, head_sha=OTHER, **different)


@pytest.mark.parametrize(
    ("content", "conclusion", "output"),
    [
        (None, "success", "has no artifact named report"),
        (None, "failure", "has no artifact named report"),
        (None, "cancelled", "has no artifact named report"),
        (None, "timed_out", "has no artifact named report"),
        (None, "action_required", "its run is waiting for a maintainer's approval"),
        (reviewed(), "action_required", "its run is waiting for a maintainer's approval"),
        (b"no zip", "success", "the artifact is not a valid zip file"),
        (zipped(("report.json", b"{}")), "success", "is no report"),
        (zipped(("report.json", bytes(2_000_000))), "success", "would unpack to 2,000,000 bytes"),
        (bytes(1_010_001), "success", "the limit is 1,010,000"),
        (reviewed(), "success", "is about commit 0123456789, but the run was of ffffffffff"),
    ],
    ids=[
        "missing",
        "missing after a failure",
        "cancelled",
        "timed out",
        "waiting",
        "waiting with a report",
        "no zip",
        "no report",
        "too large inside",
        "too large",
        "another commit",
    ],
)
def test_an_earlier_comment_is_replaced_where_there_is_no_usable_report(
    github: GitHub, tmp_path: Path, content: bytes | None, conclusion: str, output: str
) -> None:
    next_commit(github, tmp_path, conclusion=conclusion)
    if content is not None:
        github.add_artifact(RUN + 1, content)
    with pytest.raises(UserError, match=output):
        publish.main()
    (comment,) = github.comments
    assert comment["body"].startswith("## ❌ No review for this commit\n\n<code>ffffffffff</code> has no usable report")
    assert output in words(github)
    assert f"/actions/runs/{RUN + 1}" in comment["body"]
    assert HEAD not in comment["body"]
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]


def test_a_review_takes_the_place_of_no_review_again(github: GitHub, tmp_path: Path) -> None:
    next_commit(github, tmp_path)
    with pytest.raises(UserError):
        publish.main()
    github.add_artifact(RUN + 1, reviewed(lambda document: document.update(head=OTHER)))
    assert heading(github) == "## ✅ May be merged: all rules pass"
    assert [method for method, _ in github.changes] == ["POST", "PATCH", "PATCH"]


def test_the_job_fails_where_it_says_that_there_is_no_review(github: GitHub) -> None:
    github.artifacts.clear()
    command = [sys.executable, "-m", "mlops.review.publish"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == f"posted the review of {HEAD[:10]} on {github.url}/ada/a-project/pull/7\n"
    assert done.stderr.startswith(f"error: run {RUN} has no artifact named report\n  try: ")
    assert github.comments[0]["body"].startswith("## ❌ No review for this commit")


@pytest.mark.parametrize("artifacts", [True, False], ids=["a report", "no report"])
def test_an_earlier_comment_is_left_alone_once_the_pull_request_has_moved_on(github: GitHub, artifacts: bool) -> None:
    publish.main()
    before = github.comments[0]["body"]
    if not artifacts:
        github.artifacts.clear()
    github.before["pulls/get"] = lambda: github.pulls[0]["head"].update(sha=OTHER)
    with pytest.raises(UserError, match="was updated or closed" if artifacts else "has no artifact"):
        publish.main()
    github.pulls = [pull(sha=OTHER)]
    with pytest.raises(UserError, match="no open pull request has 0123456789 as its head"):
        publish.main()
    assert github.comments[0]["body"] == before
    assert [method for method, _ in github.changes] == ["POST"]


def test_where_pull_requests_share_a_head_both_say_that_there_is_no_review(github: GitHub) -> None:
    publish.main()
    github.pulls.append(pull(number=9))
    for _ in range(2):
        with pytest.raises(UserError, match=r"the pull requests #7, #9 have the same head, so the report"):
            publish.main()
        assert [(each["issue"], each["body"].splitlines()[0]) for each in github.comments] == [
            (7, "## ❌ No review for this commit"),
            (9, "## ❌ No review for this commit"),
        ]
    assert [method for method, _ in github.changes] == ["POST", "PATCH", "POST", "PATCH", "PATCH"]


def test_of_two_pull_requests_the_one_that_is_left_still_says_that_there_is_no_review(github: GitHub) -> None:
    github.pulls.append(pull(number=9))
    github.before["pulls/get"] = lambda: github.pulls[0].update(state="closed")
    with pytest.raises(UserError, match="have the same head"):
        publish.main()
    assert [each["issue"] for each in github.comments] == [9]


# -- GitHub refuses, or is silent


def answering(status: int, message: str = "", **headers: str) -> Callable[[], tuple[int, Any, dict[str, str]]]:
    return lambda: (status, {"message": message}, {name.replace("_", "-"): value for name, value in headers.items()})


OF_THE_REPORT = ["actions/list-workflow-run-artifacts", "actions/download-artifact", "pulls/list-files"]
OF_THE_COMMENT = ["pulls/list", "issues/list-comments", "pulls/get"]


@pytest.mark.parametrize("operation", OF_THE_REPORT + OF_THE_COMMENT)
@pytest.mark.parametrize(
    ("status", "message", "output"),
    [
        (403, "Resource not accessible by integration", r"answers 403 to GET .* by integration\n  try: .*permissions"),
        (404, "Not Found", r"answers 404 to GET .*: Not Found\n"),
        (401, "Bad credentials", r"answers 401 to GET .*: Bad credentials\n  try: .*GITHUB_TOKEN"),
        (301, "Moved Permanently", r"answers 301 to GET .*: Moved Permanently\n"),
        (
            500,
            "Server Error\n::error::\x1b[2J",
            r"answers 500 to GET .*: Server Error ::error::.\[2J\n  try: run the job",
        ),
    ],
)
def test_what_github_refuses_is_reported(
    github: GitHub, operation: str, status: int, message: str, output: str
) -> None:
    github.failures[operation] = answering(status, message, Location=f"{github.url}{API}/elsewhere")
    (withdrawn if operation in OF_THE_REPORT else refused)(github, output)


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (
            answering(403, x_ratelimit_remaining="0", x_ratelimit_reset="1893456000"),
            "after 00:00 UTC",
        ),
        (answering(429, retry_after="60"), "in 60 s"),
        (answering(403, retry_after="soon"), "later"),
        (answering(429), "later"),
    ],
)
@pytest.mark.parametrize("operation", ["pulls/list", "users/get-authenticated"])
def test_a_rate_limit_is_reported_with_its_end(github: GitHub, operation: str, answer: Any, output: str) -> None:
    github.failures[operation] = answer
    refused(github, f"GitHub's rate limit is used up at GET .*\n  try: run the job again {output}")


def test_a_passing_fault_is_tried_again(github: GitHub) -> None:
    faults = iter([502, 503])

    def answer() -> Any:
        status = next(faults, None)
        if status is None:
            del github.failures["pulls/list"]
            return github.pulls_list({}, {"state": "open"}, {})
        return status, {"message": "try again"}, {}

    github.failures["pulls/list"] = answer
    publish.main()
    assert len(github.comments) == 1


@pytest.mark.parametrize("operation", ["pulls/list", "issues/list-comments"])
def test_silence_is_reported(github: GitHub, operation: str) -> None:
    github.before[operation] = lambda: bool(github.closing.wait())
    refused(github, r"GitHub did not answer GET /repos/ada/a-project/.* within 0\.5 s", timeout=0.5)


def test_an_answer_that_is_no_json_is_reported(github: GitHub) -> None:
    github.failures["pulls/list"] = lambda: (200, b"<html>", {})
    refused(github, "GitHub's answer to GET is no JSON")


def test_a_download_that_is_refused_or_led_astray_is_reported(github: GitHub) -> None:
    github.failures["actions/download-artifact"] = lambda: (302, None, {"Location": "http://127.0.0.1/zip"})
    withdrawn(github, "to an address that is not https")
    github.failures["actions/download-artifact"] = lambda: (302, None, {"Location": f"{github.url}/storage/999"})
    withdrawn(github, "GitHub's storage answers 404 to the download")


def test_an_unknown_certificate_is_refused(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    refused(github, "GitHub cannot be reached for GET .*: SSLError")


def test_the_token_goes_over_tls_only(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://localhost")
    refused(github, "GITHUB_API_URL must begin with https://")


def test_an_update_that_is_refused_is_reported_and_nothing_is_posted_instead(github: GitHub) -> None:
    publish.main()
    github.failures["issues/update-comment"] = answering(403, "Resource not accessible by integration")
    with pytest.raises(UserError, match="answers 403 to PATCH /repos/ada/a-project/issues/comments/1000"):
        publish.main()
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]


def test_cml_that_fails_is_reported_without_the_token(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "cml").write_text('#!/bin/sh\necho "\033[2Jcannot post with $GITHUB_TOKEN" >&2; exit 3\n')
    refused(github, r"CML exited with 3: .*cannot post with \*\*\*")


def test_cml_that_is_not_installed_is_reported(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CML")
    monkeypatch.chdir("/")
    refused(github, r"CML is not installed at /\.github/cml/.*\n  try: npm ci --ignore-scripts")


def test_a_refusal_ends_the_job_with_one_message(github: GitHub) -> None:
    github.failures["pulls/list"] = answering(403, "Resource not accessible by integration")
    command = [sys.executable, "-m", "mlops.review.publish"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: GitHub answers 403 to GET /repos/ada/a-project/pulls: Resource not acc")
    assert len(done.stderr.splitlines()) == 2
    assert github.token not in done.stderr
