"""The Jenkinsfile, parsed by tree-sitter's grammar of Groovy, and its cheap steps run as Jenkins calls them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

PYTHON = ROOT / "build/tools/groovy/bin/python"
PARSE = """
import json, sys
import tree_sitter, tree_sitter_groovy
def plain(node):
    children = [plain(each) for each in node.named_children if "comment" not in node.type]
    return {"type": node.type, "text": node.text.decode(), "children": children}
tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language())).parse(sys.stdin.buffer.read())
print(json.dumps({"error": tree.root_node.has_error, "root": plain(tree.root_node)}))
"""


def parse(text: str) -> dict[str, Any]:
    if not PYTHON.is_file():
        pytest.skip(f"{PYTHON} is missing: .ci/tools installs it")
    done = subprocess.run([PYTHON, "-c", PARSE], input=text.encode(), capture_output=True, check=True)
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def steps(node: dict[str, Any]) -> list[str]:
    """What the steps `sh` run, in their order."""
    if node["text"].startswith("sh '") and "\n" not in node["text"]:
        return [node["text"].removeprefix("sh '").removesuffix("'")]
    return [step for child in node["children"] for step in steps(child)]


def test_it_parses_and_a_broken_one_does_not() -> None:
    text = (ROOT / "Jenkinsfile").read_text(encoding="utf-8")
    parsed = parse(text)
    assert not parsed["error"]
    assert text.count("sh '") == len(steps(parsed["root"])) > 0
    assert parse(text.replace("stages {", "stages", 1))["error"]


def test_an_environment_variable_chooses_the_agent_of_what_trains_and_without_one_it_is_any() -> None:
    text = (ROOT / "Jenkinsfile").read_text(encoding="utf-8")
    assert "\n  agent none\n" in text  # so that each stage has one of its own
    stages = re.findall(r"(?s)stage\('(\w+)'\) \{(.*?)\bsteps \{", text)
    assert {name: re.findall(r"\n      agent (.*)", stage) for name, stage in stages} == {
        "test": ["any"],
        "review": ["""{ label "${env.REVIEW_RUNNER ?: ''}" }"""],
        "main": ["""{ label "${env.TRAINING_RUNNER ?: ''}" }"""],
    }


def test_each_step_is_a_target_and_the_cheap_ones_pass(tmp_path: Path) -> None:
    clone = tmp_path / "workspace"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    for command in steps(parse((ROOT / "Jenkinsfile").read_text(encoding="utf-8"))["root"]):
        make, *arguments = command.split()
        assert make == "make"
        cheap = arguments[-1] == "unmoved"
        done = subprocess.run(["sh", "-c", command if cheap else f"{command} --dry-run"], cwd=clone, check=False)
        assert done.returncode == 0, command
