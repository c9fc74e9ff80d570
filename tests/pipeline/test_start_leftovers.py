"""What `make start` removes: the template's own tests, benchmarks and examples, and nothing that somebody changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML

from mlops.core.template import record
from mlops.data import project as projects
from mlops.pipeline.start import leftovers, writing

GONE = ("benchmarks", "examples", ".ci", "CONTRIBUTING.md", "tests/core", "tests/e2e", "tests/conftest.py")


@pytest.fixture
def start(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project, in whose folder `make start` removes files."""
    monkeypatch.chdir(project.folder)
    return project


def test_what_remains_is_tested_and_explained_without_them(start: Project) -> None:
    count = len(start.git("ls-files").splitlines())
    settings = projects.open().settings
    removed = leftovers.remove()
    (start.folder / "README.md").write_text(writing.readme(settings, "a table"), encoding="utf-8")
    start.commit("start")
    assert len(start.git("ls-files").splitlines()) == count - removed
    assert not [name for name in GONE if (start.folder / name).exists()]

    tested = start.run("make", "--assume-old=.venv/.ready", "test", "test-e2e", "test-own").stdout
    assert re.search(r"^=+ \d+ passed", tested, re.MULTILINE)
    helped = start.run("make", "help").stdout
    assert "make review" in helped
    assert "make bench" not in helped
    for page in re.findall(r"\]\(([^)#]+)", start.read("README.md")):
        assert (start.folder / page).exists(), page
    for target in map("".join, re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", start.read("README.md"), re.MULTILINE)):
        assert f"make {target} " in helped, target
    updates = YAML(typ="safe").load(start.read(".github/dependabot.yml"))["updates"]
    assert len(updates) > 3
    for folder in (folder for each in updates for folder in each.get("directories", [each.get("directory")])):
        assert (start.folder / folder.strip("/")).is_dir(), folder


def test_what_somebody_changed_or_added_stays(start: Project) -> None:
    edited, staged, added = (
        start.folder / name for name in ("examples/run.py", "benchmarks/plain.py", "tests/core/test_ours.py")
    )
    for path in (edited, staged):
        path.write_text(path.read_text(encoding="utf-8") + "# ours\n", encoding="utf-8")
    added.write_text("def test_ours() -> None: ...\n", encoding="utf-8")
    start.git("add", "benchmarks/plain.py")
    leftovers.remove()
    assert all(path.exists() for path in (edited, staged, added))
    assert [path.name for path in (start.folder / "benchmarks").iterdir()] == ["plain.py"]


def test_what_the_team_has_committed_before_stays(start: Project) -> None:
    updates = leftovers.DEPENDABOT
    ours = {
        "CONTRIBUTING.md": "# Ours\n",
        "tests/test_ours.py": "def test_ours() -> None: ...\n",
        ".ci/deploy.sh": "make\n",
    }
    for name, text in {**ours, updates: start.read(updates) + "  # ours\n"}.items():
        (start.folder / name).write_text(text, encoding="utf-8")
    start.commit("ours")
    assert leftovers.remove() > 100
    assert {name: start.read(name) for name in ours} == ours
    assert start.read(updates).endswith("  # ours\n")
    assert not (start.folder / "benchmarks").exists()


def test_a_started_project_keeps_what_it_brought_back(start: Project) -> None:
    leftovers.remove()
    start.git("checkout", "HEAD", "--", "examples")
    start.edit_params(lambda params: params["model"]["params"].update(C=0.5))
    start.commit("start")
    assert leftovers.remove() == 0
    assert (start.folder / "examples/run.py").exists()


def test_a_clone_of_the_template_begins_where_make_start_recorded_it(start: Project) -> None:
    start.git("rm", "--quiet", ".template.json")
    start.git("commit", "--quiet", "--amend", "--message", "long ago")
    assert leftovers.remove() == 0
    (start.folder / ".template.json").write_text("{}", encoding="utf-8")
    start.commit("of today")
    record.start()
    assert leftovers.remove() > 100


def test_without_git_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/run.py").touch()
    monkeypatch.chdir(tmp_path)
    assert leftovers.remove() == 0
    assert (tmp_path / "examples/run.py").exists()
