"""The components blue-green and canary, by Argo Rollouts' own controller, on real requests.

Flux applies every commit, and what Argo Rollouts writes into the same objects stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from k8s import watched
from k8s.cluster import PATIENCE, Cluster, wait_for
from k8s.followed import Followed
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
    status = rollout.get("status", {})
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


def test_blue_green_switches_all_at_once_when_it_is_asked_to(
    controller: None, followed: Followed, staging: Deployed, built: Releases
) -> None:
    references = staging.references
    followed.set("production", suspend=True)
    followed.wait_until_applied(followed.release("first"), "staging")
    staging.wait_for_pods(1, "first")
    with Clients(staging.url, built.example) as clients:
        added = followed.add("staging", "blue-green")
        wait_for_state(staging, "Healthy")
        wait_for("the Deployment has no pods", lambda: staging.get("deployment", "model")["spec"]["replicas"] == 0)
        staging.wait_for_pods(1, "first")
        followed.wait_until_applied(followed.release("second"), "staging")
        wait_for_state(staging, "Paused")
        followed.reconcile("staging")
        assert behind(staging, "model") == {references["first"]}
        assert behind(staging, "model-preview") == {references["second"]}
        preview = staging.get("service", "model-preview")["spec"]["clusterIP"]
        assert ask(f"http://{preview}", built.example)[0] == 200
        # what `kubectl argo rollouts promote model` does
        resume = '--patch={"status":{"pauseConditions":null}}'
        staging.kubectl("patch", "rollout", "model", "--subresource=status", "--type=merge", resume)
        wait_for_state(staging, "Healthy")
        followed.reconcile("staging")
        assert behind(staging, "model") == {references["second"]}
        assert staging.pods("first"), "the old one stays for a while, to switch back to"
        # how deploy/kubernetes/README.md removes the component
        kept = followed.replace("components/blue-green/rollout.yaml", "scaleDown: onsuccess", "scaleDown: never")
        followed.wait_until_applied(kept, "staging")
        staging.kubectl("scale", "deployment/model", "--replicas=1")
        staging.kubectl("rollout", "status", "deployment/model", f"--timeout={PATIENCE}s")
        followed.wait_until_applied(followed.revert(added), "staging")
        staging.wait_for_pods(1, "second")
        assert staging.get("service", "model")["spec"]["selector"] == {"app.kubernetes.io/name": "model"}
    assert clients.failed == []


@pytest.fixture(scope="module")
def canary(controller: None, prometheus: None, followed: Followed, production: Deployed, built: Releases) -> Deployed:
    followed.set("production", suspend=False)
    followed.wait_until_applied(followed.release("first"), "production")
    production.wait_for_pods(2, "first")
    for path in (followed.kubernetes / "components/canary").iterdir():
        text = path.read_text(encoding="utf-8")
        for long, short in SHORTER.items():
            text = text.replace(long, short)
        path.write_text(re.sub(r"http://prometheus-operated\S+", watched.PROMETHEUS, text), encoding="utf-8")
    with Clients(production.url, built.example) as clients:
        followed.add("production", "canary")
        wait_for_state(production, "Healthy")
        wait_for("the Deployment has no pods", lambda: production.get("deployment", "model")["spec"]["replicas"] == 0)
        production.wait_for_pods(2, "first")
    assert clients.failed == []  # while the Rollout takes the pods over
    return production


def judged(deployed: Deployed) -> dict[str, str]:
    """Metric → what the latest analysis says of it."""
    latest = max(deployed.get("analysisrun"), key=lambda each: each["metadata"]["creationTimestamp"])
    return {each["name"]: each["phase"] for each in latest["status"]["metricResults"]}


def test_a_canary_that_does_as_well_takes_over(canary: Deployed, followed: Followed, built: Releases) -> None:
    with Clients(canary.url, built.example, number=4) as clients:
        followed.wait_until_applied(followed.release("second"), "production")
        wait_for_state(canary, "Paused")
        followed.reconcile("production")
        wait_for_state(canary, "Healthy")
        canary.wait_for_pods(2, "second")
    assert clients.failed == []
    assert judged(canary) == dict.fromkeys(("errors", "refused", "latency", "outcome"), "Successful")


def test_a_canary_that_rejects_what_clients_send_is_taken_back(
    canary: Deployed, followed: Followed, built: Releases
) -> None:
    with Clients(canary.url, built.example, number=4) as clients:
        followed.wait_until_applied(followed.release("demanding"), "production")
        wait_for_state(canary, "Degraded")
        assert judged(canary)["refused"] == "Failed"
        canary.wait_for_pods(2, "second")
        met = len(clients.answers)
        wait_for("clients ask again", lambda: len(clients.answers) > met + 50)
    assert set(clients.statuses()) == {200, 422}, json.dumps(clients.failed[:3])
    assert {status for _, status, _ in clients.answers[met:]} == {200}
