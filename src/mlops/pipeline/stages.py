"""`make stages`: write into `dvc.yaml` which source files each stage imports.

DVC reruns a stage when one of its dependencies changes, so a file that is missing there leaves stale results behind.
Data files and parameters are written by hand; the lines below `src/` come from the imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grimp
from ruamel.yaml import YAML

from mlops.core import hooks
from mlops.core.errors import errors_in_words
from mlops.core.files import atomic

PIPELINE = Path("dvc.yaml")
COMMAND = "python -P -m "
# the team's files that a module of ours loads by name, which no import shows
LOADS = {
    "mlops.inference.computed": "features",
    "mlops.data.cleaning": "cleaning",
    "mlops.model.estimators": "estimators",
    "mlops.model.modelfile": "estimators",
    "mlops.model.declared": "metrics",
}
# what files of the team share; they may import nothing else of the room
SHARED = ("__init__.py", "shared")


def sources(module: str, graph: grimp.ImportGraph) -> list[str]:
    """Source files that a module imports, directly or not, and its own, sorted."""
    needed = {module, *graph.find_upstream_modules(module)}
    while packages := {name.rpartition(".")[0] for name in needed} - needed - {""}:
        for package in packages:
            needed |= {package, *graph.find_upstream_modules(package)}
    found = {_file(name) for name in needed}
    team = {LOADS[name] for name in needed if name in LOADS}
    found |= {hooks.ROOM / f"{name}.py" for name in team}
    found |= {hooks.ROOM / name for name in SHARED if team}
    return sorted(path.as_posix() for path in found if path.exists())


def _file(module: str) -> Path:
    path = Path("src", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def generate(document: Any) -> None:
    """Replace the source files among the dependencies of each stage that runs one of our modules."""
    graph = grimp.build_graph("mlops", hooks.PACKAGE, cache_dir=None, exclude_type_checking_imports=True)
    for stage in document["stages"].values():
        if not stage["cmd"].startswith(COMMAND):
            continue
        deps = stage["deps"]
        kept = [str(path) for path in deps if not (str(path).startswith("src/") and _is_code(str(path)))]
        deps[:] = kept + sources(stage["cmd"].removeprefix(COMMAND).split()[0], graph)


def _is_code(path: str) -> bool:
    return path.endswith(".py") or path.startswith(hooks.ROOM.as_posix())


def main() -> None:
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(PIPELINE)
    generate(document)
    with atomic(PIPELINE) as partial:
        yaml.dump(document, partial)


if __name__ == "__main__":
    with errors_in_words():
        main()
