"""A project's life, typed by a newcomer: from the template to a second version of the template, in an empty place.

`make rehearse` records it in docs/rehearsals/project.md; a test lives it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import ROOT
from making import BASE
from sklearn import datasets

from mlops.core.report import Report, read

PAGE = ROOT / "docs/rehearsals/project.md"
HEAD = """# A recorded project: start, review, release, update of the template, review

Typed into an empty folder by a user with an empty home, with git, make, Python 3.11 and podman. The table is
scikit-learn's wine data with a key: 178 bottles. The template is a bare repository on the same machine, with two
versions. `make rehearse` records this page again, and a test repeats it; `…` stands for lines that are left out.
"""
# what the second version of the template changes; the team changes the first line, too
NEWER = (
    ("Makefile", "PORT ?= 3000", "PORT ?= 3001"),
    ("docs/review.md", "# ", "# About: "),
    ("src/mlops/pipeline/evaluate.py", '"""', '"""Of version 2. '),
)
LONGEST = 64  # lines of an output


class Life:
    """A folder for the template and the project, a home, and what was typed and printed."""

    def __init__(self, folder: Path) -> None:
        self.project, self.template = folder / "bottles", folder / "template.git"
        self.home = folder / "home"
        self.page = [HEAD.rstrip()]
        self.printed: dict[str, str] = {}
        self.reports: list[Report] = []
        for each in (self.project, self.home):
            each.mkdir(parents=True)
        tools = (Path(each) for each in os.environ["PATH"].split(os.pathsep))
        system = [str(each) for each in tools if not (each / "uv").exists() and not each.is_relative_to(ROOT)]
        # where this machine finds packages and their certificates
        kept = (
            "PIP_",
            "UV_INDEX",
            "UV_DEFAULT",
            "SSL_",
            "REQUESTS_",
            "NODE_EXTRA",
            "HTTP",
            "http",
            "NO_PROXY",
            "no_proxy",
        )
        self.environment = {
            **{key: value for key, value in os.environ.items() if key.startswith(kept)},
            "PATH": os.pathsep.join(system),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CONTAINERS_CONF": str(ROOT / "build/tools/images/containers.conf"),
            "BASE_IMAGE": BASE,
            "BUILDER": "podman",
        }

    def run(self, command: str, expected: int = 0) -> str:
        """Type a command; standard output and error come back together."""
        done = subprocess.run(
            ("bash", "-uo", "pipefail", "-c", command),
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == expected, f"{command} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def show(self, command: str, expected: int = 0) -> str:
        """Type a command, and write both it and what it prints on the page."""
        print(f"$ {command}", file=sys.stderr, flush=True)
        output = self.printed[command] = self.run(command, expected)
        if "make review" in command:
            self.reports.append(read(self.project / "build/review/report.json"))
        lines = [line.rstrip() for line in output.replace(str(self.project.parent), "").strip("\n").splitlines()]
        if len(lines) > LONGEST:
            lines = [*lines[: LONGEST // 2], "…", *lines[-LONGEST // 2 :]]
        self.page.append("\n".join(("```console", f"$ {command}", *lines, "```")))
        return output

    def say(self, text: str) -> None:
        self.page.append(text)


def release_template(life: Life) -> None:
    """Two versions of the template: this folder's files, and those with `NEWER`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    work = life.project.parent / "template"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes((ROOT / name).read_bytes())
    life.run("git config --global user.name Ada && git config --global user.email ada@example.org")
    life.run("git config --global init.defaultBranch main && git config --global advice.detachedHead false")
    git = "git -C ../template"
    life.run(f"{git} init -q && {git} add --all && {git} commit -qm 'Version 1' && {git} tag v1.0")
    for name, old, new in NEWER:
        path = work / name
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    (work / "tests/core/test_newer.py").write_text("def test_of_the_template() -> None: ...\n", encoding="utf-8")
    life.run(f"{git} add --all && {git} commit -qm 'Version 2' && {git} tag v2.0")
    life.run("git clone -q --bare ../template ../template.git")
    # as 'Use this template' makes it: the files of a version, without its history
    life.run("git init -q && git fetch -q ../template.git v1.0 && git read-tree -u --reset FETCH_HEAD")
    life.run("git commit -qm 'Initial commit'")


def live(life: Life) -> None:
    """Type everything."""
    release_template(life)
    bunch = datasets.load_wine(as_frame=True)
    table = bunch.frame.assign(cultivar=[f"cultivar {n}" for n in bunch.target]).drop(columns="target")
    table.insert(0, "bottle_id", [f"B{n:04}" for n in range(len(table))])
    table.to_csv(life.project.parent / "wine.csv", index=False)

    life.say("## Start")
    life.show("make start TABLE=../wine.csv TARGET=cultivar")
    life.show("git add --all && git commit --quiet --message 'Start the project'")
    life.show("git ls-files | grep --invert-match ^src/mlops/ | cut -d/ -f1 | sort | uniq --count")
    life.say("## The first change, in review")
    life.show("git switch --quiet --create weaker && sed -i 's/C: 1.0/C: 0.9/' params.yaml && make")
    life.show("git commit --quiet --all --message 'Regularise more' && make review BASE=main")
    life.show("git switch --quiet main && git merge --quiet --squash weaker")
    life.show("git commit --quiet --message 'Regularise more (#1)'")
    life.say("## A rehearsal of the release")
    life.show("git tag v1.0.0 && make release-check")
    life.say("## An update of the template, which changes a line that the team has changed")
    life.show("sed -i 's/^PORT ?= 3000/PORT ?= 8080/' Makefile && git commit --quiet --all --message 'Serve on 8080'")
    life.show("make update TEMPLATE=../template.git", expected=2)
    life.show("git diff")
    life.say("The team keeps its own port:")
    life.show("git checkout --ours Makefile && git add Makefile && git commit --quiet --no-edit")
    life.show("git show --stat --format=%s")
    life.show("make stages && make")
    life.show("git add --all && git commit --quiet --message 'Run the pipeline' && make review BASE=main")
    life.show("cat .template.json")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="life-") as folder:
        life = Life(Path(folder))
        try:
            live(life)
        finally:
            print("\n\n".join(life.page))
        PAGE.write_text("\n\n".join(life.page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
