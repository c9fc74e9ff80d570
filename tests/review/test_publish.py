"""`make publish` before a stand-in of GitHub: the one right comment, or a refusal in words and nothing posted."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from review.github import API, BOT, GitHub, serve, write_certificate
from review.test_artifact import entry, zipped

from mlops.review import publish
from mlops.stage import UserError

ROOT = Path(__file__).parents[2]
HEAD, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40
RUN, FORK = 30433642, 77
BRANCH = "better-model"
LEAST = {"head": HEAD, "base": None, "dirty": False, "touched": True, "verdict": "pass", "blocks": False}

# What CML is asked to do is checked here, and done: a comment with its watermark is posted
CML = """#!{python}
import json, os, pathlib, ssl, sys, urllib.parse, urllib.request
arguments, file = sys.argv[1:-1], pathlib.Path(sys.argv[-1])
repository = "{url}/{repository}"
expected = ["comment", "create", "--publish=false", "--driver=github", "--target=pr/7", "--repo=" + repository,
            "--watermark-title=mlops-review"]
assert arguments == expected, arguments
assert set(os.environ) <= {{"PATH", "HOME", "LC_CTYPE", "NODE_EXTRA_CA_CERTS", "GITHUB_TOKEN", "GITHUB_SHA",
                            "ITERATIVE_DO_NOT_TRACK"}}, sorted(os.environ)
assert os.environ["HOME"] != {home!r}
mark = '![](https://cml.dev/watermark.png#' + os.environ["GITHUB_SHA"] + ' "CML watermark mlops-review")'
request = urllib.request.Request(
    "{url}/api/v3/repos/{repository}/issues/7/comments",
    json.dumps({{"body": file.read_text(encoding="utf-8") + "\\n\\n" + mark}}).encode(),
    {{"Authorization": "token " + os.environ["GITHUB_TOKEN"], "Accept": "application/json"}},
)
context = ssl.create_default_context(cafile=os.environ["NODE_EXTRA_CA_CERTS"])
with urllib.request.urlopen(request, context=context) as answer:
    print(json.load(answer)["html_url"])
"""


def artifact(**different: Any) -> bytes:
    return zipped(("report.json", json.dumps({**LEAST, **different}).encode()))


def pull(number: int = 7, sha: str = HEAD, state: str = "open", repository: int | None = FORK) -> dict[str, Any]:
    owner = {"login": "mallory", "type": "User"}
    head = {"ref": BRANCH, "sha": sha, "user": owner, "repo": None if repository is None else {"id": repository}}
    return {"number": number, "state": state, "head": head}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def github(certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    """A repository with pull request #7 from a fork, whose run left a good report; and the job that follows it."""
    with serve(GitHub(certificate[0]), certificate[1]) as server:
        server.pulls = [pull()]
        server.add_artifact(RUN, artifact())
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


def refused(github: GitHub, told: str, timeout: float = 30) -> str:
    """Publishing is refused with this message, and nothing is changed at GitHub."""
    before = json.dumps(github.comments)
    with pytest.raises(UserError, match=told) as error:
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
    publish.main()
    assert len(github.comments) == 1
    assert github.comments[0]["body"].endswith(f'#{HEAD} "CML watermark mlops-review")')
    assert f"posted the review of {HEAD[:10]} on {github.url}/ada/a-project/pull/7" in capsys.readouterr().out

    github.pulls = [pull(sha=OTHER)]
    github.add_artifact(RUN + 1, artifact(head=OTHER, verdict="fail", blocks=True))
    write_event(tmp_path, id=RUN + 1, head_sha=OTHER)
    publish.main()
    assert len(github.comments) == 1
    assert f"#{OTHER} " in github.comments[0]["body"]
    assert HEAD not in github.comments[0]["body"]
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]
    assert "updated the review of ffffffffff" in capsys.readouterr().out


def test_the_next_run_updates_what_was_updated(github: GitHub) -> None:
    for _ in range(3):
        publish.main()
    assert len(github.comments) == 1
    assert [method for method, _ in github.changes] == ["POST", "PATCH", "PATCH"]


def test_the_report_of_the_last_attempt_counts(github: GitHub) -> None:
    github.add_artifact(RUN, artifact(estimator="of.the.second.Attempt"))
    github.artifacts[RUN].reverse()
    publish.main()
    assert "/storage/2" not in str(github.requests)  # not asked of the API
    assert any(target.endswith("/artifacts/2/zip") for _, target in github.requests)


# -- which pull request


def test_the_report_of_another_pull_requests_head_is_refused(github: GitHub) -> None:
    github.pulls.append(pull(number=8, sha=OTHER))
    github.artifacts.clear()
    github.add_artifact(RUN, artifact(head=OTHER))
    refused(github, r"report\.json is about ffffffffff, but the run was of 0123456789")


@pytest.mark.parametrize(
    ("pulls", "found"),
    [
        ([], "none"),
        ([pull(number=7), pull(number=9)], "#7, #9"),
        ([pull(state="closed")], "none"),
        ([pull(sha=OTHER)], "none"),
        ([pull(repository=FORK + 1)], "none"),
    ],
    ids=["none", "two", "closed", "another commit", "another fork's"],
)
def test_any_number_of_candidates_but_one_is_refused(github: GitHub, pulls: list[dict[str, Any]], found: str) -> None:
    github.pulls = pulls
    refused(github, f"one open pull request must have 0123456789 as its head; found: {found}$")


def test_a_pull_request_whose_fork_is_gone_is_refused(github: GitHub) -> None:
    # GitHub answers null there, of which its description does not speak
    github.failures["pulls/list"] = lambda: (200, [pull(repository=None)], {})
    refused(github, "found: none$")


def test_a_pull_request_is_found_among_hundreds_with_the_same_branch_name(github: GitHub) -> None:
    github.pulls = [*(pull(number=1000 + number, sha=OTHER) for number in range(250)), pull()]
    publish.main()
    assert [target for _, target in github.changes] == [f"{API}/repos/ada/a-project/issues/7/comments"]


def test_a_pull_request_that_moves_on_meanwhile_gets_no_comment(github: GitHub) -> None:
    github.before["pulls/get"] = lambda: github.pulls[0]["head"].update(sha=OTHER)
    refused(github, "pull request #7 has moved on or was closed; nothing is posted for 0123456789")


def test_a_pull_request_that_is_closed_meanwhile_gets_no_comment(github: GitHub) -> None:
    github.before["issues/list-comments"] = lambda: github.pulls[0].update(state="closed")
    refused(github, "pull request #7 has moved on or was closed")


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
    refused(github, "only a pull request has a comment")
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
    refused(github, r"event\.json is no event of workflow_run")
    assert github.requests == []


def test_outside_of_a_workflow_it_says_what_to_do_instead(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    monkeypatch.delenv("GITHUB_TOKEN")
    refused(github, r"not set in the environment: GITHUB_EVENT_PATH, GITHUB_TOKEN\n  try: .*`make review`")


# -- the artifact and the report


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no zip", "the artifact is no sound zip"),
        (artifact()[:-30], "the artifact is no sound zip"),
        (zipped(("../report.json", b"{}")), "not named report"),
        (zipped((entry("report.json", stat.S_IFLNK | 0o777), b"/etc/passwd")), "no ordinary file"),
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
def test_a_hostile_artifact_is_refused(github: GitHub, content: bytes, told: str) -> None:
    github.artifacts.clear()
    github.add_artifact(RUN, content)
    refused(github, told)


def test_a_run_without_a_report_is_told(github: GitHub) -> None:
    for artifacts in ([], [{**github.artifacts[RUN][0], "expired": True}]):
        github.artifacts[RUN] = artifacts
        refused(github, f"run {RUN} has left no artifact named report")


def test_an_artifact_of_100_mb_is_not_downloaded(github: GitHub) -> None:
    github.artifacts[RUN][0]["size_in_bytes"] = 100_000_000
    refused(github, "the artifact has 100,000,000 bytes; at most 1,010,000 are read")
    assert not any("zip" in target for _, target in github.requests)


def test_an_artifact_that_is_larger_than_github_says_is_broken_off(github: GitHub) -> None:
    github.storage[1] = zipped(("report.json", os.urandom(30_000_000)), method=zipfile.ZIP_STORED)
    refused(github, "the download has more than 1,010,000 bytes, and was broken off")


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


def test_files_that_code_owners_must_see_are_taken_from_github(github: GitHub) -> None:
    github.files = [{"filename": f"src/part_{number}.py"} for number in range(150)]
    github.files += [{"filename": "docs/harmless.yaml", "previous_filename": ".github/workflows/ci.yaml"}]
    publish.main()
    assert ".github/workflows/ci.yaml" in github.comments[0]["body"]
    assert "Code owners must agree" in github.comments[0]["body"]


def test_more_files_than_github_lists_are_told(github: GitHub) -> None:
    github.files = [{"filename": f"docs/{number}.md"} for number in range(3000)]
    publish.main()
    assert "more files than GitHub lists" in github.comments[0]["body"]


@pytest.mark.parametrize("name", ["src/mlops/stage.py", "docs.yaml", ".github/workflows/ci.yaml"])
def test_a_report_that_calls_a_model_untouched_is_believed_of_documentation_only(github: GitHub, name: str) -> None:
    github.artifacts.clear()
    github.add_artifact(RUN, artifact(touched=False))
    github.files = [{"filename": "README.md"}, {"filename": name}]
    refused(github, "says that the model is untouched, but the change holds more than documentation")
    github.files = [{"filename": "README.md"}]
    publish.main()
    assert "Model untouched" in github.comments[0]["body"]


# -- GitHub refuses, or is silent


def answering(status: int, message: str = "", **headers: str) -> Callable[[], tuple[int, Any, dict[str, str]]]:
    return lambda: (status, {"message": message}, {name.replace("_", "-"): value for name, value in headers.items()})


READING = [
    "actions/list-workflow-run-artifacts",
    "actions/download-artifact",
    "pulls/list",
    "pulls/list-files",
    "issues/list-comments",
    "pulls/get",
]


@pytest.mark.parametrize("operation", READING)
@pytest.mark.parametrize(
    ("status", "message", "told"),
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
def test_what_github_refuses_is_told(github: GitHub, operation: str, status: int, message: str, told: str) -> None:
    github.failures[operation] = answering(status, message, Location=f"{github.url}{API}/elsewhere")
    refused(github, told)


@pytest.mark.parametrize(
    ("answer", "told"),
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
def test_a_rate_limit_is_told_with_its_end(github: GitHub, operation: str, answer: Any, told: str) -> None:
    github.failures[operation] = answer
    refused(github, f"GitHub's rate limit is used up at GET .*\n  try: run the job again {told}")


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
def test_silence_is_told(github: GitHub, operation: str) -> None:
    github.before[operation] = lambda: bool(github.closing.wait())
    refused(github, r"GitHub did not answer GET /repos/ada/a-project/.* within 0\.5 s", timeout=0.5)


def test_an_answer_that_is_no_json_is_told(github: GitHub) -> None:
    github.failures["pulls/list"] = lambda: (200, b"<html>", {})
    refused(github, "GitHub's answer to GET is no JSON")


def test_a_download_that_is_refused_or_led_astray_is_told(github: GitHub) -> None:
    github.failures["actions/download-artifact"] = lambda: (302, None, {"Location": "http://127.0.0.1/zip"})
    refused(github, "to an address that is not https")
    github.failures["actions/download-artifact"] = lambda: (302, None, {"Location": f"{github.url}/storage/999"})
    refused(github, "GitHub's storage answers 404 to the download")


def test_an_unknown_certificate_is_refused(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    refused(github, "GitHub cannot be reached for GET .*: SSLError")


def test_the_token_goes_over_tls_only(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://localhost")
    refused(github, "GITHUB_API_URL must begin with https://")


def test_an_update_that_is_refused_is_told_and_nothing_is_posted_instead(github: GitHub) -> None:
    publish.main()
    github.failures["issues/update-comment"] = answering(403, "Resource not accessible by integration")
    with pytest.raises(UserError, match="answers 403 to PATCH /repos/ada/a-project/issues/comments/1000"):
        publish.main()
    assert [method for method, _ in github.changes] == ["POST", "PATCH"]


def test_cml_that_fails_is_told_without_the_token(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "cml").write_text('#!/bin/sh\necho "\033[2Jcannot post with $GITHUB_TOKEN" >&2; exit 3\n')
    refused(github, r"CML exited with 3: .*cannot post with \*\*\*")


def test_cml_that_is_not_installed_is_told(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
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
