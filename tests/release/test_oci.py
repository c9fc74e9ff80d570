"""The version of a release in a registry: set once on a digest, the same again is fine, another one is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from mlops.core.errors import UserError
from mlops.release import publish
from mlops.release.oci import TYPES, Repository

TOKEN = "a-token-of-a-run"
MANIFESTS = [b'{"schemaVersion": 2, "config": {}}', b'{"schemaVersion": 2,\n "layers": []}']
FIRST, SECOND = (f"sha256:{hashlib.sha256(each).hexdigest()}" for each in MANIFESTS)


class Registry:
    """The part of the distribution API that sets tags, behind a sign-in as at GitHub."""

    def __init__(self) -> None:
        self.manifests = {FIRST: MANIFESTS[0], SECOND: MANIFESTS[1]}
        self.tags: dict[str, str] = {}
        self.scheme = "Bearer"
        self.refuse: dict[str, int] = {}
        self.puts: list[str] = []
        self.address = ""

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        account = "Basic " + base64.b64encode(f"ada:{TOKEN}".encode()).decode()
        if path.startswith("/token?"):
            scope = dict(parse_qsl(urlsplit(path).query))["scope"]
            assert scope.startswith("repository:ada/model:pull")
            token = json.dumps({"token": scope.replace("repository:ada/model:", "")}).encode()
            return (200, token, {}) if headers["Authorization"] == account else (401, b"{}", {})
        expected = account if self.scheme == "Basic" else "Bearer pull" + (",push" if method == "PUT" else "")
        if headers["Authorization"] != expected:
            scope = "repository:user/image:pull"  # as one that leaves it to the client
            challenge = f'{self.scheme} realm="http://{self.address}/token",service="here",scope="{scope}"'
            return 401, b"{}", {"WWW-Authenticate": challenge}
        if method in self.refuse:
            return self.refuse[method], b'{"errors": [{"message": "denied: no write"}]}', {}
        name, _, reference = path.removeprefix("/v2/").partition("/manifests/")
        assert name == "ada/model"
        if method == "PUT":
            assert headers["Content-Type"] == TYPES[1]
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            self.manifests[digest] = body
            self.tags[reference] = digest
            self.puts.append(reference)
            return 201, b"", {}
        found = self.manifests.get(self.tags.get(reference, reference))
        return (404, b"{}", {}) if found is None else (200, found, {"Content-Type": TYPES[1]})


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, content, headers = registry.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = _serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield registry
    server.shutdown()
    server.server_close()
    thread.join()


def at(registry: Registry, token: str = TOKEN) -> Repository:
    return Repository(f"{registry.address}/ada/model", "ada", token)


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_a_version_is_set_on_the_very_bytes_of_a_digest(registry: Registry, scheme: str) -> None:
    registry.scheme = scheme
    assert at(registry).tag(FIRST, "1.0.0")
    assert at(registry).digest("1.0.0") == FIRST
    assert registry.tags == {"1.0.0": FIRST}


def test_the_same_again_is_fine_and_writes_nothing(registry: Registry) -> None:
    assert at(registry).tag(FIRST, "1.0.0")
    assert not at(registry).tag(FIRST, "1.0.0")
    assert registry.puts == ["1.0.0"]


def test_a_version_that_names_another_digest_stays_as_it_is(registry: Registry) -> None:
    at(registry).tag(FIRST, "1.0.0")
    with pytest.raises(UserError, match=f"1.0.0 already names {FIRST}") as output:
        at(registry).tag(SECOND, "1.0.0")
    assert "tag the next version" in str(output.value)
    assert registry.tags == {"1.0.0": FIRST}


def test_a_digest_that_is_not_there_gets_no_version(registry: Registry) -> None:
    with pytest.raises(UserError, match="answers 404 to GET sha256:"):
        at(registry).tag(f"sha256:{'0' * 64}", "1.0.0")
    assert registry.tags == {}


def test_bytes_that_are_not_those_of_the_digest_get_no_version(registry: Registry) -> None:
    registry.manifests[FIRST] = MANIFESTS[1]
    with pytest.raises(UserError, match="returned content that does not match"):
        at(registry).tag(FIRST, "1.0.0")
    assert registry.tags == {}


def test_a_token_that_may_not_write_is_reported_so_and_not_shown(registry: Registry) -> None:
    registry.refuse = {"PUT": 403}
    with pytest.raises(UserError, match="packages: write") as output:
        at(registry).tag(FIRST, "1.0.0")
    assert "denied: no write" in str(output.value)
    with pytest.raises(UserError, match="answers 401 to the sign-in") as output:
        at(registry, "wrong-token").digest("1.0.0")
    assert "wrong-token" not in str(output.value)


def test_a_registry_that_is_away_is_reported_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9 cannot be reached"):
        Repository("127.0.0.1:9/ada/model", "ada", TOKEN).digest("1.0.0")


def test_only_a_digest_of_this_repository_gets_a_version(registry: Registry) -> None:
    environment = {
        "REGISTRY": registry.address,
        "GITHUB_REPOSITORY": "Ada/Model",
        "GITHUB_REF_NAME": "v1.0.0",
        "GITHUB_ACTOR": "ada",
        "GITHUB_TOKEN": TOKEN,
    }
    for reference in (f"{registry.address}/ada/other@{FIRST}", f"{registry.address}/ada/model:1.0.0"):
        with pytest.raises(UserError, match="must name an image of this repository by digest"):
            publish.set_version({**environment, "REFERENCE": reference})
    output = publish.set_version({**environment, "REFERENCE": f"{registry.address}/ada/model@{FIRST}"})
    assert output == f"{registry.address}/ada/model:1.0.0 is {FIRST}"
    assert registry.tags == {"1.0.0": FIRST}
