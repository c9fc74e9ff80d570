"""Several workers behind one port: metrics of all of them, one that is killed, and a stop without a lost answer."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import Project
from serving.served import PATIENCE, Served, eventually, serving
from serving.test_front import head


@pytest.fixture
def pair(released: Project, tmp_path: Path) -> Iterator[Served]:
    with serving(released, tmp_path / "home", SERVICE_WORKERS="2") as served:
        eventually(lambda: len(served.workers) == 2)
        yield served


def predict_alone(service: Served) -> httpx.Response:
    """On a connection of its own, which any worker may take."""
    body = {"rows": [service.example]}
    return httpx.post(f"{service.url}/predict", json=body, timeout=PATIENCE)


def test_metrics_are_those_of_all_workers_and_outlive_one_that_is_killed(pair: Served) -> None:
    busy = {worker.pid: sum(worker.cpu_times()[:2]) for worker in pair.workers}
    sent = 0

    def both_have_worked() -> bool:
        nonlocal sent
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: predict_alone(pair), range(40)))
        assert Counter(each.status_code for each in answers) == {200: 40}
        sent += 40
        return all(sum(worker.cpu_times()[:2]) > busy[worker.pid] + 0.05 for worker in pair.workers)

    eventually(both_have_worked)
    assert pair.count("model_rows_total") == sent
    assert pair.count("bentoml_service_request_total", endpoint="/predict", http_response_code="200") == sent
    assert list(pair.metrics("model_info").values()) == [1]

    # a request that is on its way when its worker dies is no longer in progress
    dying, living = pair.workers
    body = json.dumps({"rows": [pair.example]}).encode()
    living.suspend()  # so that the other one takes it
    with pair.connection() as connection:
        connection.sendall(head(len(body)) + body[:10])
        time.sleep(0.5)
        dying.kill()
        living.resume()
        eventually(lambda: not dying.is_running() or dying.status() == psutil.STATUS_ZOMBIE)
    with ThreadPoolExecutor(8) as pool:  # the other one serves meanwhile
        assert {each.status_code for each in pool.map(lambda _: predict_alone(pair), range(40))} == {200}
    sent += 40
    eventually(lambda: len({worker.pid for worker in pair.workers} - {dying.pid}) == 2, "no new worker")
    pair.client.close()
    pair.client = httpx.Client(base_url=pair.url, timeout=PATIENCE)
    eventually(lambda: pair.count("bentoml_service_request_in_progress", endpoint="/predict") == 0)
    assert pair.count("model_rows_total") == sent


def test_a_scrape_does_not_fail_on_the_empty_file_of_a_worker_that_starts(pair: Served) -> None:
    assert pair.works()
    (counters, *_) = pair.log.parent.rglob("counter_*.db")
    (counters.parent / "counter_999999.db").touch()
    assert pair.client.get("/metrics").status_code == 200
    assert pair.count("model_rows_total") == 1


def test_a_stop_answers_what_has_been_asked(pair: Served) -> None:
    body = json.dumps({"rows": [pair.example] * 1_000}).encode()
    connections = [pair.connection() for _ in range(8)]
    for connection in connections:
        connection.sendall(head(len(body)) + body[:1_000])
    eventually(lambda: pair.count("bentoml_service_request_in_progress", endpoint="/predict") == len(connections))
    pair.client.close()
    pair.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert pair.process.poll() is None, "it has not waited"
    for connection in connections:
        connection.sendall(body[1_000:])
        answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b'"prediction"') == 1_000
    assert pair.process.wait(PATIENCE) == 0
