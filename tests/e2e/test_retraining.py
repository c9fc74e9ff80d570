"""From a log to the review of a retraining, on real parts: service log, labels, monitor, branch, pipeline, review."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from conftest import ROOT, Project, copied

from mlops.core.report import read

LABELS = {"source": "build/log/labels.csv", "request_id": "request_id", "row": "row", "time": "known_at"}


class Production:
    """A released project, and what it sees."""

    def __init__(self, done: Project, folder: Path, **policy: Any) -> None:
        self.project = copied(done, folder)
        self.project.edit_params(lambda params: params.update(monitor={"labels": LABELS, "retrain": policy}))
        self.project.commit("watch")

    def sees(self, change: str) -> None:
        self.project.run(sys.executable, str(ROOT / "tests/monitoring/production.py"), "build/log", change)

    def monitor(self) -> int:
        done = self.project.run(sys.executable, "-m", "mlops.monitoring", "build/log", check=False)
        return done.returncode

    def retrain(self) -> tuple[int, str]:
        done = self.project.run(sys.executable, "-m", "mlops.monitoring.retrain", "build/log", check=False)
        assert "Traceback" not in done.stdout, done.stdout
        return done.returncode, done.stdout

    @property
    def branches(self) -> list[str]:
        return self.project.git("for-each-ref", "--format=%(refname:short)", "refs/heads/retrain").split()

    def rows(self, path: str) -> set[tuple[Any, ...]]:
        table = pq.ParquetFile(self.project.folder / path).read()
        return set(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def test_a_change_of_the_relation_becomes_a_branch_whose_review_shows_both_tables(
    done: Project, tmp_path: Path
) -> None:
    production = Production(done, tmp_path, when="alarm")
    project = production.project
    project.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    project.commit("add a remote")
    production.sees("concept")
    assert production.monitor() == 3
    before, test = project.git("status", "--porcelain"), production.rows("data/prepared/test.parquet")
    code, output = production.retrain()
    assert code == 0, output
    (branch,) = production.branches
    assert project.git("status", "--porcelain") == before
    rows = [f"data/raw/production/{branch.removeprefix('retrain/')}{part}.parquet" for part in ("-recent", "")]
    pointers = [f"{name}.dvc" for name in rows]
    changed = project.git("diff", "--name-only", "main", branch).split("\n")
    assert changed == ["data/raw/production/.gitignore", *pointers, "params.yaml"]

    tip = project.git("rev-parse", branch)
    code, output = production.retrain()
    assert (code, project.git("rev-parse", branch)) == (0, tip)
    assert "nothing has changed" in output

    project.git("switch", "--quiet", branch)
    project.run(sys.executable, "-m", "mlops.core.dvcfiles")
    project.run("dvc", "repro")
    project.commit("run the pipeline")
    assert production.rows("data/prepared/test.parquet") == test
    recent = production.rows("data/prepared/recent.parquet")
    assert recent
    assert not recent & production.rows("data/prepared/train.parquet")
    assert len(production.rows("data/prepared/train.parquet")) == 852  # as many new rows as main had

    imports = "from mlops.data import project; from mlops.monitoring import reference"
    count = f"{imports}; print(len(reference.read(project.open()).y))"
    assert project.run(sys.executable, "-c", count).stdout.strip() == str(len(recent))

    for name in rows:  # as in a clone, which has their pointers
        (project.folder / name).unlink()
    project.run(sys.executable, "-m", "mlops.review", "--base", "main", check=False)
    report = read(project.folder / "build/review/report.json")
    assert (report.problem, report.rows.test, report.recent.rows) == (None, 143, len(recent))  # type: ignore[union-attr]
    assert report.recent is not None
    frozen, newest = ({each.metric: each for each in part} for part in (report.metrics, report.recent.metrics))
    assert frozen["log_loss"].difference.low > 0  # type: ignore[operator]
    assert newest["log_loss"].difference.high < 0  # type: ignore[operator]
    comment = project.read("build/review/comment.md")
    assert "**On the 143 test rows, which stay the same**" in comment
    assert f"**On the {len(recent)} newest labelled rows, which neither model was trained on**" in comment


def test_a_broken_batch_becomes_no_branch_and_names_its_rows(done: Project, tmp_path: Path) -> None:
    production = Production(done, tmp_path, when="labels", least_rows=100)
    production.sees("unit")
    code, output = production.retrain()
    assert code == 3
    assert production.branches == []
    assert "worst radius" in output
    proposal = json.loads(production.project.read("build/monitor/retrain/retrain.json"))
    assert proposal["state"] == "broken"
    (problem,) = [each for each in proposal["problems"] if each["column"] == "worst radius, mean radius"]
    assert problem["rows"] == 1200
    assert problem["examples"][0]["request_id"] == "day10-0"
    assert "request <code>day10-0</code>, row 0" in production.project.read("build/monitor/retrain/retrain.md")
