"""`make protect`: compare GitHub's settings with the files in `.github` that say what they must be.

Rulesets make the check `gate` required and keep versions where they are. Environments give tokens and secrets to main
and to version tags only. Workflows get a token that can read, may not approve pull requests, and run pinned actions
only. GitHub is read and written with `gh api`; nothing is changed unless APPLY=yes asks for it.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mlops.core.errors import UserError, errors_in_words

FOLDER = Path(".github")
CODEOWNERS = FOLDER / "CODEOWNERS"
ENVIRONMENTS = FOLDER / "environments.json"
SETTINGS = FOLDER / "settings.json"
PLACEHOLDER = "@your-org/"
REPOSITORY = "repos/{owner}/{repo}"
RULESETS = f"{REPOSITORY}/rulesets"
NOT_IN_PLAN = (
    "a private repository has rulesets and protected environments from GitHub Pro or Team on; without them keep "
    "secrets out of GitHub, and let only people you would give them to push branches: docs/trust.md"
)


class Rule(NamedTuple):
    """A setting that GitHub must have."""

    name: str
    file: Path
    wanted: Any
    present: Any
    """What GitHub has of it; None where it has nothing."""
    set: Callable[[], None]


def main(apply: bool = os.environ.get("APPLY") == "yes") -> None:
    problems = owners()
    print("\n".join(f"warning: {problem}" for problem in problems) or "CODEOWNERS names owners of your own")
    if not shutil.which("gh"):
        for path in (*sorted(FOLDER.glob("ruleset*.json")), ENVIRONMENTS, SETTINGS):
            print(f"{path} would be applied:\n{_pretty(_read(path))}")
        raise UserError("gh is not installed, so GitHub was neither read nor changed", "https://cli.github.com")
    changed, failed = [], []
    groups = (rulesets, environments, settings)
    for group in groups:
        try:
            changed += [rule for rule in group() if differs(rule)]
        except UserError as error:
            # a plan without one kind of setting has the others
            failed.append(error)
    if len(failed) == len(groups):
        raise failed[0]
    if changed and not apply:
        print("nothing was changed; to apply: make protect APPLY=yes")
    elif changed and problems:
        raise UserError(f"nothing was changed: {problems[0]}", f"edit {CODEOWNERS}")
    else:
        for rule in changed:
            try:
                rule.set()
            except UserError as error:
                failed.append(UserError(f"{rule.name}: {error}"))
    if failed:
        listed = "".join(f"\n- {str(error).splitlines()[0]}" for error in failed)
        by_plan = "/environments" in listed or "/rulesets" in listed
        hint = NOT_IN_PLAN if by_plan else "gh auth status"
        raise UserError(f"GitHub did not return or accept every setting:{listed}", hint)
    if changed and apply:
        print(f"applied; to view: gh ruleset view --web, or: gh api {RULESETS}")


def differs(rule: Rule) -> bool:
    """Whether GitHub's setting differs from the file; prints the difference."""
    before = "" if rule.present is None else _pretty(rule.present)
    lines = difflib.unified_diff(
        before.splitlines(), _pretty(rule.wanted).splitlines(), "on GitHub", str(rule.file), lineterm="", n=2
    )
    difference = "\n".join(lines)
    print(f"{rule.name}\n{difference}" if difference else f"{rule.name} matches {rule.file}")
    return bool(difference)


def owners() -> list[str]:
    """List problems in CODEOWNERS; GitHub silently ignores lines that it does not understand."""
    lines = CODEOWNERS.read_text(encoding="utf-8").splitlines() if CODEOWNERS.exists() else []
    rules = [line for line in lines if line.strip() and not line.startswith("#")]
    if not rules:
        return [f"{CODEOWNERS} names nobody"]
    if PLACEHOLDER in "".join(rules):
        return [f"{CODEOWNERS} still names the placeholder {PLACEHOLDER}…"]
    catch_all = any(line.split()[0] == "*" and len(line.split()) > 1 for line in rules)
    return [] if catch_all else [f"{CODEOWNERS} has no line * with an owner: new files would have none"]


def rulesets() -> list[Rule]:
    """The rules of main and of version tags."""
    found = []
    for path in sorted(FOLDER.glob("ruleset*.json")):
        wanted = _read(path)
        present = _find(wanted["name"])
        method, target = ("PUT", f"{RULESETS}/{present['id']}") if present else ("POST", RULESETS)

        def send(method: str = method, target: str = target, wanted: Any = wanted) -> None:
            _gh(target, method, wanted)

        known = _ordered(_of_interest(present, wanted)) if present else None
        found.append(Rule(f"the ruleset {wanted['name']!r}", path, _ordered(wanted), known, send))
    return found


def environments() -> list[Rule]:
    """Environments with the branches and tags that may use them. Reviewers that somebody has set there are kept."""
    listed = {each["name"]: each for each in _all(f"{REPOSITORY}/environments", "environments")}
    found = []
    for name, wanted in _read(ENVIRONMENTS).items():
        target = f"{REPOSITORY}/environments/{name}"
        present = listed.get(name)
        by = (present or {}).get("deployment_branch_policy") or {}
        custom = by.get("custom_branch_policies", False)
        policies = _all(f"{target}/deployment-branch-policies", "branch_policies") if custom else []

        def send(target: str = target, wanted: Any = wanted, present: Any = present) -> None:
            _gh(target, "PUT", _environment(present))
            # asked again: those of an environment that was open in between may have come back
            policies = _all(f"{target}/deployment-branch-policies", "branch_policies")
            for policy in policies:
                if _policy(policy) not in wanted:
                    _gh(f"{target}/deployment-branch-policies/{policy['id']}", "DELETE")
            for policy in wanted:
                if policy not in map(_policy, policies):
                    _gh(f"{target}/deployment-branch-policies", "POST", policy)

        open_to = "branches with a protection rule" if by.get("protected_branches") else "any branch or tag"
        known = None if present is None else sorted(map(_policy, policies), key=str) if custom else open_to
        found.append(Rule(f"the environment {name!r}", ENVIRONMENTS, sorted(wanted, key=str), known, send))
    return found


def settings() -> list[Rule]:
    """Permissions of the repository's workflows."""
    found = []
    for name, wanted in _read(SETTINGS).items():
        target = f"{REPOSITORY}/{name}"
        present = _gh(target)

        def send(target: str = target, wanted: Any = wanted, present: Any = present) -> None:
            # which actions are allowed stays as it is
            kept = {key: present[key] for key in ("allowed_actions",) if key in present}
            _gh(target, "PUT", kept | wanted)

        known = {key: present.get(key) for key in wanted}
        found.append(Rule(f"the setting {name}", SETTINGS, wanted, known, send))
    return found


def _environment(present: Any) -> dict[str, Any]:
    """Of an environment all that is set at once, with what somebody has set there already."""
    body: dict[str, Any] = {
        "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
    }
    for rule in (present or {}).get("protection_rules", []):
        if rule["type"] == "wait_timer":
            body["wait_timer"] = rule["wait_timer"]
        elif rule["type"] == "required_reviewers":
            body["prevent_self_review"] = rule.get("prevent_self_review", False)
            body["reviewers"] = [{"type": each["type"], "id": each["reviewer"]["id"]} for each in rule["reviewers"]]
    return body


def _policy(listed: dict[str, Any]) -> dict[str, Any]:
    return {"name": listed["name"], "type": listed.get("type", "branch")}


def _find(name: str) -> dict[str, Any] | None:
    """The ruleset with this name as GitHub has it."""
    for listed in _all(RULESETS):
        if listed["name"] == name and listed.get("source_type", "Repository") == "Repository":
            found: dict[str, Any] = _gh(f"{RULESETS}/{listed['id']}")
            return found
    return None


def _of_interest(present: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A ruleset without what GitHub adds of its own: ids, dates, parameters that are not set."""
    kept = {key: present[key] for key in wanted if key in present}
    asked = {rule["type"]: rule.get("parameters", {}) for rule in wanted["rules"]}
    kept["rules"] = []
    for rule in present.get("rules", []):
        found = rule.get("parameters") or {}
        # GitHub leaves out some that are false
        parameters = {
            key: found.get(key, False)
            for key, value in asked.get(rule["type"], {}).items()
            if key in found or value is False
        }
        kept["rules"].append({"type": rule["type"]} | ({"parameters": parameters} if parameters else {}))
    return kept


def _ordered(ruleset: dict[str, Any]) -> dict[str, Any]:
    return {**ruleset, "rules": sorted(ruleset["rules"], key=lambda rule: str(rule["type"]))}


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _all(target: str, key: str | None = None) -> list[Any]:
    """All items of a list. `gh api --paginate` prints one document after the other instead."""
    found: list[Any] = []
    while True:
        page = _gh(f"{target}?per_page=100&page={len(found) // 100 + 1}")
        items = page if key is None else page[key]
        found += items
        if len(items) < 100:
            return found


def _gh(target: str, method: str = "GET", body: Any = None) -> Any:
    command = ["gh", "api", target, "--method", method, *(("--input", "-") if body is not None else ())]
    sent = None if body is None else json.dumps(body)
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=False)
    if done.returncode:
        output = " ".join(done.stderr.split())
        raise UserError(f"gh api {target.partition('?')[0]} failed: {output}", "gh auth status")
    return json.loads(done.stdout) if done.stdout.strip() else None


if __name__ == "__main__":
    with errors_in_words():
        main()
