"""`make update`: real repositories, a template with two versions and a project that began with the older one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import ROOT
from release.hub import Clone, environment
from review.github import GitHub

from mlops.core.errors import UserError
from mlops.core.template import propose, record
from mlops.pipeline.start import leftovers

# the job holds a token, so that none of the team's code may run in it
pytestmark = pytest.mark.usefixtures("hostile")

CI = ".github/workflows/ci.yaml"


def lines(name: str, **changed: str) -> str:
    """Twenty lines, of which some are changed, such as `_3="new"`."""
    return "".join(f"{changed.get(f'_{number}', f'{name} {number}')}\n" for number in range(20))


V1 = {
    ".template.json": '{"repository": "https://github.com/your-org/template"}\n',
    "README.md": lines("readme"),
    "params.yaml": "iris\n",
    "gate.yaml": "limits of iris\n",
    "dvc.lock": "hashes of iris\n",
    "docs/canvas.md": "iris?\n",
    "docs/guide.md": lines("guide"),
    "data/raw/README.md": "raw\n",
    "data/prepared/.gitignore": "/train.parquet\n",
    "models/CARD.md": "iris\n",
    "reports/metrics.json": "{}\n",
    "src/project/features.py": lines("feature"),
    "src/mlops/both.py": lines("both"),
    "src/mlops/clash.py": lines("clash"),
    "src/mlops/old_name.py": lines("renamed"),
    "src/mlops/moved.py": lines("moved"),
    "src/mlops/dropped.py": lines("dropped"),
    "benchmarks/run.py": lines("benchmark"),
    "benchmarks/peers/one.py": lines("peer"),
    "examples/iris/params.yaml": lines("example"),
    "tests/core/test_one.py": lines("test"),
    "deploy/compose.yaml": lines("compose"),
    "pyproject.toml": lines("package"),
    "uv.lock": lines("locked"),
    CI: lines("job"),
}
# what the template changes in v2.0; None deletes
V2: dict[str, str | None] = {
    "README.md": lines("readme", _0="a new README"),
    "params.yaml": "iris, better\n",
    "gate.yaml": None,
    "dvc.lock": "new hashes of iris\n",
    "docs/guide.md": lines("guide", _3="a better guide"),
    "docs/new.md": "new\n",
    "data/prepared/.gitignore": "/train.parquet\n/test.parquet\n",
    "data/raw/iris.csv": "1,2\n",
    "reports/metrics.json": '{"iris": 1}\n',
    "src/project/features.py": lines("feature", _3="a better example"),
    "src/mlops/both.py": lines("both", _3="by the template"),
    "src/mlops/old_name.py": None,
    "src/mlops/new_name.py": lines("renamed", _3="by the template"),
    "src/mlops/moved.py": lines("moved", _3="by the template"),
    "src/mlops/dropped.py": None,
    "benchmarks/run.py": lines("benchmark", _3="faster"),
    "benchmarks/peers/two.py": lines("second peer"),
    "examples/iris/params.yaml": None,
    "examples/flowers/params.yaml": lines("example"),
    "tests/core/test_one.py": lines("test", _3="stricter"),
    "tests/area/test_two.py": lines("second test"),
    "uv.lock": lines("locked", _3="newer"),
}
# what the team changes after the first commit
TEAM: dict[str, str | None] = {
    "README.md": "# Houses\n",
    "params.yaml": "houses\n",
    "gate.yaml": "limits of houses\n",
    "dvc.lock": "hashes of houses\n",
    "docs/canvas.md": "houses!\n",
    "reports/metrics.json": '{"houses": 1}\n',
    "src/project/features.py": "def rooms(): ...\n",
    "src/project/own.py": "x = 1\n",
    "src/mlops/both.py": lines("both", _15="by the team"),
    "src/mlops/old_name.py": lines("renamed", _15="by the team"),
    "src/mlops/moved.py": None,
    "src/mlops/room/moved.py": lines("moved"),
    "benchmarks/run.py": None,
    "benchmarks/peers/one.py": None,
    "examples/iris/params.yaml": None,
    "deploy/compose.yaml": lines("compose", _3="by the team"),
    "uv.lock": lines("locked", _15="own package"),
}
CLASH = "src/mlops/clash.py"


def change(clone: Clone, files: Mapping[str, str | None], message: str = "change", push: bool = True) -> str:
    for name in (name for name, content in files.items() if content is None):
        (clone.folder / name).unlink()
    return clone.commit(message, {name: content for name, content in files.items() if content is not None}, push)


class World:
    """A template with the tags v1.0 and v2.0, and a project with one commit of v1.0's files."""

    def __init__(self, folder: Path) -> None:
        self.template = Clone(folder / "template")
        change(self.template, {"notes.md": "before the first version\n"}, "begin")
        change(self.template, {**V1, "notes.md": None}, "first")
        self.release("v1.0")
        change(self.template, {"docs/guide.md": lines("guide", _3="a draft")}, "between")
        change(self.template, {**V2, "docs/guide.md": V2["docs/guide.md"]}, "Improve, @everyone #1 ```")
        self.release("v2.0")
        self.project = Clone(folder / "project")
        change(self.project, V1, "Initial commit")

    def release(self, tag: str) -> None:
        self.template.git("tag", tag)
        self.template.git("push", "--quiet", "origin", tag)

    def update(self, expected: int = 0, path: str = "", **options: str) -> str:
        """Run `make update` in the project, and return what it prints."""
        variables = {"TEMPLATE": str(self.template.origin), **options}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        if path:
            kept["PATH"] = f"{path}{os.pathsep}{kept['PATH']}"
        done = subprocess.run(
            [sys.executable, "-m", "mlops.core.template"],
            cwd=self.project.folder,
            env={**kept, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def read(self, name: str) -> str:
        return (self.project.folder / name).read_text(encoding="utf-8")

    def record(self) -> dict[str, str]:
        return json.loads(self.read(".template.json"))

    @property
    def text(self) -> str:
        return self.read("build/update/pull-request.md")

    def squash(self, branch: str) -> None:
        """Merge as GitHub's button does, with one new commit on main."""
        git = self.project.git
        git("switch", "--quiet", "main")
        git("merge", "--quiet", "--squash", branch)
        git("commit", "--quiet", "--message", f"{branch} (#1)")
        git("branch", "--quiet", "-D", branch)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def edited(world: World) -> World:
    change(world.project, TEAM, "Our houses")
    (world.project.folder / ".git/info/exclude").write_text("/build/\n", encoding="utf-8")
    return world


def status(clone: Clone) -> str:
    return clone.git("status", "--porcelain", "--branch")


def test_what_only_one_side_changed_is_as_that_side_has_it_and_both_changes_of_a_file_are_kept(edited: World) -> None:
    printed = edited.update()
    assert edited.project.git("log", "--format=%s", "main..HEAD") == "Update the template from v1.0 to v2.0"
    assert status(edited.project) == "## template-v2.0"
    assert edited.read("docs/guide.md") == V2["docs/guide.md"]
    assert edited.read("docs/new.md") == "new\n"
    assert not (edited.project.folder / "src/mlops/dropped.py").exists()
    assert edited.read("deploy/compose.yaml") == TEAM["deploy/compose.yaml"]
    assert edited.read("src/mlops/both.py") == lines("both", _3="by the template", _15="by the team")
    assert "changed by both: src/mlops/both.py" in printed
    assert "uv lock && make stages && make" in printed
    assert "gh pr create" in printed


def test_what_is_the_team_s_stays_as_it_is(edited: World) -> None:
    before = edited.project.git("rev-parse", "HEAD")
    edited.update()
    kept = ("params.yaml", "gate.yaml", "dvc.lock", "docs/canvas.md", "reports", "models", "data/raw", "src/project")
    assert edited.project.git("diff", "--stat", before, "HEAD", "--", *kept, "README.md", "uv.lock") == ""
    assert edited.read("data/prepared/.gitignore") == V2["data/prepared/.gitignore"]
    assert not (edited.project.folder / "data/raw/iris.csv").exists()


def test_files_that_either_side_renamed_follow_the_other_side_s_changes(edited: World) -> None:
    edited.update()
    assert edited.read("src/mlops/new_name.py") == lines("renamed", _3="by the template", _15="by the team")
    assert edited.read("src/mlops/room/moved.py") == lines("moved", _3="by the template")
    assert not (edited.project.folder / "src/mlops/old_name.py").exists()
    assert not (edited.project.folder / "src/mlops/moved.py").exists()


def test_what_tests_the_template_stays_away_from_a_project_that_make_start_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.project.folder)
    record.start()
    assert leftovers.remove() == 4
    world.project.commit("start", {"src/mlops/both.py": lines("both", _15="ours")})
    world.update()
    assert world.project.git("ls-files", "benchmarks", "examples", "tests") == ""
    assert "tests/area/test&#95;two.py" in world.text.partition("### Still deleted")[2]
    assert world.read("src/mlops/both.py") == lines("both", _3="by the template", _15="ours")


def test_a_folder_that_was_brought_back_is_updated_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.project.folder)
    leftovers.remove()
    world.project.git("checkout", "HEAD", "--", "benchmarks")
    world.project.commit("start", {})
    world.update()
    assert world.read("benchmarks/run.py") == lines("benchmark", _3="faster")
    assert world.project.git("ls-files", "examples", "tests") == ""


def test_what_the_template_moves_out_of_its_tests_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    change(world.template, {"tests/core/test_one.py": None, "src/mlops/one.py": lines("test", _3="stricter")})
    world.release("v2.1")
    monkeypatch.chdir(world.project.folder)
    leftovers.remove()
    world.project.commit("start", {})
    world.update(TO="v2.1")
    assert world.read("src/mlops/one.py") == lines("test", _3="stricter")


def test_other_projects_get_the_template_s_new_tests(edited: World) -> None:
    edited.update()
    assert edited.read("tests/area/test_two.py") == lines("second test")


def test_what_the_team_deleted_stays_deleted_with_what_the_template_adds_there(edited: World) -> None:
    edited.update()
    assert edited.project.git("ls-files", "benchmarks", "examples") == ""
    deleted = edited.text.partition("### Still deleted")[2].partition("###")[0]
    for name in ("benchmarks/run.py", "benchmarks/peers/two.py", "examples/flowers/params.yaml"):
        assert f"<code>{name}</code>" in deleted


def test_the_text_says_what_the_update_does_to_lines_of_the_team(edited: World) -> None:
    edited.update()
    touched = edited.text.partition("### Files of yours that the update touches")[2].partition("###")[0]
    assert "src/mlops/both.py" in touched
    assert "-both 3\n+by the template" in touched
    assert "-renamed 3\n+by the template" in touched  # in the file's new place
    assert "-renamed 0" not in touched
    assert "compose" not in touched
    assert "uv lock" in edited.text
    kept = edited.text.partition("### Kept as yours")[2].partition("###")[0]
    assert "README.md" in kept
    assert "src/project/features.py" in kept
    assert "own.py" not in kept
    assert "@everyone" not in edited.text


def test_a_conflict_is_in_the_index_and_no_commit_has_it(edited: World) -> None:
    change(edited.template, {CLASH: lines("clash", _3="theirs")})
    edited.release("v2.1")
    before = change(edited.project, {CLASH: lines("clash", _3="ours")})
    printed = edited.update(expected=1)
    assert f"  {CLASH}: both changed the same lines" in printed
    assert edited.project.git("rev-parse", "HEAD") == before
    assert edited.project.git("diff", "--name-only", "--diff-filter=U") == CLASH
    assert f"UU {CLASH}" in status(edited.project)
    marked = edited.read(CLASH)
    assert "<<<<<<<" in marked
    assert "\nours\n" in marked
    assert "\ntheirs\n>>>>>>> template/v2.1\n" in marked
    assert edited.read("src/mlops/both.py") == lines("both", _3="by the template", _15="by the team")
    refused = subprocess.run(
        ["git", "-C", edited.project.folder, "commit", "--no-edit"], capture_output=True, check=False
    )
    assert refused.returncode != 0
    assert CLASH in edited.text.partition("### Conflicts")[2]

    (edited.project.folder / CLASH).write_text(lines("clash", _3="resolved"), encoding="utf-8")
    edited.project.git("add", CLASH)
    edited.project.git("commit", "--quiet", "--no-edit")
    assert edited.project.git("log", "--format=%s", "-1") == "Update the template from v1.0 to v2.1"
    assert edited.record()["version"] == "v2.1"


def test_what_the_template_deleted_and_the_team_changed_is_a_conflict(edited: World) -> None:
    change(edited.project, {"src/mlops/dropped.py": lines("dropped", _3="needed")})
    printed = edited.update(expected=1)
    assert "src/mlops/dropped.py: the template deleted it, and this project changed it" in printed
    assert edited.read("src/mlops/dropped.py") == lines("dropped", _3="needed")


def test_giving_up_leaves_nothing_behind(edited: World) -> None:
    change(edited.template, {CLASH: lines("clash", _3="theirs")})
    edited.release("v2.1")
    change(edited.project, {CLASH: lines("clash", _3="ours")})
    printed = edited.update(expected=1)
    undo = printed.partition("or give up: ")[2].splitlines()[0]
    subprocess.run(["bash", "-ec", undo], cwd=edited.project.folder, check=True, capture_output=True)
    assert status(edited.project) == "## main...origin/main"
    assert edited.read(CLASH) == lines("clash", _3="ours")
    assert edited.project.git("branch", "--list", "template-*") == ""
    assert not (edited.project.folder / "docs/new.md").exists()


def test_a_second_update_after_a_squash_merge_has_only_the_new_changes(edited: World) -> None:
    edited.update()
    edited.squash("template-v2.0")
    guide = lines("guide", _3="a better guide", _15="and better still")
    change(edited.template, {"docs/guide.md": guide, "src/mlops/both.py": lines("both", _3="again", _10="more")})
    edited.release("v2.1")
    # the address is recorded by now
    edited.update(TEMPLATE="")
    assert edited.project.git("log", "--format=%s", "main..HEAD") == "Update the template from v2.0 to v2.1"
    changed = edited.project.git("diff", "--name-only", "main", "HEAD").split()
    assert changed == [".template.json", "docs/guide.md", "src/mlops/both.py"]
    assert edited.read("docs/guide.md") == guide
    assert edited.read("src/mlops/both.py") == lines("both", _3="again", _10="more", _15="by the team")
    edited.squash("template-v2.1")
    assert "nothing newer" in edited.update(TEMPLATE="")


def test_a_project_that_began_between_two_versions_starts_from_there(world: World) -> None:
    tree = world.template.git("rev-parse", "v2.0~^{tree}")
    world.project.git("fetch", "--quiet", str(world.template.origin), "main")
    world.project.git("read-tree", "-m", "-u", "HEAD", tree)
    world.project.git("commit", "--quiet", "--amend", "--message", "Initial commit")
    change(world.project, {"docs/guide.md": lines("guide", _3="a draft", _15="ours")}, push=False)
    world.update()
    assert world.read("docs/guide.md") == lines("guide", _3="a better guide", _15="ours")


def test_a_fork_shares_the_history_and_begins_where_it_left(world: World) -> None:
    world.project.git("fetch", "--quiet", str(world.template.origin), "v1.0")
    world.project.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    world.project.commit("ours", {"src/mlops/both.py": lines("both", _15="ours")}, push=False)
    assert "from v1.0 to v2.0" in world.update()
    assert world.read("src/mlops/both.py") == lines("both", _3="by the template", _15="ours")


def test_make_start_records_the_files_that_the_project_begins_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.project.folder)
    tree = world.project.git("rev-parse", "HEAD^{tree}")
    record.start()
    change(world.project, {**TEAM, ".template.json": world.read(".template.json")})
    record.start()
    assert world.record()["tree"] == tree
    # the history is rewritten, so that the record alone knows
    world.project.git("checkout", "--quiet", "--orphan", "fresh")
    world.project.git("commit", "--quiet", "--message", "All at once")
    assert "from v1.0 to v2.0" in world.update()


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({"TO": "v9.9"}, "the template has no tag 'v9.9'\n  try: one of v2.0, v1.0"),
        ({"TO": "--output=x"}, "the template has no tag '--output=x'"),
        ({"TEMPLATE": ""}, ".template.json does not say where the template is\n  try: make update TEMPLATE="),
        ({"TEMPLATE": "/nowhere/template.git"}, "the template cannot be fetched from /nowhere/template.git"),
        ({"TEMPLATE": "http://127.0.0.1:9/t.git"}, "the template cannot be fetched from http://127.0.0.1:9/t.git"),
        ({"TEMPLATE": "ext::touch pwned"}, "the template cannot be fetched from ext::touch pwned"),
        ({"TEMPLATE": "--upload-pack=touch pwned"}, "the template cannot be fetched from --upload-pack"),
        ({"FROM": "v2.0", "TO": "v1.0"}, "v1.0 is older than v2.0, which this project has"),
    ],
    ids=["tag", "option", "address", "no-such-folder", "no-network", "command", "address-option", "older"],
)
def test_wrong_input_gets_one_message_and_changes_nothing(world: World, options: dict[str, str], printed: str) -> None:
    before = status(world.project)
    assert printed in world.update(expected=1, **options)
    assert status(world.project) == before
    assert not (world.project.folder / "pwned").exists()


def test_a_project_of_an_unknown_version_asks_for_it(world: World) -> None:
    change(world.project, {"src/mlops/both.py": lines("both", _15="ours")})
    world.project.git("checkout", "--quiet", "--orphan", "fresh")
    world.project.git("commit", "--quiet", "--message", "All at once")
    assert "it is not known which version of the template this project has" in world.update(expected=1)
    world.update(FROM="v1.0")
    assert world.read("src/mlops/both.py") == lines("both", _3="by the template", _15="ours")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{", ".template.json is not valid JSON"),
        ("[]", ".template.json must be an object of texts"),
        ('{"repo": "x"}', ".template.json: unknown key 'repo'"),
        ('{"tree": "--all"}', ".template.json: tree is not the hash of a tree"),
    ],
    ids=["json", "list", "key", "tree"],
)
def test_a_broken_record_is_named(world: World, text: str, printed: str) -> None:
    world.project.commit("break", {".template.json": text})
    assert printed in world.update(expected=1)


def test_changes_that_are_not_committed_are_not_touched(world: World) -> None:
    (world.project.folder / "docs/guide.md").write_text("mine\n", encoding="utf-8")
    assert "not committed" in world.update(expected=1)
    assert world.read("docs/guide.md") == "mine\n"


def test_a_file_that_git_does_not_know_is_not_written_over(world: World) -> None:
    (world.project.folder / "docs/new.md").write_text("mine\n", encoding="utf-8")
    assert "the update brings docs/new.md" in world.update(expected=1)
    assert world.read("docs/new.md") == "mine\n"
    assert world.project.git("branch", "--show-current") == "main"


def test_a_branch_that_is_there_is_kept(world: World) -> None:
    world.project.git("branch", "template-v2.0")
    assert "there is a branch template-v2.0 already" in world.update(expected=1)


def test_an_old_git_is_named(world: World, tmp_path: Path) -> None:
    old = tmp_path / "old/git"
    old.parent.mkdir()
    old.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && echo "git version 2.34.1" && exit\nexec {shutil.which("git")} "$@"\n'
    )
    old.chmod(0o755)
    printed = world.update(expected=1, path=str(old.parent))
    assert "make update needs Git 2.38 or newer; this is git version 2.34.1" in printed


# GitHub's answer to a push of a workflow's token, by a real hook; `allowed` stands for a token with the permission
HOOK = """#!/bin/sh
[ -e allowed ] && exit
while read -r old new ref; do
  name=$(git diff-tree -r --name-only main "$new" -- .github/workflows | head -n 1)
  [ -z "$name" ] || {
    echo "refusing to allow a GitHub App to create or update workflow \\`$name\\` without \\`workflows\\` permission"
    exit 1
  }
done
"""


@pytest.fixture
def guarded(edited: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The template's v2.1 changes a workflow; the project's origin refuses that from a workflow's token."""
    change(edited.template, {CI: lines("job", _3="a better job"), "docs/guide.md": lines("guide", _5="2.1")})
    edited.release("v2.1")
    named = json.dumps({"repository": str(edited.template.origin)})
    change(edited.project, {".template.json": named, CI: lines("job", _15="our job")})
    hook = edited.project.origin / "hooks/pre-receive"
    hook.write_text(HOOK, encoding="utf-8")
    hook.chmod(0o755)
    monkeypatch.chdir(edited.project.folder)
    return edited


def run(github: GitHub, **others: str) -> str | None:
    given = {**environment(github, ""), "BASE": "main", **others}
    return propose.main(given)


def test_a_workflow_s_token_leaves_the_workflows_to_a_person_who_adds_them(guarded: World, github: GitHub) -> None:
    before = status(guarded.project)
    address = run(github)
    (pull,) = github.pulls
    assert pull["html_url"] == address
    assert (pull["title"], pull["head"]["ref"]) == ("Update the template from v1.0 to v2.1", "template-v2.1")
    assert "**Add the workflows.** 1 file below `.github/workflows/`" in pull["body"]
    assert status(guarded.project) == before
    on = guarded.project.on_origin
    assert on("show", "template-v2.1:docs/guide.md") == lines("guide", _5="2.1").strip()
    assert on("diff", "--name-only", "main", "template-v2.1", "--", ".github") == ""
    assert json.loads(on("show", "template-v2.1:.template.json"))["workflows"]

    git = guarded.project.git
    git("fetch", "--quiet", "origin")
    git("switch", "--quiet", "template-v2.1")
    guarded.update(TEMPLATE="", TO="v2.1")
    assert guarded.read(CI) == lines("job", _3="a better job", _15="our job")
    assert git("log", "--format=%s", "main..HEAD").splitlines()[0] == "Add the workflows of v2.1"
    assert git("diff", "--name-only", "HEAD^", "HEAD").split() == [CI, ".template.json"]
    assert "workflows" not in guarded.record()
    assert "nothing newer" in guarded.update(TEMPLATE="", TO="v2.1")


def test_nothing_of_the_template_is_checked_out_or_run_beside_the_token(
    guarded: World, github: GitHub, tmp_path: Path
) -> None:
    trap = f"#!/bin/sh\ntouch {tmp_path}/ran\n"
    names = ("Makefile", "src/mlops/core/git.py", "src/mlops/core/json.py", ".githooks/post-checkout", ".gitattributes")
    change(guarded.template, {**dict.fromkeys(names, trap), ".gitattributes": "* merge=trap filter=trap\n"})
    guarded.release("v2.2")
    before = sorted(path for path in guarded.project.folder.rglob("*") if ".git/" not in f"{path}/")
    run(github)
    assert guarded.project.on_origin("show", "template-v2.2:Makefile") == trap.strip()
    assert sorted(path for path in guarded.project.folder.rglob("*") if ".git/" not in f"{path}/") == before
    assert not (tmp_path / "ran").exists()


def test_workflows_that_nobody_added_come_with_the_next_version(guarded: World, github: GitHub) -> None:
    run(github)
    guarded.project.git("fetch", "--quiet", "origin")
    guarded.project.git("merge", "--quiet", "origin/template-v2.1")
    change(guarded.template, {"docs/guide.md": lines("guide", _5="2.2")})
    guarded.release("v2.2")
    guarded.update(TEMPLATE="")
    assert guarded.read(CI) == lines("job", _3="a better job", _15="our job")
    assert guarded.read("docs/guide.md") == lines("guide", _5="2.2")


def test_a_token_of_one_s_own_brings_the_workflows(guarded: World, github: GitHub) -> None:
    with pytest.raises(UserError, match="this token may not change workflows"):
        run(github, TEMPLATE_TOKEN=github.token)
    assert github.pulls == []
    (guarded.project.origin / "allowed").touch()
    run(github, TEMPLATE_TOKEN=github.token)
    assert "Add the workflows" not in github.pulls[0]["body"]
    assert "a better job" in guarded.project.on_origin("show", f"template-v2.1:{CI}")


def test_make_calls_it_and_passes_its_variables_on_as_they_are(world: World, tmp_path: Path) -> None:
    files = ["Makefile", *(str(path.relative_to(ROOT)) for path in (ROOT / "src/mlops/core").rglob("*.py"))]
    world.project.commit("machinery", {name: (ROOT / name).read_text(encoding="utf-8") for name in files})
    (world.project.folder / ".git/info/exclude").write_text("__pycache__/\n/build/\n", encoding="utf-8")
    trap = f"$(shell touch {tmp_path}/ran)"
    command = ["make", "--silent", "update", f"TEMPLATE={world.template.origin}"]
    for more, code, printed in (([f"TO={trap}"], 2, "the template has no tag '$(shell"), ([], 0, "from v1.0 to v2.0")):
        done = subprocess.run([*command, *more], cwd=world.project.folder, capture_output=True, text=True, check=False)
        assert (done.returncode, printed in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_conflict_is_never_pushed(guarded: World, github: GitHub, tmp_path: Path) -> None:
    change(guarded.template, {CLASH: lines("clash", _3="theirs")})
    guarded.release("v2.2")
    change(guarded.project, {CLASH: lines("clash", _3="ours")})
    page = tmp_path / "summary.md"
    with pytest.raises(
        UserError, match=r"conflicts in src/mlops/clash.py; nothing was pushed\n  try: make update TO=v2.2"
    ):
        run(github, GITHUB_STEP_SUMMARY=str(page))
    assert "both changed the same lines" in page.read_text(encoding="utf-8")
    assert guarded.project.on_origin("branch", "--list", "template-*") == ""
    assert github.changes == []


def test_a_pull_request_that_is_there_is_left_alone(guarded: World, github: GitHub) -> None:
    run(github)
    github.pulls[0]["state"] = "closed"
    guarded.project.on_origin("branch", "--delete", "--force", "template-v2.1")
    assert run(github) is None
    assert guarded.project.on_origin("branch", "--list", "template-*") == ""


def test_nothing_is_proposed_where_there_is_nothing_newer_or_no_template(
    guarded: World, github: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = guarded.template.git("rev-parse", "HEAD^{tree}")
    for named, printed in (
        ({"repository": str(guarded.template.origin), "tree": tree}, "nothing newer"),
        ({"repository": "https://github.com/your-org/template"}, "does not say where the template is"),
        ({"repository": f"https://github.com/{github.repository}.git"}, "this is the template"),
    ):
        guarded.project.git("push", "--quiet", "origin", "HEAD")
        guarded.project.commit("record", {".template.json": json.dumps(named)})
        assert run(github) is None
        assert printed in capsys.readouterr().out
    assert github.requests == []
