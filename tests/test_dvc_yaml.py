"""`dvc.yaml` says all that a stage depends on, or DVC would call a stale model up to date."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def path_of(module: str) -> str | None:
    for path in (SRC / f"{module.replace('.', '/')}.py", SRC / module.replace(".", "/") / "__init__.py"):
        if path.is_file():
            return str(path.relative_to(ROOT))
    return None


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("mlops")}


def all_files(module: str, seen: set[str]) -> set[str]:
    path = path_of(module)
    if path is None or path in seen:
        return seen
    seen.add(path)
    for name in imported(ROOT / path):
        all_files(name, seen)
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_imports(stage: str) -> None:
    module = f"mlops.pipeline.{stage}"
    needed = all_files(module, set()) | {"src/mlops/pipeline/__init__.py"}
    # a package's docstring and what only starts or reports a stage cannot change an output
    needed -= {"src/mlops/__init__.py", "src/mlops/stage.py", "src/mlops/lineage.py"}
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")}
    assert needed <= declared


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_module_of_its_name_and_depends_on_the_libraries(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -P -m mlops.pipeline.{stage}"
    assert "uv.lock" in STAGES[stage]["deps"]
