"""What a rollout needs, on loopback: releases that serve, Prometheus and its node exporter, HAProxy, and clients."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
from conftest import Project
from manifests import DEPLOY, tool
from ruamel.yaml import YAML

PATIENCE = 120  # seconds, for a machine that has other things to do


def free_port() -> int:
    """A port below the range from which the system assigns free ports, so that no other process takes it first."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_for(what: str, done: Callable[[], Any]) -> Any:
    """Ask again and again until the answer is one."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE} seconds")


def get(url: str) -> bytes | None:
    with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
        return content
    return None


@contextlib.contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs meanwhile, and whose children go with it: BentoML's are in sessions of their own."""
    with log.open("wb") as file:
        running = subprocess.Popen(command, stdout=file, stderr=file, **options)
    try:
        yield running
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(running.pid).children(recursive=True):
                child.kill()
        running.kill()
        running.wait()


class Served(NamedTuple):
    """A release that answers."""

    port: int
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """As Kubernetes and systemd do it."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) in (0, -signal.SIGTERM)


@contextlib.contextmanager
def serve(project: Project, folder: Path) -> Iterator[Served]:
    """The service of a project, with its counters and its prediction log in a folder of its own."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    environment = {**project.environment, "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
    environment["PREDICTION_LOG"] = str(folder / "predictions")
    environment.pop("SERVICE_TOKEN", None)
    command = [sys.executable, "-m", "mlops.serving.start", "mlops.serving.service:Service"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with process(command, folder / "log", cwd=project.folder, env=environment) as running:

        def ready() -> bool:
            assert running.poll() is None, (folder / "log").read_text()
            return get(f"http://127.0.0.1:{port}/readyz") is not None

        wait_for("the service is ready", ready)
        yield Served(port, running)


class Prometheus(NamedTuple):
    """The configuration and rules of `deploy/`, with other targets and a shorter breath."""

    url: str
    targets: Path

    def watch(self, services: dict[str, int]) -> None:
        """Scrape these: name of the release, which stands for the hash of its pods, → port."""
        found = [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"rollouts_pod_template_hash": name, "namespace": "model-production"},
            }
            for name, port in services.items()
        ]
        partial = self.targets.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.rename(self.targets)

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, query: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=query)["result"]
        return found

    def number(self, query: str) -> float | None:
        """The one number of a query; None where there is none, or where it is NaN."""
        found = [float(each["value"][1]) for each in self.query(query)]
        assert len(found) <= 1, f"{len(found)} numbers: {query}"
        return found[0] if found and found[0] == found[0] else None


@contextlib.contextmanager
def node_exporter(folder: Path, metrics: Path) -> Iterator[int]:
    """The exporter of compose.monitor.yaml, for a folder of metrics; its port."""
    service = YAML(typ="safe").load(DEPLOY / "compose/compose.monitor.yaml")["services"]["monitor"]
    (mount,) = service["volumes"]
    port = free_port()
    arguments = [each.replace(mount["target"], str(metrics)) for each in service["command"]]
    log = folder / "node-exporter.log"
    with process([tool("prometheus-node-exporter"), *arguments, f"--web.listen-address=127.0.0.1:{port}"], log):
        wait_for("the node exporter is ready", lambda: get(f"http://127.0.0.1:{port}/metrics"))
        yield port


@contextlib.contextmanager
def prometheus(folder: Path, monitor: int | None = None) -> Iterator[Prometheus]:
    """Prometheus, which reads the monitor's metrics from a port."""
    source = DEPLOY / "monitoring/prometheus"
    config = YAML(typ="safe").load(source / "prometheus.yaml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(source / name) for name in config["rule_files"]]
    del config["alerting"]
    scrape, daily = config["scrape_configs"]
    del scrape["static_configs"], daily["dns_sd_configs"]
    scrape["file_sd_configs"] = [{"files": [str(folder / "targets.json")], "refresh_interval": "1s"}]
    daily["static_configs"] = [{"targets": [f"127.0.0.1:{monitor}"]}] if monitor else []
    YAML().dump(config, folder / "prometheus.yaml")
    port = free_port()
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    found = Prometheus(f"http://127.0.0.1:{port}", folder / "targets.json")
    with process(command, folder / "prometheus.log") as running:

        def ready() -> bool:
            assert running.poll() is None, (folder / "prometheus.log").read_text()
            return get(f"{found.url}/-/ready") is not None

        wait_for("Prometheus is ready", ready)
        yield found


class Proxy(NamedTuple):
    """HAProxy, whose servers are set while it runs."""

    port: int
    admin: int

    def say(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self.admin)) as connection:
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode().strip()

    def join(self, name: str, port: int, weight: int) -> None:
        """Give a release a share of the requests."""
        self.say(f"set server model/{name} addr 127.0.0.1 port {port}")
        self.say(f"set server model/{name} weight {weight}")
        self.say(f"set server model/{name} state ready")
        wait_for(f"{name} is up", lambda: self.column(name, "status") == "UP")

    def weigh(self, name: str, weight: int) -> None:
        self.say(f"set server model/{name} weight {weight}")

    def leave(self, name: str) -> None:
        """Give a release no further request, and wait until it has answered those that it has."""
        self.say(f"set server model/{name} state drain")
        wait_for(f"{name} has answered", lambda: self.column(name, "scur") == "0")

    def gone(self, name: str) -> None:
        self.say(f"set server model/{name} state maint")

    def column(self, name: str, column: str) -> str:
        header, *lines = self.say("show stat").removeprefix("# ").splitlines()
        rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
        return next(row[column] for row in rows if (row["pxname"], row["svname"]) == ("model", name))


@contextlib.contextmanager
def proxy(folder: Path, *names: str) -> Iterator[Proxy]:
    found = Proxy(free_port(), free_port())
    servers = "\n".join(f"    server {name} 127.0.0.1:1 check inter 200ms disabled" for name in names)
    (folder / "haproxy.cfg").write_text(
        f"""global
    stats socket ipv4@127.0.0.1:{found.admin} level admin
defaults
    mode http
    timeout connect 5s
    timeout client {PATIENCE}s
    timeout server {PATIENCE}s
frontend front
    bind 127.0.0.1:{found.port}
    default_backend model
backend model
    balance roundrobin
    option httpchk GET /readyz
    timeout check 10s
{servers}
""",
        encoding="utf-8",
    )
    log = folder / "haproxy.log"
    with process([tool("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], log) as running:

        def ready() -> bool:
            assert running.poll() is None, log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", found.port)):
                return True
            return False

        wait_for("HAProxy listens", ready)
        yield found


class Answer(NamedTuple):
    """What a client got: status 0 where it got none."""

    at: float
    status: int
    version: str
    seconds: float


class Clients:
    """Clients that ask one after the other without a pause worth the name, until they are stopped.

    Parameters
    ----------
    url : str
    body : bytes
    number : int
        How many ask at once.
    """

    def __init__(self, url: str, body: bytes, number: int = 6) -> None:
        self.url, self.body, self.number = url, body, number
        self.answers: list[Answer] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.all()))

    def __enter__(self) -> Clients:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()

    async def all(self) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            await asyncio.gather(*(self.one(client) for _ in range(self.number)))

    async def one(self, client: httpx.AsyncClient) -> None:
        while not self.stopped.is_set():
            began = time.monotonic()
            try:
                answer = await client.post(self.url, content=self.body, headers={"content-type": "application/json"})
                status, version = answer.status_code, answer.json().get("version", "")
            except (httpx.HTTPError, ValueError) as error:
                status, version = 0, repr(error)
            self.answers.append(Answer(began, status, version, time.monotonic() - began))
            await asyncio.sleep(0.01)

    def more(self, number: int) -> None:
        """Wait for so many further answers."""
        there = len(self.answers)
        wait_for("clients get answers", lambda: len(self.answers) >= there + number)
