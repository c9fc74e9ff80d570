"""`release.yaml` run by act to its end, with a real builder and a real registry: refused half way, then run again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import ROOT
from making import BASE, serving
from workflows.machine import Run
from workflows.releasing import REPOSITORY, Releasing, releasing

from mlops.core.errors import UserError
from mlops.core.files import md5
from mlops.inference import provenance
from mlops.release import publish
from mlops.release.oci import TYPES

LIMITS = str(ROOT / "build/tools/images/containers.conf")
IMAGE = "published"  # what it is called here, so that no other image is replaced


class Line:
    """A line to a server that is cut after so many bytes have gone up."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.behind = (host, int(port))
        self.left: float = float("inf")
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                here, _ = self.socket.accept()
                there = socket.create_connection(self.behind)
                for source, target, up in ((here, there, True), (there, here, False)):
                    threading.Thread(target=self._carry, args=(source, target, up), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                if up:
                    self.left -= len(part)
                if self.left < 0:
                    break
                target.sendall(part)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Registry:
    """What the registry holds of the repository, asked past the line."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}/v2/{REPOSITORY}"

    @property
    def tags(self) -> set[str]:
        answer = requests.get(f"{self.url}/tags/list", timeout=60)
        return set(answer.json()["tags"] or []) if answer.ok else set()

    def get(self, path: str) -> bytes:
        answer = requests.get(f"{self.url}/{path}", headers={"Accept": ", ".join(TYPES)}, timeout=60)
        answer.raise_for_status()
        return answer.content

    def labels(self, reference: str) -> dict[str, str]:
        config = json.loads(self.get(f"manifests/{reference}"))["config"]["digest"]
        labels: dict[str, str] = json.loads(self.get(f"blobs/{config}"))["config"]["Labels"]
        return labels


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with serving(tmp_path_factory.mktemp("registry")) as address:
        line = Line(address)
        yield line
        line.socket.close()


@pytest.fixture(scope="module")
def registry(line: Line) -> Registry:
    return Registry(":".join(map(str, line.behind)))


@pytest.fixture(scope="module")
def project(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releasing]:
    with releasing(tmp_path_factory.mktemp("release")) as found:
        yield found
    # by its id, which takes the names from the registry along
    for name in (f"{IMAGE}:1.0.0", f"{line.address}/{REPOSITORY}"):
        listed = subprocess.run(["podman", "images", "--quiet", name], capture_output=True, text=True, check=False)
        for identity in set(listed.stdout.split()):
            subprocess.run(["podman", "rmi", "--force", identity], capture_output=True, check=False)


@pytest.fixture(scope="module")
def tag(project: Releasing, line: Line, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Push a tag; the registry, an MLflow and a builder are there."""
    journal = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"

    def push(name: str) -> Run:
        return project.tag(
            name,
            *("--var", f"MLFLOW_TRACKING_URI={journal}"),
            REGISTRY=line.address,
            IMAGE=IMAGE,
            BUILDER="podman",
            BASE_IMAGE=BASE,
            CONTAINERS_CONF=LIMITS,
        )

    return push


@pytest.fixture(scope="module")
def refused(tag: Any, line: Line) -> Run:
    """The first attempt: the registry takes a part of the image, and then nothing."""
    line.left = 20e6
    try:
        run: Run = tag("v1.0.0")
    finally:
        line.left = float("inf")
    return run


def test_a_push_that_is_refused_half_way_publishes_nothing(
    refused: Run, project: Releasing, registry: Registry
) -> None:
    assert refused.jobs["verify"] == "success", refused.log
    assert refused.jobs["publish"] == "failure", refused.log
    assert "Traceback" not in refused.log
    assert registry.tags == set()
    assert not (refused.artifacts / "attested").exists()
    assert project.hub.changes == []
    assert project.work.git("ls-remote", "origin", "refs/heads/deploy/*") == ""
    assert project.hub.token not in refused.log


@pytest.fixture(scope="module")
def again(refused: Run, tag: Any) -> Run:
    """The same tag, run again."""
    run: Run = tag("v1.0.0")
    return run


@pytest.fixture(scope="module")
def digest(again: Run, registry: Registry) -> str:
    """What the version names."""
    assert set(again.jobs.values()) == {"success"}, again.log
    assert set(again.jobs) == {"verify", "publish", "announce", "register"}
    return f"sha256:{hashlib.sha256(registry.get('manifests/1.0.0')).hexdigest()}"


def test_run_again_the_version_names_the_image_of_the_reviewed_model(
    digest: str, project: Releasing, registry: Registry
) -> None:
    commit = project.work.git("rev-parse", "HEAD")
    assert registry.tags == {"1.0.0", f"commit-{commit}"}
    assert registry.get(f"manifests/{digest}") == registry.get(f"manifests/commit-{commit}")
    labels = registry.labels(digest)
    assert labels["org.opencontainers.image.version"] == "1.0.0"
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["mlops.model-md5"] == md5(project.work.folder / "models/model.skops")


def test_the_digest_is_attested_with_where_it_comes_from_and_what_is_in_it(
    project: Releasing, digest: str, again: Run, line: Line
) -> None:
    image = f"{line.address}/{REPOSITORY}@{digest}"
    attested = (again.artifacts / "attested").read_text(encoding="utf-8").splitlines()
    (wheel,) = project.hub.assets
    assert attested == [
        f"sbom of {image}",
        image,
        f"{wheel}@sha256:{hashlib.sha256(project.hub.assets[wheel]).hexdigest()}",
    ]
    assert wheel == "model_of_diagnosis-1.0.0-py3-none-any.whl"
    bill = json.loads((again.artifacts / "sbom.json").read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    names = {each["name"] for each in bill["components"]}
    assert {"bentoml", "onnxruntime", "numpy"} <= names
    assert not {"pandas", "scikit-learn", "dvc", "mlflow", "pytest"} & names
    log = again.log
    assert log.index("Success - Main actions/attest") < log.index("Main make --file=Makefile release-tag")


def test_the_release_and_the_pull_request_name_the_digest(digest: str, project: Releasing, line: Line) -> None:
    image = f"{line.address}/{REPOSITORY}@{digest}"
    (release,) = project.hub.releases
    assert release["tag_name"] == "v1.0.0"
    assert image in release["body"]
    assert "<code>recall</code>" in release["body"]
    assert "This is the first release." in release["body"]
    (pull,) = [pull for pull in project.hub.pulls if pull["state"] == "open"]
    assert (pull["title"], pull["head"]["ref"]) == ("Deploy v1.0.0", "deploy/v1.0.0")
    work = project.work
    work.git("fetch", "--quiet", "origin", "deploy/v1.0.0", "main")
    changed = work.git("diff", "--name-only", "origin/main", "origin/deploy/v1.0.0").splitlines()
    assert changed
    assert all(name.startswith("deploy/") for name in changed), changed
    assert f"MODEL_IMAGE={image}" in work.git("show", "origin/deploy/v1.0.0:deploy/compose/.env")
    assert project.hub.complaints == []


def test_the_model_is_in_the_registry_of_mlflow(digest: str, again: Run) -> None:
    assert "v1.0.0 is version 1 of model in MLflow, and its champion" in again.log


def test_another_model_than_the_reviewed_one_is_noticed_in_what_the_registry_gives_back(
    digest: str, again: Run, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINERS_CONF", LIMITS)
    reference = f"{line.address}/{REPOSITORY}@{digest}"
    with zipfile.ZipFile(again.artifacts / "release.zip") as archive:
        archive.extract("release.json", tmp_path)
    release = provenance.read(tmp_path / "release.json")
    publish.check("podman", reference, release)
    other = "0" * 32
    for different, message in (
        ({"files": release.files | {"model.onnx": other}}, f"is not the released file: .* expected {other}"),
        ({"service_md5": f"{other}.dir"}, f"holds models/service with the MD5 .*, not {other}.dir"),
        ({"version": "9.9.9"}, "is labelled as another release"),
    ):
        with pytest.raises(UserError, match=message):
            publish.check("podman", reference, release.model_copy(update=different))


def test_the_token_is_neither_in_the_log_nor_left_on_the_machine(digest: str, again: Run, project: Releasing) -> None:
    assert project.hub.token not in again.log
    left = [Path.home() / ".docker/config.json", Path(f"/run/containers/{os.getuid()}/auth.json")]
    secret = base64.b64encode(f"ada:{project.hub.token}".encode()).decode()
    assert not [path for path in left if path.exists() and secret in path.read_text(encoding="utf-8")]
