"""GitHub for `make publish`: a `workflow_run` event names the run, and GitHub's API the pull request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlops.core.errors import UserError
from mlops.core.github import Api
from mlops.core.report import Sha, shortened
from mlops.review import watermark
from mlops.review.artifact import MOST_ZIPPED, fetch_artifact, unpack
from mlops.review.forge import Run, Touched

ARTIFACT = "report"
MOST_FILES = 3_000
ACTIONS = {"login": "github-actions[bot]", "type": "Bot"}


class Owner(BaseModel):
    login: str


class HeadRepository(BaseModel):
    id: int
    owner: Owner


class Started(BaseModel):
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

    workflow_run: Started


class GitHub:
    """A repository on GitHub, for one event.

    Raises
    ------
    UserError
        Where this is no job of `report.yaml`.
    """

    request, mark = "pull request", "#"

    def __init__(self, environment: Mapping[str, str], timeout: float) -> None:
        names = ("GITHUB_EVENT_PATH", "GITHUB_REPOSITORY", "GITHUB_TOKEN")
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise UserError(
                f"missing environment variables: {', '.join(missing)}",
                "let .github/workflows/report.yaml publish; `make review` shows the comment locally",
            )
        self.environment = environment
        self.started = read_event(Path(environment["GITHUB_EVENT_PATH"]))
        url = environment.get("GITHUB_API_URL", "https://api.github.com")
        self.api = Api(url, environment["GITHUB_TOKEN"], timeout)
        self.repository = f"/repos/{environment['GITHUB_REPOSITORY']}"
        server = environment.get("GITHUB_SERVER_URL", "https://github.com")
        self.page = f"{server}/{environment['GITHUB_REPOSITORY']}"

    def runs(self) -> Iterable[Run]:
        """The run of the event."""
        run = self.started
        url = f"{self.page}/actions/runs/{run.id}"
        return [Run(run.id, run.head_sha, run.conclusion or "unfinished", url, f"run {run.id}")]

    def numbers(self, run: Run) -> list[int]:
        """Numbers of the open pull requests whose head is the commit and the repository of the run."""
        head = f"{self.started.head_repository.owner.login}:{self.started.head_branch}"
        pulls = self.api.pages(f"{self.repository}/pulls", state="open", head=head)
        return sorted(int(pull["number"]) for pull in pulls if self.is_current(pull))

    def is_current(self, pull: Any) -> bool:
        """Whether a pull request is open and its head is still the commit that ran."""
        repository = pull["head"]["repo"] or {"id": None}  # none where the fork was deleted
        head = (pull["head"]["sha"], repository["id"])
        return pull["state"] == "open" and head == (self.started.head_sha, self.started.head_repository.id)

    def report(self, run: Run) -> bytes:
        """The only file of the artifact that the run uploaded."""
        if run.conclusion == "action_required":
            raise UserError("its run is waiting for a maintainer's approval")
        zipped = fetch_artifact(self.api, self.repository, run.id, ARTIFACT, MOST_ZIPPED)
        if zipped is None:
            raise UserError(f"{run.name} has no artifact named {ARTIFACT}", "read the log of that run")
        return unpack(zipped)

    def files(self, number: int) -> tuple[list[Touched], bool]:
        """Files that a pull request touches, and whether these are all: GitHub lists 3,000."""
        listed = self.api.pages(f"{self.repository}/pulls/{number}/files")
        files = [
            Touched(each["filename"], each.get("previous_filename"), each.get("status") == "removed") for each in listed
        ]
        return files, len(listed) < MOST_FILES

    def comment(self, run: Run, number: int, markdown: str) -> str:
        """Create the comment with CML, or update it."""
        earlier = self.find_comment(number)
        if not self.is_current(self.api.get(f"{self.repository}/pulls/{number}")):
            raise UserError(f"pull request #{number} was updated or closed; nothing was posted for {run.head[:10]}")
        if earlier is None:
            secret = {"GITHUB_TOKEN": self.environment["GITHUB_TOKEN"], "GITHUB_SHA": run.head}
            watermark.create(markdown, number, self.page, "github", secret, self.environment)
        else:
            body = watermark.marked(markdown, run.head)
            self.api.patch(f"{self.repository}/issues/comments/{earlier}", {"body": body})
        how = "posted" if earlier is None else "updated"
        return f"{how} the review of {run.head[:10]} on {self.page}/pull/{number}"

    def find_comment(self, number: int) -> int | None:
        """Find our earlier comment: it has our watermark *and* our author."""
        us = self.api.user() or ACTIONS
        for each in self.api.pages(f"{self.repository}/issues/{number}/comments"):
            author = each["user"] or {}
            by_us = all(author.get(key) == us[key] for key in ACTIONS)
            if by_us and watermark.is_marked(each["body"]):
                return int(each["id"])
        return None

    def conclude(self, run: Run, passed: bool) -> None:
        """Nothing: the required check `gate` is a job of ci.yaml."""


def read_event(path: Path) -> Started:
    """The run that a `workflow_run` event is about; it must come from a pull request."""
    try:
        run = Event.model_validate_json(path.read_bytes()).workflow_run
    except (OSError, ValidationError) as error:
        what = error.errors()[0]["loc"] if isinstance(error, ValidationError) else type(error).__name__
        raise UserError(f"{path} is not a workflow_run event: {what}") from None
    if run.event != "pull_request":
        raise UserError(f"run {run.id} was started by {shortened(run.event)!r}, not by a pull request")
    return run
