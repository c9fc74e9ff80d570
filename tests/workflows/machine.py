"""A GitHub made of folders: a bare repository as origin, pull requests as merge commits in it, and `act` as the runner.

Actions that would be downloaded are replaced by those in `actions/`; our own steps run as they are, on this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from conftest import Project

ACTIONS = Path(__file__).parent / "actions"
WORKFLOWS = Path(".github/workflows")
# `make test` runs as it is; what it finds in the scratch repository are quick ones of our tests, and one in tests/e2e
PLUGINS = ("tests/conftest.py", "tests/serving/served.py", "tests/review/github.py")
TESTS = (*PLUGINS, "tests/test_workflows.py", "tests/review/test_required.py")


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: .ci/tools installs it, `make test-workflows` finds it"
    return found


class Run(NamedTuple):
    """What became of a workflow."""

    jobs: dict[str, str]
    log: str
    artifacts: Path

    @property
    def report(self) -> dict[str, Any]:
        with zipfile.ZipFile(self.artifacts / "report.zip") as archive:
            assert archive.namelist() == ["report.json"]
            report: dict[str, Any] = json.loads(archive.read("report.json"))
        return report


class GitHub:
    """The repository, and what runs there.

    Parameters
    ----------
    folder : Path
        An empty folder.
    start : callable
        What to change in the project before it becomes main.
    """

    def __init__(self, folder: Path, start: Callable[[Project], None] = lambda project: None) -> None:
        self.folder = folder
        self.origin = folder / "origin.git"
        self.cache = folder / "cache"
        (folder / "work").mkdir(parents=True)
        self.work = Project(folder / "work")
        for path in sorted((self.work.folder / "tests").rglob("*.py")):
            if str(path.relative_to(self.work.folder)) not in TESTS:
                path.unlink()
        (self.work.folder / "tests/e2e/test_nothing.py").write_text(
            "def test_nothing() -> None:\n    pass\n", encoding="utf-8"
        )
        start(self.work)
        self.work.commit("main")
        self.work.git("clone", "--quiet", "--bare", ".", str(self.origin))
        self.work.git("remote", "add", "origin", str(self.origin))
        self.runs = 0

    def merged(self, workflow: str = "ci.yaml", *flags: str) -> Run:
        """What runs after a push to main."""
        commit = self.work.git("rev-parse", "main")
        return self.act(workflow, "push", {"ref": "refs/heads/main", "after": commit, "deleted": False}, *flags)

    def pull_request(self, change: Callable[[Project], None], reproduce: bool = True, *flags: str) -> Run:
        """Open a pull request with a change, and run what runs for it; main is as it was afterwards."""
        number = self.runs + 1
        branch = f"change-{number}"
        work = self.work
        work.git("checkout", "--quiet", "--force", "-B", branch, "main")
        change(work)
        if reproduce:
            work.run("dvc", "repro")
        work.commit(f"change {number}")
        head = work.git("rev-parse", "HEAD")
        # GitHub's merge, which is what a pull request's run checks out
        work.git("checkout", "--quiet", "--detach", "main")
        work.git("merge", "--quiet", "--no-ff", "--message", "merge", branch)
        work.git("push", "--quiet", "origin", f"HEAD:refs/pull/{number}/merge", f"{branch}:refs/heads/{branch}")
        work.git("checkout", "--quiet", "--force", "main")
        repository = {"id": 1, "full_name": "acme/model"}
        event = {
            "action": "opened",
            "number": number,
            "pull_request": {
                "number": number,
                "head": {"ref": branch, "sha": head, "repo": repository},
                "base": {"ref": "main", "sha": work.git("rev-parse", "main"), "repo": repository},
            },
        }
        return self.act("ci.yaml", "pull_request", event, *flags)

    def tagged(self, name: str, *flags: str) -> Run:
        """Push a tag of what is checked out, and run what runs for it."""
        self.work.git("tag", "--force", name)
        self.work.git("push", "--quiet", "--force", "origin", f"refs/tags/{name}")
        commit = self.work.git("rev-parse", "HEAD")
        return self.act("release.yaml", "push", {"ref": f"refs/tags/{name}", "after": commit, "deleted": False}, *flags)

    def act(self, workflow: str, event: str, payload: dict[str, Any], *flags: str) -> Run:
        self.runs += 1
        here = self.folder / f"run-{self.runs}"
        artifacts = here / "artifacts"
        artifacts.mkdir(parents=True)
        # a key of 2026, which act does not know; the caches of different jobs are one folder here
        text = (self.work.folder / WORKFLOWS / workflow).read_text(encoding="utf-8")
        (here / workflow).write_text(re.sub(r"^ *cache-mode: .*\n", "", text, flags=re.M), encoding="utf-8")
        payload = {"repository": {"default_branch": "main", "full_name": "acme/model"}, **payload}
        (here / "event.json").write_text(json.dumps(payload), encoding="utf-8")
        lent = {
            "ORIGIN": self.origin,
            "CACHE": self.cache,
            "ARTIFACTS": artifacts,
            "ENVIRONMENT": Path(sys.executable).parents[1],
            "MYPY_CACHE_DIR": self.folder / "mypy",  # only so that `make lint` is quick
        }
        command = [
            tool("act"),
            event,
            "--workflows",
            str(here / workflow),
            "--eventpath",
            str(here / "event.json"),
        ]
        command += ["--json", "--platform", "ubuntu-24.04=-self-hosted", "--no-skip-checkout", "--no-cache-server"]
        command += ["--action-offline-mode", "--action-cache-path", str(here / "act"), *flags]
        for name, path in lent.items():
            command += ["--env", f"{name}={path}"]
        for action in sorted(used(self.work.folder / WORKFLOWS)):
            name = action.split("@")[0]
            assert (ACTIONS / name.removeprefix("actions/")).is_dir(), f"no stand-in for {name}"
            command += ["--local-repository", f"{action}={ACTIONS / name.removeprefix('actions/')}"]
        kept = ("HOME", "PATH", "LANG", "TMPDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        done = subprocess.run(
            command, cwd=self.work.folder, env=environment, capture_output=True, text=True, check=False
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        jobs = {line["jobID"]: line["jobResult"] for line in lines if "jobResult" in line}
        log = "\n".join(line.get("msg", "").rstrip() for line in lines) + done.stderr
        return Run(jobs, log, artifacts)


def used(workflows: Path) -> set[str]:
    """`actions/cache@…` for each action that the workflows use."""
    text = "".join(path.read_text(encoding="utf-8") for path in workflows.iterdir())
    found = re.findall(r"uses: ([a-z-]+/[a-z-]+)[a-z/-]*(@[0-9a-f]{40})", text)
    return {name + commit for name, commit in found if name != "actions/setup-node"}
