"""Middleware before the model: request ids, the token, limits on size and number, and 4xx responses.

It is ASGI middleware inside BentoML's own, which counts and times what passes. It also answers what BentoML has no
endpoint for: the metadata, and a page at `/` that loads nothing from elsewhere.
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

from mlops.core.errors import UserError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

REQUEST_ID = "mlops.request_id"  # its key in the ASGI scope
TOKEN = "SERVICE_TOKEN"  # noqa: S105 the variable's name
MOST_BYTES = 20_000_000
MOST_HELD = 3 * MOST_BYTES  # of all large bodies together
SMALL = 100_000  # bytes of a body that always find room, whatever others send
MOST_WAITING = 64
BODY_SECONDS = 10
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

PREDICT = "/predict"
PAGES = ("/", "/page.js", "/page.css", "/docs.json", "/metadata")
FROM_BENTOML = ("/livez", "/readyz", "/healthz", "/metrics")
STATIC = tuple(f"/static_content/{name}" for name in ("swagger-ui.css", "swagger-ui-bundle.js"))
OFFERED = frozenset((PREDICT, *PAGES, *FROM_BENTOML, *STATIC))
UNKNOWN = "/unknown"
GUARDED = (PREDICT, "/metadata", "/docs.json")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="./static_content/swagger-ui.css"><link rel="stylesheet" href="./page.css"></head>
<body><form id="sign-in" hidden><h1>This service asks for a token</h1>
<label for="token">Bearer token</label> <input id="token" type="password" autocomplete="off" required>
<button>Open</button> <span id="refused" role="alert" hidden>The service refused this token.</span></form>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script src="./page.js"></script></body></html>
"""
SCRIPT = """if (!location.hash) location.hash = "#/model/predict"  // opened, with the example filled in
const signed = (token) => (token ? {Authorization: `Bearer ${token}`} : {})
const form = document.getElementById("sign-in")
async function show(token) {
  const answer = await fetch("./docs.json", {headers: signed(token)})
  form.hidden = answer.status !== 401
  if (!answer.ok) {
    document.getElementById("refused").hidden = !token
    return
  }
  SwaggerUIBundle({
    spec: await answer.json(), dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true,
    defaultModelsExpandDepth: -1,
    requestInterceptor: (request) => Object.assign(request, {headers: {...request.headers, ...signed(token)}}),
  })
}
form.addEventListener("submit", (event) => {
  event.preventDefault()
  show(document.getElementById("token").value.trim())
})
show("")
"""
STYLE = """body { margin: 0 }
#sign-in { font: 1rem/2 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto; padding: 0 1rem }
#sign-in h1 { font-size: 1.4rem }
#sign-in input, #sign-in button { font: inherit; padding: 0.2rem 0.6rem }
#refused { color: #b00020; display: block }
#refused[hidden] { display: none }
.swagger-ui .servers-title, .swagger-ui .servers, .swagger-ui .operation-servers { display: none }
.swagger-ui .response-col_links, .swagger-ui .response-control-media-type__accept-message { display: none }
.swagger-ui .scheme-container:not(:has(.auth-wrapper)) { display: none }
.swagger-ui .info { margin: 30px 0 }
.swagger-ui textarea { min-height: 300px }
"""
POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"frame-ancestors 'none'; form-action 'none'"
)
CLOSE = (b"connection", b"close")


class Front:
    """ASGI middleware.

    Parameters
    ----------
    app : ASGI application
    pages : dict of str to bytes
        JSON documents to answer a GET with, by path.
    title : str
    token : bytes
        What `/predict`, `/metadata` and `/docs.json` ask for; nothing where it is empty.
    """

    def __init__(self, app: App, pages: dict[str, bytes], title: str, token: bytes) -> None:
        self.app = app
        self.pages = {path: (b"application/json", content) for path, content in pages.items()}
        self.pages["/"] = (b"text/html; charset=utf-8", PAGE.format(title=title).encode())
        self.pages["/page.js"] = (b"text/javascript; charset=utf-8", SCRIPT.encode())
        self.pages["/page.css"] = (b"text/css; charset=utf-8", STYLE.encode())
        self.token = token
        self.waiting = 0  # requests that are not answered yet
        self.held = 0  # bytes of large bodies, of those that are arriving as well

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

        path = scope["path"]
        try:
            if path in GUARDED and not self.allowed(headers.get(b"authorization", b"")):
                raise RefusedError(401, f"a bearer token is required ({TOKEN})", (b"www-authenticate", b"Bearer"))
            if path == PREDICT:
                await self.predict(scope, headers, receive, named)
            elif path in self.pages:
                if scope["method"] not in ("GET", "HEAD"):
                    raise RefusedError(405, f"{path} accepts GET only", (b"allow", b"GET, HEAD"))
                await answer(named, 200, *self.pages[path])
            elif path == UNKNOWN:
                raise RefusedError(404, "not found; / lists the endpoints")
            else:
                await self.app(scope, receive, named)
        except RefusedError as refused:
            body = {"error": refused.error, "detail": [], "request_id": request_id}
            await answer(named, refused.status, b"application/json", json.dumps(body).encode(), *refused.headers)
        except GoneError:
            pass

    def allowed(self, authorization: bytes) -> bool:
        """Whether the request carries the token, where one is set; takes as long whatever it carries."""
        kind, _, given = authorization.partition(b" ")
        return not self.token or (hmac.compare_digest(given.strip(), self.token) and kind.lower() == b"bearer")

    async def predict(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        """Read the body within limits, and pass it on unless too many wait already."""
        if scope["method"] != "POST":
            raise RefusedError(405, f"{PREDICT} accepts POST only", (b"allow", b"POST"))
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json":
            raise RefusedError(415, "the content type must be application/json")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RefusedError(415, "the body must not be compressed")
        held = 0

        def hold(size: int) -> None:
            """Find room for a piece of a large body."""
            nonlocal held
            if self.held + size > MOST_HELD:
                raise RefusedError(429, "too many bytes at once; try again", (b"retry-after", b"1"), CLOSE)
            held += size
            self.held += size

        try:
            body = await read(receive, headers, hold)
            if self.waiting >= MOST_WAITING:
                raise RefusedError(429, "too many requests at once; try again", (b"retry-after", b"1"))
            self.waiting += 1
            try:
                # let what has arrived meanwhile be counted, and refused if need be, before this one is computed
                await asyncio.sleep(0)
                await self.app(scope, replay(body, receive), send)
            finally:
                self.waiting -= 1
        finally:
            self.held -= held


class RefusedError(Exception):
    """A request that is answered here, with a status from 400 on."""

    def __init__(self, status: int, error: str, *headers: Header) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


class GoneError(Exception):
    """The client has hung up."""


def token() -> bytes:
    """The token that is set, without the end of line that `echo` or a file gives it; empty where none is.

    Raises
    ------
    UserError
        Where it is set to nothing but whitespace: somebody wanted a guard.
    """
    given = os.fsencode(os.environ.get(TOKEN, ""))
    if given and not given.strip():
        raise UserError(f"{TOKEN} is set, but contains only whitespace", f"set a token, or unset {TOKEN}")
    return given.strip()


def requested(given: bytes) -> str:
    """The id that the client gave, if it is one, or a new one."""
    return given.decode() if GIVEN_ID.fullmatch(given) else uuid.uuid4().hex


async def read(receive: Receive, headers: dict[bytes, bytes], hold: Callable[[int], None]) -> bytes:
    """The body, within limits of size and time; `hold` is called for each piece of a large one."""
    length = headers.get(b"content-length", b"")
    large = length.isdigit() and int(length) > MOST_BYTES
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while not (large and b"expect" in headers):  # who asks first needs not send it
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                # read on without keeping it: most clients look at the answer only when all is sent
                large = large or size > MOST_BYTES
                if not large:
                    if size > SMALL:
                        hold(len(chunk))
                    chunks.append(chunk)
                if not message.get("more_body"):
                    break
    except TimeoutError:
        if not large:
            why = f"the body did not arrive within {BODY_SECONDS} seconds"
            raise RefusedError(408, why, CLOSE) from None
    if large:
        raise RefusedError(413, f"the body is larger than {MOST_BYTES:,} bytes", CLOSE)
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


async def answer(send: Send, status: int, kind: bytes, content: bytes, *headers: Header) -> None:
    length = (b"content-length", str(len(content)).encode())
    safe = ((b"content-security-policy", POLICY), (b"x-content-type-options", b"nosniff"))
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), length, *safe, *headers]}
    )
    await send({"type": "http.response.body", "body": content})
