"""A stand-in for GitHub's REST API: HTTPS on loopback, strict about what it is sent.

Each request and each answer is held against an OpenAPI description; what does not fit is refused and kept in
`complaints`. It stands where a GitHub Enterprise Server has its API, since that is where CML looks on another host.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jsonschema import Draft4Validator, validators
from ruamel.yaml import YAML

API, UPLOADS = "/api/v3", "/api/uploads"
BOT = {"login": "github-actions[bot]", "type": "Bot"}
Answer = tuple[int, Any, dict[str, str]]
# of this service, or of another one that is asked in the same way
Stand = TypeVar("Stand", bound=Any)


class RefusedError(Exception):
    """A request that breaks the description."""


class Description:
    """An OpenAPI 3.0 description: ours beside this file, or GitHub's own."""

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        self.root = json.loads(text) if path.suffix == ".json" else YAML(typ="safe").load(text)
        self.paths = {template: _pattern(template) for template in self.root["paths"]}

    def find(self, method: str, path: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The operation that a request means, and the parameters in its path."""
        found = [(template, match) for template, pattern in self.paths.items() if (match := pattern.fullmatch(path))]
        for template, match in sorted(found, key=lambda each: each[0].count("{")):
            operation = self.root["paths"][template].get(method.lower())
            if operation:
                return operation, match.groupdict()
        raise RefusedError(f"there is no {method} {path}")

    def check_request(self, operation: dict[str, Any], in_path: dict[str, str], query: str, body: bytes) -> None:
        declared = {(each["in"], each["name"]): each for each in map(self._resolve, operation.get("parameters", []))}
        given = [("path", *item) for item in in_path.items()]
        given += [("query", *item) for item in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))]
        for place, name, value in given:
            if (place, name) not in declared:
                raise RefusedError(f"{operation['operationId']} has no parameter {name}")
            schema = declared[place, name]["schema"]
            self._check(int(value) if schema.get("type") == "integer" else value, schema, name)
        missing = {key for key, each in declared.items() if each.get("required")} - {each[:2] for each in given}
        if missing:
            raise RefusedError(f"{operation['operationId']} misses {sorted(missing)}")
        kinds = self._resolve(operation.get("requestBody", {})).get("content", {})
        if "application/octet-stream" in kinds:
            return
        expected = kinds.get("application/json")
        if bool(expected) != bool(body):
            raise RefusedError(f"{operation['operationId']} {'needs a' if expected else 'has no'} body")
        if expected:
            content = json.loads(body)
            self._check(content, expected["schema"], "body")
            if unknown := set(content) - set(expected["schema"]["properties"]):
                raise RefusedError(f"the body holds {sorted(unknown)}")

    def check_answer(self, operation: dict[str, Any], status: int, content: Any) -> None:
        answer = self._resolve(operation["responses"][str(status)])
        if "content" in answer:
            self._check(content, answer["content"]["application/json"]["schema"], "answer", required=False)

    def _resolve(self, part: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in part:
            found = self.root
            for key in part["$ref"].removeprefix("#/").split("/"):
                found = found[key]
            part = found
        return part

    def _check(self, value: Any, schema: dict[str, Any], where: str, required: bool = True) -> None:
        # a reference is looked up in the document that it stands in
        whole = {"components": self.root["components"], "allOf": [schema]}
        for error in _validator(required)(whole).iter_errors(value):
            raise RefusedError(f"{where}: {error.message[:200]}")


def _commits(pull: dict[str, Any]) -> set[str]:
    return {pull["head"]["sha"], pull.get("merge_commit_sha") or "", *pull.get("contains", ())}


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))


@cache
def _validator(required: bool) -> Any:
    """JSON Schema as OpenAPI 3.0 means it; answers may leave out what nobody here reads."""

    def typed(validator: Any, types: Any, value: Any, schema: dict[str, Any]) -> Iterator[Any]:
        if not (value is None and schema.get("nullable")):
            yield from Draft4Validator.VALIDATORS["type"](validator, types, value, schema)

    def one_of(validator: Any, values: Any, value: Any, schema: dict[str, Any]) -> Iterator[Any]:
        if not (value is None and schema.get("nullable")):
            yield from Draft4Validator.VALIDATORS["enum"](validator, values, value, schema)

    def skip(*_: Any) -> Iterator[Any]:
        return iter(())

    rules = {"type": typed, "enum": one_of} | ({} if required else {"required": skip, "oneOf": skip})
    return validators.extend(Draft4Validator, rules)


@cache
def description() -> Description:
    return Description(Path(os.environ.get("GITHUB_OPENAPI") or Path(__file__).with_name("github.yaml")))


class GitHub:
    """What the stand-in knows, and what it was asked."""

    def __init__(self, certificate: Path) -> None:
        self.certificate = certificate
        self.token = "ghs_not+a/real=token"
        self.repository = "ada/a-project"
        self.user: dict[str, str] | None = None
        """Whose the token is; that of a workflow is nobody's."""
        self.pulls: list[dict[str, Any]] = []
        self.behind: dict[str, int] = {}
        """Commit → how many commits main has that it has not."""
        self.activities: list[dict[str, Any]] = []
        """Pushes, oldest first."""
        self.files: list[dict[str, str]] = []
        self.reviews: dict[int, list[dict[str, Any]]] = {}
        """Pull request → reviews, oldest first."""
        self.comments: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.artifacts: dict[int, list[dict[str, Any]]] = {}
        self.storage: dict[int, bytes] = {}
        self.check_runs: dict[str, list[dict[str, Any]]] = {}
        """Commit → checks."""
        self.workflow_runs: list[dict[str, Any]] = []
        self.trees: dict[str, str] = {}
        """Commit → hash of what it holds."""
        self.tags: dict[str, str] = {}
        """Tag → commit."""
        self.releases: list[dict[str, Any]] = []
        self.assets: dict[str, bytes] = {}
        """File of a release → content."""
        self.failures: dict[str, Callable[[], Answer]] = {}
        """Operation → what is answered in its place."""
        self.before: dict[str, Callable[[], None]] = {}
        """Operation → what happens in the world just before it."""
        self.requests: list[tuple[str, str]] = []
        self.complaints: list[str] = []
        self.closing = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def add_artifact(self, run: int, content: bytes, **different: Any) -> None:
        number = len(self.storage) + 1
        self.storage[number] = content
        artifact = {"id": number, "name": "report", "size_in_bytes": len(content), "expired": False}
        self.artifacts.setdefault(run, []).append({**artifact, **different})

    def add_comment(self, author: dict[str, str] | None, body: str) -> dict[str, Any]:
        number = 1000 + len(self.comments)
        address = f"{self.url}/{self.repository}/pull/7#issuecomment-{number}"
        self.comments.append({"id": number, "html_url": address, "user": author, "body": body})
        return self.comments[-1]

    def add_issue(self, author: dict[str, str], title: str, body: str, labels: list[str]) -> dict[str, Any]:
        number = len(self.issues) + 1
        address = f"{self.url}/{self.repository}/issues/{number}"
        named = [{"name": label} for label in labels]
        made = {"number": number, "html_url": address, "user": author, "state": "open", "labels": named}
        self.issues.append({**made, "title": title, "body": body})
        return self.issues[-1]

    def add_check(self, commit: str, conclusion: str | None = "success", **different: Any) -> dict[str, Any]:
        """The check `gate` of a commit, by a run of `ci.yaml` for a pull request, unless something is different."""
        number = self.add_run(commit, conclusion, **{k: different.pop(k) for k in ("path", "event") if k in different})
        check = {
            "id": number,
            "name": "gate",
            "head_sha": commit,
            "html_url": f"{self.url}/{self.repository}/actions/runs/{number}",
            "status": "completed" if conclusion else "in_progress",
            "conclusion": conclusion,
            "started_at": f"2026-01-01T00:{number % 60:02}:00Z",
            "app": {"id": 15368, "slug": "github-actions"},
            "check_suite": {"id": number},
        }
        self.check_runs.setdefault(commit, []).append({**check, **different})
        return self.check_runs[commit][-1]

    def add_run(self, commit: str, conclusion: str | None = "success", **different: Any) -> int:
        """A run of `ci.yaml` for a pull request, unless something is different; None where it is still going."""
        number = 100 + len(self.workflow_runs)
        status = "completed" if conclusion else "in_progress"
        run = {"id": number, "check_suite_id": number, "path": ".github/workflows/ci.yaml", "event": "pull_request"}
        self.workflow_runs.append({**run, "head_sha": commit, "status": status, "conclusion": conclusion, **different})
        return number

    def add_pull(self, branch: str, commit: str, author: str = "ada", **different: Any) -> dict[str, Any]:
        """An open pull request from a branch of this repository into main, unless something is different."""
        number = max((pull["number"] for pull in self.pulls), default=0) + 1
        user = {"login": author, "type": "User"}
        pull = {
            "number": number,
            "state": "open",
            "html_url": f"{self.url}/{self.repository}/pull/{number}",
            "user": user,
            "base": {"ref": "main", "repo": {"id": 1, "default_branch": "main"}},
            "head": {"ref": branch, "sha": commit, "user": user, "repo": {"id": 1}},
        }
        self.pulls.append({**pull, **different})
        return self.pulls[-1]

    def add_push(self, branch: str, commit: str, actor: str | None = "ada", kind: str = "") -> None:
        """Somebody moves a branch to a commit; its first push makes it. None is a user who is no more."""
        earlier = [each for each in self.activities if each["ref"] == f"refs/heads/{branch}"]
        number = 1 + len(self.activities)
        push = {
            "id": number,
            "node_id": f"activity {number}",
            "ref": f"refs/heads/{branch}",
            "before": earlier[-1]["after"] if earlier else "0" * 40,
            "after": commit,
            "timestamp": f"2026-01-01T00:{number % 60:02}:00Z",
            "activity_type": kind or ("push" if earlier else "branch_creation"),
            "actor": actor and {"login": actor, "type": "Bot" if actor.endswith("[bot]") else "User"},
        }
        self.activities.append(push)

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The requests that were to change something."""
        return [each for each in self.requests if each[0] != "GET"]

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Answer:
        """One request to the API."""
        self.requests.append((method, target))
        parts = urlsplit(target)
        try:
            operation, in_path = description().find(method, parts.path.removeprefix(UPLOADS).removeprefix(API))
            description().check_request(operation, in_path, parts.query, body)
        except (RefusedError, ValueError) as error:
            self.complaints.append(f"{method} {target}: {error}")
            return 422, {"message": str(error)}, {}
        if headers["Authorization"] not in (f"Bearer {self.token}", f"token {self.token}"):
            return 401, {"message": "Bad credentials"}, {}
        if not headers["User-Agent"] or "json" not in headers["Accept"]:
            self.complaints.append(f"{method} {target}: no User-Agent, or no JSON accepted")
        name = operation["operationId"]
        self.before.get(name, lambda: None)()
        if name in self.failures:
            return self.failures[name]()
        if "repo" in in_path and f"{in_path['owner']}/{in_path['repo']}" != self.repository:
            return 404, {"message": "Not Found"}, {}
        query = dict(parse_qsl(parts.query))
        given = body if headers["Content-Type"] == "application/octet-stream" else json.loads(body or b"{}")
        status, content, more = getattr(self, re.sub(r"\W", "_", name))(in_path, query, given)
        if status < 400:
            description().check_answer(operation, status, content)
        if isinstance(content, list):
            content, more = self._page(parts.path, query, content)
        return status, content, more

    def _page(self, path: str, query: dict[str, str], items: list[Any]) -> tuple[list[Any], dict[str, str]]:
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        if page * size >= len(items):
            return items[(page - 1) * size :], {}
        following = f"{self.url}{path}?{urlencode(query | {'page': page + 1})}"
        return items[(page - 1) * size : page * size], {"Link": f'<{following}>; rel="next"'}

    def users_get_authenticated(self, *_: Any) -> Answer:
        if self.user is None:
            return 403, {"message": "Resource not accessible by integration"}, {}
        return 200, self.user, {}

    def actions_list_workflow_run_artifacts(self, path: dict[str, str], query: dict[str, str], _: Any) -> Answer:
        found = [each for each in self.artifacts.get(int(path["run_id"]), []) if each["name"] == query["name"]]
        return 200, {"total_count": len(found), "artifacts": found}, {}

    def actions_download_artifact(self, path: dict[str, str], *_: Any) -> Answer:
        # another host, as at GitHub
        return 302, None, {"Location": f"https://127.0.0.1:{self.port}/storage/{path['artifact_id']}"}

    def pulls_list(self, _path: Any, query: dict[str, str], _: Any) -> Answer:
        def asked_for(pull: dict[str, Any]) -> bool:
            head = f"{pull['head']['user']['login']}:{pull['head']['ref']}"
            return query["state"] in ("all", pull["state"]) and query.get("head", head) == head

        return 200, [pull for pull in self.pulls if asked_for(pull)], {}

    def pulls_get(self, path: dict[str, str], *_: Any) -> Answer:
        found = [pull for pull in self.pulls if pull["number"] == int(path["pull_number"])]
        return (200, found[0], {}) if found else (404, {"message": "Not Found"}, {})

    def pulls_create(self, path: dict[str, str], _: Any, body: dict[str, str]) -> Answer:
        owner = {"login": path["owner"], "type": "User"}
        number = max((pull["number"] for pull in self.pulls), default=0) + 1
        head = {"ref": body["head"], "sha": "0" * 40, "user": owner, "repo": {"id": 1}}
        address = f"{self.url}/{self.repository}/pull/{number}"
        given = {"title": body["title"], "body": body["body"], "base": {"ref": body["base"]}}
        self.pulls.append({"number": number, "state": "open", "html_url": address, "head": head, **given})
        return 201, self.pulls[-1], {}

    def pulls_update(self, path: dict[str, str], _: Any, body: dict[str, str]) -> Answer:
        pull = next(each for each in self.pulls if each["number"] == int(path["pull_number"]))
        pull.update(body)
        return 200, pull, {}

    def repos_list_pull_requests_associated_with_commit(self, path: dict[str, str], *_: Any) -> Answer:
        return 200, [pull for pull in self.pulls if path["commit_sha"] in _commits(pull)], {}

    def checks_list_for_ref(self, path: dict[str, str], query: dict[str, str], _: Any) -> Answer:
        found = [each for each in self.check_runs.get(path["ref"], []) if each["name"] == query["check_name"]]
        found = [each for each in found if str(each["app"]["id"]) == query["app_id"]]
        return 200, {"total_count": len(found), "check_runs": found}, {}

    def actions_list_workflow_runs_for_repo(self, _path: Any, query: dict[str, str], _: Any) -> Answer:
        asked = (int(query["check_suite_id"]), query["head_sha"])
        found = [each for each in self.workflow_runs if (each["check_suite_id"], each["head_sha"]) == asked]
        return 200, {"total_count": len(found), "workflow_runs": found}, {}

    def actions_list_workflow_runs(self, path: dict[str, str], query: dict[str, str], _: Any) -> Answer:
        asked = (f".github/workflows/{path['workflow_id']}", query["head_sha"], query["event"])
        found = [each for each in self.workflow_runs if (each["path"], each["head_sha"], each["event"]) == asked]
        return 200, {"total_count": len(found), "workflow_runs": found[::-1]}, {}

    def repos_compare_commits_with_basehead(self, path: dict[str, str], *_: Any) -> Answer:
        commit = unquote(path["basehead"]).removeprefix("main...")
        behind = self.behind.get(commit, 0)
        return 200, {"status": "diverged" if behind else "ahead", "ahead_by": 1, "behind_by": behind}, {}

    def repos_list_activities(self, _path: Any, query: dict[str, str], _: Any) -> Answer:
        found = [each for each in self.activities if each["ref"] == query["ref"]]
        # what comes before is behind a cursor, which nobody here follows
        return 200, found[::-1][: int(query["per_page"])], {}

    def git_get_commit(self, path: dict[str, str], *_: Any) -> Answer:
        if path["commit_sha"] not in self.trees:
            return 404, {"message": "Not Found"}, {}
        return 200, {"sha": path["commit_sha"], "tree": {"sha": self.trees[path["commit_sha"]]}}, {}

    def repos_get_commit(self, path: dict[str, str], *_: Any) -> Answer:
        tag = unquote(path["ref"]).removeprefix("tags/")
        if tag not in self.tags:
            return 422, {"message": f"No commit found for SHA: {path['ref']}"}, {}
        return 200, {"sha": self.tags[tag]}, {}

    def repos_list_releases(self, *_: Any) -> Answer:
        return 200, self.releases, {}

    def repos_create_release(self, _path: Any, _query: Any, body: dict[str, Any]) -> Answer:
        if any(release["tag_name"] == body["tag_name"] for release in self.releases):
            return 422, {"message": "Validation Failed"}, {}
        number = len(self.releases) + 1
        address = f"{self.url}/{self.repository}/releases/tag/{body['tag_name']}"
        uploads = f"{self.url}{UPLOADS}/repos/{self.repository}/releases/{number}/assets{{?name,label}}"
        self.releases.append({"id": number, "html_url": address, "upload_url": uploads, "assets": [], **body})
        return 201, self.releases[-1], {}

    def repos_update_release(self, path: dict[str, str], _: Any, body: dict[str, Any]) -> Answer:
        release = next(each for each in self.releases if each["id"] == int(path["release_id"]))
        release.update(body)
        return 200, release, {}

    def repos_upload_release_asset(self, path: dict[str, str], query: dict[str, str], body: bytes) -> Answer:
        release = next(each for each in self.releases if each["id"] == int(path["release_id"]))
        asset = {"id": len(release["assets"]) + 1, "name": query["name"], "size": len(body), "state": "uploaded"}
        if any(each["name"] == asset["name"] for each in release["assets"]):
            return 422, {"message": "Validation Failed"}, {}
        release["assets"].append(asset)
        self.assets[query["name"]] = body
        return 201, asset, {}

    def pulls_list_reviews(self, path: dict[str, str], *_: Any) -> Answer:
        return 200, self.reviews.get(int(path["pull_number"]), []), {}

    def pulls_list_files(self, *_: Any) -> Answer:
        return 200, self.files, {}

    def issues_list_for_repo(self, _path: Any, query: dict[str, str], _: Any) -> Answer:
        def asked_for(issue: dict[str, Any]) -> bool:
            labelled = query["labels"] in {label["name"] for label in issue["labels"]}
            return issue["state"] == query["state"] and labelled

        return 200, [issue for issue in self.issues if asked_for(issue)][::-1], {}

    def issues_create(self, _path: Any, _query: Any, body: dict[str, Any]) -> Answer:
        return 201, self.add_issue(self.user or BOT, **body), {}

    def issues_update(self, path: dict[str, str], _: Any, body: dict[str, Any]) -> Answer:
        issue = next(each for each in self.issues if each["number"] == int(path["issue_number"]))
        issue.update(body)
        return 200, issue, {}

    def issues_list_comments(self, *_: Any) -> Answer:
        return 200, self.comments, {}

    def issues_create_comment(self, _path: Any, _query: Any, body: dict[str, str]) -> Answer:
        if len(body["body"]) > 65536:
            return 422, {"message": "Validation Failed"}, {}
        return 201, self.add_comment(self.user or BOT, body["body"]), {}

    def issues_update_comment(self, path: dict[str, str], _: Any, body: dict[str, str]) -> Answer:
        for comment in self.comments:
            if comment["id"] == int(path["comment_id"]):
                comment["body"] = body["body"]
                return 200, comment, {}
        return 404, {"message": "Not Found"}, {}


@contextmanager
def serve(github: Stand, key: Path) -> Iterator[Stand]:
    """Answer on a free port of loopback, over TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body go out together
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path.startswith("/storage/"):
                if "Authorization" in self.headers:
                    github.complaints.append("the token was sent to the storage")
                content = github.storage.get(int(self.path.rpartition("/")[2]))
                self._reply(404 if content is None else 200, content or b"", {})
                return
            try:
                status, content, headers = github.answer(self.command, self.path, self.headers, body)
            except Exception as error:
                github.complaints.append(f"{self.command} {self.path}: {error!r}")
                raise
            self._reply(status, content if isinstance(content, bytes) else json.dumps(content).encode(), headers)

        do_GET = do_POST = do_PATCH = do_PUT = _serve  # noqa: N815

        def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that hung up is part of the tests."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(github.certificate, key)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    github.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield github
    finally:
        github.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the API is trusted by, and its key."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def github(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    """The API, which this process trusts. A request that does not fit its description fails the test."""
    with serve(GitHub(certificate[0]), certificate[1]) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        yield server
        assert server.complaints == []


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for loopback that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*private))
    return paths
