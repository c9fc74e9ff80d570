"""Which DVC files a commit may hold, and where.

DVC loads every `dvc.yaml`, `*.dvc` and `.dvcignore` that it finds, whatever the folder, so a stage below `docs/` would
run with the pipeline. Files that DVC acts on are therefore allowed in known places only. Make
runs this check before every run, so the module imports little.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words

PIPELINE, LOCK, PLOTS = "dvc.yaml", "dvc.lock", "reports/dvc.yaml"
KNOWN = frozenset({PIPELINE, LOCK, PLOTS, ".dvcignore", ".dvc/.gitignore", ".dvc/config"})
NAMES = frozenset({"dvc.yaml", "dvc.lock", ".dvcignore", ".dvc"})
POINTERS = "data/raw/"


def misplaced(names: Iterable[str]) -> list[str]:
    """Files that DVC acts on in places where they are not allowed, sorted."""
    return sorted(name for name in names if is_dvc(name) and name not in KNOWN and not is_pointer(name))


def is_pointer(name: str) -> bool:
    """Whether a path is a pointer to raw data."""
    return name.startswith(POINTERS) and name.endswith(".dvc") and ".dvc" not in name.split("/")


def is_dvc(name: str) -> bool:
    """Whether DVC acts on a file of this name; some file systems do not distinguish `DVC.yaml`."""
    *folders, last = name.casefold().split("/")
    return last in NAMES or last.endswith(".dvc") or ".dvc" in folders


def present(folder: Path = Path()) -> list[str]:
    """DVC files of a working tree, tracked by Git or not ignored.

    Raises
    ------
    UserError
        Names every file in a wrong place, and links, which could include files from elsewhere.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git cannot list the files of this folder: {done.stderr.strip()}")
    names = [
        name
        for name in done.stdout.split("\0")
        if is_dvc(name) and ((folder / name).is_symlink() or (folder / name).exists())
    ]
    wrong = misplaced(names)
    if wrong:
        raise UserError(
            f"DVC would load files in places that are not allowed: {', '.join(map(repr, wrong))}",
            f"stages belong in {PIPELINE}, pointers to data in {POINTERS}; move or delete the others",
        )
    link = next((name for name in names if (folder / name).is_symlink()), None)
    if link:
        raise UserError(f"{link} is a symbolic link; DVC would load the file that it points to", f"rm {link}")
    return names


def fetch(names: Iterable[str], folder: Path = Path()) -> None:
    """Get raw data that Git holds pointers to from DVC's cache or remote, where they are not there yet.

    Raises
    ------
    UserError
        If neither has them.
    """
    pointers = {name: folder / name.removesuffix(".dvc") for name in names if is_pointer(name)}
    for command in ("checkout", "pull"):
        missing = [name for name, path in pointers.items() if not path.exists()]
        if missing:
            run = [sys.executable, "-P", "-m", "dvc", command, "--quiet", *missing]
            subprocess.run(run, cwd=folder, capture_output=command == "checkout", check=False)
    missing = [str(path) for path in pointers.values() if not path.exists()]
    if missing:
        raise UserError(f"neither DVC's cache nor its remote has {', '.join(missing)}", "dvc pull")


if __name__ == "__main__":
    with errors_in_words():
        fetch(present())
