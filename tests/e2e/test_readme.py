"""What the README tells a newcomer to type works as it stands there, in order."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML

from mlops.core.settings import Settings, Tuning
from mlops.review.policy import Gate

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


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
    assert project.git("log", "-1", "--format=%s", "stronger-regularisation") == "Regularise more strongly"
    assert "C: 0.01" in project.git("show", "stronger-regularisation:params.yaml")


def test_the_tables_of_the_readme_are_valid_settings() -> None:
    yaml = YAML(typ="safe")
    parsed = [yaml.load(block) for block in blocks("yaml")]
    whole = [each for each in parsed if "data" in each]
    assert whole
    for each in whole:
        Settings.model_validate(each)
    for each in parsed:
        if each.get("tuning"):
            Tuning.model_validate(each["tuning"])
        if "rules" in each:
            Gate.model_validate(each)


def test_the_rules_of_the_readme_are_all_there_are_and_valid() -> None:
    rules = [YAML(typ="safe").load(rule) for rule in re.findall(r"`(\{rule: [^`]*\})`", README)]
    Gate.model_validate({"rules": rules})
    schema = json.dumps(Gate.model_json_schema())
    for kind in set(re.findall(r'"const": "(\w+)"', schema)):
        assert f"rule: {kind}" in README or f"`{kind}`" in README, kind


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_each_file_that_the_readme_links_is_there(link: str) -> None:
    assert (ROOT / link).exists()
