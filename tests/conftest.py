"""What the tests share: a scratch copy of the project, in which everything runs for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

# fixtures of the running service
pytest_plugins = ("serving.served",)


class Project:
    """A copy of the project in a repository of its own, at a path with a space, with an empty DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.org")
        self.commit("start")

    @property
    def environment(self) -> dict[str, str]:
        """This interpreter's commands, and the copy's own modules before the installed ones; no CI, no make above."""
        foreign = ("MLFLOW_", "GIT_", "GITHUB_", "MAKE", "MFLAGS", "PYTHONSAFEPATH")
        kept = {key: value for key, value in os.environ.items() if key != "CI" and not key.startswith(foreign)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        return {**kept, "PATH": path, "PYTHONPATH": str(self.folder / "src")}

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; standard output and error come back together in `stdout`."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}"
        return done

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def stage(self, name: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one stage alone."""
        return self.run(sys.executable, "-m", f"mlops.pipeline.{name}", check=check, **environment)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def edit_params(self, change: Callable[[Any], None]) -> None:
        """Change `params.yaml` in place, keeping comments."""
        self._edit("params.yaml", change)

    def edit_gate(self, change: Callable[[Any], None]) -> None:
        """Change `gate.yaml` in place, keeping comments."""
        self._edit("gate.yaml", change)

    def _edit(self, name: str, change: Callable[[Any], None]) -> None:
        yaml = YAML()
        document = yaml.load(self.folder / name)
        change(document)
        yaml.dump(document, self.folder / name)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh scratch copy of the project."""
    folder = tmp_path / "a project"
    folder.mkdir()
    return Project(folder)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which the pipeline has run once; tests that change it take a copy of their own."""
    folder = tmp_path_factory.mktemp("done") / "a project"
    folder.mkdir()
    project = Project(folder)
    (folder / "dvc.lock").unlink()
    shutil.rmtree(folder / "reports")
    project.run("dvc", "repro")
    project.commit("run")
    return project


def copied(done: Project, folder: Path) -> Project:
    """A copy of a project that has run, cache included."""
    shutil.copytree(done.folder, folder / "a copy")
    project = object.__new__(Project)
    project.folder = folder / "a copy"
    return project
