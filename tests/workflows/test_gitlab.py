"""`.gitlab-ci.yml` run by gitlab-ci-local, before a stand-in of GitLab's API, with a merge request that attacks.

What GitLab itself does is done here by `pipeline`: a pipeline is what its own commit says, and has a protected
variable only on a protected branch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from review.github import serve
from review.gitlab import BOT, GitLab
from review.test_on_gitlab import job_of, reviewed
from review.test_verdict import EVERY_KIND, HEAD

LOCAL = ROOT / "build/tools/node_modules/.bin/gitlab-ci-local"
EVIL = """
steal:
  script: ['echo "stolen: $REVIEW_TOKEN"']
comment:
  environment: {name: review, action: access}
  script: ['make --file=Makefile publish']
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose branch `evil` replaces what the protected job runs."""
    if not LOCAL.is_file():
        pytest.skip(f"{LOCAL} is missing: .ci/tools installs it")
    folder = tmp_path_factory.mktemp("gitlab") / "a-project"
    (folder / ".github").mkdir(parents=True)
    for name in (".gitlab-ci.yml", "Makefile", ".gitignore", "dvc.lock", ".github/CODEOWNERS"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "gate.yaml").write_text(str({"rules": EVERY_KIND}).replace("'", '"'), encoding="utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "remote", "add", "origin", "git@gitlab.example:ada/a-project.git")
    (folder / ".git/info/exclude").write_text(".trusted\n.gitlab-ci-local\n")
    commit(folder)
    git(folder, "checkout", "--quiet", "-b", "evil")
    (folder / ".gitlab-ci.yml").write_text(EVIL, encoding="utf-8")
    (folder / "Makefile").write_text('publish:\n\t@echo "evil code, stolen: $$REVIEW_TOKEN"\n', encoding="utf-8")
    commit(folder)
    git(folder, "checkout", "--quiet", "main")
    (folder / ".trusted").symlink_to(sys.prefix)
    return folder


@pytest.fixture
def gitlab(certificate: tuple[Path, Path]) -> Iterator[GitLab]:
    with serve(GitLab(certificate[0]), certificate[1]) as server:
        yield server
    assert server.complaints == []


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    git(folder, *author, "-c", "commit.gpgsign=false", "commit", "--quiet", "--message", "change")


def pipeline(folder: Path, branch: str, source: str, *arguments: str, **variables: str) -> str:
    """Run jobs of a branch's pipeline, or list them, and return the log."""
    git(folder, "checkout", "--quiet", "--force", branch)
    given = {"CI_PIPELINE_SOURCE": source, "CI_DEFAULT_BRANCH": "main", **variables}
    if source == "merge_request_event":
        given["CI_COMMIT_BRANCH"] = ""
    given["CI_COMMIT_REF_PROTECTED"] = "true" if branch == "main" and source != "merge_request_event" else "false"
    command = [str(LOCAL), *arguments, "--no-color"]
    for name, value in given.items():
        if name != "REVIEW_TOKEN" or given["CI_COMMIT_REF_PROTECTED"] == "true":
            command += ["--variable", f"{name}={value}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "tag", "jobs"),
    [
        ("merge_request_event", "", ["e2e", "review", "test"]),
        ("push", "", ["e2e", "main", "test"]),
        ("schedule", "", ["comment", "comment-setup"]),
        ("push", "v1.0.0", [f"release-{name}" for name in ("announce", "build", "publish", "setup", "tag", "verify")]),
    ],
    ids=["merge request", "main", "schedule", "tag"],
)
def test_each_pipeline_has_its_own_jobs(project: Path, source: str, tag: str, jobs: list[str]) -> None:
    more = {"CI_COMMIT_TAG": tag, "CI_COMMIT_BRANCH": ""} if tag else {}
    lines = pipeline(project, "main", source, "--list-csv", **more).splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("name;"))
    assert sorted(line.split(";")[0] for line in lines[header + 1 :] if ";" in line) == jobs


def test_the_note_is_written_by_main_s_code_and_a_forged_report_is_refused(
    project: Path, gitlab: GitLab, tmp_path: Path
) -> None:
    gitlab.add_merge_request(7, HEAD, reviewed(lambda document: document.update(head="f" * 40)))
    job = job_of(gitlab, tmp_path / "cml")
    stolen = pipeline(project, "evil", "merge_request_event", "--force-shell-executor", **job)
    assert "evil code, stolen:" in stolen  # it did run
    assert gitlab.token not in stolen
    assert gitlab.requests == []

    log = pipeline(project, "main", "schedule", "comment", "--force-shell-executor", **job)
    assert "evil" not in log
    assert gitlab.token not in log
    assert "report.json is about commit ffffffffff, but the run was of 0123456789" in log, log
    (note,) = gitlab.notes[7]
    assert note["author"] == BOT
    assert note["body"].startswith("## ❌ No review for this commit")
    assert [each["status"] for each in gitlab.statuses] == ["failed"]
