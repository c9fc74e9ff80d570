"""`deploy/kubernetes` on a cluster: what is enforced, and that no request fails while releases, pods and nodes go."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from k8s.cluster import NODES, PATIENCE, is_ready, wait_for
from k8s.nodes import ctr
from k8s.released import MODELS, Clients, Deployed, Releases, ask


def test_a_service_predicts_and_asks_for_its_token(staging: Deployed, built: Releases) -> None:
    status, answer = ask(staging.url, built.example)
    assert status == 200, answer
    assert json.loads(answer)["predictions"][0]["prediction"] == "benign"
    assert ask(staging.url, built.example, token="another")[0] == 401
    # by its name, from a pod
    program = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).status)"
    name = "http://model.model-staging.svc.cluster.local/readyz"
    assert staging.kubectl("exec", "deployment/model", "--", "python3", "-c", program, name).strip() == "200"


def test_a_pod_that_asks_for_more_than_it_needs_is_refused(staging: Deployed) -> None:
    overrides = json.dumps(
        {"spec": {"containers": [{"name": "a", "image": "a", "securityContext": {"privileged": True}}]}}
    )
    said = staging.kubectl("run", "careless", "--image=a", f"--overrides={overrides}", check=False)
    assert 'violates PodSecurity "restricted:latest": privileged' in said


@pytest.mark.parametrize("component", ["log", "schedule", "precompute"])
def test_the_server_takes_a_component_without_a_warning(component: str, production: Deployed, tmp_path: Path) -> None:
    whole = Deployed(production.cluster, production.references, tmp_path, "production", f"../../../{component}")
    whole.name("first")
    said = whole.kubectl("apply", "--dry-run=server", f"--kustomize={whole.overlay}", check=False)
    assert "(server dry run)" in said
    assert not re.search("warning|error", said, re.IGNORECASE), said


def test_a_container_can_write_to_tmp_alone(staging: Deployed) -> None:
    for path in ("/a", "/etc/a", "/opt/service/a"):
        said = staging.kubectl("exec", "deployment/model", "--", "touch", path, check=False)
        assert "Read-only file system" in said
    staging.kubectl("exec", "deployment/model", "--", "touch", "/tmp/a")  # noqa: S108 its own


def test_a_container_that_takes_more_memory_than_its_limit_is_ended(staging: Deployed) -> None:
    (pod,) = staging.pods()
    spec = {key: pod["spec"][key] for key in ("securityContext", "automountServiceAccountToken", "volumes")}
    (container,) = pod["spec"]["containers"]
    greedy = {key: container[key] for key in ("name", "image", "resources", "securityContext", "volumeMounts")}
    greedy["command"] = ["python3", "-c", "held = b'a' * 2**30"]
    spec |= {"restartPolicy": "Never", "containers": [greedy]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "greedy"}, "spec": spec}
    staging.kubectl("apply", "--filename=-", text=json.dumps(made))

    def ended() -> Any:
        return (
            staging.get("pod", "greedy")["status"].get("containerStatuses", [{}])[0].get("state", {}).get("terminated")
        )

    assert wait_for("the pod has ended", ended)["reason"] == "OOMKilled"
    staging.kubectl("delete", "pod", "greedy")


def test_a_service_that_hangs_is_started_again_within_a_minute(staging: Deployed, built: Releases) -> None:
    (pod,) = staging.pods()
    (status,) = pod["status"]["containerStatuses"]
    container = status["containerID"].rpartition("/")[2]
    ctr(staging.cluster, pod["spec"]["nodeName"], "tasks", "kill", "--signal=SIGSTOP", container)
    began = time.monotonic()

    def again() -> bool:
        (now,) = staging.get("pods", *MODELS)
        return is_ready(now) and now["status"]["containerStatuses"][0]["restartCount"] > status["restartCount"]

    wait_for("the service was started again", again)
    # three probes of 10 seconds, 15 seconds to stop, and a start
    assert time.monotonic() - began < 90
    assert ask(staging.url, built.example)[0] == 200


def test_no_request_fails_while_a_release_takes_over(production: Deployed, built: Releases) -> None:
    with Clients(production.url, built.example) as clients:
        production.apply("second")
        production.wait_for_pods(2, "second")
        production.apply("first")  # what reverting the commit does
        production.wait_for_pods(2, "first")
    assert clients.failed == []
    assert len(clients.answers) > 100


@pytest.mark.parametrize(("release", "reason"), [("missing", "ImagePullBackOff"), ("crashing", "CrashLoopBackOff")])
def test_a_release_that_does_not_start_takes_nothing_over(
    release: str, reason: str, production: Deployed, built: Releases
) -> None:
    def reasons() -> set[str]:
        states = [
            c["state"] for pod in production.get("pods", *MODELS) for c in pod["status"].get("containerStatuses", [])
        ]
        return {state["waiting"]["reason"] for state in states if "waiting" in state}

    with Clients(production.url, built.example) as clients:
        production.apply(release)
        wait_for(reason, lambda: reason in reasons())
        assert len(production.pods("first")) == 2
        production.apply("first")
        production.wait_for_pods(2, "first")
    assert clients.failed == []


def test_no_request_fails_when_a_pod_is_deleted(production: Deployed, built: Releases) -> None:
    gone = production.pods()[0]["metadata"]["name"]
    with Clients(production.url, built.example) as clients:
        production.kubectl("delete", "pod", gone)
        assert gone not in {pod["metadata"]["name"] for pod in production.wait_for_pods(2)}
    assert clients.failed == []


def test_nodes_are_drained_one_pod_at_a_time_without_a_failed_request(production: Deployed, built: Releases) -> None:
    def drain(node: str, patience: int) -> str:
        options = ("--pod-selector=app.kubernetes.io/name=model", "--delete-emptydir-data", f"--timeout={patience}s")
        return production.cluster.kubectl("drain", node, *options, check=False)

    one, other = production.pods()
    try:
        with Clients(production.url, built.example) as clients:
            # a pod that is gone finds no node for another one, so the budget is spent and the other pod stays
            production.cluster.kubectl("cordon", *NODES)
            production.kubectl("delete", "pod", one["metadata"]["name"])
            assert "would violate the pod's disruption budget" in drain(other["spec"]["nodeName"], 5)
            assert [pod["metadata"]["name"] for pod in production.pods()] == [other["metadata"]["name"]]
            # with room for it elsewhere it goes
            (free,) = set(NODES) - {other["spec"]["nodeName"]}
            production.cluster.kubectl("uncordon", free)
            production.wait_for_pods(2)
            assert "drained" in drain(other["spec"]["nodeName"], PATIENCE)
            assert {pod["spec"]["nodeName"] for pod in production.wait_for_pods(2)} == {free}
        assert clients.failed == []
    finally:
        production.cluster.kubectl("uncordon", *NODES)
