"""`make setup` gives a folder an environment of its own, which nothing else changes, and repairs a broken one.

For real, but with few packages, and with the caches of uv and pip that are here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROOT, Project, copied

from mlops.core.madeon import LINE

LINK = ".venv/lib/python3.11/site-packages/mlops.pth"
NOTHING = "make: Nothing to be done for 'setup'.\n"
FEW_PACKAGES = """
[project]
name = "mlops"
version = "0"
requires-python = "==3.11.*"
dependencies = ["ruamel-yaml"]

[build-system]
requires = ["uv_build>=0.9"]
build-backend = "uv_build"

[tool.uv]
python-downloads = "never"
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "home").mkdir()
    return folder


@pytest.fixture(scope="module")
def bare(machine: Path) -> dict[str, str]:
    """An empty HOME, and no uv; what names another project's environment must not count."""
    tools = (Path(folder) for folder in os.environ["PATH"].split(os.pathsep))
    system = [str(folder) for folder in tools if not (folder / "uv").exists() and not folder.is_relative_to(ROOT)]
    cache = Path.home() / ".cache"
    return {
        "PATH": os.pathsep.join(system),
        "PYTHONPATH": "",
        "VIRTUAL_ENV": "",
        "HOME": str(machine / "home"),
        "GIT_CONFIG_GLOBAL": str(Path.home() / ".gitconfig"),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(cache / "uv")),
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(cache / "pip")),
        "UV_PROJECT_ENVIRONMENT": str(machine / "another"),
    }


@pytest.fixture(scope="module")
def ready(machine: Path, bare: dict[str, str]) -> Project:
    """A project after `make setup`; each test leaves it so."""
    (machine / "a project").mkdir()
    project = Project(machine / "a project")
    (project.folder / "pyproject.toml").write_text(FEW_PACKAGES, encoding="utf-8")
    project.run("make", ".uv/bin/uv", **bare)
    project.run(".uv/bin/uv", "lock", "--quiet", **bare)
    project.commit("few packages")
    project.run("make", "setup", **bare)
    assert not (machine / "another").exists()
    assert works(project, bare)
    assert project.run("make", "setup", **bare).stdout == NOTHING
    return project


def works(project: Project, bare: dict[str, str]) -> bool:
    """Whether the environment imports this project's modules."""
    asked = "import mlops, ruamel.yaml; print(mlops.__file__)"
    found = project.run(".venv/bin/python", "-c", asked, check=False, **bare).stdout.strip()
    return found == str(project.folder / "src/mlops/__init__.py")


def repairs(project: Project, bare: dict[str, str]) -> bool:
    """Whether `make setup` makes the environment work, and is content then."""
    assert project.run("make", "setup", **bare).stdout != NOTHING
    return works(project, bare) and project.run("make", "setup", **bare).stdout == NOTHING


def test_a_benchmark_killed_half_way_leaves_the_environment_alone(
    ready: Project, bare: dict[str, str], tmp_path: Path
) -> None:
    """It is killed when `make` in its clone has installed, and starts the first module there."""
    reached = tmp_path / "reached"
    package = ready.folder / "src/mlops/__init__.py"
    was = package.read_text(encoding="utf-8")
    package.write_text(f"import pathlib, time\npathlib.Path({str(reached)!r}).touch()\ntime.sleep(600)\n")
    ready.commit("wait to be killed")
    package.write_text(was, encoding="utf-8")
    (tmp_path / "scratch").mkdir()
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [".venv/bin/python", "-m", "benchmarks", "idle"],
            cwd=ready.folder,
            # VIRTUAL_ENV as after `source .venv/bin/activate`
            env={
                **ready.environment,
                **bare,
                "TMPDIR": str(tmp_path / "scratch"),
                "VIRTUAL_ENV": f"{ready.folder}/.venv",
            },
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not reached.exists():
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(tmp_path / "scratch")
    assert works(ready, bare)
    assert ready.run("make", "setup", **bare).stdout == NOTHING


def test_setup_repairs_a_link_to_a_folder_that_is_gone(ready: Project, bare: dict[str, str]) -> None:
    """But not where PYTHONPATH leads to the modules, as it does for who lends an environment."""
    link = ready.folder / LINK
    link.unlink()  # uv's cache holds the same file
    link.write_text("/gone/src", encoding="utf-8")
    assert not works(ready, bare)
    lent = {**bare, "PYTHONPATH": f"{ready.folder}/src{os.pathsep}/elsewhere"}
    assert ready.run("make", "setup", **lent).stdout == NOTHING
    assert repairs(ready, bare)


def test_setup_installs_anew_where_the_interpreter_is_gone(ready: Project, bare: dict[str, str]) -> None:
    python = ready.folder / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/gone/python")
    assert repairs(ready, bare)


def test_setup_gives_a_copy_and_a_borrower_environments_of_their_own(
    ready: Project, bare: dict[str, str], tmp_path: Path
) -> None:
    copy = copied(ready, tmp_path)
    assert not works(copy, bare)
    assert repairs(copy, bare)
    assert str(copy.folder) in (copy.folder / ".venv/bin/activate").read_text(encoding="utf-8")
    here, there = copy.folder / ".venv", ready.folder / ".venv"
    shutil.rmtree(here)
    here.symlink_to(there)
    assert repairs(copy, bare)
    shutil.rmtree(here)
    here.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (here / name).symlink_to(there / name)
    assert repairs(copy, {**bare, "PYTHONPATH": str(copy.folder / "src")})
    assert works(copy, bare)
    assert works(ready, bare)


def test_a_missing_python_is_named_and_downloaded_only_on_request(
    ready: Project, bare: dict[str, str], tmp_path: Path
) -> None:
    """The download comes from a server of this test, which has none: what counts is that uv asks for it."""
    project = copied(ready, tmp_path)
    shutil.rmtree(project.folder / ".venv")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "grep", "head", "make", "rm", "sed", "sh", "touch"):
        (tools / name).symlink_to(str(shutil.which(name)))
    alone = {**bare, "PATH": str(tools), "UV_PYTHON_INSTALL_DIR": str(tmp_path / "managed")}
    done = project.run("make", "setup", check=False, **alone)
    assert done.returncode
    assert done.stdout.splitlines()[:2] == [
        "error: Python 3.11 is missing; it computes what dvc.lock records, so no other version takes its place",
        "  try: PYTHON_DOWNLOADS=yes make, which lets uv download it for your account; or install it yourself",
    ]
    asked = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = {"UV_PYTHON_INSTALL_MIRROR": f"http://127.0.0.1:{server.server_port}", "PYTHON_DOWNLOADS": "yes"}
        done = project.run("make", "setup", check=False, **alone, **mirror)
        server.shutdown()
    assert done.returncode
    assert done.stdout.startswith("uv downloads Python 3.11 for your account\n")
    assert asked
    assert all("cpython-3.11." in path for path in asked)
    assert not (project.folder / ".venv").exists()


def test_verify_does_not_lead_its_clone_back(project: Project, tmp_path: Path) -> None:
    """`make` in it gets neither the environment here, nor the repository, nor the `make` above."""
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text(f'#!/bin/sh\nenv > "{tmp_path}/log"\n', encoding="utf-8")
    make.chmod(0o755)
    leading = {
        "GIT_DIR": str(project.folder / ".git"),
        "MAKEFLAGS": "B",
        "UV_PROJECT_ENVIRONMENT": str(project.folder / ".venv"),
        "VIRTUAL_ENV": str(project.folder / ".venv"),
    }
    path = f"{make.parent}{os.pathsep}{project.environment['PATH']}"
    project.run("python", "-m", "mlops.pipeline.verify", **leading, PATH=path)
    seen = (tmp_path / "log").read_text(encoding="utf-8")
    names = {line.split("=")[0] for line in seen.splitlines()}
    assert "PATH" in names
    assert not names & {*leading, "PYTHONPATH"}
    assert project.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_verify_says_which_platform_can_give_the_bits_of_a_lock(project: Project, tmp_path: Path) -> None:
    """`make` in the clone stands for a run that gives other bits."""
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\nsed -i "s/md5: ./md5: x/" "$2/dvc.lock"\n', encoding="utf-8")
    make.chmod(0o755)
    lock = project.folder / "dvc.lock"
    content = LINE.sub(b"", lock.read_bytes())
    path = f"{make.parent}{os.pathsep}{project.environment['PATH']}"
    for first, remedy in ((b"# made on plan9 mips\n", "make verify on plan9 mips, where"), (b"", "make, and commit")):
        lock.write_bytes(first + content)
        project.commit("lock")
        done = project.run("python", "-m", "mlops.pipeline.verify", check=False, PATH=path)
        assert done.returncode == 1
        assert "stage train: models/model.skops" in done.stdout
        assert f"  try: {remedy}" in done.stdout
    make.write_text('#!/bin/sh\nsed -i "1i # made on here now" "$2/dvc.lock"\n', encoding="utf-8")
    assert "are bit for bit as in dvc.lock" in project.run("python", "-m", "mlops.pipeline.verify", PATH=path).stdout
