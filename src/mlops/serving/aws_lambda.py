"""AWS Lambda's runtime interface: each invocation becomes a request to the service in the same process.

Lambda names its interface in `AWS_LAMBDA_RUNTIME_API`, gives one event at a time, and freezes the process in between.
An event is a request of API Gateway, a function URL or a load balancer, or else a body for `/predict`.

AWS's client for Python, awslambdaric, is not used. Of it, this module would need two HTTP requests; it adds C++ and two
more packages to every image; and in version 4.2.2 an answer without a header ends the process, which is the service's,
with a segmentation fault.

References
----------
- AWS Lambda, "Using the Lambda runtime API for custom runtimes"
- Amazon API Gateway, "Create AWS Lambda proxy integrations for HTTP APIs" (payload format versions 1.0 and 2.0)
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import time
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

RUNTIME = "AWS_LAMBDA_RUNTIME_API"
INVOCATION = "/2018-06-01/runtime/invocation"
HOP = ("host", "content-length", "connection", "transfer-encoding")  # of the connection to the platform


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def run(port: int) -> None:
    """Answer invocations until the process ends."""
    try:
        wait(port)
        while True:
            number, event = invocation()
            place, answer = answered(event, number, port)
            call(
                os.environ[RUNTIME], Request("POST", f"{INVOCATION}/{number}/{place}", {}, json.dumps(answer).encode())
            )
    except (OSError, http.client.HTTPException) as error:
        print(f"error: the runtime interface of AWS Lambda at {os.environ[RUNTIME]} is gone: {error}", flush=True)
    finally:  # nothing else would notice
        os.kill(os.getpid(), signal.SIGTERM)


def wait(port: int) -> None:
    """Wait until the model is loaded; Lambda limits this time."""
    while True:
        try:
            status, _, _ = call(f"127.0.0.1:{port}", Request("GET", "/readyz", {}, b""))
        except OSError:
            status = 0
        if status == 200:
            return
        time.sleep(0.02)


def invocation() -> tuple[str, bytes]:
    """Number of the next invocation, and its event as JSON."""
    status, headers, content = call(os.environ[RUNTIME], Request("GET", f"{INVOCATION}/next", {}, b""))
    number = headers.get("lambda-runtime-aws-request-id", "")
    if status != 200 or not number:
        raise http.client.HTTPException(f"it answered {status}, and no invocation")
    return number, content


def answered(event: bytes, number: str, port: int) -> tuple[str, Any]:
    """The last part of the path that takes the answer to an invocation, `response` or `error`; and the answer."""
    try:
        asked = request_of(json.loads(event))
        sent = asked or Request("POST", "/predict", {"content-type": "application/json"}, event)
        sent.headers.setdefault("x-request-id", number)
        status, headers, content = call(f"127.0.0.1:{port}", sent)
    except Exception as error:  # an event may hold anything
        return "error", {"errorType": type(error).__name__, "errorMessage": str(error)}
    if asked:
        shown = {name: value for name, value in headers.items() if name not in HOP}
        return "response", {"statusCode": status, "headers": shown, "body": content.decode(), "isBase64Encoded": False}
    answer = json.loads(content)
    if status == 200:
        return "response", answer
    return "error", {"errorType": f"HTTP {status}", "errorMessage": json.dumps(answer)}


def request_of(event: Any) -> Request | None:
    """The request that an event describes; None if it describes none."""
    if not isinstance(event, dict):
        return None
    context = event.get("requestContext")
    http_context = context.get("http") if isinstance(context, dict) else None
    if isinstance(http_context, dict):  # 2.0: the path is as it was sent
        method, path, query = http_context.get("method"), event.get("rawPath"), event.get("rawQueryString") or ""
    elif "httpMethod" in event:  # 1.0
        method, path = event["httpMethod"], quote(str(event.get("path")))
        query = urlencode(event.get("queryStringParameters") or {})
    else:
        return None
    body = event.get("body") or ""
    content = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else str(body).encode()
    headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    kept = {name: value for name, value in headers.items() if name not in HOP}
    return Request(str(method), f"{path or '/'}{'?' * bool(query)}{query}", kept, content)


def call(address: str, request: Request) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of the answer to a request."""
    connection = http.client.HTTPConnection(address)
    try:
        connection.request(request.method, request.path, request.body, request.headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
