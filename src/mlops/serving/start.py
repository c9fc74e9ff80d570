"""Starts the service: `make serve` on this machine, the image's entry point in a container.

BentoML starts a supervisor and a worker, and each imports everything: twice the time and memory. Where one worker is
asked for, BentoML's worker runs in this very process, and the container's runtime or systemd starts it again. Several
workers, and options of `bentoml serve` other than host and port, are BentoML's to start.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import sys
import threading
from argparse import ArgumentParser
from typing import NoReturn

from mlops.core.errors import UserError, errors_in_words
from mlops.serving import protocol

WORKERS = "SERVICE_WORKERS"
RUNTIME = "AWS_LAMBDA_RUNTIME_API"  # AWS Lambda sets it
SERVICE = "model"  # its name in bentofile.yaml and service.py
# settings that `bentoml serve` passes on to its workers
CONFIGURED = ("BENTOML_CONFIG", "BENTOML_CONFIG_OPTIONS", "BENTOML_API_WORKERS", "BENTOML_TIMEOUT")


def workers() -> int:
    """How many processes shall serve.

    Raises
    ------
    UserError
        Where it is no such number.
    """
    given = os.environ.get(WORKERS) or "1"
    if not (given.strip().isdecimal() and int(given) > 0):
        raise UserError(f"{WORKERS} must be an integer of at least 1, got {given!r}", f"{WORKERS}=1")
    return int(given)


def bound(host: str, port: int) -> socket.socket:
    """A socket that holds a port.

    Raises
    ------
    UserError
        Where the port or the address is not free. A second service on the port would empty the metrics of the first.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError:
        raise UserError(f"{host} is not an address of this machine", "--host 0.0.0.0") from None
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that has ended holds it no longer
    try:
        held.bind(address)
    except PermissionError:
        held.close()
        raise UserError(f"port {port} is reserved for system services", another(3000)) from None
    except OSError as error:
        held.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"of {host} cannot be used: {error.strerror}"
        raise UserError(f"port {port} {why}", another(port % 65_535 + 1)) from None
    return held


def another(port: int) -> str:
    return f"make serve PORT={port}, or BENTOML_PORT={port} for the image"


def main(arguments: list[str]) -> None:
    parser = ArgumentParser("python -m mlops.serving.start", add_help=False)
    parser.add_argument("bento", nargs="?", default=".")
    parser.add_argument("--host", default=os.environ.get("BENTOML_HOST") or "0.0.0.0")  # noqa: S104 a container's
    parser.add_argument("--port", default=protocol.port())
    if arguments[:1] == ["serve"] and protocol.chosen() == "sagemaker":  # what SageMaker starts each image with
        arguments = arguments[1:]
    given, more = parser.parse_known_args(arguments)
    if not (given.port.isascii() and given.port.isdecimal() and 0 < int(given.port) < 65_536):
        raise UserError(f"{given.port!r} is not a port number", another(3000))
    held = bound(given.host, int(given.port))
    address = held.getsockname()[0]  # BentoML takes no names
    alone = RUNTIME in os.environ
    if alone and workers() > 1:
        raise UserError(f"{WORKERS} must be 1 on AWS Lambda, which sends one request at a time", f"unset {WORKERS}")
    if workers() > 1 or more or any(name in os.environ for name in CONFIGURED):
        held.close()
        options = ["--host", address, "--port", given.port, *more]
        # in the place of this process, which would keep a signal to itself
        os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", given.bento, *options])  # noqa: S606
    if alone:
        from mlops.serving import aws_lambda

        threading.Thread(target=aws_lambda.run, args=(int(given.port),), daemon=True).start()
    name = protocol.chosen()
    speaking = f", with the routes of {name}" if name else ""
    print(f"starting the service on http://{given.host}:{given.port}{speaking} (Ctrl+C to stop)", flush=True)
    serve(given.bento, held)


def serve(bento: str, held: socket.socket) -> None:
    """Be the only worker, until a signal ends it."""
    for each in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again when all requests are answered
        signal.signal(each, stop)
    gc.disable()  # imports leave no garbage, and looking for it takes a fifth of the start; `settle` enables it
    from bentoml.serving import ensure_prometheus_dir

    os.environ["PROMETHEUS_MULTIPROC_DIR"] = ensure_prometheus_dir()
    from _bentoml_impl.worker.service import main as worker

    options = ["--service-name", SERVICE, "--worker-id", "1"]
    worker([bento, "--fd", str(held.detach()), *options])


def stop(*_: object) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    with errors_in_words():
        main(sys.argv[1:])
