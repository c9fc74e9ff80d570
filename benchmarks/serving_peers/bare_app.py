"""The limit: an application on uvicorn that reads the body and answers, without a framework or a model.

`app` parses nothing, `parsing` calls `json.loads` once.
"""

from __future__ import annotations

import json
from typing import Any

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2")]


async def body_of(scope: dict[str, Any], receive: Any) -> bytes | None:
    if scope["type"] != "http":
        return None
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


async def answered(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"{}"})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if await body_of(scope, receive) is not None:
        await answered(send)


async def parsing(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = await body_of(scope, receive)
    if body is not None:
        json.loads(body)
        await answered(send)
