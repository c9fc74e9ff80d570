"""A stage of the team's own: a module and an entry of `dvc.yaml`, and nothing else knows of it."""

from __future__ import annotations

import json
import sys

from conftest import Project
from e2e.test_review import Change, change, verdicts

from mlops.core.lock import read_lock

__all__ = ["change"]  # a fixture

MODULE = '''"""Stage `errors`: the test rows that the model gets wrong, by the probability that it gave."""

from mlops.core import paths
from mlops.core.errors import run
from mlops.core.files import write_json
from mlops.data import tables
from project.stages.rounding import rounded


def main() -> str:
    rows = tables.read(paths.PREDICTIONS).to_pylist()
    wrong = [row for row in rows if row["predicted"] != row["actual"]]
    write_json({"wrong": len(wrong), "share": rounded(len(wrong) / len(rows))}, "reports/errors.json")
    return f"{len(wrong)} errors"


if __name__ == "__main__":
    run("errors", main)
'''
ENTRY = """
  errors:
    desc: count the errors on the test rows
    cmd: python -P -m project.stages.errors
    deps:
      - reports/predictions.parquet
      - uv.lock
    metrics:
      - reports/errors.json: {cache: false}
"""


def with_own_stage(project: Project) -> None:
    for name, text in {
        "stages/rounding.py": "def rounded(value: float) -> float:\n    return round(value, 4)\n",
        "stages/__init__.py": "",
        "stages/errors.py": MODULE,
    }.items():
        path = project.folder / "src/project" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    pipeline = project.folder / "dvc.yaml"
    pipeline.write_text(pipeline.read_text(encoding="utf-8") + ENTRY, encoding="utf-8")
    project.run(sys.executable, "-m", "mlops.pipeline.stages")


def test_a_stage_of_the_team_runs_is_reviewed_and_follows_its_imports(change: Change) -> None:
    change.commit(with_own_stage)
    project = change.project
    assert json.loads(project.read("reports/errors.json"))["wrong"] > 0
    deps = [dep["path"] for dep in read_lock(project.folder / "dvc.lock")["errors"]["deps"]]
    assert {"src/project/stages/errors.py", "src/project/stages/rounding.py", "src/mlops/data/tables.py"} <= {*deps}
    report = change.review()
    assert (change.code, verdicts(report)["lock"]) == (0, "pass")

    # an edit of what it imports runs it again, and only it
    helper = project.folder / "src/project/stages/rounding.py"
    helper.write_text(helper.read_text(encoding="utf-8").replace("4", "1"), encoding="utf-8")
    ran = project.run("dvc", "repro").stdout
    assert "Running stage 'errors'" in ran
    assert "mlops.pipeline.ingest" not in ran


def test_outputs_are_found_whatever_the_stages_are_called(change: Change) -> None:
    def renamed(project: Project) -> None:
        text = project.read("dvc.yaml").replace("\n  train:\n", "\n  fit:\n").replace("\n  split:\n", "\n  divide:\n")
        (project.folder / "dvc.yaml").write_text(text, encoding="utf-8")

    change.commit(renamed)
    report = change.review()
    assert (change.code, verdicts(report)["lock"]) == (0, "pass")
    assert report.baseline is not None
    assert report.baseline.problem is None
    # and the renamed stages are what the next change is compared with
    change.project.git("branch", "--force", "base")
    report = change.review()
    assert report.baseline is not None
    assert (report.baseline.origin, report.baseline.problem) == ("cache", None)
    assert all(each.before == each.after for each in report.lineage)
