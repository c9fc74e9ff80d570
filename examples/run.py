"""`make example NAME=iris`: run an example in a clone of the project, without touching the user's own files.

The clone stays in `build/examples`, so that a second run does only what has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words
from mlops.core.settings import closest

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
    run(sys.executable, "-m", "dvc", "repro", folder=clone)
    run(sys.executable, "-m", "mlops.pipeline.summary", folder=clone)
    print(f"All of it is in {clone.relative_to(ROOT)}. To start from it: cp -r examples/{name}/. . && make")


def run(*command: str, folder: Path) -> None:
    """Run a command in a folder with this interpreter's tools and the folder's own modules; stop where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    with errors_in_words():
        main(sys.argv[1] if len(sys.argv) > 1 else "")
