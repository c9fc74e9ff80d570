"""`make serve`: start the service on this machine, for this machine.

A port in use is an error: a second service on it would empty the metrics folder of the first.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words

HOST = "127.0.0.1"


def main(given: str) -> None:
    if not (given.isascii() and given.isdecimal() and 0 < int(given) < 65_536):
        raise UserError(f"PORT={given} is not a port number", "make serve PORT=3000")
    port = int(given)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server: who has hung up holds it no longer
        try:
            free.bind((HOST, port))
        except PermissionError:
            raise UserError(f"port {port} is reserved for system services", "make serve PORT=3000") from None
        except OSError:
            raise UserError(f"port {port} is in use", f"make serve PORT={port % 65_535 + 1}") from None
    # BentoML keeps its counters at home, and would report its use
    home = Path(f"build/serve-{port}").resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "true"}
    bento = [sys.executable, "-m", "bentoml", "serve", "mlops.serving.service:Service"]
    # in the place of this process, which would keep a signal to itself
    os.execv(sys.executable, [*bento, "--host", HOST, "--port", str(port)])  # noqa: S606


if __name__ == "__main__":
    with errors_in_words():
        main(sys.argv[1])
