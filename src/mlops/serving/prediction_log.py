"""The prediction log: what was asked and answered, one JSON object per row and line, in the folder `PREDICTION_LOG`.

A request that was answered is handed to a process of its own (`log_writer`) over a pipe, so that composing, writing
and compressing do not hold its interpreter. A folder that is full, read-only, slow or gone fails no request and
slows none; what could not be logged is counted.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import random
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
import prometheus_client as prometheus

import mlops
from mlops.core.errors import UserError
from mlops.core.logoptions import LogOptions
from mlops.inference.runtime import Array
from mlops.serving.log_writer import KEY, LENGTH, Entry

FOLDER = "PREDICTION_LOG"
MOST_WAITING = 64_000_000  # bytes that the process has not taken
MOST_GATHERED = 1 << 18  # bytes that are not sent yet
FLUSH_SECONDS = 0.01  # a system call for each request would take longer than all the rest
PIPE_BYTES = 1 << 20  # the most that Linux gives without privileges
AGAIN_SECONDS = 1.0  # until a process that ended is started again
CLOSE_SECONDS = 8.0

# the package may be found by the working directory only, and an image has its packages in a folder of their own
SEARCHED = os.pathsep.join(filter(None, [str(Path(mlops.__file__).parents[1]), os.environ.get("PYTHONPATH")]))

logger = logging.getLogger("bentoml")


class PredictionLog:
    """The log of one process of the service.

    Parameters
    ----------
    folder : Path
    options : LogOptions
    version, model : str
        Of the release.
    registry : prometheus_client.CollectorRegistry
        Where its metrics are.
    """

    def __init__(
        self,
        folder: Path,
        options: LogOptions,
        version: str,
        model: str,
        registry: prometheus.CollectorRegistry = prometheus.REGISTRY,
    ) -> None:
        self.sample = options.sample
        given = msgspec.json.encode([str(folder), options.model_dump(), version, model]).decode()
        self.command = (sys.executable, "-m", "mlops.serving.log_writer", given)
        self.encode = msgspec.msgpack.Encoder().encode
        self.entries: list[Entry] = []
        self.rows = self.gathered = 0  # rows of these, and bytes
        self.chunks: deque[tuple[bytes | memoryview, int]] = deque()  # with the number of their rows
        self.size = 0  # bytes of these
        self.pipe: int | None = None
        self.unanswered = 0  # rows that the process has not answered
        self.closing = False
        self.written = prometheus.Counter("prediction_log_rows_total", "Rows that were logged", registry=registry)
        dropped = prometheus.Counter(
            "prediction_log_dropped_rows_total", "Rows that could not be logged", ["reason"], registry=registry
        )
        self.dropped = {reason: dropped.labels(reason) for reason in ("queue", "write")}

    def start(self) -> None:
        """Start the process; needs the event loop."""
        self.process = asyncio.create_task(self.run())

    def put(self, request_id: str, body: bytes, answer: bytes, rows: int, computed: dict[str, Array]) -> None:
        """Log a request that was answered. It takes microseconds, whatever the folder does."""
        if self.sample < 1 and random.random() >= self.sample:  # noqa: S311 no secret
            return
        if self.size + self.gathered > MOST_WAITING:
            self.dropped["queue"].inc(rows)
            return
        columns = {name: values.tolist() for name, values in computed.items()}
        if not self.entries:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self.entries.append(Entry(time.time(), request_id, rows, body, answer, columns))
        self.rows += rows
        self.gathered += len(body) + len(answer)
        if self.gathered > MOST_GATHERED:
            self.flush()

    def flush(self) -> None:
        """Send the requests that have been answered."""
        if self.entries:
            content = self.encode(self.entries)
            content = len(content).to_bytes(LENGTH, "little") + content
            self.chunks.append((content, self.rows))
            self.size += len(content)
            self.entries, self.rows, self.gathered = [], 0, 0
            if len(self.chunks) == 1:
                self.send()

    def send(self) -> None:
        """Write into the pipe what it takes; the rest when it is free again."""
        if self.pipe is None:
            return
        loop = asyncio.get_running_loop()
        while self.chunks:
            content, rows = self.chunks[0]
            try:
                count = os.write(self.pipe, content)
            except BlockingIOError:
                count = 0
            except BrokenPipeError:  # the process has ended
                loop.remove_writer(self.pipe)
                return
            self.size -= count
            if count < len(content):
                self.chunks[0] = memoryview(content)[count:], rows
                loop.add_writer(self.pipe, self.send)
                return
            self.chunks.popleft()
            self.unanswered += rows
        loop.remove_writer(self.pipe)
        if self.closing:
            self.hang_up()

    def hang_up(self) -> None:
        """End the input of the process."""
        if self.pipe is not None:
            asyncio.get_running_loop().remove_writer(self.pipe)
            os.close(self.pipe)
            self.pipe = None

    async def run(self) -> None:
        """Run the process, and another one if it ends, until the log is closed."""
        while not self.closing or self.chunks:
            try:
                process = await self.started()
            except OSError as error:
                logger.error("the prediction log cannot start its process: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            try:
                self.send()
                await self.attend(process)
            finally:
                self.hang_up()
                with suppress(ProcessLookupError):  # if this task is cancelled
                    process.kill()
            self.forget()
            if not self.closing:
                logger.error("the process of the prediction log ended with %s; it starts again", process.returncode)
                await asyncio.sleep(AGAIN_SECONDS)

    async def started(self) -> asyncio.subprocess.Process:
        """A new process that reads from a new pipe."""
        reads, writes = os.pipe()
        # the process inherits the mask: who stops the service may signal its children as well, but what waits must be
        # written; it ends with its input
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            with suppress(OSError, AttributeError):  # not every system has such pipes
                fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.set_blocking(writes, False)
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=reads,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": SEARCHED},
            )
        except BaseException:
            os.close(writes)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(reads)
        self.pipe = writes
        return process

    async def attend(self, process: asyncio.subprocess.Process) -> None:
        """Count what a process has logged, until it ends."""
        async for line in cast("asyncio.StreamReader", process.stdout):
            written, failed = map(int, line.split())
            self.written.inc(written)
            self.dropped["write"].inc(failed)
            self.unanswered -= written + failed
        await process.wait()

    def forget(self) -> None:
        """Count what a process that ended did not answer; the next one gets what was not sent."""
        if self.chunks and isinstance(self.chunks[0][0], memoryview):  # its beginning was sent
            rest, rows = self.chunks.popleft()
            self.size -= len(rest)
            self.unanswered += rows
        self.dropped["write"].inc(self.unanswered)
        self.unanswered = 0

    async def close(self) -> None:
        """Write what waits, and seal the file; gives up after some seconds."""
        self.closing = True
        self.flush()
        self.send()
        try:
            await asyncio.wait_for(self.process, CLOSE_SECONDS)
        except TimeoutError:
            lost = self.unanswered + sum(rows for _, rows in self.chunks)
            logger.error("the prediction log could not be closed within %d seconds: %d rows lost", CLOSE_SECONDS, lost)


def check(options: LogOptions) -> None:
    """Check that there is a key where columns are pseudonymised.

    Raises
    ------
    UserError
        Where there is none.
    """
    if os.environ.get(FOLDER, "").strip() and options.pseudonymise and len(os.environ.get(KEY, "").encode()) < 16:
        raise UserError(
            f"monitor.log.pseudonymise needs a key of at least 16 characters in ${KEY}",
            f'export {KEY}="$(openssl rand -hex 32)" once, and keep it: a new key gives new pseudonyms',
        )


def opened(options: LogOptions, version: str, model: str) -> PredictionLog | None:
    """The log, where `PREDICTION_LOG` names a folder."""
    folder = os.environ.get(FOLDER, "").strip()
    return PredictionLog(Path(folder), options, version, model) if folder else None
