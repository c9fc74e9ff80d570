"""`make wheel`: the portable model as a Python package that needs NumPy and ONNX Runtime only.

The files of `mlops.inference` that it needs are copied, with the package's name in their imports. Every byte of the
model is hashed against `dvc.lock`, and none of the team's code runs. The same commit gives the same wheel.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.core import paths
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import tree_md5, write_json
from mlops.core.lock import hash_of, read_lock
from mlops.inference.provenance import Release
from mlops.release.identity import identify
from mlops.release.place import hand_on, sha256

FOLDER = Path("build/wheel")
PACKED = "dist"
SOURCE = Path("src/mlops/inference")
MODULES = ("columns", "corrections", "portable", "portable_rows")
INTERFACE = "packaged"
NEEDED = ("numpy", "onnxruntime")
VERSION = re.compile(
    r"(?P<base>[0-9]+\.[0-9]+\.[0-9]+)(?:-rc\.(?P<rc>[0-9]+))?"
    r"(?:-(?P<since>[0-9]+)-g(?P<commit>[0-9a-f]+)|-(?P<only>[0-9a-f]+|unknown))?(?P<dirty>-dirty)?"
)
README = """# {title}

```python
from {package} import contract, predict, release

row = {{field["name"]: field["example"] for field in contract()["fields"]}}
predict([row])  # or columns: a data frame, a dict of lists
```

"""


def make(folder: Path = FOLDER) -> Path:
    """Build the wheel of the model that is here.

    Raises
    ------
    UserError
        If the model has no portable form, or is not the one in `dvc.lock`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    release = identify()
    contract = checked()
    package = name(contract["target"])
    source = folder / "source"
    inside = source / package
    inside.mkdir(parents=True)
    for module in MODULES:
        (inside / f"{module}.py").write_text(renamed(module, package), encoding="utf-8")
    (inside / "__init__.py").write_text(renamed(INTERFACE, package), encoding="utf-8")
    (inside / "py.typed").touch()
    for file in sorted(paths.PORTABLE.iterdir()):
        shutil.copyfile(file, inside / file.name)
    write_json(release.model_dump(exclude={"log"}), inside / "release.json")
    title = f"Model of {contract['target']}"
    card = paths.CARD.read_text(encoding="utf-8") if paths.CARD.is_file() else ""
    (source / "README.md").write_text(README.format(title=title, package=package) + card, encoding="utf-8")
    (source / "pyproject.toml").write_text(project(package, title, release), encoding="utf-8")
    uv = shutil.which("uv") or ".uv/bin/uv"
    command = [uv, "build", "--wheel", "--offline", "--quiet", "--out-dir", str(folder / PACKED), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"uv build failed: {(done.stderr.strip() or 'without a message').splitlines()[-1]}")
    (folder / PACKED / ".gitignore").unlink(missing_ok=True)  # uv's
    (built,) = (folder / PACKED).iterdir()
    return built


def checked() -> dict[str, Any]:
    """The contract of the portable model, after its bytes were hashed.

    Raises
    ------
    UserError
        If it is missing, has another hash than `dvc.lock` names, or says why there is no such model.
    """
    folder = paths.PORTABLE
    expected = hash_of(read_lock(), folder)
    if not folder.is_dir() or expected is None:
        raise UserError(f"{folder} is missing", "make, or dvc checkout")
    found = tree_md5(folder)
    if found != expected:
        hint = "make, or dvc checkout --force"
        raise UserError(f"{folder} does not match dvc.lock: its MD5 is {found}, expected {expected}", hint)
    contract: dict[str, Any] = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    if "why" in contract:
        raise NotPortableError(f"this model runs in the service only: {contract['why']}", "make serve, or make image")
    return contract


class NotPortableError(UserError):
    """A model that has no portable form, for the reason that its contract names."""


def name(target: str) -> str:
    """Name of the package: ``model_of_diagnosis``."""
    return (
        "_".join(["model_of", *re.findall(r"[a-z0-9]+", target.lower())])
        if re.search("(?i)[a-z0-9]", target)
        else "model"
    )


def renamed(module: str, package: str) -> str:
    """The source of a module, whose imports name the package instead."""
    text = (SOURCE / f"{module}.py").read_text(encoding="utf-8")
    return re.sub(r"\bmlops\.inference\b", package, text)


def version(described: str) -> str:
    """A version in the form of PEP 440: ``1.0.0rc1`` for 1.0.0-rc.1, and between tags ``1.0.0.post3+gabc``."""
    found = VERSION.fullmatch(described)
    if not found:
        raise UserError(f"{described!r} is no version of the form MAJOR.MINOR.PATCH", "git tag v1.0.0")
    base = found["base"] + (f"rc{found['rc']}" if found["rc"] else "")
    if found["since"]:
        base += f".post{found['since']}"
    local = [f"g{found['commit']}" if found["commit"] else found["only"], "dirty" if found["dirty"] else None]
    return "+".join([base, *filter(None, [".".join(filter(None, local))])])


def project(package: str, title: str, release: Release) -> str:
    """The `pyproject.toml` of the package; it needs what the service runs with, or newer."""
    groups = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    needed = [each for each in groups["serving"] if isinstance(each, str) and re.split("[<>=!~]", each)[0] in NEEDED]
    # a string of TOML's is one of JSON's
    return f"""[project]
name = {json.dumps(package.replace("_", "-"))}
version = {json.dumps(version(release.version))}
description = {json.dumps(f"{title}, commit {release.commit}")}
readme = "README.md"
requires-python = ">=3.11"
dependencies = {json.dumps(needed)}

[build-system]
requires = ["uv_build>=0.9"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-root = ""
"""


def release(environment: Mapping[str, str] = os.environ) -> None:
    """In the workflow: say name and digest of the wheel, or why there is none."""
    try:
        built = make()
    except NotPortableError as error:
        print(f"no wheel: {error}")
        return
    digest = sha256(built)
    hand_on(environment, "WHEEL", digest, name=built.name, digest=digest)
    print(f"{built}: {digest}")


def main() -> None:
    if sys.argv[1:] == ["release"]:
        release()
        return
    built = make()
    print(f"{built.stat().st_size / 1e3:,.0f} KB → {built}")
    print(f"  pip install {built} && python -c 'from {built.name.partition('-')[0]} import predict'")


if __name__ == "__main__":
    with errors_in_words():
        main()
