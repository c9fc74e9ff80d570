"""The release of a model: version, commit, hashes and metrics, as `models/release.json`, written by the build.

The service reads it beside the model, refuses to start with other bytes than it names, and shows it at `/metadata`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mlops.core import paths
from mlops.core.errors import UserError, first_problem
from mlops.core.files import md5
from mlops.core.logoptions import LogOptions

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Release(BaseModel):
    """Origin of a served model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    version: str
    """The tag without its v; between two tags, the output of `git describe`."""
    commit: str
    model_md5: Hash
    """Hash of `models/model.skops` in `dvc.lock`: the reviewed model."""
    service_md5: str
    """Hash of the folder `models/service` in `dvc.lock`: the served form of the model."""
    files: dict[str, Hash]
    """File of `models/service` → its hash."""
    data: dict[str, Any]
    """Source, rows and SHA-256 of the table, and the hashes of the training and test rows."""
    export: dict[str, Any]
    """Runtime and its largest difference from scikit-learn's predictions, from `reports/export.json`."""
    metrics: dict[str, Any]
    """Metrics on the test rows with intervals, as the gate used them."""
    log: LogOptions = LogOptions()
    """What the service logs, from `monitor.log` in `params.yaml`."""


def read(path: Path = paths.RELEASE) -> Release:
    """Read the provenance of the served model.

    Raises
    ------
    UserError
        If the file is missing or invalid.
    """
    try:
        return Release.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "run make serve, which writes it") from None
    except ValidationError as error:
        raise UserError(f"{path} is invalid: {first_problem(error)}", "make serve") from None


def check(release: Release, folder: Path) -> None:
    """Check that the files of a folder are the released ones.

    Raises
    ------
    UserError
        Names the file, its hash and the expected one.
    """
    for name, expected in release.files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(
                f"{path} is missing; expected the file with MD5 {expected}", "dvc checkout --force, or pull the image"
            )
        found = md5(path)
        if found != expected:
            raise UserError(
                f"{path} is not the released file: its MD5 is {found}, expected {expected}",
                "dvc checkout --force, or pull the image again",
            )
    extra = sorted(path.name for path in folder.iterdir() if path.name not in release.files)
    if extra:
        raise UserError(
            f"{folder} contains files that were not released: {', '.join(extra)}",
            "dvc checkout --force, or pull the image",
        )
