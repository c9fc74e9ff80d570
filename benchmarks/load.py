"""A server of its own under load: started, checked, asked by wrk, stopped with all that it started."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.measuring import environment

PEERS = Path(__file__).with_name("serving_peers")
STARTS_WITHIN = 120
MOST_DIFFERENCE = 1e-6


class Server(NamedTuple):
    """How a server is started and asked.

    Attributes
    ----------
    command : str
        With ``{port}`` and ``{prepared}``.
    path : str
    body : str
        Which of the prepared bodies it takes.
    answer : callable
        From the answer to the probabilities of each row; None for the bare application.
    packages : str
        Folder of prepared packages that it finds beside the environment's.
    """

    command: str
    path: str
    body: str
    answer: Callable[[Any], Any] | None
    packages: str = ""


@contextmanager
def started(server: Server, folder: Path, prepared: Path) -> Iterator[tuple[psutil.Process, int, float]]:
    """A server that answers, its port, and the seconds until it did."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = server.command.format(port=port, prepared=prepared).split()
    surroundings = environment(folder)
    surroundings["PYTHONPATH"] += f"{os.pathsep}{prepared / server.packages}" if server.packages else ""
    with tempfile.TemporaryFile() as log:
        begin = time.perf_counter()
        process = psutil.Popen(command, cwd=folder, env=surroundings, stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    status, _ = post(server, port, prepared, rows=1)
                except OSError:
                    status = 0
                if status == 200:
                    break
                if process.poll() is not None or time.perf_counter() - begin > STARTS_WITHIN:
                    log.seek(0)
                    raise SystemExit(f"{log.read().decode()}\n{' '.join(command)} does not answer (status {status})")
                time.sleep(0.01)
            yield process, port, time.perf_counter() - begin
        finally:
            stop(process)


def stop(process: psutil.Process) -> None:
    """End a process, and what it has started."""
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for each in alive:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def post(server: Server, port: int, prepared: Path, rows: int) -> tuple[int, bytes]:
    body = (prepared / f"{server.body}-{rows}.json").read_bytes()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", server.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def check(server: Server, port: int, prepared: Path, rows: int) -> None:
    """Speed counts only where the answer is right."""
    status, content = post(server, port, prepared, rows)
    if server.answer is None:
        right = content == b"{}"
    else:
        expected = json.loads((prepared / f"expected-{rows}.json").read_text(encoding="utf-8"))
        found = server.answer(json.loads(content))
        pairs = [pair for ours, theirs in zip(found, expected, strict=True) for pair in zip(ours, theirs, strict=True)]
        right = all(abs(one - other) < MOST_DIFFERENCE for one, other in pairs)
    if status != 200 or not right:
        raise SystemExit(f"{server.command}: wrong answer for {rows} rows ({status}): {content[:500]!r}")


def wrk(server: Server, port: int, prepared: Path, rows: int, connections: int, seconds: int) -> dict[str, int]:
    """Load of so many connections, each of which asks again when it has its answer."""
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "60s", "--script", str(PEERS / "wrk.lua"), f"http://127.0.0.1:{port}{server.path}"]
    body = {"BODY": str(prepared / f"{server.body}-{rows}.json")}
    done = subprocess.run(command, env=os.environ | body, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    if found["refused"] or found["broken"]:
        raise SystemExit(f"{server.command}: {rows} rows, {connections} connections: {found}")
    return found
