"""The components blue-green and canary, by Argo Rollouts' own controller, on real requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from k8s import watched
from k8s.cluster import Cluster, wait_for
from k8s.released import Clients, Deployed, Releases, ask

# minutes of watching as seconds
SHORTER = {"duration: 10m": "duration: 20s", "initialDelay: 2m": "initialDelay: 12s", "interval: 30s": "interval: 2s"}
SHORTER |= {"interval: 5m": "interval: 2s", "value: 2m": "value: 10s"}


@pytest.fixture(scope="module")
def controller(cluster: Cluster) -> Iterator[None]:
    with watched.rollouts(cluster):
        yield


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with watched.prometheus(cluster, tmp_path_factory.mktemp("prometheus")):
        yield


def state(deployed: Deployed) -> str:
    """Of the Rollout: Healthy, Progressing, Paused or Degraded, as it is for what was applied last."""
    rollout = deployed.get("rollout", "model")
    status = rollout["status"]
    seen = status.get("observedGeneration") == str(rollout["metadata"]["generation"])
    template = deployed.get("deployment", "model")["metadata"]["generation"]
    seen = seen and status.get("workloadObservedGeneration") == str(template)
    return str(status.get("phase")) if seen else "not seen yet"


def wait_for_state(deployed: Deployed, wanted: str) -> None:
    wait_for(f"the Rollout is {wanted}", lambda: state(deployed) == wanted)


def behind(deployed: Deployed, service: str) -> set[str]:
    """The images of the pods that a Service has."""
    selector = deployed.get("service", service)["spec"]["selector"]
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    pods = deployed.get("pods", f"--selector={labels}")
    return {pod["spec"]["containers"][0]["image"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def test_blue_green_switches_all_at_once_when_it_is_told_to(
    controller: None, staging: Deployed, built: Releases, tmp_path: Path
) -> None:
    references = staging.references
    one = Deployed(staging.cluster, references, tmp_path, "staging", "../../components/blue-green")
    with Clients(one.url, built.example) as clients:
        one.apply("first")
        wait_for_state(one, "Healthy")
        wait_for("the Deployment has no pods", lambda: one.get("deployment", "model")["spec"]["replicas"] == 0)
        one.wait_for_pods(1, "first")
        one.apply("second")
        wait_for_state(one, "Paused")
        assert behind(one, "model") == {references["first"]}
        assert behind(one, "model-preview") == {references["second"]}
        preview = one.get("service", "model-preview")["spec"]["clusterIP"]
        assert ask(f"http://{preview}", built.example)[0] == 200
        # what `kubectl argo rollouts promote model` does
        one.kubectl(
            "patch",
            "rollout",
            "model",
            "--subresource=status",
            "--type=merge",
            '--patch={"status":{"pauseConditions":null}}',
        )
        wait_for_state(one, "Healthy")
        assert behind(one, "model") == {references["second"]}
        assert one.pods("first"), "the old one stays for a while, to switch back to"
    assert clients.failed == []


@pytest.fixture(scope="module")
def canary(
    controller: None,
    prometheus: None,
    production: Deployed,
    built: Releases,
    tmp_path_factory: pytest.TempPathFactory,
) -> Deployed:
    found = Deployed(
        production.cluster,
        production.references,
        tmp_path_factory.mktemp("canary"),
        "production",
        "../../components/canary",
    )
    for path in (found.folder / "deploy/kubernetes/components/canary").iterdir():
        text = path.read_text(encoding="utf-8")
        for long, short in SHORTER.items():
            text = text.replace(long, short)
        path.write_text(re.sub(r"http://prometheus-operated\S+", watched.PROMETHEUS, text), encoding="utf-8")
    with Clients(production.url, built.example) as clients:
        found.apply("first")
        wait_for_state(found, "Healthy")
        wait_for("the Deployment has no pods", lambda: found.get("deployment", "model")["spec"]["replicas"] == 0)
        found.wait_for_pods(2, "first")
    assert clients.failed == []  # while the Rollout takes the pods over
    return found


def judged(deployed: Deployed) -> dict[str, str]:
    """Metric → what the latest analysis says of it."""
    latest = max(deployed.get("analysisrun"), key=lambda each: each["metadata"]["creationTimestamp"])
    return {each["name"]: each["phase"] for each in latest["status"]["metricResults"]}


def test_a_canary_that_does_as_well_takes_over(canary: Deployed, built: Releases) -> None:
    with Clients(canary.url, built.example, number=4) as clients:
        canary.apply("second")
        wait_for_state(canary, "Progressing")
        wait_for_state(canary, "Healthy")
        canary.wait_for_pods(2, "second")
    assert clients.failed == []
    assert judged(canary) == dict.fromkeys(("errors", "refused", "latency", "outcome"), "Successful")


def test_a_canary_that_rejects_what_clients_send_is_taken_back(canary: Deployed, built: Releases) -> None:
    with Clients(canary.url, built.example, number=4) as clients:
        canary.apply("demanding")
        wait_for_state(canary, "Degraded")
        assert judged(canary)["refused"] == "Failed"
        canary.wait_for_pods(2, "second")
        met = len(clients.answers)
        wait_for("clients ask again", lambda: len(clients.answers) > met + 50)
    assert set(clients.statuses()) == {200, 422}, json.dumps(clients.failed[:3])
    assert {status for _, status, _ in clients.answers[met:]} == {200}
