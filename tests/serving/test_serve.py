"""`make serve`: on this machine only, on a port that is free."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import psutil
import pytest
from conftest import Project
from serving.served import eventually


def serve(project: Project, port: str) -> str:
    """Start where it cannot start, and return what it says."""
    done = project.run(sys.executable, "-m", "mlops.serving.serve", port, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("error: "), done.stdout
    return done.stdout


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "", "3000 "])
def test_what_is_no_port_is_told(released: Project, port: str) -> None:
    assert f"PORT={port} is not a port number\n  try: make serve PORT=3000" in serve(released, port)


def test_it_listens_on_this_machine_only_and_a_second_one_is_refused_its_port(released: Project) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlops.serving.serve", str(port)]
    process = subprocess.Popen(
        command,
        cwd=released.folder,
        env=released.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def listening() -> set[str]:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        found = [each for one in family for each in one.net_connections("tcp")]
        return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN and each.laddr.port == port}

    try:
        eventually(listening)
        assert listening() == {"127.0.0.1"}
        counted = released.folder / f"build/serve-{port}"
        before = sorted(counted.rglob("*"))
        assert f"port {port} is in use\n  try: make serve PORT={port + 1}" in serve(released, str(port))
        assert set(before) <= set(counted.rglob("*"))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
