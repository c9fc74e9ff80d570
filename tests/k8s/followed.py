"""A repository that Flux follows: a bare one behind Git's own HTTP server, and Flux' two controllers on the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import ROOT
from k8s.cluster import SERVER, Cluster, is_ready, wait_for
from k8s.released import Deployed, add
from k8s.watched import define
from release.hub import Clone

from mlops.release import deploy

NAMESPACE = "flux-system"
STORAGE = f"{SERVER}:9790"
# as deploy/kubernetes/README.md asks; and an overlay that waits for another one asks every second, not every 30
OPTIONS = ("--feature-gates=CancelHealthCheckOnNewRevision=true", "--requeue-dependency=1s")


class Git(BaseHTTPRequestHandler):
    """Hands every request on to Git's own server program."""

    root: Path

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "yes",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": address.path,
            "QUERY_STRING": address.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 its name

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


@contextlib.contextmanager
def flux(cluster: Cluster, folder: Path) -> Iterator[None]:
    """The resources of Flux, and its controllers, which run beside the nodes."""
    define(cluster, "flux")
    cluster.kubectl("create", "namespace", NAMESPACE)
    own = {
        "source-controller": (
            f"--storage-path={folder}",
            f"--storage-addr={STORAGE}",
            f"--storage-adv-addr={STORAGE}",
        ),
        "kustomize-controller": OPTIONS,
    }
    for name, options in own.items():
        cluster.start(name, name, "--metrics-addr=0", "--health-addr=0", *options, RUNTIME_NAMESPACE=NAMESPACE)
    for name in own:
        cluster.wait_until_ready(name, lambda name=name: "Starting workers" in cluster.log(name))
    yield
    for name in own:
        assert cluster.started[name].poll() is None, cluster.log(name)[-3000:]


class Followed:
    """`deploy/` in a repository, which Flux follows as deploy/kubernetes/gitops/flux.yaml says."""

    def __init__(self, cluster: Cluster, references: dict[str, str], folder: Path) -> None:
        self.cluster, self.references = cluster, references
        self.clone = Clone(folder)
        self.kubernetes = self.clone.folder / "deploy/kubernetes"
        shutil.copytree(ROOT / "deploy", self.clone.folder / "deploy")
        self.requests = map(str, count())

    def follow(self, address: str) -> None:
        """What a user applies, who has entered the name of the repository; it is asked for news more often."""
        text = (self.kubernetes / "gitops/flux.yaml").read_text(encoding="utf-8")
        text = text.replace("https://github.com/OWNER/REPOSITORY.git", f"{address}/origin.git")
        self.cluster.kubectl("apply", "--filename=-", text=text.replace("interval: 1m", "interval: 2s"))

    def add(self, overlay: str, component: str) -> str:
        """Commit a component of an overlay, and let Flux not wait for it; the commit, when it is applied."""
        self.set(overlay, wait=False)
        add(self.kubernetes / "overlays" / overlay, f"../../components/{component}")
        commit = self.clone.commit(f"Add {component} to {overlay}", {})
        self.wait_until_applied(commit, overlay)
        return commit

    def replace(self, path: str, old: str, new: str) -> str:
        """Commit another text in a file of deploy/kubernetes; the commit."""
        text = (self.kubernetes / path).read_text(encoding="utf-8")
        assert old in text
        (self.kubernetes / path).write_text(text.replace(old, new), encoding="utf-8")
        return self.clone.commit(f"Change {path}", {})

    def release(self, name: str) -> str:
        """Commit what the pull request of a release changes; the commit."""
        with contextlib.chdir(self.clone.folder):
            deploy.write(self.references[name])
        return self.clone.commit(f"Deploy the {name} release", {})

    def revert(self, commit: str = "HEAD") -> str:
        """Revert a commit; the commit that does so."""
        self.clone.git("revert", "--no-edit", commit)
        self.clone.git("push", "--quiet", "origin", "HEAD")
        return self.clone.git("rev-parse", "HEAD")

    def kustomization(self, overlay: str) -> Any:
        return self.cluster.get("kustomization", f"model-{overlay}", f"--namespace={NAMESPACE}")

    def set(self, overlay: str, **settings: bool) -> None:
        """Change how Flux follows an overlay."""
        options = (f"--namespace={NAMESPACE}", "--type=merge", f"--patch={json.dumps({'spec': settings})}")
        self.cluster.kubectl("patch", "kustomization", f"model-{overlay}", *options)

    def wait_until_applied(self, commit: str, *overlays: str) -> None:
        for overlay in overlays:

            def applied(overlay: str = overlay) -> bool:
                found = self.kustomization(overlay)
                # the revision is written after the condition
                return is_ready(found) and found["status"].get("lastAppliedRevision", "").endswith(commit)

            wait_for(f"{overlay} is as {commit}", applied)

    def reconcile(self, overlay: str) -> None:
        """Let Flux compare an overlay with the cluster now, and not within ten minutes, as `flux reconcile` does."""
        request = next(self.requests)
        annotation = f"reconcile.fluxcd.io/requestedAt={request}"
        options = (f"--namespace={NAMESPACE}", "--overwrite", annotation)
        self.cluster.kubectl("annotate", "kustomization", f"model-{overlay}", *options)

        def handled() -> bool:
            found = self.kustomization(overlay)["status"]
            return bool(found.get("lastHandledReconcileAt") == request)

        wait_for(f"{overlay} is compared", handled)


@pytest.fixture(scope="session")
def followed(staging: Deployed, production: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    """Both overlays with the first release, by Flux."""
    folder = tmp_path_factory.mktemp("followed")
    found = Followed(staging.cluster, staging.references, folder)
    with hosting(folder) as address, flux(staging.cluster, tmp_path_factory.mktemp("sources")):
        commit = found.release("first")
        found.follow(address)
        found.wait_until_applied(commit, "staging", "production")
        yield found
