"""The cluster follows Git, by Flux' own controllers: a merge deploys, and reverting it goes back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import ROOT
from k8s.cluster import DATA, SERVER, Cluster, is_ready, wait_for
from k8s.released import Clients, Deployed, Releases
from k8s.watched import define
from release.hub import Clone

NAMESPACE = "flux-system"
KUSTOMIZATIONS = ("kustomization", f"--namespace={NAMESPACE}")


class Git(BaseHTTPRequestHandler):
    """Hands every request on to Git's own server program."""

    root: Path

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "yes",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": address.path,
            "QUERY_STRING": address.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        environment["CONTENT_LENGTH"] = str(len(body))
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def hosting(folder: Path) -> Iterator[str]:
    """The repositories of a folder over HTTP."""
    server = ThreadingHTTPServer((SERVER, 0), type("Here", (Git,), {"root": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{SERVER}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def flux(cluster: Cluster) -> Iterator[None]:
    define(cluster, "flux")
    cluster.kubectl("create", "namespace", NAMESPACE)
    options = ["--enable-leader-election=false", "--watch-all-namespaces", "--events-addr="]
    storage = f"{SERVER}:9790"
    own = {
        "source-controller": [
            f"--storage-path={DATA}/sources",
            f"--storage-addr={storage}",
            f"--storage-adv-addr={storage}",
        ],
        "kustomize-controller": [],
    }
    for number, (name, more) in enumerate(own.items()):
        ports = [f"--metrics-addr=127.0.0.1:{9800 + number}", f"--health-addr=127.0.0.1:{9810 + number}"]
        cluster.start(name, name, *options, *ports, *more, RUNTIME_NAMESPACE=NAMESPACE, TMPDIR=str(DATA))
    yield
    for name in own:
        assert cluster.started[name].poll() is None, cluster.log(name)[-3000:]
        cluster.stop(name)


def test_merging_deploys_and_reverting_goes_back(
    flux: None, staging: Deployed, production: Deployed, built: Releases, tmp_path: Path
) -> None:
    cluster, clone = production.cluster, Clone(tmp_path)
    followed = Deployed(cluster, production.references, clone.folder, "production")
    followed.name("first")
    clone.commit("Deploy the first release", {})
    with hosting(tmp_path) as address:
        follow = (ROOT / "deploy/kubernetes/gitops/flux.yaml").read_text(encoding="utf-8")
        follow = follow.replace("https://github.com/OWNER/REPOSITORY.git", f"{address}/origin.git")
        cluster.kubectl("apply", "--filename=-", text=follow.replace("interval: 1m", "interval: 2s"))
        wait_for("both overlays are applied", lambda: sum(map(is_ready, cluster.get(*KUSTOMIZATIONS))) == 2)
        with Clients(production.url, built.example) as clients:
            followed.name("second")
            clone.commit("Deploy the second release", {})
            production.wait_for_pods(2, "second")
            clone.git("revert", "--no-edit", "HEAD")
            clone.git("push", "--quiet", "origin", "HEAD")
            production.wait_for_pods(2, "first")
        assert clients.failed == []
