"""The real service on a free port, in a scratch copy of the project in which the pipeline has run."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from conftest import Project, copied
from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 120  # seconds that anything may take on a busy machine
Row = dict[str, Any]


class Served:
    """A running service."""

    def __init__(self, project: Project, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.project, self.port, self.process, self.log = project, port, process, log
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def predict(self, *rows: Row, **headers: str) -> httpx.Response:
        return self.client.post("/predict", json={"rows": list(rows)}, headers=headers)

    def send(self, body: bytes | str, **headers: str) -> httpx.Response:
        """Any body, said to be JSON."""
        return self.client.post("/predict", content=body, headers={"Content-Type": "application/json", **headers})

    def problem(self, *rows: Row) -> dict[str, Any]:
        """The only thing that is wrong with these rows."""
        answer = self.predict(*rows)
        assert answer.status_code == 422, answer.text
        (problem,) = answer.json()["detail"]
        return dict(problem)

    def works(self) -> bool:
        """Whether it still predicts, after whatever a test has done to it."""
        return self.predict(self.example).status_code == 200

    @property
    def contract(self) -> dict[str, Any]:
        return dict(json.loads(self.project.read("models/service/schema.json")))

    @property
    def example(self) -> Row:
        """A row that it takes."""
        return {field["name"]: field.get("example") for field in self.contract["fields"]}

    @property
    def release(self) -> dict[str, Any]:
        return dict(json.loads(self.project.read("models/release.json")))

    def metrics(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Values of a metric by their labels, read as Prometheus would."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return {tuple(sorted(sample.labels.items())): sample.value for sample in samples}

    def count(self, name: str, **labels: str) -> float:
        """Sum of a metric over everything that has these labels."""
        return sum(value for found, value in self.metrics(name).items() if labels.items() <= dict(found).items())

    @property
    def workers(self) -> list[psutil.Process]:
        """The only process, or those that BentoML supervises."""
        process = psutil.Process(self.process.pid)
        return process.children() or [process]

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)


def eventually(true: Callable[[], Any], why: str = "") -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, why or "waited in vain"
        time.sleep(0.05)


def identify(project: Project) -> Project:
    """Write down what is released."""
    project.run(sys.executable, "-m", "mlops.release.identity")
    return project


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "mlops.serving.start", "mlops.serving.service:Service", "--port", str(port)]


def environment(project: Project, home: Path, **more: str) -> dict[str, str]:
    """A BentoML of its own, which holds its metrics."""
    return {**project.environment, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "true", **more}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(project: Project, home: Path, **more: str) -> Iterator[Served]:
    """Start the service, wait until it is ready, and stop it as a supervisor would."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command(port), "--host", "127.0.0.1"],
            cwd=project.folder,
            env=environment(project, home, **more),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the tests is none of its business
        )
    served = Served(project, port, process, log)
    try:
        eventually(lambda: _ready(served), f"not ready:\n{log.read_text()}")
        yield served
        served.client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        if process.poll() is None:
            for each in [*served.workers, psutil.Process(process.pid)]:
                each.kill()
            process.wait()


def fuzz(service: Served) -> None:
    """Ask what Schemathesis makes of the service's own description, and hold the answers against it."""
    schemathesis = Path(sys.executable).with_name("schemathesis")
    how = "--phases=examples,coverage,fuzzing --max-examples=50 --continue-on-failure --no-color"
    quiet = "--suppress-health-check=all --request-timeout=60 --generation-deterministic"
    checks = "--checks=all --exclude-checks=positive_data_acceptance"  # which `fuzzing` has in another form
    checked = subprocess.run(
        [schemathesis, "run", f"{service.url}/docs.json", *how.split(), *quiet.split(), *checks.split()],
        cwd=service.log.parent,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "fuzzing", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"(\d+) generated, \1 passed", checked.stdout), checked.stdout
    assert not service.count("bentoml_service_request_total", http_response_code="500")
    assert "Traceback" not in service.log.read_text()


def _ready(served: Served) -> bool:
    assert served.process.poll() is None, served.log.read_text()
    try:
        return served.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def released(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the default project whose model is ready to be served."""
    return identify(copied(done, tmp_path_factory.mktemp("released")))


@pytest.fixture(scope="session")
def service(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service of the default model; tests leave it as it was."""
    with serving(released, tmp_path_factory.mktemp("bentoml")) as served:
        yield served
