"""What every request passes before the model: its id, the token, limits on size and number, a clear 4xx.

It is ASGI middleware inside BentoML's own, which counts and times what passes. It also answers what BentoML has no
word for: the metadata, and a page at `/` that loads nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = "mlops.request_id"  # its key in the ASGI scope
TOKEN = "SERVICE_TOKEN"  # noqa: S105 the variable's name
MOST_BYTES = 20_000_000
MOST_WAITING = 64
BODY_SECONDS = 10
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="stylesheet" href="./static_content/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script src="./page.js"></script></body></html>
"""
SCRIPT = """SwaggerUIBundle({url: "./docs.json", dom_id: "#swagger-ui", deepLinking: true, defaultModelsExpandDepth: 0})
"""
POLICY = b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


class Front:
    """ASGI middleware.

    Parameters
    ----------
    app : ASGI application
    pages : dict of str to bytes
        JSON documents to answer a GET with, by path.
    title : str
    """

    def __init__(self, app: App, pages: dict[str, bytes], title: str) -> None:
        self.app = app
        self.pages = {path: (b"application/json", content) for path, content in pages.items()}
        self.pages["/"] = (b"text/html; charset=utf-8", PAGE.format(title=title).encode())
        self.pages["/page.js"] = (b"text/javascript; charset=utf-8", SCRIPT.encode())
        self.token = os.environ.get(TOKEN, "").encode()
        self.waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = requested(headers.get(b"x-request-id", b""))
        scope[REQUEST_ID] = request_id

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        path, method = scope["path"], scope["method"]
        if path in ("/metadata", "/predict") and not self.allowed(headers.get(b"authorization", b"")):
            await refuse(
                named, 401, f"a bearer token is needed ({TOKEN})", request_id, (b"www-authenticate", b"Bearer")
            )
        elif path in self.pages:
            if method in ("GET", "HEAD"):
                kind, content = self.pages[path]
                await answer(named, 200, kind, b"" if method == "HEAD" else content)
            else:
                await refuse(named, 405, f"{path} is for GET", request_id, (b"allow", b"GET"))
        elif path == "/predict":
            await self.guarded(scope, headers, receive, named, request_id)
        else:
            await self.app(scope, receive, named)

    def allowed(self, authorization: bytes) -> bool:
        """Whether the request carries the token, where one is set; takes as long whatever it carries."""
        kind, _, given = authorization.partition(b" ")
        return not self.token or (hmac.compare_digest(given.strip(), self.token) and kind.lower() == b"bearer")

    async def guarded(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send, request_id: str
    ) -> None:
        """Read the body within limits, and pass it on unless too many wait already."""
        if scope["method"] != "POST":
            await refuse(send, 405, "/predict is for POST", request_id, (b"allow", b"POST"))
            return
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json":
            await refuse(send, 415, "the content type must be application/json", request_id)
            return
        try:
            body = await asyncio.wait_for(read(receive, headers), BODY_SECONDS)
        except TooLargeError:
            await refuse(
                send, 413, f"the body has more than {MOST_BYTES:,} bytes", request_id, (b"connection", b"close")
            )
            return
        except TimeoutError:
            why = f"the body did not arrive within {BODY_SECONDS} seconds"
            await refuse(send, 408, why, request_id, (b"connection", b"close"))
            return
        if body is None:  # the client has gone
            return
        if self.waiting >= MOST_WAITING:
            await refuse(send, 429, "too many requests at once; try again", request_id, (b"retry-after", b"1"))
            return
        self.waiting += 1
        try:
            # let what has arrived meanwhile be counted, and refused if need be, before this one is computed
            await asyncio.sleep(0)
            await self.app(scope, replay(body, receive), send)
        finally:
            self.waiting -= 1


class TooLargeError(Exception):
    """A body beyond the limit."""


def requested(given: bytes) -> str:
    """The id that the client gave, if it is one, or a new one."""
    return given.decode() if GIVEN_ID.fullmatch(given) else uuid.uuid4().hex


async def read(receive: Receive, headers: dict[bytes, bytes]) -> bytes | None:
    """The body, or None where the client hung up."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > MOST_BYTES:
        raise TooLargeError
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MOST_BYTES:
            raise TooLargeError
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def answer(send: Send, status: int, kind: bytes, content: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(content)).encode())
    safe = ((b"content-security-policy", POLICY), (b"x-content-type-options", b"nosniff"))
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), length, *safe, *headers]}
    )
    await send({"type": "http.response.body", "body": content})


async def refuse(send: Send, status: int, error: str, request_id: str, *headers: tuple[bytes, bytes]) -> None:
    content = json.dumps({"error": error, "detail": [], "request_id": request_id}).encode()
    await answer(send, status, b"application/json", content, *headers)
