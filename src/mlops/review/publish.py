"""`make publish`: post a review as the one comment of its pull request.

It runs in a `workflow_run` job, on main's code, with a token that may write comments. Which pull request is meant is
taken from GitHub's own event; the report, which anybody may have written, only says what the comment tells.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlops.review.artifact import MOST_ZIPPED, NAME, unpack
from mlops.review.changes import MOST, is_documentation, sensitive
from mlops.review.github import AGAIN, Api
from mlops.review.render import comment
from mlops.review.report import Report, Sha, read, shortened
from mlops.stage import UserError, errors_in_words

ARTIFACT = "report"
CML = ".github/cml/node_modules/.bin/cml"
TITLE = "mlops-review"
# the form that CML gives it; it is matched from the end, where only we write
WATERMARK = '![](https://cml.dev/watermark.png#{head} "CML watermark {title}")'
OURS = re.compile(re.escape(WATERMARK.format(head="HEAD", title=TITLE)).replace("HEAD", "[0-9a-f]+") + r"\s*\Z")
MOST_COMMENT = 60_000
MOST_FILES = 3_000
ACTIONS = {"login": "github-actions[bot]", "type": "Bot"}


class Owner(BaseModel):
    login: str


class HeadRepository(BaseModel):
    id: int
    owner: Owner


class Run(BaseModel):
    """The run of a pull request, as GitHub's event tells it."""

    id: int
    event: str
    head_sha: Sha
    head_branch: str
    head_repository: HeadRepository


class Event(BaseModel):
    """The event that started this job."""

    workflow_run: Run


def main(environment: Mapping[str, str] = os.environ, timeout: float = 30) -> None:
    missing = [name for name in ("GITHUB_EVENT_PATH", "GITHUB_REPOSITORY", "GITHUB_TOKEN") if not environment.get(name)]
    if missing:
        raise UserError(
            f"not set in the environment: {', '.join(missing)}",
            "leave publishing to .github/workflows/report.yaml; `make review` shows the comment on this machine",
        )
    run = read_event(Path(environment["GITHUB_EVENT_PATH"]))
    token = environment["GITHUB_TOKEN"]
    api = Api(environment.get("GITHUB_API_URL", "https://api.github.com"), token, timeout)
    repository = f"/repos/{environment['GITHUB_REPOSITORY']}"
    page = f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{environment['GITHUB_REPOSITORY']}"

    report = fetch_report(api, repository, run)
    number = find_pull_request(api, repository, run)
    report = with_files(report, *list_files(api, repository, number))
    markdown = comment(report, run_url=f"{page}/actions/runs/{run.id}")
    if len(markdown.encode()) > MOST_COMMENT:
        raise UserError(f"the comment has {len(markdown.encode()):,} bytes; at most {MOST_COMMENT:,} are posted")
    earlier = find_comment(api, repository, number)
    if not is_current(api.get(f"{repository}/pulls/{number}"), run):
        raise UserError(f"pull request #{number} has moved on or was closed; nothing is posted for {run.head_sha[:10]}")
    if earlier is None:
        create(markdown, number, run.head_sha, page, environment)
    else:
        body = f"{markdown}\n\n{WATERMARK.format(head=run.head_sha, title=TITLE)}"
        api.patch(f"{repository}/issues/comments/{earlier}", {"body": body})
    print(f"{'posted' if earlier is None else 'updated'} the review of {run.head_sha[:10]} on {page}/pull/{number}")


def read_event(path: Path) -> Run:
    """The run that a `workflow_run` event is about; it must come from a pull request."""
    try:
        run = Event.model_validate_json(path.read_bytes()).workflow_run
    except (OSError, ValidationError) as error:
        what = error.errors()[0]["loc"] if isinstance(error, ValidationError) else type(error).__name__
        raise UserError(f"{path} is no event of workflow_run: {what}") from None
    if run.event != "pull_request":
        raise UserError(f"run {run.id} was started by {shortened(run.event)!r}; only a pull request has a comment")
    return run


def fetch_report(api: Api, repository: str, run: Run) -> Report:
    """The report that this run uploaded, once everything about it that can be checked has been."""
    listed = api.get(f"{repository}/actions/runs/{run.id}/artifacts", name=ARTIFACT, per_page=100)["artifacts"]
    found = [artifact for artifact in listed if artifact["name"] == ARTIFACT and not artifact["expired"]]
    if not found:
        raise UserError(f"run {run.id} has left no artifact named {ARTIFACT}", "look for the reason in that run's log")
    # one for each attempt of the run; the last one counts, as for actions/download-artifact
    artifact = max(found, key=lambda each: int(each["id"]))
    if artifact["size_in_bytes"] > MOST_ZIPPED:
        raise UserError(f"the artifact has {artifact['size_in_bytes']:,} bytes; at most {MOST_ZIPPED:,} are read")
    content = unpack(api.download(f"{repository}/actions/artifacts/{artifact['id']}/zip", MOST_ZIPPED))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(content)
        report = read(path)
    if report.head != run.head_sha:
        raise UserError(f"{NAME} is about {report.head[:10]}, but the run was of {run.head_sha[:10]}")
    return report


def find_pull_request(api: Api, repository: str, run: Run) -> int:
    """Number of the one open pull request whose head is the commit and the repository of the run."""
    head = f"{run.head_repository.owner.login}:{run.head_branch}"
    pulls = api.pages(f"{repository}/pulls", state="open", head=head)
    found = sorted(int(pull["number"]) for pull in pulls if is_current(pull, run))
    if len(found) != 1:
        which = ", ".join(f"#{number}" for number in found[:10]) or "none"
        raise UserError(f"one open pull request must have {run.head_sha[:10]} as its head; found: {which}")
    return found[0]


def is_current(pull: Any, run: Run) -> bool:
    """Whether a pull request is open and its head still is what ran."""
    repository = pull["head"]["repo"] or {"id": None}  # none where the fork was deleted
    head = (pull["head"]["sha"], repository["id"])
    return pull["state"] == "open" and head == (run.head_sha, run.head_repository.id)


def with_files(report: Report, names: list[str], complete: bool) -> Report:
    """The report with the files that code owners must agree to by GitHub's list, in which the change has no hand."""
    if not report.touched and not (complete and is_documentation(names)):
        raise UserError(f"{NAME} says that the model is untouched, but the change holds more than documentation")
    found = [*map(shortened, sensitive(names, edits_policy=False)), *report.sensitive]
    cut = [] if complete else ["more files than GitHub lists"]
    return report.model_copy(update={"sensitive": list(dict.fromkeys([*cut, *found]))[:MOST]})


def list_files(api: Api, repository: str, number: int) -> tuple[list[str], bool]:
    """Files that a pull request touches, and whether these are all: GitHub lists 3,000."""
    listed = api.pages(f"{repository}/pulls/{number}/files")
    names = [name for file in listed for name in (file["filename"], file.get("previous_filename")) if name]
    return names, len(listed) < MOST_FILES


def find_comment(api: Api, repository: str, number: int) -> int | None:
    """Our earlier comment: it has our watermark *and* is by us, since anybody can write a watermark."""
    us = api.user() or ACTIONS
    for each in api.pages(f"{repository}/issues/{number}/comments"):
        author = each["user"] or {}
        by_us = all(author.get(key) == us[key] for key in ACTIONS)
        if by_us and OURS.search(each["body"] or ""):
            return int(each["id"])
    return None


def create(markdown: str, number: int, head: str, page: str, environment: Mapping[str, str]) -> None:
    """Post a new comment with CML, which gets nothing of our environment that it does not need."""
    cml = Path(environment.get("CML") or CML).absolute()
    if not cml.is_file():
        raise UserError(f"CML is not installed at {cml}", "npm ci --ignore-scripts --prefix .github/cml")
    kept = ("PATH", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "comment.md"
        file.write_text(markdown, encoding="utf-8")
        command = [
            *(str(cml), "comment", "create", "--publish=false", "--driver=github"),
            *(f"--target=pr/{number}", f"--repo={page}", f"--watermark-title={TITLE}", str(file)),
        ]
        settings = {
            "HOME": folder,  # CML edits the git configuration that it finds there
            "GITHUB_TOKEN": environment["GITHUB_TOKEN"],  # not on the command line, which every process can read
            "GITHUB_SHA": head,  # becomes part of the watermark
            "ITERATIVE_DO_NOT_TRACK": "1",
        }
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**{name: environment[name] for name in kept if name in environment}, **settings},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=300,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                "CML did not finish within 300 s", f"{AGAIN}; a comment that it did post is found then"
            ) from None
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).replace(environment["GITHUB_TOKEN"], "***")
        raise UserError(f"CML exited with {done.returncode}: {shortened(told)}", AGAIN)


if __name__ == "__main__":
    with errors_in_words():
        main()
