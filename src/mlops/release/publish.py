"""`make release-publish` and `make release-tag`: the image in the registry, and its version once all else is done.

The image is pushed under the name of its commit. The model is copied out of what the registry gives back for the
digest, and hashed again. The version is set by a step of its own, after the attestations, and never moves.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlops.core import paths
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import folder_md5, md5
from mlops.core.paths import RELEASE
from mlops.inference import provenance
from mlops.inference.provenance import Release
from mlops.release import builder as tools
from mlops.release import image, sbom
from mlops.release.check import REPORT
from mlops.release.deploy import REFERENCE
from mlops.release.identity import identify
from mlops.release.oci import Repository
from mlops.release.place import Place, hand_on, place
from mlops.release.tag import FOLDER, parse


def push(environment: Mapping[str, str]) -> str:
    """Push the image that `make image` has built, check what arrived, and return `name@sha256:…`."""
    at = place(environment)
    release = released(at.tag)
    builder = tools.find()
    local = f"{environment.get('IMAGE') or 'model'}:{image.tag(release.version)}"
    built = tools.inspect(builder, local)
    if (built.config.get("Labels") or {}).get(image.MODEL_LABEL) != release.model_md5:
        raise UserError(f"the image {local} is not of the model {release.model_md5}", "make image")
    if built.layers != checked():
        hint = "start all jobs of the run again: its base image has changed in between"
        raise UserError(f"the image {local} is not the one that `make release-check` tested", hint)
    with signed_in(at):
        digest = tools.push(builder, local, f"{at.name}:commit-{release.commit}")
        reference = f"{at.name}@{digest}"
        if not REFERENCE.fullmatch(reference):
            raise UserError(f"{reference!r} is not of the form name@sha256:…")
        check(builder, reference, release)
    return reference


def checked() -> list[str]:
    """The layers of the image that passed the rehearsal."""
    if not REPORT.is_file():
        raise UserError(f"{REPORT} is missing, so this image was not tested", "make release-check")
    layers: list[str] = json.loads(REPORT.read_text(encoding="utf-8"))["image"]["layers"]
    return layers


def released(tag: str) -> Release:
    """The release that stands here, its bytes hashed against `dvc.lock`, and of this very tag."""
    parse(tag)
    release = identify()
    if release.version != tag.removeprefix("v"):
        raise UserError(f"the commit checked out is {release.version}, not {tag}", "start the run again")
    if provenance.read(RELEASE) != release:
        raise UserError(f"{RELEASE} is from another build", "make image")
    return release


def check(builder: tools.Builder, reference: str, release: Release) -> None:
    """Copy the model out of the image that the registry has under a digest, and hash it.

    Raises
    ------
    UserError
        Where it is not the model that `dvc.lock` names.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tools.copy_out(builder, tools.pull(builder, reference), f"{image.SOURCE}/{RELEASE.parent}", folder)
        served = folder / paths.SERVICE.name
        provenance.check(release, served)
        found = folder_md5({path.name: md5(path.read_bytes()) for path in served.iterdir()})
        if found != release.service_md5:
            raise UserError(f"{reference} holds {paths.SERVICE} with the MD5 {found}, not {release.service_md5}")
        if provenance.read(folder / RELEASE.name) != release:
            raise UserError(f"{reference} is labelled as another release")


@contextmanager
def signed_in(at: Place) -> Iterator[None]:
    """Let docker, podman and buildah use the token, from a file that is gone afterwards."""
    account = f"{at.account}:{at.token}".encode()
    host = at.name.partition("/")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(account).decode()}}}), encoding="utf-8")
        settings = {"REGISTRY_AUTH_FILE": str(path), "DOCKER_CONFIG": folder}
        before = {key: os.environ.get(key) for key in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key)
                if value is not None:
                    os.environ[key] = value


def set_version(environment: Mapping[str, str]) -> str:
    """Let the version name the digest that was checked and attested, for good."""
    at = place(environment, "REFERENCE")
    reference = environment["REFERENCE"]
    name, _, digest = reference.partition("@")
    parse(at.tag)
    if not REFERENCE.fullmatch(reference) or name != at.name:
        raise UserError(f"REFERENCE must name an image of this repository by digest: {reference!r}")
    registry = Repository(name, at.account, at.token)
    version = at.tag.removeprefix("v")
    new = registry.tag(digest, version)
    return f"{name}:{version} {'is' if new else 'was already'} {digest}"


def main(environment: Mapping[str, str] = os.environ) -> None:
    if sys.argv[1:] == ["tag"]:
        print(set_version(environment))
        return
    reference = push(environment)
    sbom.write(FOLDER / "sbom.json")
    name, _, digest = reference.partition("@")
    hand_on(environment, "REFERENCE", reference, reference=reference, name=name, digest=digest)
    print(f"pushed {reference}; the image in the registry holds the model in dvc.lock")


if __name__ == "__main__":
    with errors_in_words():
        main()
