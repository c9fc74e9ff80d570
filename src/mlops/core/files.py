"""Atomic writes, and hashes of files and folders as in `dvc.lock`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is renamed to `path` when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # always the same name, so that the next run overwrites the file of a killed process
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(content: Any, path: str | Path) -> None:
    """Write JSON for people and `git diff`: indented, in a stable order, with non-ASCII letters unescaped."""
    with atomic(path) as partial:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def md5(file: str | Path | bytes) -> str:
    """MD5 of a file, or of bytes."""
    if isinstance(file, bytes):
        return hashlib.md5(file, usedforsecurity=False).hexdigest()
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def folder_md5(files: Mapping[str, str]) -> str:
    """The hash of a folder in `dvc.lock`, from the hashes of its files.

    DVC takes the MD5 of the list of its files as JSON, sorted by path.
    """
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return f"{md5(json.dumps(entries, sort_keys=True).encode())}.dir"


def tree_md5(path: str | Path) -> str:
    """The hash of a file or folder in `dvc.lock`."""
    path = Path(path)
    if not path.is_dir():
        return md5(path)
    inside = (each for each in path.rglob("*") if each.is_file())
    return folder_md5({each.relative_to(path).as_posix(): md5(each) for each in inside})
