"""`make pipeline` says what DVC says, but for its hints, and fails as DVC does."""

from __future__ import annotations

import sys

import pytest
from conftest import Project

from mlops.core import madeon

HINTS = ("git add", "autostage", "dvc push")


@pytest.fixture
def small(project: Project) -> Project:
    """A pipeline of one stage, which fails where a file `bad` says so."""
    (project.folder / "dvc.lock").unlink()
    (project.folder / "stage.py").write_text(
        "from pathlib import Path\n"
        "print('one line of the stage')\n"
        "assert not Path('bad').exists(), 'bad input'\n"
        "Path('made').write_text('x')\n",
        encoding="utf-8",
    )
    (project.folder / "dvc.yaml").write_text(
        f"stages:\n  one:\n    cmd: '\"{sys.executable}\" stage.py'\n    deps: [stage.py]\n    outs: [made]\n",
        encoding="utf-8",
    )
    project.commit("small")
    return project


def test_dvc_keeps_its_log_errors_and_exit_code_but_not_its_hints(small: Project) -> None:
    (small.folder / "bad").touch()
    failed = small.run(sys.executable, "-m", "mlops.core.repro", check=False)
    assert failed.returncode == 255
    assert "AssertionError: bad input" in failed.stdout
    assert "ERROR: failed to reproduce 'one'" in failed.stdout

    (small.folder / "bad").unlink()
    said = small.run(sys.executable, "-m", "mlops.core.repro").stdout
    assert "Running stage 'one'" in said
    assert "one line of the stage" in said
    assert not [hint for hint in HINTS if hint in said]
    named = f"# made on {madeon.here()}\n"
    assert small.read("dvc.lock").startswith(named)

    # DVC itself gives them, in these words
    (small.folder / "stage.py").write_text("from pathlib import Path\nPath('made').write_text('y')\n")
    by_dvc = small.run("dvc", "repro").stdout
    assert not [hint for hint in HINTS if hint not in by_dvc], by_dvc
    # and it keeps the comment
    assert small.read("dvc.lock").startswith(named)
