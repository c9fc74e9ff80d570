"""A stand-in for GitLab's REST API: HTTPS on loopback, strict about what it is sent.

Each request is held against the description in `gitlab.yaml`; what does not fit is refused and kept in `complaints`.
"""

from __future__ import annotations

import json
import os
import subprocess
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
        self.token, self.job_token = "glpat-not_a/real-token", "glcbt-not_a/real-token"
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
        self.origin: Path | None = None
        """The bare repository, where it matters."""
        self.releases: dict[str, dict[str, str]] = {}
        self.links: dict[str, list[dict[str, Any]]] = {}
        """Tag → links of its release."""
        self.packages: dict[tuple[str, str, str], bytes] = {}
        """Package, version and file → content."""
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
        given = {name: headers[name] for name in ("PRIVATE-TOKEN", "JOB-TOKEN", "Authorization") if headers[name]}
        jobs = [{"JOB-TOKEN": self.job_token}] if operation.get("x-job-token") else []
        if given not in [{"PRIVATE-TOKEN": self.token}, *jobs]:
            return 401, {"message": "401 Unauthorized"}, {}
        if "id" in in_path and unquote(in_path["id"]) not in (str(self.project_id), self.project):
            return 404, {"message": "404 Project Not Found"}, {}
        name = operation["operationId"]
        self.before.get(name, lambda: None)()
        query = dict(parse_qsl(parts.query))
        sent = body if headers["Content-Type"] == "application/octet-stream" else json.loads(body or b"{}")
        status, content = getattr(self, "_" + name.replace("-", "_"))(in_path, query, sent)
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
        branches = [name for name in ("source_branch", "target_branch") if name in query]
        fits = [each for each in fits if all(each[name] == query[name] for name in branches)]
        return 200, [{**each, "head_pipeline": None} for each in fits]

    def _create_merge_request(self, _: Any, __: Any, body: dict[str, Any]) -> tuple[int, Any]:
        number = 1 + max((each["iid"] for each in self.merge_requests), default=0)
        ours = dict.fromkeys(("source_project_id", "target_project_id"), self.project_id)
        made = {"iid": number, "state": "opened", "web_url": f"{self.page}/-/merge_requests/{number}", **ours}
        self.merge_requests.append({**made, **body})
        return 201, self.merge_requests[-1]

    def _update_merge_request(self, path: dict[str, str], _: Any, body: dict[str, str]) -> tuple[int, Any]:
        self._found(path).update(body)
        return 200, self._found(path)

    def _commit_files(self, _: Any, __: Any, body: dict[str, Any]) -> tuple[int, Any]:
        assert self.origin
        there = self._git("for-each-ref", f"refs/heads/{body['branch']}")
        if there and not body.get("force"):
            return 400, {"message": f"A branch called '{body['branch']}' already exists."}
        index = {"GIT_INDEX_FILE": str(self.origin / "index-of-the-api")}
        self._git("read-tree", body["start_sha"], **index)
        for action in body["actions"]:
            assert action["action"] == "update"
            if not self._git("ls-files", "--", action["file_path"], **index):
                return 400, {"message": "A file with this name doesn't exist"}
            blob = self._git("hash-object", "-w", "--stdin", given=action["content"])
            self._git("update-index", "--cacheinfo", f"100644,{blob},{action['file_path']}", **index)
        tree = self._git("write-tree", **index)
        who = {f"GIT_{role}_{key}": "bot" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        made = self._git("commit-tree", tree, "-p", body["start_sha"], "-m", body["commit_message"], **who)
        self._git("update-ref", f"refs/heads/{body['branch']}", made)
        return 201, {"id": made}

    def _git(self, *arguments: str, given: str | None = None, **environment: str) -> str:
        command = ["git", "--git-dir", str(self.origin), *arguments]
        more = {**os.environ, **environment}
        return subprocess.run(command, input=given, env=more, check=True, capture_output=True, text=True).stdout.strip()

    def _create_release(self, _: Any, __: Any, body: dict[str, str]) -> tuple[int, Any]:
        tag = body["tag_name"]
        if not self._git("tag", "--list", tag):
            return 422, {"message": "Ref is not specified"}
        if tag in self.releases:
            return 409, {"message": "Release already exists"}
        self.releases[tag] = body
        return 201, body

    def _update_release(self, path: dict[str, str], _: Any, body: dict[str, str]) -> tuple[int, Any]:
        self.releases[path["tag"]] |= body
        return 200, self.releases[path["tag"]]

    def _upload_package(self, path: dict[str, str], _: Any, body: bytes) -> tuple[int, Any]:
        self.packages[path["name"], path["version"], path["file"]] = body
        return 201, {"message": "201 Created"}

    def _links(self, path: dict[str, str], *_: Any) -> tuple[int, Any]:
        return 200, self.links.get(path["tag"], [])

    def _create_link(self, path: dict[str, str], _: Any, body: dict[str, str]) -> tuple[int, Any]:
        if any(each["name"] == body["name"] for each in self.links.get(path["tag"], [])):
            return 400, {"message": "Name has already been taken"}
        self.links.setdefault(path["tag"], []).append(body)
        return 201, body

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
