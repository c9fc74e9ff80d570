"""A real Dask cluster of processes that speak TCP on loopback, and go when the test is done."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import Project
from distributed import Client

PATIENCE = 240  # seconds that anything may take on a busy machine
WORKER = 'import os, sys, mlops.pipeline; os.execvp("dask", ["dask", "worker", *sys.argv[1:]])'


class Cluster:
    """A scheduler and its workers, which are started as `make scheduler` and `make worker` start them."""

    def __init__(self, project: Project) -> None:
        self.project, self.started = project, list[subprocess.Popen[bytes]]()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.log = project.folder.parent / "cluster.log"
        self.start_scheduler()

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            own = {**self.project.environment, **environment}
            self.started.append(
                subprocess.Popen(command, cwd=self.project.folder, env=own, stdout=log, stderr=log, process_group=0)
            )
        return self.started[-1]

    def start_scheduler(self) -> None:
        self.scheduler = self.start(
            "dask", "scheduler", "--host", "127.0.0.1", "--port", f"{self.port}", "--no-dashboard"
        )

    def start_workers(self, count: int = 2, memory: str = "2GiB", **environment: str) -> None:
        options = ["--nworkers", f"{count}", "--nthreads", "1", "--memory-limit", memory, "--no-dashboard"]
        self.workers = self.start(sys.executable, "-c", WORKER, self.address, *options, **environment)
        with self.client() as client:
            client.wait_for_workers(count, timeout=PATIENCE)

    @contextmanager
    def client(self) -> Iterator[Any]:
        with Client(self.address, timeout=PATIENCE, set_as_default=False) as client:
            yield client

    @property
    def environment(self) -> dict[str, str]:
        return {"DASK_SCHEDULER_ADDRESS": self.address}

    def worker_pids(self) -> set[int]:
        """The process of each of two workers."""
        with self.client() as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            return set(client.run(os.getpid).values())

    def kill_one_at_work(self, running: subprocess.Popen[str]) -> bool:
        """Kill a worker process while it has a task; False where the command ended before."""
        with self.client() as client:
            while running.poll() is None:
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                if busy:
                    pids = client.run(os.getpid, workers=busy[:1], nanny=False)
                    os.kill(next(iter(pids.values())), signal.SIGKILL)
                    return True
                time.sleep(0.005)
        return False

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def transitions(cluster: Cluster) -> int:
    """A number that grows with each task of the cluster."""
    with cluster.client() as client:
        counted: Callable[..., int] = lambda dask_scheduler: dask_scheduler.transition_counter  # noqa: E731
        return int(client.run_on_scheduler(counted))


@contextmanager
def running(project: Project, **options: Any) -> Iterator[Cluster]:
    """A cluster with two workers in a project."""
    cluster = Cluster(project)
    try:
        cluster.start_workers(**options)
        yield cluster
    finally:
        cluster.stop()


def background(project: Project, *command: str, log: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command of a project."""
    with log.open("w") as output:
        return subprocess.Popen(
            command,
            cwd=project.folder,
            env={**project.environment, **environment},
            stdout=output,
            stderr=output,
            text=True,
        )
