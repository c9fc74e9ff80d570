"""Which files of the team's room a module needs, found without running any of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import Write

from mlops.core import hooks, room
from mlops.core.errors import UserError

CANARY = "from pathlib import Path\nPath('canary').touch()\n"


def test_a_module_needs_itself_and_what_it_imports_of_the_room_however_it_is_written(team: Write) -> None:
    team(
        features="from project.one import x\nfrom . import two\n",
        one="import project.three as t\nx = 1\n",
        two="def later():\n    from .four import y\n    return y\n",
        three="",
        four="y = 1\n",
        metrics="import project.features\n",
    )
    assert [path.as_posix() for path in room.files("features")] == [
        "__init__.py",
        "features.py",
        "four.py",
        "one.py",
        "three.py",
        "two.py",
    ]
    assert [path.as_posix() for path in room.files("four")] == ["__init__.py", "four.py"]


def test_packages_of_the_room_count_with_their_modules(team: Write, tmp_path: Path) -> None:
    team(features="from project.shared.words import clean\n")
    (tmp_path / "src/project/shared").mkdir()
    (tmp_path / "src/project/shared/__init__.py").touch()
    (tmp_path / "src/project/shared/words.py").write_text("from . import other\nclean = str.strip\n")
    (tmp_path / "src/project/shared/other.py").touch()
    found = [path.as_posix() for path in room.files("features")]
    assert found == ["__init__.py", "features.py", "shared/__init__.py", "shared/other.py", "shared/words.py"]


def test_what_is_neither_here_nor_of_python_is_a_package_to_be_installed(team: Write) -> None:
    team(features="import json\nimport numpy as np\nfrom scipy.special import erf\nfrom mlops import feature\n")
    assert room.packages("features") == ["numpy", "scipy"]


def test_nothing_of_the_room_runs_when_its_files_are_listed_and_hashed(team: Write, tmp_path: Path) -> None:
    team(features=CANARY + "import project.other\n", other=CANARY)
    (tmp_path / "src/project/__init__.py").write_text(CANARY)
    before = set(sys.modules)
    assert list(room.hashes("features")) == ["__init__.py", "features.py", "other.py"]
    assert room.packages("features") == []
    assert not {name for name in set(sys.modules) - before if name.startswith("project")}
    assert not Path("canary").exists()


def test_another_content_is_another_hash(team: Write) -> None:
    team(features="x = 1\n")
    one = room.hashes("features")
    team(features="x = 2\n")
    other = room.hashes("features")
    assert one["__init__.py"] == other["__init__.py"]
    assert one["features.py"] != other["features.py"]


def test_a_module_that_the_team_does_not_have_needs_no_files(team: Write) -> None:
    team()
    assert room.files("features") == []
    assert room.hashes("features") == {}


def test_files_with_hooks_share_code_through_one_folder_only(team: Write, tmp_path: Path) -> None:
    shared = tmp_path / "src/project/shared"
    shared.mkdir()
    (shared / "__init__.py").touch()
    team(features="from project.shared import words\n", metrics="import numpy\n", geometry="")
    room.check()
    team(features="from project.geometry import area\n")
    with pytest.raises(UserError, match=r"features.py needs src/project/geometry.py, so DVC would not notice"):
        room.check()
    team(features="", rules="from project import features\n")
    with pytest.raises(UserError, match=r"rules.py needs src/project/features.py"):
        room.check()


def test_an_error_is_placed_in_the_team_s_code_whatever_the_folders_above_are_called(
    team: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/dividing.py").write_text("def by_zero():\n    return 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path / "project")
    team(metrics="import dividing\n\ndef divide():\n    return dividing.by_zero()\n")
    found = hooks.module("metrics")
    assert found is not None
    with pytest.raises(ZeroDivisionError) as error:
        found.divide()
    assert hooks.raised_at(error.value) == "src/project/metrics.py, line 4"
