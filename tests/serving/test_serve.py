"""`make serve`: on this machine only, on a port that is free; one process unless several workers are wanted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, Project
from serving.served import eventually, free_port


def make(port: str | int) -> list[str]:
    """What `make serve PORT=…` runs, without the set-up."""
    (line,) = re.findall(r"mlops.serving.start .*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    return [sys.executable, "-m", *(str(port) if word == '"$(PORT)"' else word for word in line.split())]


def serve(project: Project, port: str) -> str:
    """Start where it cannot start, and return what it says."""
    done = project.run(*make(port), check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("error: "), done.stdout
    return done.stdout


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "", "3000 "])
def test_a_port_that_is_none_is_an_error(released: Project, port: str) -> None:
    assert f"{port!r} is not a port number\n  try: make serve PORT=3000, or" in serve(released, port)


def test_it_listens_on_this_machine_only_and_a_second_one_is_refused_its_port(
    released: Project, tmp_path: Path
) -> None:
    port = free_port()
    process = subprocess.Popen(
        make(port),
        cwd=released.folder,
        env=released.environment | {"BENTOML_HOME": str(tmp_path)},
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
        assert psutil.Process(process.pid).children() == [], "BentoML's supervisor, for one worker"
        before = sorted(tmp_path.rglob("*.db"))
        assert before
        assert f"port {port} is in use\n  try: make serve PORT={port + 1}" in serve(released, str(port))
        assert before == sorted(tmp_path.rglob("*.db"))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
