"""Images, through docker, podman or buildah: built, inspected, pushed, pulled and opened by the same few functions.

An image is named by its id or a reference, a published one by its digest. The variable BUILDER chooses a tool; without
it the first that works is taken.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from mlops.core.errors import UserError

Builder = Literal["docker", "podman", "buildah"]
BUILDERS: tuple[Builder, ...] = ("docker", "podman", "buildah")
VARIABLE = "BUILDER"

# podman and buildah: a layer for each instruction, the format that has a health check, the same bytes at any time
EXACT = ("--layers", "--format", "docker", "--timestamp", "0")


class Image(NamedTuple):
    """What is known of an image on this machine."""

    id: str
    architecture: str
    layers: list[str]
    """Digests of the unpacked layers, from the base upwards."""
    config: dict[str, Any]
    """`User`, `Env`, `Labels`, `Entrypoint`, `WorkingDir`, `Healthcheck`, …"""


def find(runs: bool = False) -> Builder:
    """The tool to build with.

    Parameters
    ----------
    runs : bool, default=False
        Whether it must run containers, too; buildah does not.

    Raises
    ------
    UserError
        Where none works, or not the one that BUILDER names.
    """
    able = [each for each in BUILDERS if not (runs and each == "buildah")]
    names = f"{', '.join(able[:-1])} or {able[-1]}"
    wanted = os.environ.get(VARIABLE, "")
    if wanted and wanted not in able:
        raise UserError(f"{VARIABLE}={wanted} is none of {names}", f"{VARIABLE}={able[0]}")
    for each in able:
        if wanted in ("", each) and works(each):
            return each
    if wanted:
        raise UserError(f"{wanted} does not answer", f"{wanted} info")
    purpose = "builds and runs images" if runs else "builds images"
    none = f"neither {able[0]} " + "".join(f"nor {each} " for each in able[1:])
    raise UserError(f"no tool here {purpose}: {none}works", "install one of them")


def works(builder: Builder) -> bool:
    """Whether a tool is installed and, where it is only a client, its server answers."""
    if shutil.which(builder) is None:
        return False
    ask = [builder, "version", "--format", "{{.Server.Version}}"] if builder == "docker" else [builder, "--version"]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0


def build(
    builder: Builder,
    context: Path,
    *,
    tags: Iterable[str] = (),
    platform: str | None = None,
    arguments: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> str:
    """Build the image of a folder that holds a Containerfile, without any cache, and return its id."""
    options = ["--no-cache", "--file", str(context / "Containerfile")]
    options += [] if builder == "docker" else EXACT
    options += ["--platform", platform] if platform else []
    for tag in tags:
        options += ["--tag", tag]
    for key, value in (arguments or {}).items():
        options += ["--build-arg", f"{key}={value}"]
    for key, value in (labels or {}).items():
        options += ["--label", f"{key}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder) / "id"
        tool(builder, "build", *options, "--iidfile", str(identity), str(context))
        return identity.read_text(encoding="utf-8").strip().removeprefix("sha256:")


def inspect(builder: Builder, image: str) -> Image:
    """What is known of an image that is here."""
    if builder == "buildah":
        found = json.loads(tool(builder, "inspect", "--type", "image", image))
        docker = found["Docker"]
        return Image(
            found["FromImageID"], docker["architecture"], docker["rootfs"]["diff_ids"], docker.get("config") or {}
        )
    (found,) = json.loads(tool(builder, "image", "inspect", image))
    config = found.get("Config") or {}
    # podman keeps it outside
    config.setdefault("Healthcheck", found.get("HealthCheck") or found.get("Healthcheck"))
    return Image(found["Id"].removeprefix("sha256:"), found["Architecture"], found["RootFS"]["Layers"], config)


def push(builder: Builder, image: str, reference: str) -> str:
    """Push an image to ``registry/name:tag``, and return the digest that the registry knows it by (``sha256:…``)."""
    if builder == "docker":
        tool(builder, "tag", image, reference)
        tool(builder, "push", "--quiet", reference)
        known = json.loads(tool(builder, "image", "inspect", "--format", "{{json .RepoDigests}}", reference))
        name = repository(reference)
        return next(str(each).partition("@")[2] for each in known if each.startswith(f"{name}@"))
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder) / "digest"
        tool(
            builder, "push", "--quiet", *_plain(reference), "--digestfile", str(digest), image, f"docker://{reference}"
        )
        return digest.read_text(encoding="utf-8").strip()


def pull(builder: Builder, reference: str) -> str:
    """Pull ``registry/name@sha256:…``, whatever is here already, and return the image's id."""
    if builder == "docker":
        tool(builder, "pull", "--quiet", reference)
    else:
        always = ("--policy", "always") if builder == "buildah" else ()
        tool(builder, "pull", "--quiet", *always, *_plain(reference), reference)
    return inspect(builder, reference).id


def copy_out(builder: Builder, image: str, path: str, folder: Path) -> None:
    """Copy what a folder of an image holds into a folder here; the image is not run."""
    folder.mkdir(parents=True, exist_ok=True)
    if builder == "buildah":
        container = tool(builder, "from", image)
        # who is not root may look at it from a user namespace only
        inside = ("buildah", "unshare") if os.geteuid() else ()
        copy = 'cp -R "$(buildah mount "$0")$1/." "$2"'
        try:
            _run(*inside, "sh", "-euc", copy, container, path, str(folder))
        finally:
            tool(builder, "rm", container)
        return
    container = tool(builder, "create", image)
    try:
        tool(builder, "cp", f"{container}:{path}/.", str(folder))
    finally:
        tool(builder, "rm", "--force", container)


def repository(reference: str) -> str:
    """``registry:5000/name`` of ``registry:5000/name:tag`` or ``registry:5000/name@sha256:…``."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"


def is_loopback(reference: str) -> bool:
    """Whether the registry of a reference is on this machine."""
    host = urlsplit(f"//{reference.partition('/')[0]}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _plain(reference: str) -> tuple[str, ...]:
    """Only a registry on this machine is spoken to without TLS; docker knows that by itself."""
    return ("--tls-verify=false",) if is_loopback(reference) else ()


def tool(builder: Builder, *arguments: str) -> str:
    """Run a command of the tool and return what it prints.

    Raises
    ------
    UserError
        With the tool's last words.
    """
    return _run(builder, *arguments)


def _run(*command: str) -> str:
    # docker: BuildKit where it is not the default, no attestation of its own, and the same bytes at any time
    fixed = {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **fixed}, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()]
        error = next((line for line in lines if line.lower().startswith("error")), lines[-1])
        raise UserError(f"{' '.join(command[:2])} failed: {error}")
    return done.stdout.strip()
