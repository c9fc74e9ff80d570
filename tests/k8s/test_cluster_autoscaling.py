"""The autoscaler of an overlay decides by what the pods really use."""

from __future__ import annotations

from k8s.cluster import wait_for
from k8s.released import Clients, Deployed, Releases
from k8s.watched import metrics


def test_pods_are_added_under_load_and_removed_after_it(staging: Deployed, built: Releases) -> None:
    def wanted() -> int:
        return int(staging.get("horizontalpodautoscaler", "model")["status"]["desiredReplicas"])

    with metrics(staging.cluster):
        wait_for("the autoscaler wants one pod", lambda: wanted() == 1)
        with Clients(staging.url, built.example, number=16, pause=0) as clients:
            wait_for("the autoscaler wants another pod", lambda: wanted() == 2)
            staging.wait_for_pods(2)
        assert clients.failed == []
        wait_for("the autoscaler wants one pod", lambda: wanted() == 1)
        staging.wait_for_pods(1)
