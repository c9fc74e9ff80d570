"""What has changed since the stages of a model ran: settings, and code. Data are not looked at, so it takes no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mlops.core.files import tree_md5
from mlops.core.lock import Lock
from mlops.core.settings import PARAMS

CODE = "src"


def since(lock: Lock, output: Path) -> list[str]:
    """Sections of `params.yaml`, and files and folders of code, that differ from what made an output.

    Parameters
    ----------
    lock : dict
        The stages of `dvc.lock`.
    output : Path
        Such as the folder that is served.

    Returns
    -------
    list of str
        Such as ``["params.yaml: model", "src/project/features.py"]``.
    """
    now = YAML(typ="safe").load(PARAMS.read_text(encoding="utf-8")) or {}
    found: dict[str, None] = {}
    for stage in _up_to(lock, str(output)):
        for section, then in stage.get("params", {}).get(str(PARAMS), {}).items():
            if now.get(section) != then:
                found[f"{PARAMS}: {section}"] = None
        for each in stage.get("deps", []):
            path = Path(each["path"])
            if path.parts[0] == CODE and (not path.exists() or tree_md5(path) != each.get("md5")):
                found[str(path)] = None
    return list(found)


def _up_to(lock: Lock, output: str) -> list[dict[str, Any]]:
    """The stages that an output comes from, in the order of the lock."""
    wanted, size = {output}, 0
    while len(wanted) > size:  # the order of the lock is not the order of the stages
        size = len(wanted)
        for stage in lock.values():
            if wanted & {out["path"] for out in stage.get("outs", [])}:
                wanted |= {each["path"] for each in stage.get("deps", [])}
    return [stage for stage in lock.values() if wanted & {out["path"] for out in stage.get("outs", [])}]
