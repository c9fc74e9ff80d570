"""Flux follows a repository: a merge deploys, and a revert rolls back."""

from __future__ import annotations

import json

from k8s.cluster import wait_for
from k8s.followed import Followed
from k8s.released import MODELS, Clients, Deployed, Releases


def image(deployed: Deployed) -> str:
    (container,) = deployed.get("deployment", "model")["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def test_a_merge_deploys_and_its_revert_rolls_back(
    followed: Followed, staging: Deployed, production: Deployed, built: Releases
) -> None:
    references = production.references
    with Clients(production.url, built.example) as clients:
        followed.wait_until_applied(followed.release("second"), "staging", "production")
        staging.wait_for_pods(1, "second")
        production.wait_for_pods(2, "second")
        # what somebody changes by hand does not stay
        production.kubectl("set", "image", "deployment/model", f"model={references['missing']}")
        followed.reconcile("production")
        assert image(production) == references["second"]
        followed.wait_until_applied(followed.revert(), "staging", "production")
        staging.wait_for_pods(1, "first")
        production.wait_for_pods(2, "first")
    assert clients.failed == []


def test_a_release_that_does_not_start_in_staging_does_not_reach_production(
    followed: Followed, staging: Deployed, production: Deployed
) -> None:
    def crashed() -> bool:
        pods = [
            pod for pod in staging.get("pods", *MODELS) if staging.references["crashing"] in json.dumps(pod["spec"])
        ]
        return any(c["restartCount"] for pod in pods for c in pod["status"].get("containerStatuses", []))

    def waiting() -> bool:
        (ready,) = (c for c in followed.kustomization("production")["status"]["conditions"] if c["type"] == "Ready")
        return bool(ready["reason"] == "DependencyNotReady")

    followed.release("crashing")
    wait_for("the release crashes in staging", crashed)
    wait_for("production waits for staging", waiting)
    assert image(production) == production.references["first"]
    followed.wait_until_applied(followed.revert(), "staging", "production")
    staging.wait_for_pods(1, "first")
