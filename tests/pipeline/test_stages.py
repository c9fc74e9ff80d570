"""`dvc.yaml` names exactly the source files that a stage depends on, or DVC would keep stale results."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


MARKDOWN = {"src/mlops/core/markdown.py", "src/mlops/core/letters.py"}


def code_of(folder: Path) -> dict[str, set[str]]:
    stages = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    return {name: {dep for dep in stage["deps"] if dep.startswith("src/")} for name, stage in stages.items()}


def test_dvc_yaml_holds_what_make_stages_writes(project: Project) -> None:
    before = (project.folder / "dvc.yaml").read_text(encoding="utf-8")
    project.run("python", "-m", "mlops.pipeline.stages")
    assert (project.folder / "dvc.yaml").read_text(encoding="utf-8") == before


def test_a_new_import_becomes_a_dependency_and_a_dropped_one_leaves(project: Project) -> None:
    before = code_of(project.folder)
    helper, split = project.folder / "src/mlops/data/helper.py", project.folder / "src/mlops/pipeline/split.py"
    assert "src/mlops/core/markdown.py" not in before["split"]
    helper.write_text("from mlops.core import markdown\n", encoding="utf-8")
    text = split.read_text(encoding="utf-8")
    split.write_text(f"{text}\nfrom mlops.data import helper\n", encoding="utf-8")
    project.run("python", "-m", "mlops.pipeline.stages")
    found = code_of(project.folder)
    assert found["split"] - before["split"] == {"src/mlops/data/helper.py", *MARKDOWN} - before["split"]
    assert {name for name in found if found[name] != before[name]} == {"split"}
    split.write_text(text, encoding="utf-8")
    project.run("python", "-m", "mlops.pipeline.stages")
    assert code_of(project.folder) == before


def test_a_missing_file_of_the_team_is_an_error_that_says_what_to_do(project: Project) -> None:
    (project.folder / "src/project/cleaning.py").unlink()
    done = project.run("python", "-m", "mlops.review.check", check=False)
    assert done.returncode == 1
    assert "dvc.yaml: stage ingest depends on src/project/cleaning.py, which is missing" in done.stdout
    assert "git checkout HEAD -- src/project/cleaning.py" in done.stdout
    project.run("python", "-m", "mlops.pipeline.stages")
    project.run("python", "-m", "mlops.review.check")


def test_an_edit_of_the_gate_reruns_nothing_and_one_of_a_metric_does_not_retrain() -> None:
    code = code_of(ROOT)
    assert not any("policy.py" in path or "/review/" in path for paths in code.values() for path in paths)
    assert "src/mlops/model/metrics.py" in code["evaluate"]
    assert "src/mlops/model/metrics.py" not in code["train"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_module_of_its_name_and_depends_on_the_libraries(stage: str) -> None:
    module = STAGES[stage]["cmd"].removeprefix("python -P -m ")
    assert module == f"mlops.pipeline.{stage}" or module.startswith("project.")
    assert "uv.lock" in STAGES[stage]["deps"]
