"""The CML that npm has installed is compared with the one whose code was read, before a token is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.core.errors import UserError
from mlops.review.cml import check, digest


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "cml"
    for name in ("package.json", "bin/cml.js", "src/cml.js", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"// {name}\n", encoding="utf-8")
    (tmp_path / "cml.sha256").write_text(f"{digest(folder)}\n", encoding="utf-8")
    return folder


def test_the_files_that_were_read_are_accepted(package: Path) -> None:
    (package / "README.md").write_text("npm may leave this out", encoding="utf-8")
    check(package, package.parent / "cml.sha256")


@pytest.mark.parametrize("name", ["package.json", "bin/cml.js", "src/new.js"])
def test_other_code_is_refused_with_its_hash(package: Path, name: str) -> None:
    (package / name).write_text("steal()\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"is not the reviewed version of CML: its SHA-256 is [0-9a-f]{64}"):
        check(package, package.parent / "cml.sha256")


def test_a_link_is_refused(package: Path) -> None:
    (package / "src/cml.js").unlink()
    (package / "src/cml.js").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="is a symbolic link"):
        check(package, package.parent / "cml.sha256")


def test_a_missing_package_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CML is not installed"):
        check(tmp_path / "cml", tmp_path / "cml.sha256")
