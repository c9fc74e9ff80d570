"""`make example NAME=iris`: run an example in a clone of the project, without touching the user's own files.

The clone stays in `build/examples`, so that a second run does only what has changed. An example with a dependency group
of its own name in `pyproject.toml` gets an environment of its own, so that nobody else installs these packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words
from mlops.core.yamlfile import closest

ROOT = Path(__file__).parents[1]
# What the pipeline has written in the clone, and the next run builds on
WRITTEN = ("dvc.lock", "data/prepared", "models", "reports")


def main(name: str) -> None:
    names = sorted(path.parent.name for path in ROOT.glob("examples/*/params.yaml"))
    if name not in names:
        raise UserError(f"there is no example {name!r}{closest(name, names)}", f"make example NAME={names[0]}")
    clone = ROOT / "build/examples" / name
    if not clone.exists():
        run("git", "clone", "--quiet", str(ROOT), str(clone), folder=ROOT)
    run("git", "fetch", "--quiet", "origin", "HEAD", folder=clone)
    run("git", "reset", "--quiet", "--soft", "FETCH_HEAD", folder=clone)
    run("git", "checkout", "HEAD", "--", ".", *(f":!{path}" for path in WRITTEN), folder=clone)
    shutil.copytree(ROOT / "examples" / name, clone, dirs_exist_ok=True)
    python = interpreter(name, clone)
    run(python, "-m", "dvc", "repro", folder=clone)
    run(python, "-m", "mlops.pipeline.summary", folder=clone)
    packages = [re.split("[<>=!~;]", each)[0] for each in needed(name, clone)]
    add = f" && uv add {' '.join(packages)}" if packages else ""
    print(f"All of it is in {clone.relative_to(ROOT)}. To start from it: cp -r examples/{name}/. .{add} && make")


def needed(name: str, clone: Path) -> list[str]:
    """Requirements of an example beyond the project's: the dependency group of its name."""
    groups = tomllib.loads((clone / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return list(groups.get(name, []))


def interpreter(name: str, clone: Path) -> str:
    """The Python that runs an example: this one, or that of an environment which holds the example's packages."""
    if not needed(name, clone):
        return sys.executable
    print(f"installing the packages of this example into {(clone / '.venv').relative_to(ROOT)}", flush=True)
    uv = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
    chosen = ("--no-default-groups", "--group", "serving", "--group", name)
    run(uv, "sync", "--locked", "--quiet", "--project", str(clone), *chosen, folder=clone)
    return str(clone / ".venv/bin/python")


def run(program: str, *arguments: str, folder: Path) -> None:
    """Run a program in a folder with the tools beside it and the folder's own modules; stop where it fails."""
    path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}" if "/" in program else os.environ["PATH"]
    away = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
    kept = {key: value for key, value in os.environ.items() if key not in away}
    environment = {**kept, "PATH": path, "PYTHONPATH": str(folder / "src")}
    command = (program, *arguments)
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    with errors_in_words():
        main(sys.argv[1] if len(sys.argv) > 1 else "")
