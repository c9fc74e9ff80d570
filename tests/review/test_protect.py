"""`make protect`: shows first, sets only when asked, and knows when the owners are still placeholders.

GitHub is out of reach here: a `gh` in its place answers from files and writes down what it is sent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

GH = """#!/bin/sh
echo "$@" >> "$GH_FOLDER/calls"
for last; do :; done
case "$*" in
    *--method*) cp "$last" "$GH_FOLDER/sent-$(basename "$last")"; echo '{}' ;;
    *rulesets/7*) cat "$GH_FOLDER/one" ;;
    *rulesets/3*) cat "$GH_FOLDER/three" ;;
    *rulesets/5*) cat "$GH_FOLDER/five" ;;
    *) cat "$GH_FOLDER/all" ;;
esac
"""
MAIN, TAGS, RELEASERS = "ruleset.json", "ruleset-tags.json", "ruleset-releasers.json"
WANTED = json.loads((ROOT / ".github" / MAIN).read_text(encoding="utf-8"))
RELEASES = json.loads((ROOT / ".github" / TAGS).read_text(encoding="utf-8"))
WHO = json.loads((ROOT / ".github" / RELEASERS).read_text(encoding="utf-8"))


class Desk:
    """A folder with our files in it, and a GitHub behind `gh`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".github").mkdir()
        for name in (MAIN, TAGS, RELEASERS, "CODEOWNERS"):
            (folder / ".github" / name).write_bytes((ROOT / ".github" / name).read_bytes())
        (folder / "bin").mkdir()
        (folder / "bin/gh").write_text(GH, encoding="utf-8")
        (folder / "bin/gh").chmod(0o755)
        self.has(None)

    def has(self, main: dict[str, Any] | None, tags: tuple[dict[str, Any], ...] = (RELEASES, WHO)) -> None:
        """What GitHub knows."""
        listed = []
        for (number, file), ruleset in zip(((7, "one"), (3, "three"), (5, "five")), (main, *tags), strict=False):
            if ruleset:
                listed.append({"id": number, "name": ruleset["name"]})
                added = {"id": number, "created_at": "2026-01-01", "_links": {}, "current_user_can_bypass": "never"}
                (self.folder / file).write_text(json.dumps({**ruleset, **added}), encoding="utf-8")
        (self.folder / "all").write_text(json.dumps(listed), encoding="utf-8")

    def owned(self) -> None:
        path = self.folder / ".github/CODEOWNERS"
        path.write_text(path.read_text(encoding="utf-8").replace("@your-org/", "@acme/"), encoding="utf-8")

    def protect(self, apply: str = "", path: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}/bin" if path is None else path,
            "PYTHONPATH": str(ROOT / "src"),
            "GH_FOLDER": str(self.folder),
            "APPLY": apply,
        }
        command = [sys.executable, "-m", "mlops.review.protect"]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> str:
        return (self.folder / "calls").read_text(encoding="utf-8")

    @property
    def sent(self) -> dict[str, Any]:
        """What GitHub was told, by the name of its file."""
        return {path.name[5:]: json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("sent-*")}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_it_shows_every_rule_and_changes_nothing(desk: Desk) -> None:
    done = desk.protect()
    assert done.returncode == 0, done.stderr
    assert '"context": "gate"' in done.stdout
    assert "make protect APPLY=yes" in done.stdout
    assert desk.sent == {}


def test_it_sets_the_rules_when_asked(desk: Desk) -> None:
    desk.owned()
    done = desk.protect("yes")
    assert done.returncode == 0, done.stderr
    assert desk.sent == {MAIN: WANTED}
    assert "--method POST" in desk.calls


def test_it_keeps_the_tags_of_releases_from_being_moved(desk: Desk) -> None:
    desk.owned()
    desk.has(WANTED, ())
    assert desk.protect("yes").returncode == 0
    assert desk.sent == {TAGS: RELEASES, RELEASERS: WHO}
    assert (RELEASES["target"], RELEASES["conditions"]["ref_name"]["include"]) == ("tag", ["refs/tags/v*"])
    assert {rule["type"] for rule in RELEASES["rules"]} == {"deletion", "update"}
    # apart, since who may pass by a rule may pass by all of its set: nobody moves a tag
    assert RELEASES["bypass_actors"] == []
    assert [rule["type"] for rule in WHO["rules"]] == ["creation"]
    assert WHO["conditions"] == RELEASES["conditions"]


def test_both_are_set_in_a_new_repository(desk: Desk) -> None:
    desk.owned()
    desk.has(None, ())
    assert desk.protect("yes").returncode == 0
    assert desk.sent == {MAIN: WANTED, TAGS: RELEASES, RELEASERS: WHO}


def test_a_rule_that_somebody_loosened_is_shown_and_set_again(desk: Desk) -> None:
    desk.owned()
    loose = json.loads(json.dumps(WANTED))
    loose["enforcement"] = "disabled"
    loose["rules"] = [rule for rule in loose["rules"] if rule["type"] != "required_status_checks"]
    desk.has(loose)
    assert '-  "enforcement": "disabled"' in desk.protect().stdout
    assert desk.sent == {}
    assert desk.protect("yes").returncode == 0
    assert desk.sent == {MAIN: WANTED}
    assert "rulesets/7 --method PUT" in desk.calls


def test_what_github_adds_of_its_own_is_no_difference(desk: Desk) -> None:
    rules = json.loads(json.dumps(WANTED["rules"]))[::-1]
    for rule in rules:
        if "parameters" in rule:
            rule["parameters"]["required_reviewers"] = []
    desk.has({**WANTED, "rules": rules})
    done = desk.protect("yes")
    assert "is as .github/ruleset.json has it" in done.stdout
    assert "is as .github/ruleset-tags.json has it" in done.stdout
    assert desk.sent == {}


def test_it_does_not_require_owners_that_do_not_exist(desk: Desk) -> None:
    done = desk.protect("yes")
    assert done.returncode == 1
    assert "placeholder @your-org/" in done.stderr
    assert desk.sent == {}


def test_without_owners_it_says_so(desk: Desk) -> None:
    (desk.folder / ".github/CODEOWNERS").write_text("# nobody yet\n", encoding="utf-8")
    assert "names nobody" in desk.protect("yes").stderr
    assert desk.sent == {}


def test_without_gh_it_shows_the_rules_and_fails(desk: Desk) -> None:
    done = desk.protect(path="/nowhere")
    assert done.returncode == 1
    assert '"context": "gate"' in done.stdout
    assert done.stderr.startswith("error: gh is not installed")


def test_what_gh_says_against_it_is_passed_on(desk: Desk) -> None:
    (desk.folder / "bin/gh").write_text("#!/bin/sh\necho 'HTTP 403: admin rights' >&2\nexit 1\n", encoding="utf-8")
    done = desk.protect()
    assert done.returncode == 1
    assert "HTTP 403: admin rights" in done.stderr
    assert "Traceback" not in done.stderr
