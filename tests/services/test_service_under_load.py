"""The service under more than it can take, and for a long time; and its page in a real browser."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from serving.served import PATIENCE, Served

from mlops.serving.front import MOST_WAITING

CALM = MOST_WAITING - 10  # connections, beside the one that measures
MANY = 200_000


def wrk(service: Served, connections: int, seconds: int, body: Path) -> dict[str, float]:
    """Ask all the time on so many connections; what came of it, in numbers."""
    script = body.with_suffix(".lua")
    script.write_text(
        f'wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"\n'
        f"wrk.body = io.open({json.dumps(str(body))}):read('*a')\n"
        'done = function(all) io.write(string.format("%d %d %d %d %d\\n", all.requests, all.errors.status,'
        " all.errors.connect + all.errors.read + all.errors.write, all.errors.timeout, all.duration)) end\n",
        encoding="utf-8",
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=60s", f"-s{script}"]
    done = subprocess.run([*command, f"{service.url}/predict"], capture_output=True, text=True, check=True)
    numbers = [int(each) for each in done.stdout.splitlines()[-1].split()]
    return dict(zip(("requests", "refused", "broken", "timeout", "microseconds"), numbers, strict=True))


@pytest.fixture
def body(service: Served, tmp_path: Path) -> Path:
    path = tmp_path / "body.json"
    path.write_text(json.dumps({"rows": [service.example]}), encoding="utf-8")
    return path


def latencies(service: Served, while_true: threading.Event) -> tuple[list[float], Counter[int]]:
    """What one client sees meanwhile, which asks in turn and honours a refusal."""
    taken, statuses = [], Counter[int]()
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        while while_true.is_set():
            start = time.monotonic()
            answer = client.post("/predict", json={"rows": [service.example]})
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                taken.append(time.monotonic() - start)
            else:
                assert answer.headers["retry-after"] == "1"
                time.sleep(0.05)
    return taken, statuses


def test_more_than_can_be_served_is_refused_quickly_and_the_rest_stays_fast(service: Served, body: Path) -> None:
    def load(connections: int) -> tuple[dict[str, float], float, Counter[int]]:
        running, found = threading.Event(), []
        running.set()
        client = threading.Thread(target=lambda: found.append(latencies(service, running)))
        client.start()
        numbers = wrk(service, connections, 8, body)
        running.clear()
        client.join()
        ((taken, statuses),) = found
        return numbers, statistics.median(taken), statuses

    calm, usual, statuses = load(CALM)
    assert (calm["refused"], calm["broken"], statuses.keys()) == (0, 0, {200})
    for clients in (2 * MOST_WAITING, 1_000):
        storm, stormy, statuses = load(clients)
        assert storm["broken"] == 0
        assert storm["refused"] > 0
        assert statuses.keys() <= {200, 429}
        served = storm["requests"] - storm["refused"]
        assert served > 0.1 * calm["requests"], "it goes on serving"
        # these ask again at once, so a request waits for the refusals as well, which cost about as much as predictions
        assert stormy < 2 * usual * clients / CALM, (clients, usual, stormy)
    assert service.works()
    assert service.count("bentoml_service_request_total", http_response_code="500") == 0


def test_memory_does_not_grow_over_many_requests(service: Served, body: Path) -> None:
    (worker,) = service.workers
    wrk(service, 16, 5, body)
    before, asked = worker.memory_info().rss, 0.0
    while asked < MANY:
        numbers = wrk(service, 16, 20, body)
        assert (numbers["refused"], numbers["broken"], numbers["timeout"]) == (0, 0, 0)
        asked += numbers["requests"]
    grown = worker.memory_info().rss - before
    assert grown < 10_000_000, f"{grown / 1e6:.1f} MB in {asked:,} requests"


def test_the_page_shows_the_example_in_a_browser_and_asks_nobody_else(service: Served, tmp_path: Path) -> None:
    assert shutil.which("chromium"), "run .ci/services"
    log = tmp_path / "net.json"
    flags = (
        "--headless --no-sandbox --disable-gpu --virtual-time-budget=20000 --dump-dom --disable-background-networking"
    )
    shown = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={tmp_path}/profile", f"--log-net-log={log}", f"{service.url}/"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    assert "Execute" in shown
    for name, value in service.example.items():
        assert f"&quot;{name}&quot;: {value}" in shown or f'"{name}": {value}' in shown
    for path in ("/docs.json", "/page.js", "/page.css", "/static_content/swagger-ui.css"):
        assert path in log.read_text(encoding="utf-8")
    # the browser asks its maker for this and that; what counts is what the page asks for
    events = [event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    asked = [each["url"] for each in events if each.get("initiator") == service.url and "url" in each]
    assert len(set(asked)) >= 4
    assert all(url.startswith(f"{service.url}/") for url in asked)
