"""`make rollback`: the revert of the last deployment, shown first, opened when asked, whatever lies around here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from release.hub import Clone

from mlops.release import deploy

IMAGES = {version: f"ghcr.io/ada/a-project@sha256:{version * 64}" for version in "1234"}
GH = """#!/bin/sh
echo "$@" >> "$GH_FOLDER/calls"
echo https://github.com/ada/a-project/pull/9
"""


class Desk:
    """A clone on which somebody works, and a GitHub behind `gh`."""

    def __init__(self, folder: Path) -> None:
        self.clone = Clone(folder)
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "gh").write_text(GH, encoding="utf-8")
        (self.bin / "gh").chmod(0o755)
        self.clone.commit("start", {str(path): (ROOT / path).read_text(encoding="utf-8") for path in deploy.PLACES})

    def deploy(self, version: str, places: tuple[Path, ...] = deploy.PLACES, **others: str) -> str:
        texts = deploy.changed(IMAGES[version], lambda path: (self.clone.folder / path).read_bytes(), places)
        files = {str(path): text for path, text in texts.items()} | others
        name = f"v1.{version}.0" + ("-rc.1" if places == (deploy.STAGING,) else "")
        return self.clone.commit(f"Deploy {name} (#{version})", files)

    def rollback(self, apply: str = "", gh: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin" if gh else "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT / "src"),
            "HOME": str(self.clone.folder.parent),
            "GH_FOLDER": str(self.bin),
            "APPLY": apply,
        }
        command = [sys.executable, "-m", "mlops.release.rollback"]
        return subprocess.run(
            command, cwd=self.clone.folder, env=environment, capture_output=True, text=True, check=False
        )

    def merge(self, name: str) -> None:
        """Roll back, and merge what that opens."""
        done = self.rollback("yes")
        assert done.returncode == 0, done.stderr
        self.clone.git("fetch", "--quiet")
        self.clone.git("merge", "--quiet", "--squash", f"origin/rollback/{name}")
        self.clone.commit(f"Roll back {name} (#9)", {})

    def running(self, commit: str) -> set[str | None]:
        return {
            deploy.deployed(path, self.clone.on_origin("show", f"{commit}:{path}") + "\n") for path in deploy.PLACES
        }

    @property
    def branches(self) -> list[str]:
        return self.clone.on_origin("for-each-ref", "--format=%(refname:short)").splitlines()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_it_shows_what_would_go_back_and_changes_nothing(desk: Desk) -> None:
    desk.deploy("1")
    desk.deploy("2")
    done = desk.rollback()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Roll back v1.2.0 to v1.1.0: ")
    assert f"-MODEL_IMAGE={IMAGES['2']}\n+MODEL_IMAGE={IMAGES['1']}" in done.stdout
    assert "make rollback APPLY=yes" in done.stdout
    assert desk.branches == ["main"]
    assert not (desk.bin / "calls").exists()


def test_it_opens_the_revert_when_asked_and_leaves_unfinished_work_alone(desk: Desk) -> None:
    desk.deploy("1")
    last = desk.deploy("2")
    clone = desk.clone
    clone.git("checkout", "--quiet", "-b", "my-work", "main~1")
    (clone.folder / "deploy/compose/.env").write_text("MODEL_IMAGE=local\n", encoding="utf-8")
    (clone.folder / "new.txt").write_text("unfinished\n", encoding="utf-8")
    before = clone.git("status", "--porcelain=v2", "--branch")
    done = desk.rollback("yes")
    assert done.returncode == 0, done.stderr
    assert "https://github.com/ada/a-project/pull/9" in done.stdout
    branch = "rollback/v1.2.0-to-v1.1.0"
    assert desk.branches == ["main", branch]
    assert desk.running(branch) == {IMAGES["1"]}
    assert clone.on_origin("log", "--format=%an %s", f"main..{branch}") == "Ada Roll back v1.2.0 to v1.1.0"
    assert f"This reverts commit {last}." in clone.on_origin("log", "-1", "--format=%b", branch)
    calls = (desk.bin / "calls").read_text(encoding="utf-8")
    assert f"pr create --base main --head {branch} --title Roll back v1.2.0 to v1.1.0" in calls
    assert clone.git("status", "--porcelain=v2", "--branch") == before
    assert len(clone.git("worktree", "list").splitlines()) == 1


def test_what_others_have_merged_since_stays(desk: Desk) -> None:
    desk.deploy("1")
    desk.deploy("2")
    desk.clone.commit("Work on", {"src/new.py": "x = 1\n"})
    desk.clone.commit("Give it more memory", {"deploy/kubernetes/base/more.yaml": "a: 1\n"})
    assert desk.rollback("yes").returncode == 0
    assert desk.running("rollback/v1.2.0-to-v1.1.0") == {IMAGES["1"]}
    assert desk.clone.on_origin("show", "rollback/v1.2.0-to-v1.1.0:src/new.py") == "x = 1"


def test_a_release_candidate_in_staging_stays_there(desk: Desk) -> None:
    desk.deploy("1")
    desk.deploy("2")
    desk.deploy("3", (deploy.STAGING,))
    done = desk.rollback("yes")
    assert done.returncode == 0, done.stderr
    branch = "rollback/v1.2.0-to-v1.1.0"
    assert desk.running(branch) == {IMAGES["1"], IMAGES["3"]}
    assert IMAGES["3"] == deploy.deployed(deploy.STAGING, desk.clone.on_origin("show", f"{branch}:{deploy.STAGING}"))


def test_a_second_rollback_goes_further_back_and_not_to_what_was_taken_back(desk: Desk) -> None:
    desk.deploy("1")
    desk.deploy("2")
    desk.deploy("3")
    desk.merge("v1.3.0-to-v1.2.0")
    desk.merge("v1.2.0-to-v1.1.0")
    assert desk.running("main") == {IMAGES["1"]}
    assert "so there is no earlier release" in desk.rollback().stderr
    desk.deploy("4")
    assert desk.rollback().stdout.startswith("Roll back v1.4.0 to v1.1.0: ")


def test_a_deployment_that_was_merged_with_a_merge_commit_goes_back(desk: Desk) -> None:
    desk.deploy("1")
    clone = desk.clone
    clone.git("checkout", "--quiet", "-b", "deploy")
    desk.deploy("2")
    clone.git("checkout", "--quiet", "main")
    clone.git("merge", "--quiet", "--no-ff", "--message", "Merge pull request #2", "deploy")
    clone.git("push", "--quiet", "origin", "main")
    assert desk.rollback("yes").returncode == 0
    assert desk.running("rollback/v1.2.0-to-v1.1.0") == {IMAGES["1"]}


def test_what_went_along_with_the_deployment_is_named(desk: Desk) -> None:
    desk.deploy("1")
    desk.deploy("2", **{"src/client.py": "x = 1\n"})
    done = desk.rollback()
    assert "warning: the commit changed files outside deploy/, also reverted: src/client.py" in done.stdout


def test_the_first_release_has_none_to_go_back_to(desk: Desk) -> None:
    done = desk.rollback()
    assert done.returncode == 1
    assert "there is nothing to roll back" in done.stderr
    desk.deploy("1")
    done = desk.rollback("yes")
    assert done.returncode == 1
    assert "so there is no earlier release" in done.stderr
    assert desk.branches == ["main"]
    assert "Traceback" not in done.stderr


def test_it_looks_at_main_as_it_is_on_the_remote(desk: Desk, tmp_path: Path) -> None:
    desk.deploy("1")
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "--quiet", str(desk.clone.origin), str(other)], check=True)
    desk.deploy("2")
    desk.clone.folder = other
    desk.clone.git("config", "user.name", "Grace")
    desk.clone.git("config", "user.email", "grace@example.org")
    assert desk.rollback().stdout.startswith("Roll back v1.2.0 to v1.1.0")


def test_a_folder_without_a_remote_and_a_clone_without_history_are_reported_so(desk: Desk, tmp_path: Path) -> None:
    desk.deploy("1")
    desk.deploy("2")
    shallow = tmp_path / "shallow"
    command = ["git", "clone", "--quiet", "--depth=1", f"file://{desk.clone.origin}", str(shallow)]
    subprocess.run(command, check=True)
    desk.clone.folder = shallow
    done = desk.rollback()
    assert "git fetch --unshallow" in done.stderr
    desk.clone.git("remote", "remove", "origin")
    done = desk.rollback()
    assert done.stderr.startswith("error: this repository has no remote 'origin'")


def test_without_gh_nothing_is_pushed(desk: Desk) -> None:
    desk.deploy("1")
    desk.deploy("2")
    done = desk.rollback("yes", gh=False)
    assert done.returncode == 1
    assert "Roll back v1.2.0 to v1.1.0" in done.stdout
    assert "gh is not installed, so nothing was pushed" in done.stderr
    assert desk.branches == ["main"]
