"""GitLab for `make publish`: a pipeline of the default branch publishes the reviews of all open merge requests.

GitLab starts no pipeline of the default branch when one of a merge request ends. So a schedule or a trigger starts it;
what started it is not read. It asks the API for every merge request, and changes only what is not as it should be, so
a missed or repeated start does no harm. The merge request decides what its own pipeline runs, so this job also sets the
commit status that a merge needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlops.core.errors import UserError
from mlops.core.gitlab import Api, quiet
from mlops.core.report import MOST_BYTES, shortened
from mlops.review import required, watermark
from mlops.review.artifact import NAME
from mlops.review.forge import Run, Touched

STATUS = watermark.TITLE
FILE = f"build/review/{NAME}"
ENDED = ("success", "failed", "canceled", "skipped")
SOURCES = ("schedule", "trigger", "web", "api")
NEEDED = ("CI_API_V4_URL", "CI_PROJECT_ID", "CI_PROJECT_URL", "CI_DEFAULT_BRANCH", "REVIEW_TOKEN")


class GitLab:
    """A project on GitLab, for a pipeline of its default branch.

    Raises
    ------
    UserError
        Where this is another pipeline, whose code no code owner may have approved.
    """

    request, mark = "merge request", "!"

    def __init__(self, environment: Mapping[str, str], timeout: float) -> None:
        trusted = (
            environment.get("CI_COMMIT_REF_PROTECTED") == "true"
            and environment.get("CI_COMMIT_BRANCH") == environment.get("CI_DEFAULT_BRANCH")
            and environment.get("CI_PIPELINE_SOURCE") in SOURCES
        )
        if not trusted:
            raise UserError(
                "reviews are published only by a scheduled or triggered pipeline of the protected default branch",
                "docs/gitlab.md",
            )
        missing = [name for name in NEEDED if not environment.get(name)]
        if missing:
            raise UserError(f"missing environment variables: {', '.join(missing)}", "docs/gitlab.md")
        self.environment = environment
        self.api = Api(environment["CI_API_V4_URL"], environment["REVIEW_TOKEN"], timeout)
        self.project_id = int(environment["CI_PROJECT_ID"])
        self.project = f"/projects/{self.project_id}"
        self.page = environment["CI_PROJECT_URL"]
        self.us = int(self.api.get("/user")["id"])
        self.requests: dict[int, Any] = {}
        """Pipeline → its merge request."""
        self.jobs: dict[int, list[Any]] = {}
        """Pipeline → its jobs; statuses that others set are not among them."""

    def runs(self) -> Iterable[Run]:
        """The last pipeline of every open merge request into the default branch, where it has ended."""
        branch = self.environment["CI_DEFAULT_BRANCH"]
        opened = self.api.pages(f"{self.project}/merge_requests", state="opened", target_branch=branch)
        for each in sorted(opened, key=lambda each: int(each["iid"])):
            request = self._request(each["iid"])
            pipeline = request["head_pipeline"]
            if pipeline is None or pipeline["status"] not in ENDED:
                print(f"!{each['iid']} has no pipeline that has ended")
                continue
            number = int(pipeline["id"])
            self.requests[number] = request
            self.jobs[number] = []
            if pipeline["project_id"] == self.project_id:
                self.jobs[number] = self.api.pages(f"{self.project}/pipelines/{number}/jobs")
            passed = {job["name"] for job in self.jobs[number] if job["status"] == "success"}
            conclusion = "success" if passed.issuperset(required.JOBS) else "failure"
            yield Run(number, request["sha"], conclusion, f"{self.page}/-/pipelines/{number}", f"pipeline {number}")

    def numbers(self, run: Run) -> list[int]:
        """The number of the merge request, unless it was updated or closed meanwhile."""
        return [int(self.requests[run.id]["iid"])]

    def report(self, run: Run) -> bytes:
        """The file that the job `review` left, in a pipeline of this commit and of this project."""
        pipeline = self.requests[run.id]["head_pipeline"]
        if pipeline["project_id"] != self.project_id:
            raise UserError("its pipeline ran in a fork; a member of this project starts one here: docs/gitlab.md")
        if pipeline["sha"] != run.head and run.head not in self._parents(pipeline["sha"]):
            raise UserError(f"{run.name} is of commit {shortened(pipeline['sha'])[:10]}, not of {run.head[:10]}")
        job = max((int(job["id"]) for job in self.jobs[run.id] if job["name"] == "review"), default=None)
        content = job and self.api.download(f"{self.project}/jobs/{job}/artifacts/{FILE}", MOST_BYTES)
        if not content:
            raise UserError(f"{run.name} has no job `review` with {FILE} as artifact", "read the log of that job")
        return content

    def _parents(self, commit: str) -> list[str]:
        """A pipeline for merged results is of a merge commit, whose parents are the two branches."""
        found: list[str] = self.api.get(f"{self.project}/repository/commits/{commit}")["parent_ids"]
        return found

    def files(self, number: int) -> tuple[list[Touched], bool]:
        """Files that a merge request touches, and whether these are all: at its limit, GitLab counts `1000+`."""
        listed = self.api.pages(f"{self.project}/merge_requests/{number}/diffs")
        files = [Touched(each["new_path"], each["old_path"], each["deleted_file"]) for each in listed]
        return files, self._request(number)["changes_count"] == str(len(files))

    def comment(self, run: Run, number: int, markdown: str) -> str:
        """Create the note with CML, or update it where it says something else."""
        markdown = quiet(markdown)
        where = f"{self.project}/merge_requests/{number}/notes"
        notes = self.api.pages(where, sort="asc", order_by="created_at")
        ours = [each for each in notes if each["author"]["id"] == self.us and watermark.is_marked(each["body"])]
        request = self._request(number)
        if request["state"] != "opened" or request["sha"] != run.head:
            raise UserError(f"merge request !{number} was updated or closed; nothing was posted for {run.head[:10]}")
        body = watermark.marked(markdown, run.head)
        if not ours:
            how = "posted"
            secret = {"GITLAB_TOKEN": self.environment["REVIEW_TOKEN"], "CI_COMMIT_SHA": run.head}
            watermark.create(markdown, number, self.page, "gitlab", secret, self.environment)
        elif ours[0]["body"].strip() == body.strip():
            how = "kept"
        else:
            how = "updated"
            self.api.put(f"{where}/{ours[0]['id']}", {"body": body})
        return f"{how} the review of {run.head[:10]} on {self.page}/-/merge_requests/{number}"

    def conclude(self, run: Run, passed: bool) -> None:
        """Set the commit status in the merge request's pipeline, unless the last one is ours and the same."""
        pipeline = self.requests[run.id]["head_pipeline"]
        if pipeline["project_id"] != self.project_id:
            return
        state, sha = "success" if passed else "failed", pipeline["sha"]
        where = f"{self.project}/repository/commits/{sha}/statuses"
        found = self.api.pages(where, name=STATUS, pipeline_id=run.id)
        last = max(found, key=lambda each: int(each["id"]), default=None)
        if last and last["author"]["id"] == self.us and last["status"] == state:
            return
        why = "the gate passes" if passed else "must not be merged: see the note"
        body = {"state": state, "name": STATUS, "pipeline_id": run.id, "target_url": run.url, "description": why}
        self.api.post(f"{self.project}/statuses/{sha}", body)

    def _request(self, number: int) -> Any:
        return self.api.get(f"{self.project}/merge_requests/{number}")
