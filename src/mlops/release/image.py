"""`make image`: the released model, its service and the locked dependencies, as a Bento and an image.

All that is installed is installed here, for the platform of the image, from the hashes in `uv.lock`; the Containerfile
only adds two archives. The same commit makes the same archives, and so the same layers.
"""

from __future__ import annotations

import os
import platform as machine
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from mlops.core import paths
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import write_json
from mlops.core.hooks import ROOM
from mlops.core.paths import RELEASE
from mlops.inference import contract as contracts
from mlops.inference.computed import check_code
from mlops.inference.contract import Contract
from mlops.inference.provenance import Release
from mlops.release import builder as tools
from mlops.release import dependencies, identity
from mlops.release.archive import pack, precompile

FOLDER = Path("build/image")
CONTAINERFILE, BENTOFILE = Path("Containerfile"), Path("bentofile.yaml")
# in the image
HOME = "opt/service"
PARTS = ("dependencies", "bento")
SOURCE = f"/{HOME}/bento/src"
MODEL = f"{SOURCE}/{paths.SERVICE}"

MODEL_LABEL = "mlops.model-md5"


class Made(NamedTuple):
    """An image that was built here."""

    release: Release
    builder: tools.Builder
    id: str
    reference: str
    """Name and version, by which the tool knows it."""
    platform: str
    megabytes: dict[str, float]
    """Of each archive that was added, unpacked."""


def make(platform: str | None = None, builder: tools.Builder | None = None) -> Made:
    """Build the Bento and the image of what is here.

    Parameters
    ----------
    platform : str, optional
        ``linux/amd64`` or ``linux/arm64``; of this machine by default.
    builder : {'docker', 'podman', 'buildah'}, optional
    """
    native = _native()
    platform = platform or native
    builder = builder or tools.find()
    release = identity.identify()
    write_json(release.model_dump(), RELEASE)
    context = FOLDER / platform.replace("/", "-")
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    requirements = dependencies.export(FOLDER / "requirements.txt", contracts.read())
    dependencies.install(requirements, context / "dependencies", platform)
    dependencies.prune(context / "dependencies")
    bento(release, context / "bento")
    sizes = {}
    for name in PARTS:
        precompile(context / name, f"{HOME}/{name}")
        sizes[name] = pack(context / name, f"{HOME}/{name}", context / f"{name}.tar") / 1e6
        shutil.rmtree(context / name)
    shutil.copyfile(CONTAINERFILE, context / "Containerfile")
    suffix = "" if platform == native else f"-{platform.partition('/')[2]}"
    reference = f"{os.environ.get('IMAGE') or 'model'}:{tag(release.version)}{suffix}"
    base = os.environ.get("BASE_IMAGE")
    identifier = tools.build(
        builder,
        context,
        tags=[reference],
        platform=platform,
        arguments={"BASE_IMAGE": base} if base else {},
        labels=labels(release),
    )
    return Made(release, builder, identifier, reference, platform, sizes)


def bento(release: Release, folder: Path) -> None:
    """Let BentoML build, into a store of its own, and take what the image needs of it."""
    home = FOLDER / "bentoml"
    shutil.rmtree(home, ignore_errors=True)
    environment = {
        **os.environ,
        "BENTOML_HOME": str(home.absolute()),
        "BENTOML_DO_NOT_TRACK": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH")])),
    }
    definition = bentofile(contracts.read())
    command = [sys.executable, "-m", "bentoml", "build", "--bentofile", str(definition), "--output", "tag"]
    command += ["--version", tag(release.version), "."]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"bentoml build failed: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    (built,) = (home / "bentos/model").glob("*/bento.yaml")
    shutil.copytree(built.parent / "src", folder / "src")
    shutil.copytree(built.parent / "apis", folder / "apis")
    described = YAML(typ="safe").load(built)
    described["creation_time"] = _commit_time()
    # how others would build an image of it: a thousand lines, to be read at each start
    del described["image"]
    with (folder / "bento.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(described, file)


def bentofile(contract: Contract) -> Path:
    """Write `bentofile.yaml` with the team's files that the model needs; none of them runs here.

    Raises
    ------
    UserError
        Where one of these is not the file that the model was trained with.
    """
    check_code(contract, ROOM)
    whole = YAML(typ="safe").load(BENTOFILE)
    whole["include"] += [(ROOM / name).as_posix() for name in contract.code]
    path = FOLDER / BENTOFILE.name
    path.parent.mkdir(parents=True, exist_ok=True)
    YAML().dump(whole, path)
    return path


def tag(version: str) -> str:
    """A version as images and Bentos may be called: ``1.0.0-rc.1-x`` for 1.0.0-RC.1+x."""
    return re.sub(r"[^a-z0-9._-]", "-", version.lower())[:120].rstrip("._-")


def labels(release: Release) -> dict[str, str]:
    """What the image says of itself, in the words of the OCI where they have one."""
    repository = source()
    return {
        "org.opencontainers.image.title": f"model of {contracts.read().target}",
        "org.opencontainers.image.version": release.version,
        "org.opencontainers.image.revision": release.commit,
        "org.opencontainers.image.created": _commit_time(),
        **({"org.opencontainers.image.source": repository} if repository else {}),
        MODEL_LABEL: release.model_md5,
    }


def source() -> str | None:
    """Web address of the repository, without credentials; None where it has none."""
    done = subprocess.run(["git", "remote", "get-url", "origin"], capture_output=True, text=True, check=False)
    found = re.fullmatch(r"(?:https://(?:[^/@]*@)?|ssh://git@|git@)([^/:@]+)[:/](.+?)(?:\.git)?/?", done.stdout.strip())
    return f"https://{found[1]}/{found[2]}" if found else None


def _commit_time() -> str:
    command = ["git", "show", "--no-patch", "--format=%cI", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "1970-01-01T00:00:00+00:00"


def _native() -> str:
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    name = machine.machine().lower()
    return f"linux/{known.get(name, name)}"


def main() -> None:
    made = make(os.environ.get("PLATFORM") or None)
    sizes = ", ".join(f"{name} {size:,.1f} MB" for name, size in made.megabytes.items())
    print(f"image {made.reference} for {made.platform}, by {made.builder}: {sizes}")
    print(f"  model {made.release.model_md5}, commit {made.release.commit[:10]}, {made.id}")


if __name__ == "__main__":
    with errors_in_words():
        main()
