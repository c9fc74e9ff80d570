"""`make protect`: hold GitHub's rules for main and for the tags of releases against `.github/ruleset*.json`.

Without the rules of main the gate is only advice. Without those of tags a version could be moved to another commit, and
who may push could tag a commit with a workflow of their own, which GitHub would run with the rights of a release.
What GitHub has is read and written with `gh api`; nothing is changed unless APPLY=yes asks for it.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from mlops.stage import UserError, errors_in_words

FOLDER = Path(".github")
CODEOWNERS = Path(".github/CODEOWNERS")
PLACEHOLDER = "@your-org/"
RULESETS = "repos/{owner}/{repo}/rulesets"


def main(apply: bool = os.environ.get("APPLY") == "yes") -> None:
    wanted = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("ruleset*.json"))}
    problems = owners()
    print("\n".join(f"warning: {problem}" for problem in problems) or "CODEOWNERS names owners of your own")
    if not shutil.which("gh"):
        for path, ruleset in wanted.items():
            print(f"{path} would be set as a ruleset of this repository:\n{_pretty(ruleset)}")
        raise UserError("gh is not installed, so GitHub was neither asked nor changed", "https://cli.github.com")
    changed = [path for path, ruleset in wanted.items() if differs(path, ruleset)]
    if not changed:
        return
    if not apply:
        print("nothing was changed; to set it: make protect APPLY=yes")
        return
    if problems:
        raise UserError(f"nothing was changed: {problems[0]}", f"edit {CODEOWNERS}")
    for path in changed:
        present = find(wanted[path]["name"])
        method, target = ("PUT", f"{RULESETS}/{present['id']}") if present else ("POST", RULESETS)
        _gh(target, "--method", method, "--input", str(path))
    print(f"set; see it with: gh ruleset view --web, or: gh api {RULESETS}")


def differs(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether GitHub has other rules than a file; it is shown how."""
    difference = changes(find(wanted["name"]) or {}, wanted, path)
    print(difference or f"the ruleset {wanted['name']!r} is as {path} has it")
    return bool(difference)


def owners() -> list[str]:
    """What is wrong with the owners: GitHub leaves out lines that it does not understand, without a word."""
    lines = CODEOWNERS.read_text(encoding="utf-8").splitlines() if CODEOWNERS.exists() else []
    rules = [line for line in lines if line.strip() and not line.startswith("#")]
    if not rules:
        return [f"{CODEOWNERS} names nobody"]
    return [f"{CODEOWNERS} still names the placeholder {PLACEHOLDER}…"] if PLACEHOLDER in "".join(rules) else []


def find(name: str) -> dict[str, Any] | None:
    """The ruleset with this name as GitHub has it."""
    for listed in _gh(RULESETS, "--paginate"):
        if listed["name"] == name and listed.get("source_type", "Repository") == "Repository":
            found: dict[str, Any] = _gh(f"{RULESETS}/{listed['id']}")
            return found
    return None


def changes(present: dict[str, Any], wanted: dict[str, Any], path: Path) -> str:
    """A diff of two rulesets; what GitHub adds of its own (ids, dates, parameters not set) is left out."""
    before = _pretty(_of_interest(present, wanted)) if present else ""
    lines = difflib.unified_diff(
        before.splitlines(), _pretty(wanted).splitlines(), "on GitHub", str(path), lineterm="", n=2
    )
    return "\n".join(lines)


def _of_interest(present: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    kept = {key: present[key] for key in wanted if key in present}
    parameters = {rule["type"]: rule.get("parameters", {}) for rule in wanted["rules"]}
    kept["rules"] = [
        {
            **rule,
            "parameters": {key: value for key, value in rule["parameters"].items() if key in parameters[rule["type"]]},
        }
        if rule.get("parameters") and parameters.get(rule["type"])
        else {"type": rule["type"]}
        for rule in kept.get("rules", [])
    ]
    return kept


def _pretty(ruleset: dict[str, Any]) -> str:
    ordered = {**ruleset, "rules": sorted(ruleset["rules"], key=lambda rule: str(rule["type"]))}
    return json.dumps(ordered, indent=2, sort_keys=True)


def _gh(*arguments: str) -> Any:
    done = subprocess.run(["gh", "api", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"gh api {arguments[0]} failed: {done.stderr.strip()}", "gh auth status")
    return json.loads(done.stdout)


if __name__ == "__main__":
    with errors_in_words():
        main()
