"""Relocking: honest files become one commit on the branch; anything else in the zip is refused, and nothing moves."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from mlops.review import relock
from mlops.stage import UserError

SYMLINK = (stat.S_IFLNK | 0o777) << 16


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def zipped(path: Path, *files: tuple[str, bytes], mode: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


LOCK = ("dvc.lock", b"schema: '2.0'\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine of the second job: main is checked out, a branch `better` waits in the bare `origin.git`."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
    origin, machine = tmp_path / "origin.git", tmp_path / "machine"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], check=True)
    subprocess.run(["git", "clone", "--quiet", str(origin), str(machine)], check=True, capture_output=True)
    git(machine, "checkout", "--quiet", "-B", "main")
    for name, content in {
        "dvc.lock": "old\n",
        "params.yaml": "C: 1\n",
        "reports/metrics.json": "{}\n",
        "reports/plots/roc.csv": "fpr,tpr\n",
        "reports/.gitignore": "/validation_failures.json\n",
    }.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(content, encoding="utf-8")
    git(machine, "add", "--all")
    git(machine, "commit", "--quiet", "--message", "start")
    git(machine, "push", "--quiet", "origin", "main")
    git(machine, "checkout", "--quiet", "-b", "better")
    (machine / "params.yaml").write_text("C: 2\n", encoding="utf-8")
    git(machine, "commit", "--quiet", "--all", "--message", "try")
    git(machine, "push", "--quiet", "origin", "better")
    git(machine, "checkout", "--quiet", "main")
    monkeypatch.chdir(machine)
    return machine


def environment(machine: Path, **others: str) -> dict[str, str]:
    commit = git(machine, "rev-parse", "origin/better")
    return {"BRANCH": "better", "COMMIT": commit, "DEFAULT_BRANCH": "main", **others}


def on_the_branch(machine: Path, *arguments: str) -> str:
    return git(machine.parent / "origin.git", *arguments)


def test_what_was_packed_arrives_as_one_commit_on_the_branch(machine: Path, tmp_path: Path) -> None:
    git(machine, "checkout", "--quiet", "better")
    (machine / "dvc.lock").write_text("new\n", encoding="utf-8")
    (machine / "reports/plots/roc.csv").unlink()
    (machine / "reports/plots/errors.csv").write_text("row\n", encoding="utf-8")
    (machine / "reports/validation_failures.json").write_text('["a value"]\n', encoding="utf-8")
    (machine / "reports/.hidden.json").write_text("{}", encoding="utf-8")
    (machine / "models").mkdir()
    (machine / "models/CARD.md").write_text("# Model card\n", encoding="utf-8")
    (machine / "models/release.json").write_text("{}", encoding="utf-8")
    packed = relock.pack()
    assert packed == ["dvc.lock", "models/CARD.md", "reports/metrics.json", "reports/plots/errors.csv"]
    files = [(name, (machine / "build/relock" / name).read_bytes()) for name in packed]
    git(machine, "checkout", "--quiet", "--force", "main")
    zipped(tmp_path / "download/relock.zip", *files)

    made = relock.push(environment(machine), tmp_path / "download")

    assert on_the_branch(machine, "rev-parse", "better") == made
    assert on_the_branch(machine, "log", "--format=%an: %s", "main..better").splitlines() == [
        f"github-actions[bot]: Run the pipeline of {git(machine, 'rev-parse', f'{made}^')[:10]}",
        "Ada: try",
    ]
    assert on_the_branch(machine, "show", "better:dvc.lock") == "new"
    assert on_the_branch(machine, "diff", "--name-status", "better^", "better").splitlines() == [
        "M\tdvc.lock",
        "A\tmodels/CARD.md",
        "A\treports/plots/errors.csv",
        "D\treports/plots/roc.csv",
    ]
    assert on_the_branch(machine, "show", "better:params.yaml") == "C: 2"
    assert git(machine, "status", "--porcelain", "--untracked-files=no") == ""


@pytest.mark.parametrize(
    ("name", "content", "mode"),
    [
        ("params.yaml", b"x", 0),
        (".github/workflows/ci.yaml", b"x", 0),
        ("src/mlops/review/gate.py", b"x", 0),
        ("../dvc.lock", b"x", 0),
        ("reports/../params.json", b"x", 0),
        ("reports/../../x.json", b"x", 0),
        ("/etc/x.json", b"x", 0),
        ("reports\\..\\x.json", b"x", 0),
        ("reports/.git/x.json", b"x", 0),
        ("reports/.hidden.json", b"x", 0),
        ("reports/dvc.yaml", b"stages: {x: {cmd: id}}", 0),
        ("reports/page.html", b"<script>", 0),
        ("reports/x.json\n", b"x", 0),
        ("reports/ä.json", b"x", 0),
        ("reports/metrics.json", b"../../params.yaml", SYMLINK),
        ("reports/metrics.json", b"\0", 0),
        ("reports/metrics.json", b"\xff\xfe", 0),
        ("reports/metrics.json", b" " * 1_000_001, 0),
        ("reports/validation_failures.json", b"[]", 0),
        ("models/release.json", b"{}", 0),
        ("models/model.skops", b"x", 0),
        ("models/CARDxmd", b"x", 0),
        ("models/CARD.md/x.json", b"{}", 0),
        ("docs/canvas.md", b"x", 0),
    ],
)
def test_a_file_that_the_pipeline_does_not_keep_is_refused(
    machine: Path, tmp_path: Path, name: str, content: bytes, mode: int
) -> None:
    before = on_the_branch(machine, "for-each-ref")
    zipped(tmp_path / "download/relock.zip", LOCK, (name, content), mode=mode)
    with pytest.raises(UserError, match="refused"):
        relock.push(environment(machine), tmp_path / "download")
    assert on_the_branch(machine, "for-each-ref") == before


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "twice.zip", LOCK, LOCK)
    with pytest.raises(UserError, match="refused"):
        relock.unpack(path)


def test_a_name_that_is_cut_at_a_nul_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "cut.zip", LOCK, ("reports/xQ.json", b"{}"))
    path.write_bytes(path.read_bytes().replace(b"reports/xQ.json", b"reports/x\0.json"))
    with pytest.raises(UserError, match=r"refused|sound zip"):
        relock.unpack(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", LOCK, ("reports/metrics.json", b" " * 300_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match="more than 1,000,000 bytes"):
        relock.unpack(path)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    many = [(f"reports/plots/{number}.csv", b"") for number in range(relock.MOST_FILES)]
    with pytest.raises(UserError, match="201 entries"):
        relock.unpack(zipped(tmp_path / "many.zip", LOCK, *many))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 torn"])
def test_what_is_no_zip_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no sound zip"):
        relock.unpack(path)


def test_a_torn_zip_is_said_to_be_torn(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", ("dvc.lock", os.urandom(1000).hex().encode()))
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(UserError, match="no sound zip"):
        relock.unpack(path)


def test_without_a_lock_there_is_nothing_to_commit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dvc\.lock"):
        relock.unpack(zipped(tmp_path / "x.zip", ("reports/metrics.json", b"{}")))


def test_main_is_never_pushed_to(machine: Path, tmp_path: Path) -> None:
    zipped(tmp_path / "download/relock.zip", LOCK)
    main = git(machine, "rev-parse", "origin/main")
    with pytest.raises(UserError, match="by pull requests only"):
        relock.push(environment(machine, BRANCH="main", COMMIT=main), tmp_path / "download")


@pytest.mark.parametrize("branch", ["nowhere", "better:main", "+better", "better..main", "$(id)", "-x", "*"])
def test_a_branch_that_is_none_is_refused(machine: Path, tmp_path: Path, branch: str) -> None:
    before = on_the_branch(machine, "for-each-ref")
    zipped(tmp_path / "download/relock.zip", LOCK)
    with pytest.raises(UserError):
        relock.push(environment(machine, BRANCH=branch), tmp_path / "download")
    assert on_the_branch(machine, "for-each-ref") == before


def test_a_branch_that_has_moved_on_is_left_alone(machine: Path, tmp_path: Path) -> None:
    zipped(tmp_path / "download/relock.zip", LOCK)
    with pytest.raises(UserError, match="has moved"):
        relock.push(environment(machine, COMMIT="0" * 40), tmp_path / "download")


def test_nothing_is_pushed_when_nothing_moved(machine: Path, tmp_path: Path) -> None:
    same = [
        (name, git(machine, "show", f"main:{name}").encode() + b"\n") for name in ("dvc.lock", "reports/metrics.json")
    ]
    zipped(tmp_path / "download/relock.zip", *same, ("reports/plots/roc.csv", b"fpr,tpr\n"))
    with pytest.raises(UserError, match="nothing moved"):
        relock.push(environment(machine), tmp_path / "download")


def test_a_link_in_the_branch_leads_nowhere(machine: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    git(machine, "checkout", "--quiet", "better")
    git(machine, "rm", "--quiet", "-r", "reports")
    (machine / "reports").symlink_to(outside)
    (machine / "dvc.lock").unlink()
    (machine / "dvc.lock").symlink_to(outside / "lock")
    git(machine, "add", "--all")
    git(machine, "commit", "--quiet", "--message", "links")
    git(machine, "push", "--quiet", "origin", "better")
    git(machine, "checkout", "--quiet", "--force", "main")
    zipped(tmp_path / "download/relock.zip", LOCK, ("reports/metrics.json", b"{}\n"))
    with pytest.raises(UserError, match="update-index failed"):
        relock.push(environment(machine), tmp_path / "download")
    assert not list(outside.iterdir())


def test_the_target_tells_a_mistake_without_a_traceback(machine: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "BRANCH": "", "COMMIT": ""}
    command = [sys.executable, "-m", "mlops.review.relock", "push"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: not set in the environment: BRANCH, COMMIT")
    assert "Traceback" not in done.stderr
