"""Installs the packages that the image needs into a folder, for any platform, with the hashes in `uv.lock`."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from mlops.core.errors import UserError
from mlops.core.hooks import ROOM
from mlops.inference.contract import Contract

GROUP = {"onnx": "serving", "scikit-learn": "serving-scikit-learn"}
PYTHON = Path(".python-version")
LOCK = Path("uv.lock")
# glibc 2.28 and newer: Debian 10, Ubuntu 20.04, RHEL 8
PLATFORMS = {"linux/amd64": "x86_64-manylinux_2_28", "linux/arm64": "aarch64-manylinux_2_28"}

# What no request needs
NEEDLESS = (
    "bin",  # commands, which name this machine's Python in their first line
    ".lock",  # uv's
    "**/tests",
    "**/test",
    "**/*.pyi",  # for type checkers
    *(f"**/*.{ending}" for ending in ("a", "c", "h", "pxd", "pyx")),  # for compilers
    "numpy/distutils",
    # a second copy of the library, for programs in C; and what makes and converts models
    "onnxruntime/capi/libonnxruntime.so*",
    *(f"onnxruntime/{name}" for name in ("datasets", "quantization", "tools", "transformers")),
)


def export(requirements: Path, contract: Contract) -> Path:
    """Write the locked requirements of the model's runtime and of the team's code that it runs.

    Raises
    ------
    UserError
        Where a package that the model needs is not in `uv.lock`, or the image lacks one that its file names.
    """
    groups = dict.fromkeys(["serving", GROUP[contract.runtime]])
    chosen = [option for group in groups for option in ("--only-group", group)]
    if contract.runtime != "onnx":
        chosen += ["--prune", "onnxruntime"]
    held = _pins(*chosen)
    more = closure(contract.packages)
    if not more <= held.keys():
        every = _pins("--all-groups")
        held |= {name: every[name] for name in sorted(more & every.keys() - held.keys())}
    requirements.parent.mkdir(parents=True, exist_ok=True)
    requirements.write_text("".join(held.values()), encoding="utf-8")
    known = packages_distributions()
    for kind in contract.trusted:
        packages = [_normal(name) for name in known.get(kind.partition(".")[0], [])]
        missing = [name for name in packages if name != "mlops" and name not in held]
        if missing:
            group = GROUP["scikit-learn"]
            raise UserError(
                f"the model holds a {kind}, and {missing[0]} is not among the packages of the image",
                f"uv add --group {group} {missing[0]}",
            )
    return requirements


def closure(names: Iterable[str]) -> set[str]:
    """Packages with all that they need, on any platform, by `uv.lock`.

    Raises
    ------
    UserError
        Names a package that is not in it.
    """
    locked: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads(LOCK.read_text(encoding="utf-8"))["package"]:
        locked.setdefault(package["name"], []).append(package)
    found: set[tuple[str, str]] = set()
    waiting = [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        if name not in locked:
            raise UserError(f"{ROOM} needs the package {name}, which is not in {LOCK}", f"uv add {name}")
        found.add((name, extra))
        for package in locked[name]:
            needs = (
                package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
            )
            for each in needs:
                waiting += [(each["name"], wanted) for wanted in ("", *each.get("extra", []))]
    return {name for name, _ in found}


def _pins(*chosen: str) -> dict[str, str]:
    """Package → its lines among the requirements that uv exports, with hashes."""
    pins: dict[str, str] = {}
    name = ""
    for line in _uv("export", "--locked", *chosen, "--no-emit-project", "--no-header", "--no-annotate").splitlines():
        if not line.startswith((" ", "#")):
            name = line.partition("==")[0].partition("[")[0]
        pins[name] = pins.get(name, "") + f"{line}\n"
    return pins


def export_pipeline(requirements: Path) -> Path:
    """Write the locked requirements of the stages of `dvc.yaml`."""
    requirements.parent.mkdir(parents=True, exist_ok=True)
    # no wheel of it exists, and DVC needs it only where experiments change settings by Hydra
    pins = _pins("--no-default-groups", "--group", "serving", "--no-emit-package", "antlr4-python3-runtime")
    requirements.write_text("".join(pins.values()), encoding="utf-8")
    return requirements


def install(requirements: Path, folder: Path, platform: str) -> None:
    """Install packages for a platform into a folder."""
    if platform not in PLATFORMS:
        raise UserError(f"unsupported platform: PLATFORM={platform}", f"PLATFORM={' or '.join(PLATFORMS)}")
    _uv(
        *("pip", "install", "--quiet", "--target", str(folder), "--requirements", str(requirements)),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"),
        *("--python-platform", PLATFORMS[platform], "--python-version", PYTHON.read_text(encoding="utf-8").strip()),
    )


def prune(folder: Path) -> None:
    """Take out of a folder of packages what no request needs."""
    for pattern in NEEDLESS:
        for path in list(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    # the lists of installed files, without those that are gone and whose hashes are this machine's
    for record in folder.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row and (folder / row[0]).is_file()]
        with record.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _normal(name: str) -> str:
    """A distribution's name as `uv export` writes it."""
    return name.lower().replace("_", "-").replace(".", "-")


def _uv(*arguments: str) -> str:
    uv = shutil.which("uv")
    if uv is None:
        raise UserError("uv is not on the path", "make image")
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing"]
        raise UserError(f"uv {' '.join(arguments[:2])} failed: {' '.join(lines[-3:])}")
    return done.stdout
