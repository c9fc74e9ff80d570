"""`dvc.lock`: the stages that ran, and the hashes of their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlops.core.errors import UserError
from mlops.core.paths import LOCK

Lock = dict[str, Any]


def read_lock(path: Path = LOCK) -> Lock:
    """The stages of a `dvc.lock`.

    Raises
    ------
    UserError
        If it is empty, truncated, or contains a merge conflict.
    """
    stages = parse_lock(path.read_bytes())
    if stages is None:
        raise UserError(
            f"{path} is not a valid DVC lock file, perhaps because of a merge conflict",
            f"git checkout HEAD {path} && make",
        )
    return stages


def parse_lock(content: bytes | None) -> Lock | None:
    """The stages in the bytes of a `dvc.lock`; None if it is missing or invalid."""
    try:
        document = YAML(typ="safe").load(content) if content else None
    except YAMLError:
        return None
    stages = document.get("stages") if isinstance(document, dict) else None
    return stages if isinstance(stages, dict) else None


def outputs(lock: Lock) -> dict[str, dict[str, Any]]:
    """Path of every output → its entry."""
    return {out["path"]: out for stage in lock.values() for out in stage.get("outs", [])}


def hash_of(lock: Lock, path: str | Path) -> str | None:
    """The hash of an output; None if no stage writes it."""
    return outputs(lock).get(str(path), {}).get("md5")


def maker(lock: Lock, path: str | Path) -> str:
    """Name of the stage that writes an output.

    Raises
    ------
    UserError
        If no stage does.
    """
    for name, stage in lock.items():
        if any(out["path"] == str(path) for out in stage.get("outs", [])):
            return name
    raise UserError(f"{LOCK} has no stage that writes {path}", "run make and commit dvc.lock")


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    """Stages and outputs with different hashes, or in only one of the locks."""
    hashes = [
        {(name, out["path"]): out["md5"] for name, stage in lock.items() for out in stage.get("outs", [])}
        for lock in (before, after)
    ]
    keys = dict.fromkeys([*hashes[1], *hashes[0]])
    return [key for key in keys if hashes[0].get(key) != hashes[1].get(key)]
