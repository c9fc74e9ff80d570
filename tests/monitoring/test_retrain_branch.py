"""The branch of a retraining, in a real repository: made once, by one run, and never over what a person did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from mlops.core import settings as settings_module
from mlops.core.errors import UserError
from mlops.core.files import md5
from mlops.core.git import git, show
from mlops.monitoring import branch
from mlops.monitoring.proposal import RAW, DataFile, Proposal, read, write

MODEL = "0123456789" + "a" * 22
CONTENTS = {f"{RAW}/0123456789.parquet": b"older rows", f"{RAW}/0123456789-recent.parquet": b"newest rows"}


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.org")
    committed("start", "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8"))


def committed(message: str, name: str, content: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content, encoding="utf-8")
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


def proposal(model: str = MODEL, stored: str = "git") -> Proposal:
    files = [
        DataFile(role=role, rows=7, size=len(content), md5=md5(content), stored=stored)  # type: ignore[arg-type]
        for role, content in zip(("more", "recent"), CONTENTS.values(), strict=True)
    ]
    return Proposal(
        state="proposed", why="New labels", model=model, main=branch.main_commit(), first="2026-01-01", files=files
    )


def made() -> str:
    found = proposal()
    commit = branch.commit(found, CONTENTS, found.main)
    branch.create(found.branch, commit)
    return commit


def state() -> branch.State:
    name = proposal().branch
    return branch.state(name, branch.tip_of(name), branch.main_commit())


def test_the_commit_holds_the_files_and_their_names_and_nothing_else(tmp_path: Path) -> None:
    commit = made()
    assert git("status", "--porcelain") == ""
    assert git("diff", "--name-only", "main", commit).split() == [*sorted(CONTENTS), "params.yaml"]
    changed = git("diff", "--unified=0", "main", commit, "--", "params.yaml").splitlines()[5:]
    assert changed == [
        "+  more: [data/raw/production/0123456789.parquet]",
        "+  recent: [data/raw/production/0123456789-recent.parquet]",
    ]
    assert state().work == "ours"


def test_the_earlier_recent_window_becomes_training_rows(tmp_path: Path) -> None:
    git("merge", "--quiet", made())
    found = proposal("b" * 32)
    contents = {each.path(found.model): content for each, content in zip(found.files, CONTENTS.values(), strict=True)}
    Path("new.yaml").write_bytes(show(branch.commit(found, contents, found.main), "params.yaml") or b"")
    data = settings_module.load("new.yaml").data
    assert data.more == [*CONTENTS, f"{RAW}/bbbbbbbbbb.parquet"]
    assert data.recent == [f"{RAW}/bbbbbbbbbb-recent.parquet"]


def test_of_rows_in_a_remote_git_holds_the_pointers() -> None:
    found = proposal(stored="dvc")
    commit = branch.commit(found, {}, found.main)
    pointer = (show(commit, f"{RAW}/0123456789.parquet.dvc") or b"").decode()
    assert f"md5: {md5(b'older rows')}" in pointer
    assert show(commit, f"{RAW}/.gitignore") == b"/0123456789.parquet\n/0123456789-recent.parquet\n"
    assert show(commit, f"{RAW}/0123456789.parquet") is None


def test_a_branch_that_a_person_edited_is_left_alone() -> None:
    made()
    git("switch", "--quiet", "retrain/0123456789")
    committed("by hand", "note.md", "mine")
    git("switch", "--quiet", "main")
    assert state().work == "edited"
    assert "left alone, because Ada committed to it" in state().why


def test_a_branch_that_conflicts_with_main_is_reported() -> None:
    made()
    text = Path("params.yaml").read_text(encoding="utf-8").replace("task: classification", "task: classification # !")
    committed("meanwhile", "params.yaml", text)
    assert (state().work, "conflicts with main" in state().why) == ("conflict", True)


def test_rows_that_main_has_are_not_proposed_again() -> None:
    git("merge", "--quiet", made())
    git("branch", "--delete", "--force", "retrain/0123456789")
    assert state().work == "merged"


def test_of_two_runs_at_once_one_makes_the_branch_and_the_other_says_so() -> None:
    first = made()
    found = proposal()
    with pytest.raises(UserError, match="another run has created retrain/0123456789"):
        branch.create(found.branch, branch.commit(found, CONTENTS, found.main))
    assert git("rev-parse", found.branch) == first


def test_the_last_retraining_is_one_of_another_release() -> None:
    name = proposal().branch
    assert branch.last_retraining(name, branch.main_commit()) is None
    tip = made()
    when = int(git("log", "-1", "--format=%ct", tip))
    assert branch.last_retraining(name, branch.main_commit()) is None
    assert branch.last_retraining("retrain/bbbbbbbbbb", branch.main_commit()) == when
    git("merge", "--quiet", tip)
    git("branch", "--delete", "--force", name)
    assert branch.last_retraining("retrain/bbbbbbbbbb", branch.main_commit()) == when


def test_a_run_that_is_killed_leaves_no_branch() -> None:
    found = proposal()
    branch.commit(found, CONTENTS, found.main)  # and nothing after it
    assert branch.tip_of(found.branch) is None
    assert git("worktree", "list").count("\n") == 0
    assert made()


@pytest.mark.parametrize("stored", ["git", "dvc"])
def test_a_proposal_that_was_altered_is_refused(tmp_path: Path, stored: str) -> None:
    write(proposal(stored=stored), CONTENTS, tmp_path / "out")
    found, contents = read(tmp_path / "out")
    assert (found, contents) == (proposal(stored=stored), CONTENTS if stored == "git" else {})
    (tmp_path / "out/0123456789.parquet").write_bytes(b"other rows")
    with pytest.raises(UserError, match="its hash differs"):
        read(tmp_path / "out")
    (tmp_path / "out/0123456789.parquet").unlink()
    (tmp_path / "out/0123456789.parquet").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="missing, too large, or not the file"):
        read(tmp_path / "out")
    document = (tmp_path / "out/retrain.json").read_text(encoding="utf-8")
    (tmp_path / "out/retrain.json").write_text(document.replace(MODEL, "../" * 10 + "aa"), encoding="utf-8")
    with pytest.raises(UserError, match="is no proposal: model"):
        read(tmp_path / "out")


def test_the_job_with_the_token_imports_none_of_the_packages_that_read_data() -> None:
    code = (
        "import sys; sys.path.append('src')\n"
        "for name in ('numpy', 'pandas', 'pyarrow', 'dvc', 'sklearn', 'msgspec'): sys.modules[name] = None\n"
        "import mlops.monitoring.propose"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
