"""Behaviour tests in a review: what fails, what hangs, what has disappeared, and how the comment shows it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mlops.core.git import git, resolve
from mlops.core.report import Behaviour, FailedTest, NotRun, Value
from mlops.review.behaviour import run
from mlops.review.sections import behaviour

FOLDER = Path("tests/behaviour")
PASSES = "def test_it_passes():\n    assert True\n"
PARAMS = """
data: {source: a.csv, target: y, task: regression, private: {name: pseudonymise}}
validate: {suite: null}
split: {method: random, test_size: 0.2, seed: 1}
model: {estimator: sklearn.svm.SVR}
tuning: null
evaluate: {}
"""
EXAMPLE = "from mlops.model.behaviour import example\n"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty repository, as the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # to start faster
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.org")
    FOLDER.mkdir(parents=True)
    write("README.md", "", folder=Path())
    commit()


def write(name: str, text: str, folder: Path = FOLDER) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def commit() -> str:
    git("add", "--all")
    git("commit", "--quiet", "--message", "tests")
    return resolve("HEAD")


def ran(seconds: float = 60) -> Behaviour:
    return run("HEAD", seconds)


def test_tests_that_pass_are_counted_and_take_no_room_in_the_comment() -> None:
    write("test_a.py", PASSES)
    assert ran() == Behaviour(passed=1, failures=0)
    assert behaviour(ran()) == ""


def test_a_failure_comes_with_its_first_row_and_the_number_of_rows() -> None:
    write("params.yaml", PARAMS, folder=Path())
    write("conftest.py", EXAMPLE)
    write(
        "test_a.py",
        "import pandas as pd\n\n\ndef test_prices_are_positive(example):\n"
        "    rows = pd.DataFrame({'name': ['Ada', 'Bob'], 'price': [-1.23456, -2], 'town': ['x' * 99, None]})\n"
        "    example(rows)\n    assert rows.empty\n",
    )
    found = ran()
    assert (found.passed, found.failures) == (0, 1)
    (failed,) = found.failed
    assert (failed.name, failed.rows, failed.why) == ("test_a.py::test_prices_are_positive", 2, "")
    # no private column, few digits, short texts
    assert [(each.column, each.value) for each in failed.row] == [("price", "-1.235"), ("town", "x" * 59 + "…")]
    assert "❌ prices are positive (<code>test&#95;a.py</code>): 2 rows, for example:" in behaviour(found)
    assert "Ada" not in behaviour(found)


def test_an_assertion_without_an_example_is_shown_itself() -> None:
    write("test_a.py", "def test_a():\n    assert 1 > 2, 'one is not more'\n\n\ndef test_b():\n    assert 3 > 4\n")
    assert [each.why for each in ran().failed] == ["one is not more", "assert 3 > 4"]


def test_an_error_in_a_fixture_or_after_a_test_is_a_failure() -> None:
    write(
        "test_a.py",
        "import pytest\n\n\n@pytest.fixture\ndef broken():\n    raise OSError('no file')\n\n\n"
        "@pytest.fixture\ndef untidy():\n    yield\n    raise OSError('not closed')\n\n\n"
        "def test_a(broken):\n    pass\n\n\ndef test_b(untidy):\n    pass\n",
    )
    found = ran()
    assert (found.passed, found.failures) == (0, 2)
    assert [each.why for each in found.failed] == ["OSError: no file", "OSError: not closed"]


def test_a_file_that_cannot_be_imported_is_a_failure_that_says_why() -> None:
    write("test_a.py", PASSES)
    write("test_b.py", "import absent_module\n\n\ndef test_b():\n    pass\n")
    found = ran()
    assert (found.passed, found.failures, found.not_run) == (1, 1, [])
    assert found.failed[0].name == "test_b.py"
    assert "No module named 'absent_module'" in found.failed[0].why


def test_a_file_with_a_syntax_error_is_a_failure() -> None:
    write("test_a.py", "def test_a(:\n")
    assert [(each.name, each.why) for each in ran().failed] == [("test_a.py", "SyntaxError: invalid syntax")]


def test_a_hanging_test_is_stopped_and_named_and_so_are_its_processes() -> None:
    write(
        "test_a.py",
        "import pathlib, subprocess, time\n\n\ndef test_a():\n    pass\n\n\ndef test_hangs():\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    pathlib.Path('child').write_text(str(child.pid))\n    time.sleep(600)\n\n\ndef test_z():\n    pass\n",
    )
    start = time.monotonic()
    found = ran(seconds=15)
    assert time.monotonic() - start < 60
    assert (found.passed, found.failures) == (1, 1)
    assert (found.failed[0].name, found.failed[0].why) == ("test_a.py::test_hangs", "did not finish within 15 s")
    assert [each.name for each in found.not_run] == ["test_a.py::test_z"]
    assert not Path("/proc", Path("child").read_text(), "root").exists()


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_test_that_ends_the_process_is_a_failure(code: int) -> None:
    write("test_a.py", f"import os\n\n\ndef test_ends():\n    os._exit({code})\n")
    found = ran()
    assert (found.passed, found.failures, found.failed[0].name) == (0, 1, "test_a.py::test_ends")
    assert f"exit code {code}" in found.failed[0].why


def test_a_broken_conftest_is_a_failure() -> None:
    write("conftest.py", "raise OSError('no file')\n")
    write("test_a.py", PASSES)
    found = ran()
    assert (found.passed, found.failures) == (0, 1)
    assert "exit code 4" in found.failed[0].why


def test_no_tests_are_no_failure_and_no_pass() -> None:
    assert ran() == Behaviour(passed=0, failures=0)
    write("test_a.py", "HELP = 1\n")
    assert ran() == Behaviour(passed=0, failures=0)


def test_a_test_that_main_has_and_this_change_lacks_is_named() -> None:
    write(
        "test_a.py",
        PASSES + "\n\ndef test_removed():\n    pass\n\n\nclass TestPart:\n    def test_kept(self):\n        pass\n",
    )
    commit()
    write("test_a.py", PASSES + "\n\nclass TestPart:\n    def test_kept(self):\n        pass\n")
    found = ran()
    assert (found.passed, found.failures) == (2, 0)
    assert found.not_run == [NotRun(name="test_a.py::test_removed", reason="removed", why="")]
    assert "- ⚠️ removed (<code>test&#95;a.py</code>): removed, main has it" in behaviour(found)


def test_a_test_that_moved_to_another_file_is_not_missed() -> None:
    write("test_a.py", PASSES)
    commit()
    (FOLDER / "test_a.py").rename(FOLDER / "test_b.py")
    assert ran() == Behaviour(passed=1, failures=0)


def test_skipped_and_expected_failures_are_named_with_their_reason() -> None:
    write(
        "test_a.py",
        "import pytest\n\n\n@pytest.mark.skip('too slow')\ndef test_a():\n    pass\n\n\n"
        "@pytest.mark.xfail(reason='known')\ndef test_b():\n    raise ValueError\n",
    )
    write(
        "test_b.py",
        "import pytest\n\npytest.skip('another table', allow_module_level=True)\n\n\ndef test_c():\n    pass\n",
    )
    assert sorted((each.name, each.reason, each.why) for each in ran().not_run) == [
        ("test_a.py::test_a", "skipped", "too slow"),
        ("test_a.py::test_b", "skipped", "expected to fail: known"),
        ("test_b.py", "skipped", "another table"),
    ]


def test_a_deselected_test_is_named() -> None:
    write("conftest.py", "def pytest_collection_modifyitems(items):\n    del items[0]\n")
    write("test_a.py", PASSES + "\n\n@__import__('pytest').mark.parametrize('n', [1, 2])\ndef test_b(n):\n    pass\n")
    found = ran()
    assert (found.passed, [(each.name, each.reason) for each in found.not_run]) == (
        2,
        [("test_a.py::test_it_passes", "deselected")],
    )


def test_options_from_outside_deselect_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    write("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '--collect-only'\n", folder=Path())
    write("test_a.py", PASSES)
    assert ran().passed == 1


def test_long_lists_are_cut_and_counted() -> None:
    write("test_a.py", "".join(f"def test_{n}():\n    assert 0\n\n\n" for n in range(30)))
    found = ran()
    assert (found.failures, len(found.failed)) == (30, 20)
    assert "- ❌ 10 more" in behaviour(found)


def test_texts_of_a_test_stay_text() -> None:
    evil = "<img src=x> @team #1 | `a` [b](http://c)"
    row = [Value(column=evil, value=evil)]
    text = behaviour(
        Behaviour(
            passed=0,
            failures=1,
            failed=[FailedTest(name=f"{evil}::test_{evil}", why=evil, rows=1, row=row, left_out=3)],
            not_run=[NotRun(name=evil, reason="skipped", why=evil)],
        )
    )
    for part in ("<img", "@team", "#1 ", "`a`", "](http"):
        assert part not in text
    assert "3 more columns are left out" in text
