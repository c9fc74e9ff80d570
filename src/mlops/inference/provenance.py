"""Which release a model is: version, commit, hashes and metrics, as `models/release.json`, written where it is built.

The service reads it beside the model, refuses to start with other bytes than it names, and shows it at `/metadata`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.files import md5

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Release(BaseModel):
    """Where a served model comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    version: str
    """The tag without its v, or what `git describe` says between two tags."""
    commit: str
    model_md5: Hash
    """Of `models/model.skops`, as `dvc.lock` has it: the model that was reviewed."""
    service_md5: str
    """Of the folder `models/service`, as `dvc.lock` has it: what is served of it."""
    files: dict[str, Hash]
    """File of `models/service` → its hash."""
    data: dict[str, Any]
    """Source, rows and SHA-256 of the table, and the hashes of the training and test rows."""
    export: dict[str, Any]
    """Runtime, and how far its predictions are from scikit-learn's: `reports/export.json`."""
    metrics: dict[str, Any]
    """On the test rows, with intervals: what the gate has judged."""


def read(path: Path = paths.RELEASE) -> Release:
    """Read what is served.

    Raises
    ------
    UserError
        Where the file is missing or broken.
    """
    try:
        return Release.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "make serve writes it") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{path} is broken: {'.'.join(map(str, first['loc']))}: {first['msg']}", "make serve") from None


def check(release: Release, folder: Path) -> None:
    """Check that the files of a folder are the released ones.

    Raises
    ------
    UserError
        Names the file, the hash it has and the one that was expected.
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
            f"{folder} holds what was not released: {', '.join(extra)}", "dvc checkout --force, or pull the image"
        )
