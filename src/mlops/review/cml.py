"""Checks that the installed CML is the version that was reviewed.

npm pins a package from Git by its commit, but does not check a hash of the downloaded archive. So the files
are hashed here before a step with a token runs them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words

FOLDER = Path(".github/cml/node_modules/@dvcorg/cml")
EXPECTED = Path(".github/cml/cml.sha256")


def digest(folder: Path) -> str:
    """SHA-256 of names and contents of a package's files that run."""
    total = hashlib.sha256()
    # versions of npm differ in which other files of a repository they install
    files = [folder / "package.json", *(path for name in ("bin", "src") for path in (folder / name).rglob("*"))]
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link; an installed package has none", f"rm -r {FOLDER.parents[1]}")
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()


def check(folder: Path = FOLDER, expected: Path = EXPECTED) -> None:
    """Compare what is installed with the hash in `.github/cml`.

    Raises
    ------
    UserError
        Where it is missing or has other files.
    """
    if not folder.is_dir():
        raise UserError(f"CML is not installed at {folder}", "make setup-comment")
    found, wanted = digest(folder), expected.read_text(encoding="utf-8").strip()
    if found != wanted:
        raise UserError(
            f"{folder} is not the reviewed version of CML: its SHA-256 is {found}, expected {wanted} as in {expected}",
            f"review the new version, and write its hash to {expected}",
        )


if __name__ == "__main__":
    with errors_in_words():
        check()
