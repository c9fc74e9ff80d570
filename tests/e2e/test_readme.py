"""What the README tells a newcomer to type works as it stands there, in order."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML

from mlops.core.settings import Labels, Settings, Tuning
from mlops.review.policy import Gate

README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_TABLE = (ROOT / "docs/your-own-table.md").read_text(encoding="utf-8")
OWN_CODE = (ROOT / "docs/your-own-code.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_each_command_of_the_readme_works_in_order(project: Project, tmp_path: Path) -> None:
    """On a machine as the README asks for: uv is not there, and comes from pip; HOME is empty."""
    (tmp_path / "home").mkdir()
    tools = (Path(folder) for folder in os.environ["PATH"].split(os.pathsep))
    system = [str(folder) for folder in tools if not (folder / "uv").exists() and not folder.is_relative_to(ROOT)]
    commands = blocks("sh")
    assert "make\n" in commands
    for block in commands:
        project.run(
            "bash",
            "-euo",
            "pipefail",
            "-c",
            f'export PATH="$PWD/.venv/bin:$PATH"\n{block}',
            PATH=os.pathsep.join(system),
            PYTHONPATH="",
            HOME=str(tmp_path / "home"),
            GIT_CONFIG_GLOBAL=str(Path.home() / ".gitconfig"),
        )
    assert project.git("log", "-1", "--format=%s", "radius-spread") == "Add the spread of radii"
    assert "def radius_spread" in project.git("show", "radius-spread:src/project/features.py")
    assert "radius_spread" in project.git("show", "radius-spread:reports/plots/importance.csv")


def test_the_snippets_of_the_page_on_own_code_work_together_as_pasted(project: Project) -> None:
    for language, body in re.findall(r"^```(python|yaml)\n(.*?)^```", OWN_CODE, re.MULTILINE | re.DOTALL):
        name = body.split()[1]
        path = project.folder / name
        if "of such a table" in body:  # needs a second table, so only its keys are checked
            Labels.model_validate(YAML(typ="safe").load(body)["data"]["labels"])
        elif language == "python":
            path.write_text(f"{path.read_text(encoding='utf-8') if path.exists() else ''}\n\n{body}", encoding="utf-8")
        else:
            project._edit(name, lambda document, added=body: merge(document, YAML(typ="safe").load(added)))
    project.run("python", "-m", "mlops.pipeline.stages")
    project.run("python", "-m", "mlops.review.check")
    project.run("dvc", "repro")
    project.run("pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "tests/behaviour")
    metrics = json.loads(project.read("reports/metrics.json"))
    assert {"missed_share", "f2", "cost"} <= metrics.keys()
    assert "radius_spread" in project.read("reports/plots/importance.csv")
    assert "src/project/prevalence.py" in project.read("dvc.lock")
    assert json.loads(project.read("reports/prevalence.json")).keys() == {"benign", "malignant"}


def merge(document: Any, added: Any) -> None:
    """Add the keys of a snippet where they belong; lists grow."""
    for key, value in added.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            merge(document[key], value)
        elif isinstance(value, list) and isinstance(document.get(key), list):
            document[key].extend(value)
        else:
            document[key] = value


@pytest.mark.quick
def test_the_tables_of_the_readme_are_valid_settings() -> None:
    yaml = YAML(typ="safe")
    parsed = [yaml.load(block) for block in [*blocks("yaml"), *blocks("yaml", OWN_TABLE)]]
    whole = [each for each in parsed if "data" in each]
    assert len(whole) == 2
    for each in whole:
        Settings.model_validate(each)
    for each in parsed:
        if each.get("tuning"):
            Tuning.model_validate(each["tuning"])
        if "rules" in each:
            Gate.model_validate(each)


@pytest.mark.quick
def test_the_rules_of_the_readme_are_all_there_are_and_valid() -> None:
    rules = [YAML(typ="safe").load(rule) for rule in re.findall(r"`(\{rule: [^`]*\})`", README)]
    Gate.model_validate({"rules": rules})
    schema = json.dumps(Gate.model_json_schema())
    for kind in set(re.findall(r'"const": "(\w+)"', schema)):
        assert f"rule: {kind}" in README or f"`{kind}`" in README, kind


@pytest.mark.quick
@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_each_file_that_the_readme_links_is_there(link: str) -> None:
    assert (ROOT / link).exists()
