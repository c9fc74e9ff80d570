"""The way of a request in a platform's protocol to the model and back.

A route of the platform stands for one of the service's own, so token, limits, metrics, request ids and prediction log
are the same. Only the two bodies differ: `envelopes` and `tensors` translate them. Without `SERVING_PROTOCOL` nothing
of this is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlops.serving.front import (
    FROM_BENTOML,
    GIVEN_ID,
    JSON,
    PREDICT,
    App,
    Front,
    Message,
    Receive,
    Response,
    Scope,
    Send,
)
from mlops.serving.rows import InvalidRequestError

Headers = dict[bytes, bytes]


class Asked(NamedTuple):
    """A request in the service's own form.

    Attributes
    ----------
    body : bytes
        As that of `/predict`.
    answer : callable
        From the body of the service's answer and the request's id to that of the platform.
    member : str
        The member of the request that holds the rows.
    request_id : str
        The id that the request names in its body; empty if it names none.
    """

    body: bytes
    answer: Callable[[bytes, str], bytes]
    member: str
    request_id: str = ""


class Route(NamedTuple):
    """What a path of the platform stands for.

    Attributes
    ----------
    path : str
        The service's own path.
    ask : callable or None
        Translates a request for predictions.
    document : bytes or None
        JSON to answer with instead of what the service answers, where that is a success.
    """

    path: str
    ask: Callable[[bytes, Headers], Asked] | None = None
    document: bytes | None = None


class Dialect(NamedTuple):
    """A platform's protocol.

    Attributes
    ----------
    route : callable
        From method and path to what they stand for; None if they are not the platform's.
    error : callable
        From status and body of an error of the service to those of the platform.
    kinds : frozenset of bytes
        Content types that are read as JSON, beside that of JSON; an empty one is a request that names none.
    id_header : bytes
        The header in which the platform passes a client's id on, and back; empty if it passes on X-Request-ID.
    """

    route: Callable[[str, str], Route | None]
    error: Callable[[int, dict[str, Any]], tuple[int, bytes]]
    kinds: frozenset[bytes] = frozenset()
    id_header: bytes = b""


@dataclass
class Exchange:
    """A request that is being answered."""

    route: Route
    path: str
    headers: Headers = field(default_factory=dict)
    member: str = "rows"
    request_id: str = ""  # that its body names


CURRENT: ContextVar[Exchange | None] = ContextVar("CURRENT", default=None)


class Adapter(Front):
    """The ASGI application of the service, which speaks a platform's protocol as well.

    Parameters
    ----------
    app : ASGI application
    dialect : Dialect
    service : callable
        Returns the running service.
    options
        Of `Front`.
    """

    def __init__(self, app: App, dialect: Dialect, service: Callable[[], Any], **options: Any) -> None:
        super().__init__(app, predict=self.ask, **options)
        self.dialect, self.service = dialect, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self.dialect.route(scope["method"], scope["path"]) if scope["type"] == "http" else None
        exchange = None if route is None else Exchange(route, scope["path"])
        # set for the service's own requests as well: a connection may keep the context of an earlier request
        CURRENT.set(exchange)
        if exchange is not None:
            scope = {**scope, "path": exchange.route.path}
            send = self.translated(exchange, send)
            if id_header := self.dialect.id_header:
                scope["headers"] = [(b"x-request-id" if name == id_header else name, v) for name, v in scope["headers"]]
        await super().__call__(scope, receive, send)

    def translated(self, exchange: Exchange, send: Send) -> Send:
        """A `send` that names the id of the request's body, and answers a healthy probe with the route's document."""
        document = exchange.route.document if exchange.route.path in FROM_BENTOML else None

        async def translate(message: Message) -> None:
            nonlocal document
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                if exchange.request_id:
                    headers[b"x-request-id"] = exchange.request_id.encode()
                if self.dialect.id_header:
                    headers[self.dialect.id_header] = headers[b"x-request-id"]
                if message["status"] != 200:
                    document = None
                if document is not None:
                    headers |= {b"content-type": JSON, b"content-length": b"%d" % len(document)}
                message = {**message, "headers": list(headers.items())}
            elif document is not None:
                message = {**message, "body": document}
            await send(message)

        return translate

    async def respond(self, path: str, scope: Scope, headers: Headers, receive: Receive, request_id: str) -> Response:
        """Status, content type, content and further headers, in the platform's form."""
        exchange = CURRENT.get()
        if exchange is None:
            return await super().respond(path, scope, headers, receive, request_id)
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() in self.dialect.kinds:
            headers = {**headers, b"content-type": JSON}
        exchange.headers = headers
        status, kind, content, more = await super().respond(path, scope, headers, receive, request_id)
        if status == 200:
            return status, kind, content if exchange.route.document is None else exchange.route.document, more
        refusal = json.loads(content)
        refusal["error"] = refusal["error"].replace(PREDICT, exchange.path)
        for each in refusal["detail"]:
            if each["row"] is None and each["field"] == "rows":
                each["field"] = exchange.member
        status, content = self.dialect.error(status, refusal)
        return status, JSON, content, more

    async def ask(self, body: bytes, request_id: str, explain: bool = False) -> tuple[int, bytes]:
        """Status and JSON of the answer to a request, in the platform's form where it is one of its requests."""
        service, exchange = self.service(), CURRENT.get()
        if exchange is None or exchange.route.ask is None:
            answer: tuple[int, bytes] = await service.predict(body, request_id, explain)
            return answer
        try:
            if explain:
                raise InvalidRequestError(422, "this protocol has no place for explanations")
            asked = exchange.route.ask(body, exchange.headers)
        except InvalidRequestError as refused:
            return service.refuse(refused, request_id)  # type: ignore[no-any-return]
        exchange.member = asked.member
        if GIVEN_ID.fullmatch(asked.request_id.encode()):
            exchange.request_id = request_id = asked.request_id
        status, content = await service.predict(asked.body, request_id)
        return status, asked.answer(content, request_id) if status == 200 else content


def words(refusal: dict[str, Any]) -> str:
    """An error with its details, as one line of text."""
    found = [
        ": ".join(
            [
                *([f"row {each['row']}"] if each["row"] is not None else []),
                *([str(each["field"])] if each["field"] is not None else []),
                each["problem"],
            ]
        )
        for each in refusal["detail"]
    ]
    return ": ".join(filter(None, [refusal["error"], "; ".join(found)]))
