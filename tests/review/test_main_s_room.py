"""Main's model is scored with main's own `src/project/`, and this change's model with this change's."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from mlops.core import settings as settings_module
from mlops.core.git import git
from mlops.data import project as projects
from mlops.review.baseline import find
from mlops.review.evidence import gather
from mlops.review.room import Room

HEAD = "import numpy as np\nfrom mlops import feature\n\n"
OTHERWISE = f"""{HEAD}
@feature("mean perimeter", "mean area")
def irregularity(perimeter, area):
    return -perimeter**2 / area

@feature("worst radius", "mean radius")
def enlargement(worst, mean):
    return worst / mean
"""


def imported() -> str:
    """What `project.features` is, in the words of its file."""
    import project.features

    return Path(str(project.features.__file__)).read_text(encoding="utf-8")


def test_inside_the_room_the_team_s_code_is_the_commit_s_and_outside_it_is_this_change_s(here: Project) -> None:
    head = git("rev-parse", "HEAD")
    before = imported()
    path = here.folder / "src/project/features.py"
    path.write_text(OTHERWISE, encoding="utf-8")
    (here.folder / "src/project/shared/more.py").write_text("x = 1\n", encoding="utf-8")
    here.commit("other features")
    room = Room(git("rev-parse", "HEAD"), Path("build/room"))
    module = sys.modules["project.features"]
    with room.entered():
        assert imported() == OTHERWISE
        importlib.import_module("project.shared.more")

        inside = sys.modules["project.features"]
        child = subprocess.run(
            [sys.executable, "-P", "-c", "import project.features as f; print(f.__file__)"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(child.stdout.strip()) == room.folder / "project/features.py"
    assert imported() == before
    assert sys.modules["project.features"] is module
    assert "project.shared.more" not in sys.modules
    # entered again it is the very same code, since a model's classes belong to it
    with room.entered():
        assert sys.modules["project.features"] is inside
    assert Room(head, Path("build/room")).folder.is_dir()
    assert not (Path("build/room") / "project/shared/more.py").exists()


def test_a_commit_without_the_room_has_none_of_this_change_s_code(here: Project) -> None:
    here.git("rm", "--quiet", "-r", "src/project")
    here.commit("no room")
    with Room(git("rev-parse", "HEAD"), Path("build/room")).entered(), pytest.raises(ImportError):
        import project.features  # noqa: F401


def test_an_error_inside_leaves_this_change_s_code_as_it_was(here: Project) -> None:
    before, path = imported(), list(sys.path)
    room = Room(git("rev-parse", "HEAD"), Path("build/room"))
    with pytest.raises(ZeroDivisionError), room.entered():
        raise ZeroDivisionError
    assert (imported(), sys.path) == (before, path)


@pytest.mark.e2e
def test_main_s_model_is_scored_with_main_s_features_whatever_this_change_makes_of_them(here: Project) -> None:
    main = find(git("rev-parse", "HEAD"), settings_module.load())
    same = gather(projects.open(), main, [], False, 200).evidence.pairs["log_loss"]
    assert same.baseline == same.candidate
    # this change computes a feature of that name otherwise, and another one that main does not have
    (here.folder / "src/project/features.py").write_text(OTHERWISE, encoding="utf-8")
    script = (
        "from mlops.core import settings\nfrom mlops.core.git import git\nfrom mlops.data import project\n"
        "from mlops.review import evidence\nfrom mlops.review.baseline import find\n"
        "main = find(git('rev-parse', 'HEAD'), settings.load())\n"
        "found = evidence.gather(project.open(), main, [], False, 200).evidence\n"
        "pair, drift = found.pairs['log_loss'], [each.column for each in found.drift]\n"
        "import json\n"
        "print(json.dumps({'problem': found.baseline_problem, 'baseline': pair.baseline, "
        "'candidate': pair.candidate, 'drift': drift}))\n"
    )
    here.run("dvc", "repro", "evaluate")
    said = json.loads(here.run(sys.executable, "-c", script).stdout.splitlines()[-1])
    assert said["problem"] is None
    assert said["baseline"] == same.baseline
    assert said["candidate"] != same.candidate
    assert {"irregularity", "enlargement"} <= set(said["drift"])


def test_features_of_main_that_cannot_be_imported_are_a_reason_in_words(here: Project) -> None:
    path = here.folder / "src/project/features.py"
    whole = path.read_text(encoding="utf-8")
    path.write_text("import nothing_of_that_name\n", encoding="utf-8")
    here.commit("broken")
    path.write_text(whole, encoding="utf-8")
    main = find(git("rev-parse", "HEAD"), settings_module.load())
    assert main.model is None
    assert str(main.problem).startswith(
        "main's files cannot be read by this change's code: src/project/features.py, line 1: ModuleNotFoundError"
    )
