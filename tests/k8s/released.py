"""What the tests on a cluster share: releases in a registry, `deploy/` that names one of them, and clients."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT, Project
from images.making import BASE, build, serving
from k8s.cluster import Cluster, is_ready, wait_for
from k8s.nodes import running

from mlops.release import builder, deploy
from mlops.release.image import MODEL

TOKEN = "a token of the test"
MODELS = ["--selector=app.kubernetes.io/name=model"]
# what a release may be, beside the first one: the second is as good; one asks for a field that no client sends, and one
# does not start at all
VARIANTS = {
    "second": "LABEL another=release\n",
    "demanding": f"COPY schema.json {MODEL}/\nCOPY release.json {MODEL}/../\n",
    "crashing": 'ENTRYPOINT ["false"]\n',
}


class Releases(NamedTuple):
    """Images that were built, and what they are asked."""

    images: dict[str, str]
    example: dict[str, Any]


@pytest.fixture(scope="session")
def built(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases]:
    """The image of `make image`, and variants of it."""
    with pytest.MonkeyPatch.context() as here:
        here.setenv("CONTAINERS_CONF", str(ROOT / "build/tools/images/containers.conf"))
        here.setenv("BASE_IMAGE", BASE)
        here.setenv("PATH", f"{ROOT / '.uv/bin'}{os.pathsep}{os.environ['PATH']}")
        images = {"first": build(done, IMAGE="on-a-cluster")}
        contract = json.loads(done.read("models/service/schema.json"))
        contract["fields"].append({"name": "age", "kind": "numeric", "nullable": False, "only_for_features": True})
        demanding = {"schema.json": json.dumps(contract)}
        release = json.loads(done.read("models/release.json"))
        release["files"]["schema.json"] = hashlib.md5(demanding["schema.json"].encode()).hexdigest()  # noqa: S324
        demanding["release.json"] = json.dumps(release)
        for name, change in VARIANTS.items():
            context = tmp_path_factory.mktemp(name)
            for file, content in demanding.items():
                (context / file).write_text(content, encoding="utf-8")
            (context / "Containerfile").write_text(f"FROM {images['first']}\n{change}", encoding="utf-8")
            images[name] = builder.build("podman", context)
        yield Releases(images, json.loads(done.read("models/service/example.json")))
        for image in reversed(images.values()):
            builder.tool("podman", "rmi", "--force", image)


@pytest.fixture(scope="session")
def cluster(built: Releases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="session")
def references(cluster: Cluster, built: Releases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Release → name and digest in a registry that the nodes reach."""
    with serving(tmp_path_factory.mktemp("registry")) as address:
        name = f"{address}/ada/model"
        found = {
            each: f"{name}@{builder.push('podman', image, f'{name}:{each}')}" for each, image in built.images.items()
        }
        yield found | {"missing": f"{name}@sha256:{'1' * 64}"}


class Deployed:
    """An overlay of `deploy/` on the cluster, with components, and the release that it names."""

    def __init__(
        self, cluster: Cluster, references: dict[str, str], folder: Path, overlay: str, *components: str
    ) -> None:
        self.cluster, self.references, self.folder = cluster, references, folder
        self.namespace = f"model-{overlay}"
        self.overlay = folder / "deploy/kubernetes/overlays" / overlay
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        if components:
            add(self.overlay, *components)

    def name(self, release: str) -> None:
        """Write a release into the overlay, as the pull request of a release does."""
        with contextlib.chdir(self.folder):
            deploy.write(self.references[release])

    def apply(self, release: str) -> None:
        """Deploy a release as deploy/kubernetes/README.md tells it."""
        self.name(release)
        self.cluster.kubectl("apply", f"--kustomize={self.overlay}")

    def kubectl(self, *arguments: str, check: bool = True, text: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, check=check, text=text)

    def get(self, *arguments: str) -> Any:
        return self.cluster.get(f"--namespace={self.namespace}", *arguments)

    def pods(self, release: str | None = None) -> list[Any]:
        """Those that are ready and stay."""
        found = [
            pod for pod in self.get("pods", *MODELS) if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        ]
        image = self.references[release] if release else ""
        return [pod for pod in found if image in pod["spec"]["containers"][0]["image"]]

    def wait_for_pods(self, number: int, release: str | None = None) -> list[Any]:
        """Wait until so many are ready, of one release, and no others are there."""

        def all_ready() -> list[Any]:
            found = self.pods(release)
            return found if len(found) == number == len(self.get("pods", *MODELS)) else []

        found: list[Any] = wait_for(f"{number} pods of {release or 'any release'}", all_ready)
        return found

    @property
    def url(self) -> str:
        return f"http://{self.get('service', 'model')['spec']['clusterIP']}"

    def authorize(self) -> None:
        """Create the Secret that the pods wait for."""
        self.kubectl("create", "secret", "generic", "model-token", f"--from-literal=SERVICE_TOKEN={TOKEN}")


def add(overlay: Path, *components: str) -> None:
    """Write components into an overlay that has none."""
    lines = "".join(f"  - {component}\n" for component in components)
    with (overlay / "kustomization.yaml").open("a", encoding="utf-8") as file:
        file.write(f"components:\n{lines}")


def overlay(name: str, number: int) -> Any:
    """A fixture: the overlay as it is, with the first release in so many pods."""

    @pytest.fixture(scope="session", name=name)
    def deployed(cluster: Cluster, references: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Deployed:
        found = Deployed(cluster, references, tmp_path_factory.mktemp(name), name)
        found.apply("first")
        found.authorize()
        found.wait_for_pods(number, "first")
        return found

    return deployed


staging = overlay("staging", 1)
production = overlay("production", 2)


def ask(url: str, body: dict[str, Any], token: str = TOKEN, patience: float = 10) -> tuple[int, str]:
    """Status and content of an answer, over a connection of its own; status 0 where there is none."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}/predict", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=patience) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, repr(error)


class Clients:
    """Clients that ask one request after the other, each over a new connection, until they are stopped."""

    def __init__(self, url: str, body: dict[str, Any], number: int = 2, pause: float = 0.05) -> None:
        self.url, self.body, self.pause = url, body, pause
        self.answers: list[tuple[float, int, str]] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.go_on) for _ in range(number)]

    def __enter__(self) -> Clients:
        for each in self.threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for each in self.threads:
            each.join()

    def go_on(self) -> None:
        while not self.stopped.wait(self.pause):
            began = time.monotonic()
            self.answers.append((began, *ask(self.url, self.body)))

    @property
    def failed(self) -> list[tuple[float, int, str]]:
        return [each for each in self.answers if each[1] != 200]

    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.answers)
