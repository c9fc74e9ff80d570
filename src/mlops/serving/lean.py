"""BentoML's server without what it does for every request without need: see `Lean`."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path
from typing import Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
METRICS, TRACING = "RunnerTrafficMetricsMiddleware", "OpenTelemetryMiddleware"


class Lean(bentoml.Service):  # type: ignore[misc]
    """A service whose own ASGI middleware comes first, so that what it answers itself skips BentoML's layers.

    Two of BentoML's middlewares are left out. The one that limits a request's time sets a timer of 60 seconds for each
    and never takes it back: at 1,000 requests a second 60,000 of them, with the requests they hold, which the garbage
    collector walks through again and again. It could not interrupt a prediction anyway. The one for OpenTelemetry
    takes a quarter of a request's time; it is around everything where an exporter is configured.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        prepare_metrics()
        # uvicorn would compose the line of each request, for a level that nobody reads
        logging.getLogger("uvicorn.access").propagate = False
        app = super().to_asgi(is_main=is_main)
        own = {cls for cls, _ in self.middlewares}
        layers = {each.cls.__name__: each for each in app.user_middleware if each.cls not in own}
        metrics, tracing = layers.pop(METRICS), layers.pop(TRACING)
        layers.pop("TimeoutMiddleware", None)
        app.user_middleware = list(layers.values())
        app = metrics.cls(app, *metrics.args, **metrics.kwargs)
        for cls, options in reversed(self.middlewares):
            app = cls(app, **options)
        if BentoMLContainer.tracing.exporter_type.get() is not None:
            app = tracing.cls(app, *tracing.args, **tracing.kwargs)
        return app


def prepare_metrics() -> None:
    """Call before there are metrics: let them keep the number of this process, and read the files of new workers.

    They ask the system for the number whenever a value changes, for programs that fork, which a worker does not. And a
    scrape that meets the file of a worker in the moment between its creation and its first bytes would fail.
    """
    if FOLDER not in os.environ:
        return
    from prometheus_client import mmap_dict, values

    process = os.getpid()
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]
    files: Any = mmap_dict.MmapedDict
    read = files.read_all_values_from_file
    files.read_all_values_from_file = staticmethod(lambda path: read(path) if Path(path).stat().st_size else iter(()))


def settle() -> None:
    """Call when all is loaded: leave it out of garbage collection, and forget the gauges of workers that died.

    Collecting walks through all that BentoML has imported: 100 ms and more, in which no request is served. A worker
    that was killed could not say that its requests are no longer in progress.
    """
    from prometheus_client import multiprocess

    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20)  # a request makes no cycles; by default its objects are looked through again and again
    for path in Path(os.environ[FOLDER]).glob("gauge_live*.db") if FOLDER in os.environ else ():
        worker = path.stem.rpartition("_")[2]
        if not Path(f"/proc/{worker}").exists() and Path("/proc/self").exists():
            multiprocess.mark_process_dead(int(worker))  # type: ignore[no-untyped-call]
