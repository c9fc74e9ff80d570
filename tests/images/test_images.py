"""The image of a release: what it holds, how it runs, and that the same commit makes the same layers."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from conftest import ROOT, Project
from making import BASE, PATIENCE, build, clone, serving

from mlops.core.errors import UserError
from mlops.inference import contract, provenance, runtime
from mlops.release import builder as tools
from mlops.release import image as images
from mlops.release import smoke

HELD = "/opt/service"


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    """What podman may do here, what images are built on, and where uv is."""
    with pytest.MonkeyPatch.context() as here:
        here.setenv("CONTAINERS_CONF", str(ROOT / "build/tools/images/containers.conf"))
        here.setenv("BASE_IMAGE", BASE)
        here.setenv("BUILDER", "podman")
        here.setenv("PATH", f"{ROOT / '.uv/bin'}{os.pathsep}{os.environ['PATH']}")
        for name in ("IMAGE", "PLATFORM", "SERVICE_TOKEN"):
            here.delenv(name, raising=False)
        yield


@pytest.fixture
def inside(done: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project that was built, as the working directory."""
    monkeypatch.chdir(done.folder)
    return done


@pytest.fixture(scope="module")
def rehearsal(machine: None, done: Project) -> str:
    """What `make release-check` says of the first release; the other tests look at the image that it leaves."""
    done.git("tag", "v1.0.0")
    return done.run(sys.executable, "-m", "mlops.release.check").stdout


@pytest.fixture(scope="module")
def image(rehearsal: str) -> Iterator[str]:
    """The image of the first release."""
    yield tools.inspect("podman", "model:1.0.0").id
    tools.tool("podman", "rmi", "--force", "model:1.0.0")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def content(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image holds beside its base."""
    folder = tmp_path_factory.mktemp("content")
    tools.copy_out("podman", image, HELD, folder)
    return folder


@pytest.fixture(scope="module")
def one(image: str) -> Iterator[smoke.Running]:
    """A running container of it, which several tests ask."""
    with smoke.running("podman", image, token="") as found:
        yield found


def test_a_release_is_rehearsed_and_its_figures_are_reported(rehearsal: str, done: Project) -> None:
    steps = ["clean", "lock", "gate", "image", "start", "smoke", "stop"]
    assert [line.split()[0] for line in rehearsal.splitlines()[:7]] == steps
    assert "every rule holds that needs no other model" in rehearsal
    facts = json.loads(done.read("build/release/check.json"))
    assert f"1.0.0 can be released: model {facts['model_md5']}" in rehearsal
    assert facts["rows"] == 143
    assert facts["difference"] <= 1e-5
    assert 0 < facts["cold_start_s"] < smoke.PATIENCE


def test_an_image_that_nobody_has_started_and_asked_is_not_pushed(image: str, done: Project) -> None:
    report = done.folder / "build/release/check.json"
    facts = json.loads(report.read_text(encoding="utf-8"))
    names = {"GITHUB_REF_NAME": "v1.0.0", "GITHUB_REF_TYPE": "tag", "GITHUB_REPOSITORY": "ada/model"}
    names |= {"GITHUB_ACTOR": "ada", "GITHUB_TOKEN": "none", "REGISTRY": "127.0.0.1:9"}
    command = (sys.executable, "-m", "mlops.release.publish", "push")
    try:
        facts["image"]["layers"][0] = "sha256:another base"
        report.write_text(json.dumps(facts), encoding="utf-8")
        said = done.run(*command, check=False, **names).stdout
        assert "model:1.0.0 is not the one that `make release-check` tested" in said, said
        report.unlink()
        assert "check.json is missing, so this image was not tested" in done.run(*command, check=False, **names).stdout
    finally:
        facts["image"]["layers"] = tools.inspect("podman", image).layers
        report.write_text(json.dumps(facts), encoding="utf-8")
    # with the right one it goes on, to a registry that is not there
    assert "127.0.0.1:9" in done.run(*command, check=False, **names).stdout


def test_the_image_says_what_it_is(image: str, done: Project) -> None:
    found = tools.inspect("podman", image)
    labels = found.config["Labels"]
    assert labels["org.opencontainers.image.version"] == "1.0.0"
    assert labels["org.opencontainers.image.revision"] == done.git("rev-parse", "HEAD")
    assert labels[images.MODEL_LABEL] == json.loads(done.read("models/release.json"))["model_md5"]
    assert found.config["User"] == "10001:10001"
    assert "3000/tcp" in found.config["ExposedPorts"]
    assert found.config["Healthcheck"]["Test"][0] == "CMD"


def test_it_holds_the_service_the_model_and_no_data(content: Path) -> None:
    source = content / "bento/src"
    served = {path.name for path in (source / "models/service").iterdir()}
    assert served == {"example.json", "explanation.npz", "explanation.onnx", "model.onnx", "schema.json"}
    assert not list((source / "models").glob("*.skops"))
    assert {path.name for path in source.iterdir()} == {"bentofile.yaml", "mlops", "models", "project"}
    packages = {path.name for path in (content / "dependencies").iterdir()}
    assert {"bentoml", "numpy", "onnxruntime"} <= packages
    assert not packages & {"sklearn", "pandas", "scipy", "pyarrow", "skops", "onnx", "mlflow", "dvc", "pip", "uv"}
    assert not [path for path in content.rglob("*") if path.suffix in (".parquet", ".csv", ".env", ".db", ".whl")]


def test_nothing_of_the_machine_that_built_it_is_inside(content: Path, done: Project) -> None:
    traces = [str(done.folder).encode(), str(ROOT).encode(), sys.prefix.encode(), str(images.FOLDER).encode()]
    own = [path for path in (content / "bento").rglob("*") if path.is_file() and path.name != "bentofile.yaml"]
    compiled = list((content / "dependencies/bentoml").rglob("*.pyc"))
    assert own
    assert compiled
    for path in [*own, *compiled]:
        assert not [trace for trace in traces if trace in path.read_bytes()], path


def test_it_runs_as_nobody_in_particular_and_can_write_nothing(one: smoke.Running) -> None:
    def inside(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["podman", "exec", one.container, *command], capture_output=True, text=True, check=False)

    assert inside("id", "-u").stdout.strip() == "10001"
    assert inside("touch", "/tmp/a").returncode == 0  # noqa: S108 its own
    for path in ("/a", "/etc/a", f"{HELD}/a"):
        assert "Read-only file system" in inside("touch", path).stderr
    assert inside("sh", "-c", "grep CapEff /proc/1/status").stdout.split()[1] == "0" * 16
    assert "python3 -m mlops.serving.start" in inside("sh", "-c", "tr '\\0' ' ' </proc/1/cmdline").stdout


def test_it_logs_its_predictions_into_a_volume(image: str, inside: Project, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    options = ["--env", "PREDICTION_LOG=/log", "--volume", f"{folder}:/log"]
    with smoke.running("podman", image, token="", options=options) as one:
        answer = requests.post(
            f"{one.url}/predict",
            json={"rows": [contract.read().example]},
            headers={"X-Request-ID": "order-7"},
            timeout=60,
        )
        assert answer.status_code == 200
        smoke.stop(one)
    (sealed,) = folder.iterdir()
    assert sealed.name.endswith(".jsonl.gz")
    assert json.loads(gzip.decompress(sealed.read_bytes()))["request_id"] == "order-7"


def test_its_health_check_passes_while_it_runs(one: smoke.Running) -> None:
    tools.tool("podman", "healthcheck", "run", one.container)


def test_sagemaker_starts_it_with_a_word_and_finds_it_healthy_on_its_port(image: str, inside: Project) -> None:
    options = [*smoke.HARDENED, "--publish", "127.0.0.1::8080", "--env", "SERVING_PROTOCOL=sagemaker"]
    container = tools.tool("podman", "run", "--detach", *options, image, "serve").splitlines()[-1]
    try:
        address = tools.tool("podman", "port", container, "8080/tcp").strip()
        end = time.monotonic() + PATIENCE
        while "ready" not in (found := asked(f"http://{address}/ping")):
            assert time.monotonic() < end, found
            time.sleep(0.1)
        body = {"instances": [contract.read().example]}
        answer = requests.post(f"http://{address}/invocations", json=body, timeout=60).json()
        assert answer["predictions"][0]["prediction"] == "benign"
        tools.tool("podman", "healthcheck", "run", container)
    finally:
        tools.tool("podman", "rm", "--force", container)


def test_cloud_run_and_knative_name_a_port_start_it_from_nothing_and_stop_it_by_signal(
    image: str, inside: Project
) -> None:
    named = {"PORT": "8080", "K_SERVICE": "model", "K_CONFIGURATION": "model", "K_REVISION": "model-00001"}
    variables = [word for name, value in named.items() for word in ("--env", f"{name}={value}")]
    start = time.monotonic()
    options = [*smoke.HARDENED, "--publish", "127.0.0.1::8080", *variables]
    container = tools.tool("podman", "run", "--detach", *options, image).splitlines()[-1]
    try:
        address = tools.tool("podman", "port", container, "8080/tcp").strip()
        while (found := asked(f"http://{address}/readyz")) != "ready":
            assert time.monotonic() < start + PATIENCE, found
            time.sleep(0.1)
        print(f"ready after {time.monotonic() - start:.1f} s")
        answer = requests.post(f"http://{address}/predict", json={"rows": [contract.read().example]}, timeout=60)
        assert answer.json()["predictions"][0]["prediction"] == "benign"
        tools.tool("podman", "stop", "--time", "10", container)  # as Cloud Run waits
        assert tools.tool("podman", "inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"
    finally:
        tools.tool("podman", "rm", "--force", container)


def asked(url: str) -> str:
    """Whether a probe succeeds, in a word."""
    try:
        return "ready" if requests.get(url, timeout=5).status_code == 200 else "not yet"
    except requests.RequestException as error:
        return str(error)


def test_without_root_file_system_protection_it_still_cannot_change_itself(image: str) -> None:
    command = ["podman", "run", "--rm", "--entrypoint", "touch", image, f"{HELD}/bento/src/models/service/model.onnx"]
    assert "Permission denied" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_a_request_under_way_is_answered_when_it_is_stopped(image: str, inside: Project) -> None:
    body = json.dumps({"rows": [contract.read().example]}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with smoke.running("podman", image, token="") as one:
        address = urlsplit(one.url)
        with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + body[:10])
            stopping = threading.Thread(target=smoke.stop, args=(one,))
            stopping.start()
            time.sleep(1)
            assert stopping.is_alive()
            connection.sendall(body[10:])
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        stopping.join()
        assert tools.tool("podman", "inspect", "--format", "{{.State.ExitCode}}", one.container) == "0"


def test_another_model_in_the_image_is_refused_with_the_expected_hash(image: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"another model")
    (tmp_path / "Containerfile").write_text(f"FROM {image}\nCOPY model.onnx {images.MODEL}/\n")
    altered = tools.build("podman", tmp_path)
    expected = tools.tool("podman", "run", "--rm", "--entrypoint", "md5sum", image, f"{images.MODEL}/model.onnx")
    with pytest.raises(UserError, match="is not the released file") as error, smoke.running("podman", altered):
        pass
    assert f"expected {expected.split()[0]}" in str(error.value)
    tools.tool("podman", "rmi", "--force", altered)


def test_the_same_commit_makes_the_same_layers_at_another_place_with_another_builder(
    image: str, done: Project, tmp_path: Path
) -> None:
    there = clone(done, tmp_path)
    again = tools.inspect("buildah", build(there, "buildah", IMAGE="again"))
    assert again.layers == tools.inspect("podman", image).layers
    assert "again:1.0.0" in tools.tool("podman", "images", "--format", "{{.Repository}}:{{.Tag}}")

    (there.folder / "README.md").write_text("Another one.\n")
    there.commit("Change nothing that is served")
    later = tools.inspect("podman", build(there, IMAGE="again"))
    *dependencies, bento = again.layers
    assert later.layers[:-1] == dependencies  # not pulled again
    assert later.layers[-1] != bento  # it names the commit
    for each in (again, later):
        tools.tool("podman", "rmi", "--force", each.id)


@pytest.mark.parametrize("builder", ["podman", "buildah"])
def test_what_comes_back_from_a_registry_is_what_was_pushed(
    builder: tools.Builder, image: str, registry: str, inside: Project, tmp_path: Path
) -> None:
    name = f"{registry}/ada/{builder}"
    digest = tools.push(builder, image, f"{name}:1.0.0")
    assert tools.push(builder, image, f"{name}:again") == digest
    pulled = tools.pull(builder, f"{name}@{digest}")
    assert tools.inspect(builder, pulled).layers == tools.inspect(builder, image).layers
    tools.copy_out(builder, pulled, f"{images.SOURCE}/models", tmp_path)
    provenance.check(provenance.read(), tmp_path / "service")
    with smoke.running("podman", f"{name}@{digest}") as one:
        assert smoke.ask(one, provenance.read())["rows"] == 143


def test_a_registry_that_is_gone_or_knows_nothing_is_reported_in_a_sentence(image: str, registry: str) -> None:
    with pytest.raises(UserError, match=r"podman push failed: Error: .* connection refused"):
        tools.push("podman", image, "127.0.0.1:1/ada/model:1.0.0")
    with pytest.raises(UserError, match="manifest unknown"):
        tools.pull("podman", f"{registry}/ada/model@sha256:{'0' * 64}")


def test_an_image_for_arm64_is_built_here_and_predicts_the_same_there(inside: Project, tmp_path: Path) -> None:
    found = tools.inspect("podman", build(inside, PLATFORM="linux/arm64", BASE_IMAGE=BASE.replace("amd64", "arm64")))
    assert found.architecture == "arm64"
    assert "model:1.0.0-arm64" in tools.tool("podman", "images", "--format", "{{.Repository}}:{{.Tag}}")
    root = tmp_path / "root"
    tools.copy_out("podman", found.id, "/", root)
    libraries = [path for path in (root / HELD[1:]).rglob("*.so*") if path.is_file()]
    assert len(libraries) > 20
    # the machine's number in an ELF file: 183 is AArch64
    assert {path.read_bytes()[18:20] for path in libraries} == {(183).to_bytes(2, "little")}

    # ONNX Runtime asks what the processor can do; the emulator would show it this machine's
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(
        "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd08\n"
    )
    ask = (
        "import json, numpy as np, platform\nfrom mlops.inference import runtime\n"
        "contract, model = runtime.load()\n"
        "answer = model({name: np.array([value]) for name, value in contract.example.items()})\n"
        "print(json.dumps([platform.machine(), *answer.predicted.tolist(), *answer.probabilities[0].tolist()]))"
    )
    held = root / HELD[1:]
    done = subprocess.run(
        ["qemu-aarch64-static", "-L", root, root / "usr/bin/python3", "-c", ask],
        cwd=held / "bento/src",
        env={"PYTHONPATH": f"{held / 'dependencies'}:{held / 'bento/src'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    machine, predicted, *probabilities = json.loads(done.stdout)
    known, model = runtime.load()
    here = model({name: np.array([value]) for name, value in known.example.items()})
    assert (machine, predicted) == ("aarch64", here.predicted[0])
    assert probabilities == pytest.approx(here.probabilities[0].tolist(), abs=1e-12)
    tools.tool("podman", "rmi", "--force", found.id)


def test_a_model_that_does_not_convert_is_served_by_scikit_learn(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = clone(done, tmp_path)
    there.run("cp", "-r", "examples/reviews/.", ".")
    there.run("dvc", "repro", "export", "evaluate")
    there.commit("Reviews")
    found = build(there, IMAGE="reviews")
    monkeypatch.chdir(there.folder)
    assert contract.read().runtime == "scikit-learn"
    with smoke.running("podman", found) as one:
        assert smoke.ask(one, provenance.read())["difference"] <= 1e-5
    tools.copy_out("podman", found, f"{HELD}/dependencies", tmp_path / "held")
    packages = {path.name for path in (tmp_path / "held").iterdir()}
    assert {"sklearn", "pandas", "skops"} <= packages
    assert "onnxruntime" not in packages
    tools.tool("podman", "rmi", "--force", found)
