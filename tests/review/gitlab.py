"""A stand-in for GitLab's REST API: HTTPS on loopback, strict about what it is sent.

Each request is held against the description in `gitlab.yaml`; what does not fit is refused and kept in `complaints`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from review.github import Answer, Description, RefusedError

API = "/api/v4"
BOT, MALLORY = {"id": 900, "username": "project_42_bot"}, {"id": 13, "username": "mallory"}


@cache
def description() -> Description:
    return Description(Path(__file__).with_name("gitlab.yaml"))


class GitLab:
    """What the stand-in knows, and what it was asked."""

    def __init__(self, certificate: Path) -> None:
        self.certificate = certificate
        self.token = "glpat-not_a/real-token"
        self.project, self.project_id = "ada/a-project", 42
        self.merge_requests: list[dict[str, Any]] = []
        self.diffs: dict[int, list[dict[str, Any]]] = {}
        self.jobs: dict[int, list[dict[str, Any]]] = {}
        """Pipeline → jobs."""
        self.artifacts: dict[int, bytes] = {}
        """Job → report.json."""
        self.notes: dict[int, list[dict[str, Any]]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.parents: dict[str, list[str]] = {}
        self.before: dict[str, Callable[[], None]] = {}
        """Operation → what happens in the world just before it."""
        self.requests: list[tuple[str, str]] = []
        self.complaints: list[str] = []
        self.storage: dict[int, bytes] = {}
        self.closing = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def page(self) -> str:
        return f"{self.url}/{self.project}"

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The requests that were to change something."""
        return [(method, target.removeprefix(API)) for method, target in self.requests if method != "GET"]

    def add_merge_request(self, number: int, sha: str, report: bytes | None, **pipeline: Any) -> dict[str, Any]:
        """An open merge request whose pipeline has succeeded, unless something is different."""
        made = {"id": 100 * number, "project_id": self.project_id, "sha": sha, "status": "success", **pipeline}
        request = {"iid": number, "state": "opened", "sha": sha, "changes_count": "2", "target_branch": "main"}
        self.merge_requests.append({**request, "head_pipeline": made})
        self.diffs[number] = [
            {"old_path": name, "new_path": name, "deleted_file": False} for name in ("params.yaml", "dvc.lock")
        ]
        jobs = [{"id": made["id"] + i, "name": name, "status": "success"} for i, name in enumerate(NAMES)]
        self.jobs[made["id"]] = jobs
        if report is not None:
            self.artifacts[made["id"] + NAMES.index("review")] = report
        return self.merge_requests[-1]

    def add_note(self, number: int, author: dict[str, Any], body: str) -> dict[str, Any]:
        notes = self.notes.setdefault(number, [])
        notes.append({"id": 1000 * number + len(notes), "author": author, "body": body})
        return notes[-1]

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Answer:
        """One request to the API."""
        self.requests.append((method, target))
        parts = urlsplit(target)
        if headers["Content-Type"] and "x-www-form-urlencoded" in headers["Content-Type"]:  # as CML sends it
            body = json.dumps(dict(parse_qsl(body.decode()))).encode()
        if not parts.path.startswith(API):
            return 404, {"message": "404 Not Found"}, {}
        try:
            operation, in_path = description().find(method, parts.path.removeprefix(API))
            description().check_request(operation, in_path, parts.query, body)
        except (RefusedError, ValueError) as error:
            self.complaints.append(f"{method} {target}: {error}")
            return 400, {"message": str(error)}, {}
        if headers["PRIVATE-TOKEN"] != self.token or "Authorization" in headers:
            return 401, {"message": "401 Unauthorized"}, {}
        if "id" in in_path and unquote(in_path["id"]) not in (str(self.project_id), self.project):
            return 404, {"message": "404 Project Not Found"}, {}
        name = operation["operationId"]
        self.before.get(name, lambda: None)()
        query = dict(parse_qsl(parts.query))
        status, content = getattr(self, "_" + name.replace("-", "_"))(in_path, query, json.loads(body or b"{}"))
        if status < 400 and not isinstance(content, bytes):
            description().check_answer(operation, status, content)
        more = {}
        if isinstance(content, list):
            size, page = min(int(query.get("per_page", 20)), 100), int(query.get("page", 1))
            if page * size < len(content):
                more = {"Link": f'<{self.url}{parts.path}?page={page + 1}>; rel="next"'}
            content = content[(page - 1) * size : page * size]
        return status, content, more

    def _found(self, path: dict[str, str]) -> dict[str, Any]:
        return next(each for each in self.merge_requests if each["iid"] == int(path["iid"]))

    def _version(self, *_: Any) -> tuple[int, Any]:
        return 200, {"version": "18.5.0"}

    def _user(self, *_: Any) -> tuple[int, Any]:
        return 200, BOT

    def _merge_requests(self, _: Any, query: dict[str, str], __: Any) -> tuple[int, Any]:
        fits = [each for each in self.merge_requests if each["state"] == query["state"]]
        # in a list, GitLab leaves out the pipeline
        return 200, [
            {**each, "head_pipeline": None} for each in fits if each["target_branch"] == query["target_branch"]
        ]

    def _diffs(self, path: dict[str, str], *_: Any) -> tuple[int, Any]:
        return 200, self.diffs[int(path["iid"])]

    def _notes(self, path: dict[str, str], *_: Any) -> tuple[int, Any]:
        return 200, self.notes.get(int(path["iid"]), [])

    def _jobs(self, path: dict[str, str], *_: Any) -> tuple[int, Any]:
        return 200, self.jobs.get(int(path["pipeline_id"]), [])

    def _statuses(self, path: dict[str, str], query: dict[str, str], _: Any) -> tuple[int, Any]:
        found = [each for each in self.statuses if (each["sha"], each["name"]) == (path["sha"], query["name"])]
        return 200, [each for each in found if query.get("pipeline_id") in (None, str(each["pipeline_id"]))]

    def _merge_requests_of_commit(self, *_: Any) -> tuple[int, Any]:
        return 200, self.merge_requests

    def _merge_request(self, path: dict[str, str], *_: Any) -> tuple[int, Any]:
        return 200, self._found(path)

    def _create_note(self, path: dict[str, str], _: Any, body: dict[str, str]) -> tuple[int, Any]:
        return 201, self.add_note(int(path["iid"]), BOT, body["body"])

    def _update_note(self, path: dict[str, str], _: Any, body: dict[str, str]) -> tuple[int, Any]:
        (note,) = [each for each in self.notes[int(path["iid"])] if each["id"] == int(path["note_id"])]
        assert note["author"] == BOT, "GitLab lets nobody edit the notes of others"
        note.update(body)
        return 200, note

    def _artifact(self, path: dict[str, str], *_: Any) -> tuple[int, Any]:
        content = self.artifacts.get(int(path["job_id"]))
        return (404, {"message": "404 Not Found"}) if content is None else (200, content)

    def _commit(self, path: dict[str, str], *_: Any) -> tuple[int, Any]:
        return 200, {"id": path["sha"], "parent_ids": self.parents.get(path["sha"], [])}

    def _set_status(self, path: dict[str, str], _: Any, body: dict[str, Any]) -> tuple[int, Any]:
        made = {"id": 5000 + len(self.statuses), "status": body["state"], "name": body["name"], "author": BOT}
        self.statuses.append({**made, "sha": path["sha"], "pipeline_id": body["pipeline_id"]})
        return 201, made


NAMES = ("test", "e2e", "review")
