"""DVC files have their places, and nothing in them runs or is fetched: attacks by real runs of `make` and DVC."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from mlops.review.required import JOBS

ATTACK = """stages:
  prepare:
    cmd: touch {marker} && mkdir -p ../../data/raw && echo x > ../../data/raw/brought.csv
    outs:
      - ../../data/raw/brought.csv
"""


def make(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The project's make, with this environment in the place of one that it would install."""
    folder = project.folder / ".venv"
    if not folder.exists():
        folder.mkdir()
        here = Path(sys.executable).parents[1]
        for name in ("bin", "lib", "pyvenv.cfg"):
            (folder / name).symlink_to(here / name)
    (folder / ".ready").touch()
    return project.run("make", "--file=Makefile", "--old-file=.venv/.ready", *arguments, check=False)


def tutorial(project: Project, marker: Path, name: str = "docs/tutorial/dvc.yaml") -> None:
    path = project.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ATTACK.format(marker=marker), encoding="utf-8")


def test_a_pipeline_below_docs_is_refused_before_anything_runs(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    tutorial(project, marker)
    project.commit("a tutorial")
    for target in ("pipeline", "check", "refresh"):
        done = make(project, target)
        assert done.returncode != 0, target
        assert "DVC would load files in places that are not allowed: 'docs/tutorial/dvc.yaml'" in done.stdout
        assert "try: stages belong in dvc.yaml" in done.stdout
    assert not marker.exists()


def test_dvc_itself_does_not_load_it_either(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    tutorial(project, marker)
    project.commit("a tutorial")
    project.run("dvc", "repro", "ingest")
    assert not marker.exists()
    assert "tutorial" not in project.run("dvc", "stage", "list", "--all").stdout


@pytest.mark.parametrize(
    "name",
    ["docs/more.dvc", "docs/.dvcignore", "deploy/DVC.yaml", ".dvc/plots/x.json", "data/dvc.lock", "data/raw/dvc.yaml"],
)
def test_every_file_that_dvc_acts_on_has_its_place(project: Project, name: str) -> None:
    path = project.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}", encoding="utf-8")
    project.git("add", "--force", name)
    done = make(project, "dvcfiles")
    assert done.returncode != 0
    assert repr(name) in done.stdout


def test_local_settings_that_git_does_not_have_are_accepted(project: Project) -> None:
    (project.folder / ".dvc/config.local").write_text("[core]\n    autostage = false\n", encoding="utf-8")
    assert make(project, "dvcfiles").returncode == 0
    project.git("add", "--force", ".dvc/config.local")
    assert ".dvc/config.local" in make(project, "dvcfiles").stdout


def test_a_link_in_the_place_of_the_pipeline_is_refused(project: Project) -> None:
    (project.folder / "reports/dvc.yaml").unlink()
    (project.folder / "reports/dvc.yaml").symlink_to("../docs/canvas.md")
    assert "reports/dvc.yaml is a symbolic link" in make(project, "dvcfiles").stdout


def test_a_stage_in_the_file_of_plots_is_refused(project: Project, tmp_path: Path) -> None:
    tutorial(project, tmp_path / "ran", "reports/dvc.yaml")
    done = make(project, "check")
    assert done.returncode != 0
    assert "reports/dvc.yaml: unknown key stages (line 1)" in done.stdout
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("deps: [{path: /etc/passwd}]\nouts: [{path: x.csv, md5: MD5}]", "unknown key deps"),
        ("wdir: ..\nouts: [{path: x.csv, md5: MD5}]", "unknown key wdir"),
        ("outs: [{path: ../prepared/train.parquet, md5: MD5}]", "outs.0.path: must name a file or folder beside it"),
        ("outs: [{path: /etc/x, md5: MD5}]", "outs.0.path: must name a file or folder beside it"),
        ("outs: [{path: x.csv, md5: MD5, cmd: touch}]", "unknown key outs.0.cmd"),
        ("outs: [{path: x.csv, md5: ../../../x}]", "outs.0.md5"),
        ("outs: []", "outs"),
    ],
)
def test_a_pointer_names_data_beside_it_and_no_more(project: Project, content: str, problem: str) -> None:
    (project.folder / "data/raw/x.csv.dvc").write_text(content.replace("MD5", "a" * 32), encoding="utf-8")
    done = make(project, "check")
    assert done.returncode != 0
    assert f"data/raw/x.csv.dvc: {problem}" in done.stdout


def test_what_dvc_add_writes_is_accepted(project: Project) -> None:
    (project.folder / "data/raw/x.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (project.folder / "data/raw/many").mkdir()
    (project.folder / "data/raw/many/y.csv").write_text("a\n1\n", encoding="utf-8")
    project.run("dvc", "add", "data/raw/x.csv", "data/raw/many")
    project.commit("data")
    done = make(project, "check")
    assert done.returncode == 0, done.stdout


@pytest.mark.e2e
def test_a_module_beside_the_data_is_not_imported_as_an_estimator(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (project.folder / "data/raw/evil.py").write_text(f"open({str(marker)!r}, 'w')", encoding="utf-8")
    project.edit_params(lambda params: params["model"].update(estimator="data.raw.evil.Model", params={}))
    done = project.run("dvc", "repro", "--force", check=False)
    assert done.returncode != 0
    assert "model.estimator: data.raw.evil.Model cannot be imported" in done.stdout
    assert "cannot be imported" in make(project, "check").stdout
    assert not marker.exists()


@pytest.mark.parametrize("name", [".venv/bin/python", ".uv/bin/uv", ".trusted/bin/python", "build/x", ".venv"])
def test_programs_that_a_commit_brings_are_refused(project: Project, name: str, tmp_path: Path) -> None:
    path = project.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n", encoding="utf-8")
    path.chmod(0o755)
    project.git("add", "--force", name)
    done = project.run("make", "--file=Makefile", "gate-required", check=False, NEEDS="{}")
    assert done.returncode != 0
    assert f"Git tracks files where programs are installed: {name}" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_a_module_at_the_root_or_in_src_does_not_stand_in_for_python_s_own(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for name in ("json.py", "src/json.py", "sitecustomize.py", "src/runpy.py"):
        (project.folder / name).write_text(f"open({str(marker)!r}, 'w')", encoding="utf-8")
    needs = json.dumps({name: {"result": "success"} for name in JOBS})
    done = project.run("make", "--file=Makefile", "gate-required", NEEDS=needs, PYTHONPATH="")
    assert "every required job succeeded" in done.stdout
    assert not marker.exists()
