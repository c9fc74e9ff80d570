"""A rollout for real: releases side by side behind one port, watched by Prometheus, while clients never stop asking."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, copied
from queries import METRICS, alert_queries, all_queries, analysis_limits, analysis_queries, dashboard_queries
from running import Answer, Clients, Prometheus, get, node_exporter, prometheus, proxy, serve, wait_for

WINDOW = "10s"


def released(done: Project, folder: Path, version: str, change: Any = None) -> Project:
    """A project at its tag, whose pipeline has run."""
    folder.mkdir()
    project = copied(done, folder)
    if change:
        project.edit_params(change)
        project.run("dvc", "repro", "evaluate")
        project.commit(version)
    project.git("tag", f"v{version}")
    project.run(sys.executable, "-m", "mlops.release.identity")
    return project


def without_a_column(params: Any) -> None:
    """What clients still send, this model does not take any more: no test of the model's quality notices."""
    params["data"]["drop"] = ["mean texture"]
    params["validate"]["suite"] = None


@pytest.fixture(scope="module")
def releases(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Project]]:
    """Version → project: a first release, a second one, and a third whose model takes one column less."""
    folder = tmp_path_factory.mktemp("releases")
    yield {
        "1.0.0": released(done, folder / "first", "1.0.0"),
        "2.0.0": released(done, folder / "second", "2.0.0", lambda p: p["model"]["params"].update(C=0.1)),
        "3.0.0": released(done, folder / "third", "3.0.0", without_a_column),
    }
    shutil.rmtree(folder)


def example(port: int) -> bytes:
    """The request that the OpenAPI page proposes."""
    page = json.loads(get(f"http://127.0.0.1:{port}/docs.json") or b"")
    body = page["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    return json.dumps(body).encode()


def post(port: int, body: bytes) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    return status


def test_prometheus_finds_in_the_service_all_that_alerts_and_dashboard_ask_for(
    releases: dict[str, Project], tmp_path: Path
) -> None:
    (tmp_path / "metrics").mkdir()
    with (
        serve(releases["1.0.0"], tmp_path / "1") as one,
        node_exporter(tmp_path, tmp_path / "metrics") as monitor,
        prometheus(tmp_path, monitor) as watching,
    ):
        watching.watch({"one": one.port, "two": one.port})
        body = example(one.port)
        monitored(releases["1.0.0"], tmp_path, one.port)

        def asked() -> bool:
            assert post(one.port, body) == 200
            assert post(one.port, b'{"rows": []}') == 422
            # a path that is not there makes no series of its own
            assert get(f"http://127.0.0.1:{one.port}/no-such-page") is None
            return all(watching.query(query) for query in dashboard_queries().values())

        wait_for("every panel of the dashboard has data", asked)
        # the same share in every scrape, which are not taken at the same moment
        for _ in range(20):
            asked()
        queries = analysis_queries(canary="one", stable="two", namespace="model-production", window=WINDOW)
        found = {name: known(watching, queries[name]) for name in analysis_limits()}
        assert found.keys() == {"errors", "refused", "latency"}
        # both names stand for the same process
        assert found["errors"] == 0
        assert found["refused"] == pytest.approx(0, abs=0.2)
        assert found["latency"] > 0

        names = set(watching.ask("label/__name__/values"))
        assert names >= METRICS
        paths = set(watching.ask("label/endpoint/values"))
        assert "/predict" in paths
        assert paths <= {"/predict", "/metadata", "/readyz", "/livez"}
        (info, *_) = watching.query("model_info")
        assert info["metric"]["version"] == "1.0.0"

        for query in all_queries().values():
            watching.query(query)
        (group,) = watching.ask("rules")["groups"]
        wait_for(
            "rules are evaluated", lambda: {r["health"] for r in watching.ask("rules")["groups"][0]["rules"]} == {"ok"}
        )
        assert {rule["name"] for rule in group["rules"]} == alert_queries().keys()
        # the monitor has seen the same row 120 times
        wait_for("the only alert is that of the monitor", lambda: firing(watching) == {"ModelInputsChanged"})

        one.stop()
        wait_for(
            "the alert for a service that is down is on its way",
            lambda: "ModelDown" in {alert["labels"]["alertname"] for alert in watching.ask("alerts")["alerts"]},
        )


def firing(watching: Prometheus) -> set[str]:
    alerts = watching.ask("alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def monitored(project: Project, folder: Path, port: int) -> None:
    """Predict rows whose outcomes become known at once, and run the monitor on them."""
    rows = json.loads(example(port))["rows"] * 120
    body, headers = json.dumps({"rows": rows}).encode(), {"content-type": "application/json", "x-request-id": "order"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        predicted = [each["prediction"] for each in json.load(answer)["predictions"]]
    now = datetime.now(UTC).isoformat()
    lines = [f"order,{row},{value},{now}\n" for row, value in enumerate(predicted)]
    (folder / "labels.csv").write_text("request_id,row,diagnosis,known_at\n" + "".join(lines), encoding="utf-8")
    labels = {"source": str(folder / "labels.csv"), "row": "row", "time": "known_at"}
    project.edit_params(lambda params: params.update(monitor={"labels": labels}))
    log = folder / "1/predictions"
    wait_for("rows are logged", lambda: sum(p.read_bytes().count(b"\n") for p in log.glob("*.jsonl")) == len(rows))
    project.run(sys.executable, "-m", "mlops.monitoring", str(log))
    project.git("checkout", "--", "params.yaml")
    shutil.copy(project.folder / "build/monitor/monitor.prom", folder / "metrics")


def known(watching: Prometheus, query: str) -> float:
    """The number of a query, as soon as it has one."""
    numbers: list[float] = []

    def asked() -> bool:
        number = watching.number(query)
        numbers.extend([] if number is None else [number])
        return bool(numbers)

    wait_for(query, asked)
    return numbers[0]


def verdict(watching: Prometheus, canary: str, stable: str) -> dict[str, str]:
    """What Argo Rollouts would say: the third number beyond its limit ends the rollout."""
    queries = analysis_queries(canary=canary, stable=stable, namespace="model-production", window=WINDOW)
    limits, found = analysis_limits(), {}
    for name, query in ((each, queries[each]) for each in limits):
        beyond = []
        for _ in range(3):
            beyond.append(known(watching, query) > limits[name])
            time.sleep(1)
        found[name] = "fail" if all(beyond) else "unsure" if any(beyond) else "pass"
    return found


def test_no_request_fails_while_releases_change_and_a_bad_canary_is_noticed(
    releases: dict[str, Project], tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        watching = stack.enter_context(prometheus(tmp_path))
        front = stack.enter_context(proxy(tmp_path, "first", "second", "third", "again"))
        first = stack.enter_context(serve(releases["1.0.0"], tmp_path / "first"))
        front.join("first", first.port, 100)
        body = example(first.port)
        clients = stack.enter_context(Clients(f"http://127.0.0.1:{front.port}/predict", body))
        clients.more(200)
        phases = {"first release alone": mark(clients)}

        second = stack.enter_context(serve(releases["2.0.0"], tmp_path / "second"))
        watching.watch({"first": first.port, "second": second.port})
        phases["second starts beside it"] = mark(clients)
        front.weigh("first", 90)
        front.join("second", second.port, 10)
        clients.more(400)
        said = verdict(watching, "second", "first")
        assert {said["errors"], said["refused"]} == {"pass"}
        phases["second as canary, 10 %"] = mark(clients)
        front.weigh("second", 100)
        front.leave("first")
        first.stop()
        front.gone("first")
        phases["all to the second, first drained and stopped"] = mark(clients)
        clients.more(200)
        phases["second release alone"] = mark(clients)

        third = stack.enter_context(serve(releases["3.0.0"], tmp_path / "third"))
        watching.watch({"second": second.port, "third": third.port})
        phases["third starts beside it"] = mark(clients)
        front.weigh("second", 90)
        front.join("third", third.port, 10)
        began = time.monotonic()
        wait_for("the analysis fails", lambda: verdict(watching, "third", "second")["refused"] == "fail")
        noticed = time.monotonic() - began
        front.leave("third")
        third.stop()
        front.gone("third")
        phases["third as canary, 10 %, aborted"] = mark(clients)
        clients.more(200)
        phases["second release alone again"] = mark(clients)

        again = stack.enter_context(serve(releases["1.0.0"], tmp_path / "again"))
        phases["first starts beside it"] = mark(clients)
        began = time.monotonic()
        front.join("again", again.port, 100)
        front.leave("second")
        switched = time.monotonic() - began
        second.stop()
        phases["rollback to the first, second drained and stopped"] = mark(clients)
        clients.more(200)
        phases["first release alone again"] = mark(clients)

    message = table(clients.answers, phases)
    print(
        f"\n{message}\nthe bad canary was noticed after {noticed:.0f} s; the rollback switched within {switched:.2f} s"
    )
    found = dict(parts(clients.answers, phases))
    bad = found["third as canary, 10 %, aborted"]
    good = [answer for name, part in found.items() for answer in part if part is not bad]
    # nobody's request fails: neither without an answer, nor with another one than the row deserves
    assert {answer.status for answer in good} == {200}, message
    # what the bad canary refuses it refuses properly, and nothing but that is refused
    assert {answer.status for answer in bad} == {200, 422}, message
    assert {answer.version for answer in bad if answer.status == 200} == {"2.0.0"}
    share = sum(answer.status == 422 for answer in bad) / len(bad)
    assert 0.02 < share < 0.2, message

    versions = {name: {answer.version for answer in part} for name, part in found.items()}
    assert versions["first release alone"] == {"1.0.0"}
    assert versions["second as canary, 10 %"] == {"1.0.0", "2.0.0"}
    assert versions["second release alone"] == {"2.0.0"}
    assert versions["second release alone again"] == {"2.0.0"}
    assert versions["first release alone again"] == {"1.0.0"}


def mark(clients: Clients) -> int:
    """How many answers there are, once those under way when it was asked have come."""
    clients.more(2 * clients.number)
    return len(clients.answers)


def parts(answers: list[Answer], phases: dict[str, int]) -> Iterator[tuple[str, list[Answer]]]:
    """The answers of each phase."""
    begin = 0
    for name, end in phases.items():
        yield name, answers[begin:end]
        begin = end


def table(answers: list[Answer], phases: dict[str, int]) -> str:
    """Phase by phase: requests, who answered, and how many failed."""
    lines = ["| phase | requests | answered by | refused (422) | failed | p99 |", "|---|---|---|---|---|---|"]
    for name, part in parts(answers, phases):
        by = [answer.version for answer in part if answer.status == 200]
        shares = ", ".join(f"{version}: {by.count(version) / len(part):.0%}" for version in sorted(set(by)))
        refused = sum(answer.status == 422 for answer in part)
        failed = sum(answer.status not in (200, 422) for answer in part)
        slow = sorted(answer.seconds for answer in part)[int(0.99 * len(part))]
        lines.append(f"| {name} | {len(part)} | {shares} | {refused} | {failed} | {1000 * slow:.0f} ms |")
    return "\n".join(lines)
