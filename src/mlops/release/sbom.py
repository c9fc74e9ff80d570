"""The software bill of materials of the image: its packages with their hashes, from `uv.lock`, as CycloneDX."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.inference import contract
from mlops.release.dependencies import GROUP
from mlops.release.image import FOLDER


def write(path: Path, requirements: Path = FOLDER / "requirements.txt") -> None:
    """Write what `requirements` has installed as a CycloneDX document.

    Raises
    ------
    UserError
        Where `uv.lock` gives other packages than were installed.
    """
    served = contract.read()
    groups = dict.fromkeys(["serving", GROUP[served.runtime]])
    # what the team's code imports may be in any group
    chosen = ["--all-groups"] if served.packages else [each for name in groups for each in ("--only-group", name)]
    uv = shutil.which("uv") or ".uv/bin/uv"
    command = [uv, "export", "--quiet", "--locked", "--format", "cyclonedx1.5", "--no-emit-project", *chosen]
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise UserError(f"uv export failed: {' '.join(done.stderr.strip().splitlines()[-3:])}")
    document: dict[str, Any] = json.loads(done.stdout)
    # the same image has the same list
    document.pop("serialNumber", None)
    document["metadata"].pop("timestamp", None)
    installed = set(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", requirements.read_text(encoding="utf-8"), re.M))
    listed = {(each["name"], each["version"]) for each in document["components"]}
    if missing := installed - listed:
        raise UserError(f"the image holds packages that uv.lock does not list: {sorted(missing)}", "make image")
    # what the lock holds for other runtimes and platforms is not in the image
    document["components"] = [each for each in document["components"] if (each["name"], each["version"]) in installed]
    kept = {each["bom-ref"] for each in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    document["dependencies"] = [
        {**each, "dependsOn": [name for name in each.get("dependsOn", []) if name in kept]}
        for each in document.get("dependencies", [])
        if each["ref"] in kept
    ]
    write_json(document, path)
