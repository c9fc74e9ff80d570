"""The files of `src/project/`: which of them a module needs, found by reading and never by running them.

The image holds these files and no others of the room, and the service runs them only with the hashes that training saw.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from mlops.core.hooks import PACKAGE

PROVIDED = {*sys.stdlib_module_names, PACKAGE, "mlops"}


def folder() -> Path | None:
    """The folder that `project` would be imported from; nothing of it is imported here."""
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.origin).parent if found and found.origin else None


def files(name: str) -> list[Path]:
    """The files that a module of the room consists of: itself, the package's `__init__`, and what they import of it.

    Parameters
    ----------
    name : str
        Such as ``features``.

    Returns
    -------
    list of Path
        Relative to the room, sorted; empty where there is no such module.
    """
    room = folder()
    if room is None or _path(room, name) is None:
        return []
    seen: set[Path] = set()
    waiting = ["", name]
    while waiting:
        path = _path(room, waiting.pop())
        if path is None or path in seen:
            continue
        seen.add(path)
        for imported in _imports(room / path, path):
            head, _, rest = imported.partition(".")
            if head == PACKAGE:
                parts = rest.split(".") if rest else []
                waiting += [".".join(parts[:length]) for length in range(len(parts) + 1)]
    return sorted(seen)


def packages(name: str) -> list[str]:
    """Top-level modules outside the standard library and this project that a module of the room imports, sorted."""
    room = folder()
    found = {imported.partition(".")[0] for path in files(name) for imported in _imports(Path(room or "") / path, path)}
    return sorted(found - PROVIDED)


def hashes(name: str) -> dict[str, str]:
    """MD5 of each file that a module of the room consists of."""
    room = folder()
    return {
        path.as_posix(): hashlib.md5((Path(room or "") / path).read_bytes(), usedforsecurity=False).hexdigest()
        for path in files(name)
    }


def _path(room: Path, name: str) -> Path | None:
    """The file of a module, relative to the room; that of a name which is no module is None."""
    stem = Path(*name.split(".")) if name else Path()
    options = (stem / "__init__.py", *([stem.with_name(f"{stem.name}.py")] if name else []))
    return next((path for path in options if (room / path).is_file()), None)


def _imports(file: Path, path: Path) -> Iterator[str]:
    """Full names of what a file imports, and of what may be a module among them."""
    package = [PACKAGE, *path.parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
