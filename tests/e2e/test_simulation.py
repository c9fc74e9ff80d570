"""`make simulate`: weeks of production, from a release over an alarm to the next release, on real parts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from conftest import Project, copied


def test_an_alarm_leads_to_the_next_release_and_back_to_calm(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path / "project")
    lines = project.run(sys.executable, "examples/simulate.py", "concept").stdout.splitlines()
    days = [line for line in lines if re.match(r"\d\d (Jan|Feb) ", line)]
    before = [line for line in days if "changed" not in line]
    assert len(before) == 14
    assert not [line for line in before if "worse than" in line]
    assert any("an issue is opened: issue-alarm.md" in line for line in lines), lines
    assert "merged, and v1.1.0 is released" in lines
    assert days[-1].endswith("No alarm")
    folder = project.folder / "build/simulate/concept/build/simulation"
    names = {"alarm.html", "comment.md", "issue-alarm.md", "retraining.md", "v1.0.0.html", "v1.1.0.html"}
    assert {path.name for path in folder.iterdir()} == names
    assert "newest labelled rows" in (folder / "comment.md").read_text(encoding="utf-8")


def test_an_unknown_change_is_refused_with_the_known_ones(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path / "project")
    refused = project.run(sys.executable, "examples/simulate.py", "concpt", check=False)
    assert refused.returncode != 0
    assert "there is no change 'concpt'" in refused.stdout
    assert "concept" in refused.stdout
    assert not (project.folder / "build/simulate").exists()
