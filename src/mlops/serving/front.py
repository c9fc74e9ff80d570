"""The way of a request to the model and back: its id, the token, limits on size and number, 4xx responses, metrics.

It also answers what BentoML has no endpoint for: the metadata, and a page at `/`.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import itertools
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from bentoml._internal.context import server_context

from mlops.core.errors import UserError
from mlops.serving.page import page

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
Response = tuple[int, bytes, bytes, tuple[Header, ...]]
"""Status, content type, content and further headers."""

TOKEN = "SERVICE_TOKEN"  # noqa: S105 the variable's name
MOST_BYTES = 20_000_000
MOST_HELD = 3 * MOST_BYTES  # of all large bodies together
SMALL = 100_000  # bytes of a body that always find room, whatever others send
MOST_WAITING = 256  # of one row each, the last one waits about 25 ms
BODY_SECONDS = 10
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# a new id is random for each process and counted within it: asking the system each time takes as long as parsing a row
PROCESS, NUMBERS = secrets.token_hex(8), itertools.count()

PREDICT = "/predict"
PAGES = ("/", "/page.js", "/page.css", "/docs.json", "/metadata")
STATIC = tuple(f"/static_content/{name}" for name in ("swagger-ui.css", "swagger-ui-bundle.js"))
FROM_BENTOML = frozenset(("/livez", "/readyz", "/healthz", "/metrics", *STATIC))
OFFERED = frozenset((PREDICT, *PAGES, *FROM_BENTOML))
UNKNOWN = "/unknown"
GUARDED = (PREDICT, "/metadata", "/docs.json")

POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"frame-ancestors 'none'; form-action 'none'"
)
CLOSE = (b"connection", b"close")
JSON = b"application/json"
SAFE = ((b"content-security-policy", POLICY), (b"x-content-type-options", b"nosniff"))
SERVER = ((b"server", b"BentoML Service/model"),)

logger = logging.getLogger("bentoml")


class Traffic:
    """BentoML's metrics of requests, for those that do not pass through its middleware.

    Parameters
    ----------
    metrics : RunnerTrafficMetricsMiddleware
        BentoML's middleware, whose metrics these are.
    """

    def __init__(self, metrics: Any) -> None:
        if not metrics._is_setup:
            metrics._setup()
        self.metrics = metrics
        self.names = {
            "service_name": server_context.bento_name,
            "service_version": server_context.bento_version,
            "runner_name": server_context.service_name,
        }
        for status in (200, 500):  # at zero from the start, so that Prometheus sees the first of each as a change
            self._answered(PREDICT, status)
        self.last = metrics.metrics_last_request_timestamp.labels(**self.names)
        self.in_progress = functools.cache(self._in_progress)
        self.answered = functools.cache(self._answered)

    def _in_progress(self, path: str) -> Any:
        return self.metrics.metrics_request_in_progress.labels(endpoint=path, **self.names)

    def _answered(self, path: str, status: int) -> tuple[Any, Any]:
        labels = {"endpoint": path, "http_response_code": status, **self.names}
        return self.metrics.metrics_request_total.labels(**labels), self.metrics.metrics_request_duration.labels(
            **labels
        )


class Front:
    """The ASGI application of the service.

    It answers predictions and its own pages, and leaves health, metrics and static files to BentoML. Requests for
    predictions do not pass through BentoML's layers, which take six times as long as the model.

    Parameters
    ----------
    app : ASGI application
        BentoML's, in its middleware for metrics.
    pages : dict of str to bytes
        JSON documents to answer a GET with, by path.
    title : str
    token : bytes
        Required by `/predict`, `/metadata` and `/docs.json`; nothing is required if it is empty.
    predict : callable
        From the body of a request and its id to status and JSON; with `explain=True` where a client asks for it.
    """

    def __init__(
        self,
        app: App,
        pages: dict[str, bytes],
        title: str,
        token: bytes,
        predict: Callable[..., Awaitable[tuple[int, bytes]]],
    ) -> None:
        self.app = app
        self.traffic = Traffic(app)
        self.pages = {**page(title), **{path: (JSON, content) for path, content in pages.items()}}
        self.token = token
        self.model = predict
        self.waiting = 0  # requests that are not answered yet
        self.held = 0  # bytes of large bodies, of those that are arriving as well

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "websocket":  # not supported
            await send({"type": "websocket.close"})
            return
        if kind != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = requested(headers.get(b"x-request-id", b""))
        path = scope["path"] if scope["path"] in OFFERED else UNKNOWN
        if path in FROM_BENTOML:
            await self.app(scope, receive, with_id(request_id, send))
            return
        start = time.perf_counter()
        in_progress = self.traffic.in_progress(path)
        in_progress.inc()
        try:
            self.traffic.last.set(time.time())
            response = await self.respond(path, scope, headers, receive, request_id)
            status = response[0]
            total, duration = self.traffic.answered(path, status)
            total.inc()
            duration.observe(time.perf_counter() - start)
            await answer(send, request_id, *response)
        except GoneError:
            pass
        finally:
            in_progress.dec()

    async def respond(
        self, path: str, scope: Scope, headers: dict[bytes, bytes], receive: Receive, request_id: str
    ) -> Response:
        """Status, content type, content and further headers."""
        method = scope["method"]
        try:
            if path in GUARDED and self.token and not self.allowed(headers.get(b"authorization", b"")):
                raise RefusedError(401, f"a bearer token is required ({TOKEN})", (b"www-authenticate", b"Bearer"))
            if path == PREDICT:
                return await self.predict(method, headers, receive, request_id, scope["query_string"])
            if path == UNKNOWN:
                raise RefusedError(404, "not found; / lists the endpoints")
            if method not in ("GET", "HEAD"):
                raise RefusedError(405, f"{path} accepts GET only", (b"allow", b"GET, HEAD"))
            return 200, *self.pages[path], SAFE
        except RefusedError as refused:
            status, error, more = refused.status, refused.error, refused.headers
        except GoneError:
            raise
        except Exception:
            logger.exception("request %s failed", request_id)
            status, error, more = 500, "an unexpected error; the log of the service has it", ()
        content = json.dumps({"error": error, "detail": [], "request_id": request_id}).encode()
        return status, JSON, content, (*SAFE, *more)

    def allowed(self, authorization: bytes) -> bool:
        """Whether the request carries the token; takes as long whatever it carries."""
        kind, _, given = authorization.partition(b" ")
        return hmac.compare_digest(given.strip(), self.token) and kind.lower() == b"bearer"

    async def predict(
        self, method: str, headers: dict[bytes, bytes], receive: Receive, request_id: str, query: bytes
    ) -> Response:
        """Read the body within limits, and predict unless too many wait already."""
        if method != "POST":
            raise RefusedError(405, f"{PREDICT} accepts POST only", (b"allow", b"POST"))
        kind = headers.get(b"content-type", b"")
        if kind != JSON and kind.split(b";")[0].strip().lower() != JSON:
            raise RefusedError(415, "the content type must be application/json")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RefusedError(415, "the body must not be compressed")
        options = {"explain": True} if query and explains(query) else {}
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
                status, content = await self.model(body, request_id, **options)
            finally:
                self.waiting -= 1
        finally:
            self.held -= held
        return status, JSON, content, SERVER


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


def explains(query: bytes) -> bool:
    """Whether the query asks for explanations; other parameters are ignored.

    Raises
    ------
    RefusedError
        422 for another value than true or false.
    """
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("explain", ["false"])
    if given not in (["true"], ["false"]):
        raise RefusedError(422, "explain must be true or false")
    return given == ["true"]


def requested(given: bytes) -> str:
    """The id that the client gave, if it is one, or a new one."""
    if given and GIVEN_ID.fullmatch(given):
        return given.decode()
    return f"{PROCESS}{next(NUMBERS):016x}"


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


def with_id(request_id: str, send: Send) -> Send:
    """A `send` that adds the id of the request."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
        await send(message)

    return named


async def answer(
    send: Send, request_id: str, status: int, kind: bytes, content: bytes, headers: tuple[Header, ...]
) -> None:
    length = (b"content-length", b"%d" % len(content))
    named = (b"x-request-id", request_id.encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), length, named, *headers]}
    )
    await send({"type": "http.response.body", "body": content})
