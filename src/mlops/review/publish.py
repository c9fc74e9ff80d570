"""`make publish`: post a review as the one comment of its pull request.

It runs in a `workflow_run` job, on main's code, with a token that may write comments. The pull request is taken from
GitHub's event, the owners from CODEOWNERS, and the verdict is derived again. If there is no usable report, the comment
says so, because an earlier comment must not remain beside a newer commit.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlops.core.errors import UserError, errors_in_words
from mlops.core.github import AGAIN, Api
from mlops.core.report import Report, Sha, read, shortened
from mlops.review import policy
from mlops.review.artifact import MOST_ZIPPED, NAME, fetch_artifact, unpack
from mlops.review.files import CODEOWNERS, is_untouched, owned
from mlops.review.render import comment, no_review
from mlops.review.verdict import derive, recorded_directions, recorded_window

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
    """The run of a pull request, from GitHub's event."""

    id: int
    event: str
    head_sha: Sha
    head_branch: str
    head_repository: HeadRepository
    conclusion: str | None = None
    """None while it has not ended."""


class Event(BaseModel):
    """The event that started this job."""

    workflow_run: Run


def main(environment: Mapping[str, str] = os.environ, timeout: float = 30) -> None:
    missing = [name for name in ("GITHUB_EVENT_PATH", "GITHUB_REPOSITORY", "GITHUB_TOKEN") if not environment.get(name)]
    if missing:
        raise UserError(
            f"missing environment variables: {', '.join(missing)}",
            "let .github/workflows/report.yaml publish; `make review` shows the comment locally",
        )
    run = read_event(Path(environment["GITHUB_EVENT_PATH"]))
    token = environment["GITHUB_TOKEN"]
    api = Api(environment.get("GITHUB_API_URL", "https://api.github.com"), token, timeout)
    repository = f"/repos/{environment['GITHUB_REPOSITORY']}"
    page = f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{environment['GITHUB_REPOSITORY']}"
    run_url = f"{page}/actions/runs/{run.id}"

    numbers = find_pull_requests(api, repository, run)
    if not numbers:
        raise UserError(f"no open pull request has {run.head_sha[:10]} as its head; nothing was posted")
    try:
        if len(numbers) > 1:
            which = ", ".join(f"#{number}" for number in numbers[:10])
            raise UserError(f"the pull requests {which} have the same head, so the report is ambiguous")
        report = fetch_report(api, repository, run)
        report = checked(report, run, *list_files(api, repository, numbers[0]))
        markdown = comment(report, run_url=run_url)
        if len(markdown.encode()) > MOST_COMMENT:
            raise UserError(f"the comment has {len(markdown.encode()):,} bytes; the limit is {MOST_COMMENT:,}")
    except UserError as error:
        # an earlier comment must not remain beside a newer commit
        reason = str(error).splitlines()[0]
        for number in numbers:
            try:
                post(api, repository, number, run, no_review(run.head_sha, reason, run_url=run_url), page, environment)
            except UserError as other:  # the first error is raised in the end; go on with the next comment
                print(f"error: {other}", file=sys.stderr)
        raise
    post(api, repository, numbers[0], run, markdown, page, environment)


def post(
    api: Api, repository: str, number: int, run: Run, markdown: str, page: str, environment: Mapping[str, str]
) -> None:
    """Create or update the comment of a pull request, unless the pull request was updated meanwhile."""
    earlier = find_comment(api, repository, number)
    if not is_current(api.get(f"{repository}/pulls/{number}"), run):
        raise UserError(f"pull request #{number} was updated or closed; nothing was posted for {run.head_sha[:10]}")
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
        raise UserError(f"{path} is not a workflow_run event: {what}") from None
    if run.event != "pull_request":
        raise UserError(f"run {run.id} was started by {shortened(run.event)!r}, not by a pull request")
    return run


def fetch_report(api: Api, repository: str, run: Run) -> Report:
    """Download and check the report that the run uploaded."""
    if run.conclusion == "action_required":
        raise UserError("its run is waiting for a maintainer's approval")
    zipped = fetch_artifact(api, repository, run.id, ARTIFACT, MOST_ZIPPED)
    if zipped is None:
        raise UserError(f"run {run.id} has no artifact named {ARTIFACT}", "read the log of that run")
    content = unpack(zipped)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(content)
        report = read(path)
    if report.head != run.head_sha:
        raise UserError(f"{NAME} is about commit {report.head[:10]}, but the run was of {run.head_sha[:10]}")
    return report


def find_pull_requests(api: Api, repository: str, run: Run) -> list[int]:
    """Numbers of the open pull requests whose head is the commit and the repository of the run."""
    head = f"{run.head_repository.owner.login}:{run.head_branch}"
    pulls = api.pages(f"{repository}/pulls", state="open", head=head)
    return sorted(int(pull["number"]) for pull in pulls if is_current(pull, run))


def is_current(pull: Any, run: Run) -> bool:
    """Whether a pull request is open and its head is still the commit that ran."""
    repository = pull["head"]["repo"] or {"id": None}  # none where the fork was deleted
    head = (pull["head"]["sha"], repository["id"])
    return pull["state"] == "open" and head == (run.head_sha, run.head_repository.id)


def checked(report: Report, run: Run, files: list[Any], complete: bool) -> Report:
    """Replace the verdict and the files that need approval by those that this job derives.

    Parameters
    ----------
    files : list
        The pull request's files, as GitHub lists them; the change cannot alter this list.
    complete : bool
        Whether these are all.
    """
    names = [name for file in files for name in (file["filename"], file.get("previous_filename")) if name]
    if not report.touched and not (complete and is_untouched(names)):
        raise UserError(f"{NAME} says that the model is not affected, but the change touches other files")
    kept = [file["filename"] for file in files if file.get("status") != "removed"]
    gate = policy.load() if policy.GATE.exists() else None
    today = datetime.datetime.now(datetime.UTC).date()
    ended, directions = run.conclusion or "unfinished", recorded_directions()
    report = derive(report, gate, kept, ended, today, directions, windowed=recorded_window())
    owners = owned(names, CODEOWNERS.read_text(encoding="utf-8") if CODEOWNERS.exists() else None)
    if not complete:
        more = f"GitHub lists {MOST_FILES:,} files of this change and leaves out the others"
        report = report.model_copy(update={"doubts": [more, *report.doubts][:20], "blocks": True, "verdict": "fail"})
    return report.model_copy(update={"owned": owners})


def list_files(api: Api, repository: str, number: int) -> tuple[list[Any], bool]:
    """Files that a pull request touches, and whether these are all: GitHub lists 3,000."""
    listed = api.pages(f"{repository}/pulls/{number}/files")
    return listed, len(listed) < MOST_FILES


def find_comment(api: Api, repository: str, number: int) -> int | None:
    """Find our earlier comment: it has our watermark *and* our author, because anybody can copy a watermark."""
    us = api.user() or ACTIONS
    for each in api.pages(f"{repository}/issues/{number}/comments"):
        author = each["user"] or {}
        by_us = all(author.get(key) == us[key] for key in ACTIONS)
        if by_us and OURS.search(each["body"] or ""):
            return int(each["id"])
    return None


def create(markdown: str, number: int, head: str, page: str, environment: Mapping[str, str]) -> None:
    """Post a new comment with CML, which gets only the environment variables that it needs."""
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
                "CML did not finish within 300 s", f"{AGAIN}; an earlier attempt's comment is found and updated"
            ) from None
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip()).replace(environment["GITHUB_TOKEN"], "***")
        raise UserError(f"CML exited with {done.returncode}: {shortened(output)}", AGAIN)


if __name__ == "__main__":
    with errors_in_words():
        main()
