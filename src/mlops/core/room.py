"""The files of `src/project/`: which of them a module needs, found by reading and never by running them.

The image holds these files and no others of the room, and the service runs them only with the hashes that training saw.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from mlops.core.errors import UserError
from mlops.core.files import md5
from mlops.core.hooks import PACKAGE, ROOM, folder

FILES = ("features", "cleaning", "metrics", "rules", "estimators")
PROVIDED = {*sys.stdlib_module_names, PACKAGE, "mlops"}
# methods that run where a model is made; what only they import is not needed where it predicts
MAKING = {"fit", "to_onnx"}


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


def check() -> None:
    """Check that the files with hooks share code through `shared/` only, which `dvc.yaml` and CODEOWNERS name.

    Raises
    ------
    UserError
        Names the file and what it imports.
    """
    for name in FILES:
        for path in files(name):
            if path.as_posix() not in ("__init__.py", f"{name}.py") and path.parts[0] != "shared":
                raise UserError(
                    f"{ROOM / name}.py needs {ROOM / path}, so DVC would not notice a change of it",
                    f"move what they share to {ROOM / 'shared'}",
                )


def packages(name: str) -> list[str]:
    """Top-level modules outside the standard library and this project that a module of the room imports, sorted.

    What only methods `fit` and `to_onnx` import does not count.
    """
    return sorted({root for path in files(name) for root in _roots(path)})


def distributions(name: str) -> list[str]:
    """Installed distributions that a module of the room imports from, such as ``scikit-learn``, sorted.

    Raises
    ------
    UserError
        Names the file and the package that is not installed.
    """
    needed = packages(name)
    if not needed:
        return []
    known = packages_distributions()
    for each in needed:
        if each not in known:
            file = next(path for path in files(name) if each in _roots(path))
            raise UserError(f"{ROOM / file} imports {each}, which is not installed", f"uv add {each}")
    return sorted({re.sub(r"[-_.]+", "-", found).lower() for each in needed for found in known[each]})


def module_of(path: str) -> str | None:
    """``estimators`` of ``project.estimators.NAME``, where that file defines a class or function NAME.

    A name that the file only imports does not count: a model file could build anything through it.
    """
    package, _, rest = path.partition(".")
    module, _, name = rest.rpartition(".")
    room = folder()
    file = _path(room, module) if room is not None and package == PACKAGE else None
    if room is None or file is None:
        return None
    tree = ast.parse((room / file).read_text(encoding="utf-8"))
    defined = {each.name for each in tree.body if isinstance(each, ast.ClassDef | ast.FunctionDef)}
    return module if name in defined else None


def hashes(name: str) -> dict[str, str]:
    """MD5 of each file that a module of the room consists of."""
    room = folder()
    return {path.as_posix(): md5(Path(room or "") / path) for path in files(name)}


def _roots(path: Path) -> set[str]:
    found = _imports(Path(folder() or "") / path, path, MAKING)
    return {imported.partition(".")[0] for imported in found} - PROVIDED


def _path(room: Path, name: str) -> Path | None:
    """The file of a module, relative to the room; that of a name which is no module is None."""
    stem = Path(*name.split(".")) if name else Path()
    options = (stem / "__init__.py", *([stem.with_name(f"{stem.name}.py")] if name else []))
    return next((path for path in options if (room / path).is_file()), None)


def _imports(file: Path, path: Path, without: Collection[str] = ()) -> Iterator[str]:
    """Full names of what a file imports, and of what may be a module among them; not what some functions import."""
    package = [PACKAGE, *path.parts[:-1]]
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef) and node.name in without:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
