"""What the README and the pages of the roles tell a reader to type works as it stands there, in order."""

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
ROLES = ROOT / "docs/roles"
REVIEW = (ROOT / "docs/review.md").read_text(encoding="utf-8")
OWN_CODE = (ROOT / "docs/your-own-code.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def of_role(language: str, name: str) -> list[str]:
    return blocks(language, (ROLES / f"{name}.md").read_text(encoding="utf-8"))


def test_each_command_of_the_readme_and_the_roles_works_in_order(project: Project, tmp_path: Path) -> None:
    """On a machine as the README asks for: uv is not there, and comes from pip; HOME is empty."""
    (tmp_path / "home").mkdir()
    tools = (Path(folder) for folder in os.environ["PATH"].split(os.pathsep))
    system = [str(folder) for folder in tools if not (folder / "uv").exists() and not folder.is_relative_to(ROOT)]

    def type_in(*commands: str) -> None:
        for block in commands:
            project.run(
                *("bash", "-euo", "pipefail", "-c", block),
                PATH=os.pathsep.join(system),
                PYTHONPATH="",
                HOME=str(tmp_path / "home"),
                GIT_CONFIG_GLOBAL=str(Path.home() / ".gitconfig"),
            )

    assert "make\n" in blocks("sh")
    type_in(*blocks("sh"), *of_role("sh", "data-scientist"))
    project.git("stash")
    type_in("git switch main && .venv/bin/dvc checkout", *of_role("sh", "platform-engineer"), *of_role("sh", "auditor"))
    assert (project.folder / "build/history/index.html").exists()
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
def test_the_settings_on_the_pages_are_valid() -> None:
    yaml = YAML(typ="safe")
    pages = [*blocks("yaml"), *blocks("yaml", OWN_TABLE), *blocks("yaml", REVIEW), *of_role("yaml", "data-scientist")]
    parsed = [yaml.load(block) for block in pages]
    whole = [each for each in parsed if "data" in each]
    assert len(whole) == 2
    for each in whole:
        Settings.model_validate(each)
    assert any(each.get("tuning") for each in parsed)
    assert any("rules" in each for each in parsed)
    for each in parsed:
        if each.get("tuning"):
            Tuning.model_validate(each["tuning"])
        if "rules" in each:
            Gate.model_validate(each)


@pytest.mark.quick
def test_the_rules_on_the_page_of_the_review_are_all_there_are_and_valid() -> None:
    rules = [YAML(typ="safe").load(rule) for rule in re.findall(r"`(\{rule: [^`]*\})`", REVIEW)]
    Gate.model_validate({"rules": rules})
    schema = json.dumps(Gate.model_json_schema())
    for kind in set(re.findall(r'"const": "(\w+)"', schema)):
        assert f"rule: {kind}" in REVIEW or f"`{kind}`" in REVIEW, kind


PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/README.md")]
)


def links(page: Path) -> set[tuple[Path, str]]:
    """The files of the project that a page links, with the heading."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)]*))?\)", text) + re.findall(r'src="([^":]+)"()', text)
    return {((page.parent / name).resolve() if name else page, heading) for name, heading in found}


def headings(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", each) for each in found)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in words}


@pytest.mark.quick
@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in PAGES])
def test_what_a_page_links_is_there(page: str) -> None:
    for path, heading in links(ROOT / page):
        assert path.exists(), path
        assert not heading or path.suffix != ".md" or heading in headings(path), f"{path}#{heading}"


@pytest.mark.quick
def test_each_page_is_at_most_two_links_from_the_readme() -> None:
    first = {path for path, _ in links(ROOT / "README.md")}
    second = {path for page in first if page.suffix == ".md" for path, _ in links(page)}
    assert [page for page in PAGES[1:] if page.name != "README.md" and page not in first | second] == []
