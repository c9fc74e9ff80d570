"""BentoML's server without slow parts and without metrics that clients can grow without bound.

Unknown paths share one name, because otherwise each would be a separate series in the metrics. What
BentoML does for every request without need is left out: see `Lean`.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from starlette.middleware import Middleware

from mlops.serving.front import OFFERED, UNKNOWN, App, Receive, Scope, Send

METRICS = "PROMETHEUS_MULTIPROC_DIR"


class Lean(bentoml.Service):  # type: ignore[misc]
    """A service without two of BentoML's middlewares.

    The one that limits a request's time sets a timer of 60 seconds for each and never takes it back: at 1,000
    requests a second 60,000 of them, with the requests they hold, which the garbage collector walks through again and
    again. It could not interrupt a prediction anyway. The one for OpenTelemetry takes a quarter of a request's time,
    and stays only where an exporter is configured.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        app = super().to_asgi(is_main=is_main)
        unwanted = {"TimeoutMiddleware"}
        if BentoMLContainer.tracing.exporter_type.get() is None:
            unwanted.add("OpenTelemetryMiddleware")
        kept = [each for each in app.user_middleware if each.cls.__name__ not in unwanted]
        app.user_middleware = [Middleware(Named), *kept]
        return app


class Named:
    """ASGI middleware around the metrics, which have a series for each path: gives all unknown ones the same."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # not supported
            await send({"type": "websocket.close"})
            return
        if scope["type"] == "http" and scope["path"] not in OFFERED:
            scope["path"] = UNKNOWN
        await self.app(scope, receive, send)


def settle() -> None:
    """Call when all is loaded: leave it out of garbage collection, and forget the gauges of workers that died.

    Collecting walks through all that BentoML has imported: 100 ms and more, in which no request is served. A worker
    that was killed could not say that its requests are no longer in progress.
    """
    from prometheus_client import multiprocess

    gc.collect()
    gc.freeze()
    for path in Path(os.environ[METRICS]).glob("gauge_live*.db") if METRICS in os.environ else ():
        worker = path.stem.rpartition("_")[2]
        if not Path(f"/proc/{worker}").exists() and Path("/proc/self").exists():
            multiprocess.mark_process_dead(int(worker))  # type: ignore[no-untyped-call]
