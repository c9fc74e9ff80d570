"""What the tests share: a scratch copy of the project, in which everything runs for real."""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
E2E = ROOT / "tests/e2e"
# minutes each
LONGEST = ("test_simulation.py", "test_readme.py", "test_keras_example.py", "test_schedule.py")

# there is a process for each processor, and threads that wait for each other would take what the others need
os.environ.setdefault("OMP_NUM_THREADS", "1")

# fixtures of the service, of GitHub's API and of a cluster, unless the project deleted the template's own tests
pytest_plugins = [
    name
    for name in ("serving.served", "review.github", "k8s.released", "k8s.followed")
    if (ROOT / "tests" / name.replace(".", "/")).with_suffix(".py").exists()
]


Write = Callable[..., None]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in `tests/e2e`, and start with a few files, and with the tests that run the pipeline.

    These take longest; started last, they would leave one process without work.
    """
    for item in items:
        if E2E in item.path.parents and not item.get_closest_marker("quick"):
            item.add_marker("e2e")
    order = ("done", "project")

    def place(item: pytest.Item) -> tuple[bool, int]:
        first = next((n for n, name in enumerate(order) if name in item.fixturenames), len(order))
        return item.path.name not in LONGEST, first

    items.sort(key=place)


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

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The project in a folder that holds one already."""
        project = object.__new__(cls)
        project.folder = folder
        return project

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

    def use_events(self, **sections: Any) -> None:
        """Let `params.yaml` name the partitions in `data/raw/events`, and change keys of its sections."""

        def change(params: Any) -> None:
            params["data"] = {
                "source": "data/raw/events/",
                "task": "classification",
                "target": "left",
                "positive": "yes",
                "key": ["id"],
                "features": [],
                "clean": {"functions": []},
            }
            for name, changed in sections.items():
                params[name].update(changed)

        self.edit_params(change)

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
    """A copy in which the pipeline has run; tests that change it take a copy of their own.

    The pipeline runs once for all processes of pytest-xdist: the first one runs it, the others wait for it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    finished = shared / "finished"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            folder = tmp_path_factory.mktemp("running") / "a project"
            folder.mkdir()
            project = Project(folder)
            (folder / "dvc.lock").unlink()
            shutil.rmtree(folder / "reports")
            project.run("dvc", "repro")
            project.commit("run")
            folder.rename(finished)
    return copied(Project.at(finished), tmp_path_factory.mktemp("done"))


def copied(done: Project, folder: Path) -> Project:
    """A copy of a project that has run, cache included."""
    shutil.copytree(done.folder, folder / "a copy", symlinks=True)
    return Project.at(folder / "a copy")


@pytest.fixture
def here(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of a project that has run, which is the current folder; `project` is its package."""
    project = copied(done, tmp_path)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return project


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A function that writes modules of a `src/project/` of the test's own, which takes the place of this project's."""
    room = tmp_path / "src/project"
    room.mkdir(parents=True)
    (room / "__init__.py").touch()
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "project"}
    monkeypatch.syspath_prepend(tmp_path / "src")

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "project"]:
            del sys.modules[name]

    def write(**modules: str) -> None:
        forget()
        for name, text in modules.items():
            (room / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    yield write
    forget()
    sys.modules.update(ours)


ROOM = ("__init__", "features", "cleaning", "metrics", "rules", "estimators", "shared/__init__")


def make_hostile(room: Path, canary: Path) -> None:
    """Let every module of a `src/project/` leave a file behind as soon as it is imported."""
    code = f"import traceback\nwith open({str(canary)!r}, 'a') as file:\n    traceback.print_stack(file=file)\n"
    for name in ROOM:
        path = room / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")


@pytest.fixture
def hostile(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hostile `src/project/` stands where Python finds it first; the test fails when any of it has run."""
    folder = tmp_path_factory.mktemp("hostile")
    make_hostile(folder / "project", folder / "canary")
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "project"}
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    importlib.invalidate_caches()
    yield
    run = (folder / "canary").read_text() if (folder / "canary").exists() else ""
    sys.modules.update(ours)
    assert not run, f"the team's code ran beside a token:\n{run}"
