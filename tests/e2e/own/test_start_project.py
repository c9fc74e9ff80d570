"""`make start` for a newcomer's table, then the first change in review, as the README says it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from conftest import Project
from ruamel.yaml import YAML
from sklearn import datasets

from mlops.core.report import read

MAKE = ("make", "--assume-old=.venv/.ready")


def test_a_table_becomes_a_project_whose_first_change_passes_its_review(project: Project, tmp_path: Path) -> None:
    bunch = datasets.load_wine(as_frame=True)
    table = bunch.frame.assign(cultivar=[f"cultivar {n}" for n in bunch.target]).drop(columns="target")
    table.insert(0, "bottle_id", [f"B{n:04}" for n in range(len(table))])
    table.to_csv(tmp_path / "wine.csv", index=False, sep=";")
    start = (*MAKE, "start", f"TABLE={tmp_path / 'wine.csv'}", "TARGET=cultivar")
    output = project.run(*start).stdout
    assert "178 rows × 15 columns → params.yaml" in output
    assert "LogisticRegression predicts cultivar" in output
    yaml = YAML(typ="safe")
    params, gate = yaml.load(project.read("params.yaml")), yaml.load(project.read("gate.yaml"))
    assert (params["data"]["key"], params["data"]["delimiter"]) == (["bottle_id"], ";")
    assert json.loads(project.read("reports/validation.json"))["failed_critical"] == 0
    assert {"floor", "no_worse", "validation", "lock"} <= {rule["rule"] for rule in gate["rules"]}
    assert "test rows detect a loss of" in project.read("gate.yaml")
    assert "`cultivar`" in project.read("models/CARD.md")
    assert "predicts `cultivar`" in project.read("README.md")
    assert re.search(r"removed \d{3} files that test and measure the template itself", output)
    project.commit("start")
    assert project.git("ls-files", "benchmarks", "examples", "tests/core") == ""

    project.git("switch", "--create", "stronger")
    text = project.read("params.yaml")
    (project.folder / "params.yaml").write_text(text.replace("C: 1.0", "C: 0.9"), encoding="utf-8")
    project.run("dvc", "repro")
    project.commit("regularise")
    reviewed = project.run(sys.executable, "-P", "-m", "mlops.review", "--base", "main", check=False)
    assert reviewed.returncode == 0, reviewed.stdout
    report = read(project.folder / "build/review/report.json")
    compared = [rule for rule in report.policy.results if rule.rule == "no_worse"]
    assert compared
    assert {rule.verdict for rule in compared} == {"pass"}

    again = project.run(*start, check=False)
    assert again.returncode != 0
    assert "params.yaml was edited, and `make start` does not write over an edit" in again.stdout
    assert project.git("status", "--porcelain") == ""
