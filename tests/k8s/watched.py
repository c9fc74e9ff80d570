"""What decides about pods on the cluster: Argo Rollouts, Prometheus, which it asks, and the metrics server.

They run beside the nodes, in the cluster's network. Debian's Prometheus does not know Kubernetes, so a thread writes
down where the pods are, with the labels that `deploy/monitoring` asks for.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from k8s.cluster import ADMINISTRATOR, PROGRAMS, SERVER, Cluster
from k8s.released import MODELS

PROMETHEUS = f"http://{SERVER}:9090"


def define(cluster: Cluster, name: str) -> None:
    """Tell the API server of a program's resources."""
    files = f"--filename={PROGRAMS / 'definitions' / name}"
    cluster.kubectl("apply", "--server-side", files)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", files)


@contextlib.contextmanager
def rollouts(cluster: Cluster) -> Iterator[None]:
    """The resources and the controller of Argo Rollouts."""
    define(cluster, "rollouts")
    options = ("--leader-elect=false", f"--kubeconfig={cluster.folder / ADMINISTRATOR}.kubeconfig")
    controller = cluster.start("rollouts-controller", "rollouts-controller", *options)
    cluster.wait_until_ready("rollouts-controller", lambda: "Started" in cluster.log("rollouts-controller"))
    yield
    assert controller.poll() is None, cluster.log("rollouts-controller")[-3000:]


@contextlib.contextmanager
def prometheus(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Prometheus at `PROMETHEUS`."""
    targets = folder / "targets.json"
    scrape = {"job_name": "model", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yaml").write_text(json.dumps(settings), encoding="utf-8")
    write(cluster, targets)
    cluster.start(
        "prometheus",
        "prometheus",
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={SERVER}:9090",
    )
    cluster.wait_until_ready("prometheus", lambda: "Server is ready" in cluster.log("prometheus"))
    stopped = threading.Event()

    def follow() -> None:
        while not stopped.wait(1):
            write(cluster, targets)

    following = threading.Thread(target=follow)
    following.start()
    try:
        yield
    finally:
        stopped.set()
        following.join()
        cluster.stop("prometheus")


def write(cluster: Cluster, targets: Path) -> None:
    """Write down the pods that have an address."""
    found = [
        {
            "targets": [f"{pod['status']['podIP']}:3000"],
            "labels": {
                "namespace": pod["metadata"]["namespace"],
                "pod": pod["metadata"]["name"],
                "rollouts_pod_template_hash": pod["metadata"]["labels"].get("rollouts-pod-template-hash", ""),
            },
        }
        for pod in cluster.get("pods", "--all-namespaces", *MODELS)
        if "podIP" in pod["status"]
    ]
    partial = targets.with_suffix(".partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.rename(targets)


@contextlib.contextmanager
def metrics(cluster: Cluster) -> Iterator[None]:
    """The metrics server, which asks the nodes what pods use, as a further API of the cluster."""
    administrator = f"{cluster.folder / ADMINISTRATOR}.kubeconfig"
    port = 4443
    cluster.start(
        "metrics-server",
        "metrics-server",
        *(f"--{purpose}kubeconfig={administrator}" for purpose in ("", "authentication-", "authorization-")),
        f"--bind-address={SERVER}",
        f"--secure-port={port}",
        f"--cert-dir={cluster.folder}/metrics-server",
        "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    )
    service = {"name": "metrics-server", "namespace": "kube-system"}
    spec = {"group": "metrics.k8s.io", "version": "v1beta1", "service": service, "insecureSkipTLSVerify": True}
    objects = [
        made("v1", "Service", service, spec={"ports": [{"port": 443, "targetPort": port}]}),
        made("v1", "Endpoints", service, subsets=[{"addresses": [{"ip": SERVER}], "ports": [{"port": port}]}]),
        made(
            "apiregistration.k8s.io/v1",
            "APIService",
            {"name": "v1beta1.metrics.k8s.io"},
            spec=spec | {"groupPriorityMinimum": 100, "versionPriority": 100},
        ),
    ]
    cluster.kubectl("apply", "--filename=-", text=json.dumps(made("v1", "List", {}, items=objects)))
    nodes = ("get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes")
    cluster.wait_until_ready("metrics-server", lambda: '"usage"' in cluster.kubectl(*nodes, check=False))
    try:
        yield
    finally:
        cluster.kubectl("delete", "apiservice", "v1beta1.metrics.k8s.io")
        cluster.stop("metrics-server")


def made(version: str, kind: str, metadata: dict[str, Any], **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
