"""AWS Lambda's emulator runs the service as it would run the image, and invokes it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Project
from serving.served import PATIENCE, command, environment, free_port

from mlops.serving import aws_lambda

Invoke = Callable[[Any], Any]
EMULATOR = shutil.which("aws-lambda-rie", path=f"{os.environ['PATH']}:{Path.home()}/go/bin")


@pytest.fixture
def invoke(released: Project, tmp_path: Path) -> Iterator[Invoke]:
    """Invokes the function with an event, and returns what it answers."""
    assert EMULATOR, ".ci/services installs the emulator"
    front, back = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    addresses = ["--runtime-interface-emulator-address", front, "--runtime-api-address", back]
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            [EMULATOR, *addresses, *command(free_port()), "--host", "127.0.0.1"],
            cwd=released.folder,
            env=environment(released, tmp_path, AWS_LAMBDA_FUNCTION_TIMEOUT=str(PATIENCE)),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    client = httpx.Client(transport=httpx.HTTPTransport(retries=20), timeout=PATIENCE)

    def invoked(event: Any) -> Any:
        content = event if isinstance(event, str) else json.dumps(event)
        answer = client.post(f"http://{front}/2015-03-31/functions/function/invocations", content=content)
        assert answer.status_code == 200, (tmp_path / "log").read_text()
        return answer.json()

    try:
        yield invoked
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def test_an_invocation_is_a_request_of_a_gateway_or_a_body_for_predictions(invoke: Invoke, released: Project) -> None:
    body = json.loads(released.read("models/service/example.json"))
    text = json.dumps(body)
    direct = invoke(body)
    assert direct["predictions"][0]["prediction"] == "benign"

    headers = {
        "Content-Type": "application/json",
        "X-Request-ID": "order-7",
        "Host": "example.org",
        "Content-Length": "1",
    }
    second = {"version": "2.0", "rawPath": "/predict", "rawQueryString": "", "headers": headers}
    second["requestContext"] = {"http": {"method": "POST", "path": "/predict"}}
    encoded = base64.b64encode(text.encode()).decode()
    first = {"httpMethod": "POST", "path": "/predict", "headers": headers, "queryStringParameters": None}
    for event in (
        {**second, "body": text, "isBase64Encoded": False},
        {**second, "body": encoded, "isBase64Encoded": True},
        {**first, "body": text, "isBase64Encoded": False},
    ):
        answer = invoke(event)
        assert answer["statusCode"] == 200
        assert answer["headers"]["x-request-id"] == "order-7"
        assert json.loads(answer["body"]) == {**direct, "request_id": "order-7"}

    answer = invoke({**second, "body": text.replace("13.48", "null")})
    assert answer["statusCode"] == 422
    assert json.loads(answer["body"])["detail"][0]["field"] == "mean radius"
    assert invoke({"httpMethod": "GET", "path": "/metadata"})["statusCode"] == 200
    assert invoke({"httpMethod": "GET", "path": "/no such page"})["statusCode"] == 404


def test_an_event_that_fits_nothing_is_an_error_and_the_next_one_is_answered(invoke: Invoke, released: Project) -> None:
    example = released.read("models/service/example.json")
    events = [
        ({}, "HTTP 422"),
        ([], "HTTP 422"),
        ({"rows": [{}]}, "HTTP 422"),
        (example.replace("[", '[{"mean radius": 1, "mean radius": 2}, '), "HTTP 422"),
        ({"requestContext": {"http": {"method": "GET"}}, "rawPath": "/a b\r\nX: y"}, "InvalidURL"),
        ({"httpMethod": "GET", "path": "/", "headers": {"x": "a\r\nb"}}, "ValueError"),
        ({"httpMethod": "POST", "path": "/predict", "body": "?", "isBase64Encoded": True}, "Error"),
        ({"httpMethod": "GET", "path": "/", "headers": "none"}, "AttributeError"),
    ]
    for event, kind in events:
        answer = invoke(event)
        assert answer["errorType"].endswith(kind), event
        assert "Traceback" not in answer["errorMessage"]
    assert invoke(example)["predictions"]


def test_a_service_without_its_runtime_interface_ends_instead_of_idling(released: Project, tmp_path: Path) -> None:
    ended = subprocess.run(
        [*command(free_port()), "--host", "127.0.0.1"],
        cwd=released.folder,
        env=environment(released, tmp_path, AWS_LAMBDA_RUNTIME_API=f"127.0.0.1:{free_port()}"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "error: the runtime interface of AWS Lambda at" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_runtime_interface_that_gives_no_invocation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(aws_lambda.RUNTIME, f"127.0.0.1:{server.server_port}")
        with pytest.raises(HTTPException, match="it answered 200, and no invocation"):
            aws_lambda.invocation()
        server.shutdown()


def test_several_workers_are_refused_there(released: Project, tmp_path: Path) -> None:
    variables = environment(released, tmp_path, AWS_LAMBDA_RUNTIME_API="127.0.0.1:9", SERVICE_WORKERS="2")
    said = released.run(*command(free_port()), check=False, **variables)
    assert said.returncode == 1
    assert "error: SERVICE_WORKERS must be 1 on AWS Lambda" in said.stdout
