"""`make protect`: shows first, sets only when asked, and knows when the owners are still placeholders.

GitHub is out of reach here. A `gh` in its place passes its arguments on to a stand-in, which holds each request
against a description of GitHub's API, keeps what is set, and answers as GitHub does.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import ROOT
from review.github import Description, RefusedError

GH = """#!{python} -IS
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", int(os.environ["STAND_IN"]))) as line:
    given = sys.stdin.read() if "--input" in sys.argv else None
    line.sendall(json.dumps([sys.argv[1:], given]).encode() + b"\\n")
    code, out, err = json.loads(line.makefile().readline())
print(out, end="")
print(err, end="", file=sys.stderr)
sys.exit(code)
"""
MAIN, TAGS, RELEASERS = "ruleset.json", "ruleset-tags.json", "ruleset-releasers.json"
OURS = (MAIN, TAGS, RELEASERS, "environments.json", "settings.json", "CODEOWNERS")
UPGRADE = "Upgrade to GitHub Pro or make this repository public to enable this feature."
BILLING = "Fail to create protected rule, please ensure billing plan include protected branch gate."
CUSTOM = {"protected_branches": False, "custom_branch_policies": True}
ONLY_PROTECTED = {"protected_branches": True, "custom_branch_policies": False}


def wanted(name: str) -> Any:
    return json.loads((ROOT / ".github" / name).read_text(encoding="utf-8"))


class Protection(Description):
    """A description whose bodies stand where they are used."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for operations in self.root["paths"].values():
            for operation in operations.values():
                body = isinstance(operation, dict) and self._resolve(operation.get("requestBody", {})).get("content")
                if body and "application/json" in body:
                    body["application/json"]["schema"] = self._resolve(body["application/json"]["schema"])


@cache
def description() -> Protection:
    return Protection(Path(os.environ.get("GITHUB_OPENAPI") or Path(__file__).with_name("gh.yaml")))


class Hub:
    """A repository's settings at GitHub, as a new one has them."""

    def __init__(self) -> None:
        self.rulesets: dict[int, dict[str, Any]] = {}
        self.environments: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[int, dict[str, str]]] = {}
        """Environment → its custom policies."""
        self.actions: dict[str, Any] = {"enabled": True, "allowed_actions": "all", "sha_pinning_required": False}
        self.workflow = {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": False}
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        """Method and expression for the path → what is answered."""
        self.requests: list[tuple[str, str, Any]] = []
        self.complaints: list[str] = []
        self.last = 1000

    def number(self) -> int:
        self.last += 1
        return self.last

    # what somebody has set before

    def has_ruleset(self, ruleset: dict[str, Any], **known: Any) -> int:
        number = self.number()
        given = {"id": number, "source_type": "Repository", "source": "ada/a-project", "node_id": "x"}
        self.rulesets[number] = {**copy.deepcopy(ruleset), **given, "current_user_can_bypass": "never", **known}
        return number

    def has_environment(
        self, name: str, *policies: dict[str, str], by: Any = CUSTOM, rules: tuple[dict[str, Any], ...] = ()
    ) -> None:
        kept = [{"id": self.number(), "node_id": "x", **rule} for rule in rules]
        self.environments[name] = {"id": self.number(), "name": name, "protection_rules": kept}
        self.environments[name]["deployment_branch_policy"] = by
        self.policies[name] = {self.number(): policy for policy in policies}

    def is_protected(self) -> None:
        for name in (MAIN, TAGS, RELEASERS):
            self.has_ruleset(wanted(name))
        for name, policies in wanted("environments.json").items():
            self.has_environment(name, *policies)
        self.actions["sha_pinning_required"] = True

    # what is asked

    @property
    def changes(self) -> list[str]:
        """The requests that were to change something."""
        return [f"{method} {path}" for method, path, _ in self.requests if method != "GET"]

    def sent(self, method: str, ending: str) -> Any:
        (body,) = [body for sent, path, body in self.requests if sent == method and path.endswith(ending)]
        return body

    def gh(self, arguments: list[str], given: str | None) -> tuple[int, str, str]:
        """Exit code, output and errors of `gh`."""
        match arguments:
            case ["api", target, "--method", method]:
                body = ""
            case ["api", target, "--method", method, "--input", "-"]:
                body = given or ""
            case _:
                self.complaints.append(f"gh {' '.join(arguments)}")
                return 1, "", "unknown command or flag\n"
        parts = urlsplit("/" + target.replace("{owner}", "ada").replace("{repo}", "a-project"))
        self.requests.append((method, parts.path, json.loads(body or "null")))
        try:
            operation, in_path = description().find(method, parts.path)
            description().check_request(operation, in_path, parts.query, body.encode())
        except (RefusedError, ValueError) as error:
            self.complaints.append(f"{method} {target}: {error}")
            return refusal(422, str(error))
        refused = next(
            (printed for (m, p), printed in self.refusals.items() if m == method and re.search(p, parts.path)), None
        )
        if refused:
            return refusal(*refused)
        name = re.sub(r"\W", "_", operation["operationId"])
        status, content = getattr(self, name)(in_path, json.loads(body or "null"))
        if status >= 400:
            return refusal(status, content)
        description().check_answer(operation, status, content)
        return 0, "" if status == 204 else json.dumps(paged(content, parts.query)), ""

    def repos_get_repo_rulesets(self, *_: Any) -> tuple[int, Any]:
        # in short
        hidden = ("rules", "conditions", "bypass_actors", "current_user_can_bypass")
        return 200, [{k: v for k, v in each.items() if k not in hidden} for each in self.rulesets.values()]

    def repos_get_repo_ruleset(self, path: dict[str, str], _: Any) -> tuple[int, Any]:
        number = int(path["ruleset_id"])
        return (200, self.rulesets[number]) if number in self.rulesets else (404, "Not Found")

    def repos_create_repo_ruleset(self, _: Any, body: dict[str, Any]) -> tuple[int, Any]:
        if any(each["name"] == body["name"] for each in self.rulesets.values()):
            return 422, "Validation Failed"
        return 201, self.rulesets[self.has_ruleset(self._completed(body))]

    def repos_update_repo_ruleset(self, path: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        number = int(path["ruleset_id"])
        self.rulesets[number].update(self._completed(body))
        return 200, self.rulesets[number]

    @staticmethod
    def _completed(ruleset: dict[str, Any]) -> dict[str, Any]:
        """As GitHub shows it again: rules in another order, some parameters more, some that are false left out."""
        found = copy.deepcopy(ruleset)
        found["rules"].reverse()
        for rule in found["rules"]:
            if rule["type"] == "pull_request":
                rule["parameters"]["required_reviewers"] = []
            if rule["type"] == "update" and not rule["parameters"]["update_allows_fetch_and_merge"]:
                del rule["parameters"]
        return found

    def repos_get_all_environments(self, *_: Any) -> tuple[int, Any]:
        return 200, {"total_count": len(self.environments), "environments": list(self.environments.values())}

    def repos_create_or_update_environment(self, path: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        name, by = path["environment_name"], body.get("deployment_branch_policy")
        if by and by["protected_branches"] == by["custom_branch_policies"]:
            return 422, "protected_branches and custom_branch_policies cannot have the same value"
        rules: list[dict[str, Any]] = []
        if body.get("wait_timer"):
            rules.append({"type": "wait_timer", "wait_timer": body["wait_timer"]})
        if body.get("reviewers"):
            who = [{"type": each["type"], "reviewer": {"id": each["id"]}} for each in body["reviewers"]]
            alone = body.get("prevent_self_review", False)
            rules.append({"type": "required_reviewers", "prevent_self_review": alone, "reviewers": who})
        if by:
            rules.append({"type": "branch_policy"})
        policies = self.policies.get(name, {})  # kept, even if they do not count for a while
        self.has_environment(name, by=by, rules=tuple(rules))
        self.policies[name] = policies
        return 200, self.environments[name]

    def repos_list_deployment_branch_policies(self, path: dict[str, str], _: Any) -> tuple[int, Any]:
        name = path["environment_name"]
        if self.environments.get(name, {}).get("deployment_branch_policy") != CUSTOM:
            return 404, "Not Found"
        listed = [{"id": number, "node_id": "x", **policy} for number, policy in self.policies[name].items()]
        return 200, {"total_count": len(listed), "branch_policies": listed}

    def repos_create_deployment_branch_policy(self, path: dict[str, str], body: dict[str, str]) -> tuple[int, Any]:
        name = path["environment_name"]
        if self.environments.get(name, {}).get("deployment_branch_policy") != CUSTOM:
            return 404, "Not Found"
        number, policy = self.number(), {"type": "branch", **body}
        if policy in self.policies[name].values():
            return 422, "the same pattern exists"
        self.policies[name][number] = policy
        return 200, {"id": number, **policy}

    def repos_delete_deployment_branch_policy(self, path: dict[str, str], _: Any) -> tuple[int, Any]:
        gone = self.policies.get(path["environment_name"], {}).pop(int(path["branch_policy_id"]), None)
        return (404, "Not Found") if gone is None else (204, None)

    def actions_get_github_actions_permissions_repository(self, *_: Any) -> tuple[int, Any]:
        return 200, self.actions if self.actions["enabled"] else {"enabled": False}

    def actions_set_github_actions_permissions_repository(self, _: Any, body: dict[str, Any]) -> tuple[int, Any]:
        self.actions = {"allowed_actions": "all", "sha_pinning_required": False, **body}
        return 204, None

    def actions_get_github_actions_default_workflow_permissions_repository(self, *_: Any) -> tuple[int, Any]:
        return 200, self.workflow

    def actions_set_github_actions_default_workflow_permissions_repository(
        self, _: Any, body: dict[str, Any]
    ) -> tuple[int, Any]:
        self.workflow.update(body)
        return 204, None


def refusal(status: int, message: str) -> tuple[int, str, str]:
    return 1, json.dumps({"message": message, "status": str(status)}), f"gh: {message} (HTTP {status})\n"


def paged(content: Any, query: str) -> Any:
    """The page of a list that is asked for; GitHub's are of 30 unless more are asked for."""
    asked = dict(parse_qsl(query))
    size, page = int(asked.get("per_page", 30)), int(asked.get("page", 1))
    part = slice((page - 1) * size, page * size)
    if isinstance(content, list):
        return content[part]
    return {key: value[part] if key in ("environments", "branch_policies") else value for key, value in content.items()}


@contextlib.contextmanager
def listening(hub: Hub) -> Iterator[int]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            arguments, given = json.loads(self.rfile.readline())
            try:
                answer = hub.gh(arguments, given)
            except Exception as error:
                hub.complaints.append(f"{arguments}: {error!r}")
                raise
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


class Desk:
    """A folder with our files in it, owners of its own, and a GitHub behind `gh`."""

    def __init__(self, folder: Path, port: int, hub: Hub) -> None:
        self.folder, self.hub = folder, hub
        (folder / ".github").mkdir()
        for name in OURS:
            (folder / ".github" / name).write_bytes((ROOT / ".github" / name).read_bytes())
        self.codeowners = folder / ".github/CODEOWNERS"
        self.placeholders = self.codeowners.read_text(encoding="utf-8")
        self.codeowners.write_text(self.placeholders.replace("@your-org/", "@acme/"), encoding="utf-8")
        (folder / "bin").mkdir()
        (folder / "bin/gh").write_text(GH.format(python=sys.executable), encoding="utf-8")
        (folder / "bin/gh").chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'bin'}{os.pathsep}/bin",
            "PYTHONPATH": str(ROOT / "src"),
            "STAND_IN": str(port),
        }

    def protect(self, apply: str = "", code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlops.review.protect"]
        settings = {**self.environment, "APPLY": apply, **environment}
        done = subprocess.run(command, cwd=self.folder, env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def is_as_wanted(self) -> None:
        """GitHub has what our files say, and a second run finds nothing to do."""
        before = len(self.hub.changes)
        done = self.protect("yes")
        assert len(self.hub.changes) == before
        assert len(re.findall(r"^the (?:ruleset|environment|setting) .* matches \.github/", done.stdout, re.M)) == 12
        assert "on GitHub" not in done.stdout


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    hub = Hub()
    with listening(hub) as port:
        yield Desk(tmp_path, port, hub)
    assert hub.complaints == []


# -- what there is, and what is missing


def test_it_shows_every_setting_and_changes_nothing(desk: Desk) -> None:
    shown = desk.protect().stdout
    assert '"context": "gate"' in shown
    assert "the environment 'registry'\n" in shown
    assert '-  "sha_pinning_required": false' in shown
    assert "the setting actions/permissions/workflow matches .github/settings.json" in shown
    assert shown.endswith("nothing was changed; to apply: make protect APPLY=yes\n")
    assert desk.hub.changes == []


@pytest.mark.parametrize("apply", ["no", "YES", "1", "true"])
def test_nothing_but_yes_sets_anything(desk: Desk, apply: str) -> None:
    desk.protect(apply)
    assert desk.hub.changes == []


def test_everything_is_set_in_a_new_repository_and_then_there_is_nothing_to_do(desk: Desk) -> None:
    done = desk.protect("yes")
    assert "applied; to view: gh ruleset view --web" in done.stdout
    repository = "/repos/ada/a-project"
    registry, release = (f"{repository}/environments/{name}" for name in ("registry", "release"))
    of_main = ("monitoring", "storage", "pipeline-image", "template", "github-pages")
    assert sorted(desk.hub.changes) == sorted(
        [
            *[f"POST {repository}/rulesets"] * 3,
            f"PUT {release}",
            f"POST {release}/deployment-branch-policies",
            f"PUT {registry}",
            *[f"POST {registry}/deployment-branch-policies"] * 2,
            *(f"PUT {repository}/environments/{name}" for name in of_main),
            *(f"POST {repository}/environments/{name}/deployment-branch-policies" for name in of_main),
            f"PUT {repository}/actions/permissions",
        ]
    )
    assert {each["name"] for each in desk.hub.rulesets.values()} == {"main", "releases", "who may release"}
    kept = {name: list(policies.values()) for name, policies in desk.hub.policies.items()}
    assert kept == {
        "release": [{"name": "v*", "type": "tag"}],
        "registry": [{"name": "main", "type": "branch"}, {"name": "v*", "type": "tag"}],
        **{name: [{"name": "main", "type": "branch"}] for name in of_main},
    }
    desk.is_as_wanted()


def test_what_github_adds_leaves_out_or_orders_otherwise_is_no_difference(desk: Desk) -> None:
    desk.hub.is_protected()
    for ruleset in desk.hub.rulesets.values():
        ruleset.update(desk.hub._completed(ruleset))
        ruleset.update(created_at="2026-01-01T00:00:00Z", _links={"self": {"href": "https://api.github.com/x"}})
    desk.is_as_wanted()


def test_more_than_one_page_is_read(desk: Desk) -> None:
    for number in range(130):
        desk.hub.has_ruleset({**wanted(RELEASERS), "name": f"other {number}"})
        desk.hub.has_environment(f"other-{number}", by=None)
    desk.hub.is_protected()
    desk.is_as_wanted()
    desk.hub.policies["release"] |= {number: {"name": f"v{number}.*", "type": "tag"} for number in range(130)}
    assert '-    "name": "v129.*"' in desk.protect().stdout


# -- rulesets


def test_the_rulesets_require_the_gate_and_keep_versions_where_they_are(desk: Desk) -> None:
    desk.protect("yes")
    by_name = {body["name"]: body for method, _, body in desk.hub.requests if method == "POST" and "target" in body}
    assert by_name == {ruleset["name"]: ruleset for ruleset in map(wanted, (MAIN, TAGS, RELEASERS))}
    main, tags, who = by_name["main"], by_name["releases"], by_name["who may release"]
    rules = {rule["type"]: rule.get("parameters", {}) for rule in main["rules"]}
    assert [each["context"] for each in rules["required_status_checks"]["required_status_checks"]] == ["gate"]
    assert rules["pull_request"]["require_code_owner_review"]
    assert (tags["target"], tags["conditions"]["ref_name"]["include"]) == ("tag", ["refs/tags/v*"])
    assert {rule["type"] for rule in tags["rules"]} == {"deletion", "update"}
    # apart, since who may pass by a rule may pass by all of its set: nobody moves a tag
    assert main["bypass_actors"] == tags["bypass_actors"] == []
    assert [rule["type"] for rule in who["rules"]] == ["creation"]
    assert who["conditions"] == tags["conditions"]


def disabled(ruleset: dict[str, Any]) -> None:
    ruleset["enforcement"] = "disabled"


def without_the_check(ruleset: dict[str, Any]) -> None:
    ruleset["rules"] = [rule for rule in ruleset["rules"] if rule["type"] != "required_status_checks"]


def without_parameters(ruleset: dict[str, Any]) -> None:
    for rule in ruleset["rules"]:
        rule.pop("parameters", None)


def with_a_bypass(ruleset: dict[str, Any]) -> None:
    ruleset["bypass_actors"] = [{"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}]


def of_another_branch(ruleset: dict[str, Any]) -> None:
    ruleset["conditions"]["ref_name"]["exclude"] = ["refs/heads/main"]


@pytest.mark.parametrize(
    ("loosen", "shown"),
    [
        (disabled, '-  "enforcement": "disabled"'),
        (without_the_check, '+            "context": "gate"'),
        (without_parameters, '+        "require_code_owner_review": true'),
        (with_a_bypass, '-      "actor_type": "RepositoryRole"'),
        (of_another_branch, '-        "refs/heads/main"'),
    ],
)
def test_a_ruleset_that_somebody_loosened_is_shown_and_set_again(desk: Desk, loosen: Any, shown: str) -> None:
    desk.hub.is_protected()
    number = next(number for number, each in desk.hub.rulesets.items() if each["name"] == "main")
    loosen(desk.hub.rulesets[number])
    assert shown in desk.protect().stdout
    assert desk.hub.changes == []
    desk.protect("yes")
    assert desk.hub.changes == [f"PUT /repos/ada/a-project/rulesets/{number}"]
    assert desk.hub.sent("PUT", str(number)) == wanted(MAIN)
    desk.is_as_wanted()


def test_tags_that_may_follow_another_repository_are_a_difference(desk: Desk) -> None:
    desk.hub.is_protected()
    (tags,) = [each for each in desk.hub.rulesets.values() if each["name"] == "releases"]
    tags["rules"][1]["parameters"]["update_allows_fetch_and_merge"] = True
    assert '-        "update_allows_fetch_and_merge": true' in desk.protect().stdout


def test_a_ruleset_of_the_organization_is_not_taken_for_ours(desk: Desk) -> None:
    desk.hub.has_ruleset(wanted(MAIN), source_type="Organization", source="ada")
    assert "\nthe ruleset 'main'\n--- on GitHub" in desk.protect().stdout


# -- environments


def test_an_environment_that_is_open_to_every_branch_is_closed(desk: Desk) -> None:
    desk.hub.is_protected()
    desk.hub.has_environment("release", by=None)
    assert '-"any branch or tag"' in desk.protect().stdout
    desk.protect("yes")
    assert desk.hub.environments["release"]["deployment_branch_policy"] == CUSTOM
    desk.is_as_wanted()


def test_policies_that_come_back_with_an_environment_s_closing_are_removed(desk: Desk) -> None:
    desk.hub.is_protected()
    desk.hub.has_environment("release", {"name": "feature/*", "type": "branch"}, by=None)
    desk.protect("yes")
    assert list(desk.hub.policies["release"].values()) == [{"name": "v*", "type": "tag"}]
    desk.is_as_wanted()


def test_an_environment_for_branches_with_a_rule_is_given_to_version_tags(desk: Desk) -> None:
    desk.hub.is_protected()
    desk.hub.has_environment("release", by=ONLY_PROTECTED)
    assert '-"branches with a protection rule"' in desk.protect().stdout
    desk.protect("yes")
    desk.is_as_wanted()


def test_another_branch_is_shut_out_and_a_missing_tag_let_in(desk: Desk) -> None:
    desk.hub.is_protected()
    branch = {"name": "main", "type": "branch"}
    # v* as a branch: anybody who may push could make one
    desk.hub.has_environment(
        "registry", branch, {"name": "feature/*", "type": "branch"}, {"name": "v*", "type": "branch"}
    )
    assert '-    "name": "feature/*"' in desk.protect().stdout
    desk.protect("yes")
    assert list(desk.hub.policies["registry"].values()) == [branch, {"name": "v*", "type": "tag"}]
    assert sum(change.startswith("DELETE ") for change in desk.hub.changes) == 2
    desk.is_as_wanted()


def test_reviewers_and_a_wait_that_somebody_has_set_are_kept(desk: Desk) -> None:
    desk.hub.is_protected()
    reviewers = [{"type": "User", "reviewer": {"id": 7}}, {"type": "Team", "reviewer": {"id": 9}}]
    rules: tuple[dict[str, Any], ...] = (
        {"type": "wait_timer", "wait_timer": 30},
        {"type": "required_reviewers", "prevent_self_review": True, "reviewers": reviewers},
        {"type": "branch_policy"},
    )
    desk.hub.has_environment("release", {"name": "main", "type": "branch"}, rules=rules)
    desk.protect("yes")
    assert desk.hub.sent("PUT", "/environments/release") == {
        "deployment_branch_policy": CUSTOM,
        "wait_timer": 30,
        "prevent_self_review": True,
        "reviewers": [{"type": "User", "id": 7}, {"type": "Team", "id": 9}],
    }
    kept = [
        {key: value for key, value in rule.items() if key not in ("id", "node_id")}
        for rule in desk.hub.environments["release"]["protection_rules"]
    ]
    assert kept == list(rules)
    desk.is_as_wanted()


def test_other_environments_are_left_alone(desk: Desk) -> None:
    desk.hub.is_protected()
    desk.hub.has_environment("staging", by=None)
    desk.is_as_wanted()


# -- settings of workflows


def test_workflows_that_may_approve_or_write_by_default_are_shown_and_held_back(desk: Desk) -> None:
    desk.hub.is_protected()
    desk.hub.workflow = {"default_workflow_permissions": "write", "can_approve_pull_request_reviews": True}
    shown = desk.protect().stdout
    assert '-  "can_approve_pull_request_reviews": true' in shown
    assert '-  "default_workflow_permissions": "write"' in shown
    desk.protect("yes")
    assert desk.hub.changes == ["PUT /repos/ada/a-project/actions/permissions/workflow"]
    assert desk.hub.workflow == {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": False}
    desk.is_as_wanted()


@pytest.mark.parametrize("allowed", ["all", "local_only", "selected"])
def test_which_actions_are_allowed_stays_as_it_is(desk: Desk, allowed: str) -> None:
    desk.hub.is_protected()
    desk.hub.actions.update(allowed_actions=allowed, sha_pinning_required=False)
    desk.protect("yes")
    assert desk.hub.actions == {"enabled": True, "allowed_actions": allowed, "sha_pinning_required": True}
    desk.is_as_wanted()


def test_actions_that_are_turned_off_are_turned_on(desk: Desk) -> None:
    desk.hub.is_protected()
    desk.hub.actions.update(enabled=False)
    desk.protect("yes")
    assert desk.hub.actions["enabled"]
    desk.is_as_wanted()


# -- GitHub refuses


@pytest.mark.parametrize("refused", [(403, UPGRADE), (404, "Not Found"), (422, BILLING)], ids=["403", "404", "422"])
@pytest.mark.parametrize("request_", [("PUT", "/environments/"), ("GET", "/environments$")], ids=["to set", "to see"])
def test_where_the_plan_has_no_protected_environments_everything_else_is_set(
    desk: Desk, request_: tuple[str, str], refused: tuple[int, str]
) -> None:
    desk.hub.refusals[request_] = refused
    done = desk.protect("yes", code=1)
    assert len(desk.hub.rulesets) == 3
    assert desk.hub.actions["sha_pinning_required"]
    assert desk.hub.environments == {}
    assert f"{refused[1]} (HTTP {refused[0]})" in done.stderr
    assert done.stderr.startswith("error: GitHub did not return or accept every setting:\n- ")
    assert done.stderr.count("GitHub Pro or Team on; without them keep secrets out of GitHub") == 1
    assert done.stderr.count("\n  try: ") == 1
    assert "applied; to view" not in done.stdout


def test_where_the_plan_has_no_rulesets_either_the_settings_are_set(desk: Desk) -> None:
    desk.hub.refusals["GET", "/rulesets"] = (403, UPGRADE)
    desk.hub.refusals["PUT", "/environments/"] = (422, BILLING)
    done = desk.protect("yes", code=1)
    assert desk.hub.actions["sha_pinning_required"]
    assert UPGRADE in done.stderr
    assert len(done.stderr.splitlines()) == 10
    # what is refused is reported where nothing is to be set, too
    assert UPGRADE in desk.protect(code=1).stderr


def test_what_an_organization_forbids_is_reported_and_the_others_are_set(desk: Desk) -> None:
    desk.hub.workflow["can_approve_pull_request_reviews"] = True
    desk.hub.refusals["PUT", "permissions/workflow$"] = (409, "the organization has set this")
    done = desk.protect("yes", code=1)
    assert "the setting actions/permissions/workflow: gh api" in done.stderr
    assert "the organization has set this (HTTP 409)\n  try: gh auth status" in done.stderr
    assert len(desk.hub.rulesets) == 3
    assert desk.hub.actions["sha_pinning_required"]


@pytest.mark.parametrize("apply", ["", "yes"])
def test_who_may_see_nothing_gets_gh_s_own_words_once(desk: Desk, apply: str) -> None:
    (desk.folder / "bin/gh").write_text("#!/bin/sh\necho 'HTTP 403: admin rights' >&2\nexit 1\n", encoding="utf-8")
    done = desk.protect(apply, code=1)
    assert done.stderr == (
        "error: gh api repos/{owner}/{repo}/rulesets failed: HTTP 403: admin rights\n  try: gh auth status\n"
    )


def test_without_gh_it_shows_the_settings_and_fails(desk: Desk) -> None:
    done = desk.protect(code=1, PATH="/nowhere")
    assert '"context": "gate"' in done.stdout
    for name in OURS[:-1]:
        assert f".github/{name} would be applied:" in done.stdout
    assert done.stderr.startswith("error: gh is not installed")
    assert desk.hub.requests == []


# -- owners


@pytest.mark.parametrize(
    ("codeowners", "printed"),
    [
        (None, "still names the placeholder @your-org/"),
        ("# nobody yet\n", "names nobody"),
        ("", "names nobody"),
        ("/src/ @acme/models\n", "has no line * with an owner: new files would have none"),
        ("*\n/src/ @acme/models\n", "has no line * with an owner"),
        ("#* @acme/models\n*.py @acme/models\n", "has no line * with an owner"),
    ],
    ids=["placeholder", "comment", "empty", "no catch-all", "catch-all without an owner", "catch-all in a comment"],
)
def test_owners_that_leave_a_gap_are_reported_and_keep_everything_from_being_set(
    desk: Desk, codeowners: str | None, printed: str
) -> None:
    desk.codeowners.write_text(desk.placeholders if codeowners is None else codeowners, encoding="utf-8")
    assert f"warning: .github/CODEOWNERS {printed}" in desk.protect().stdout
    done = desk.protect("yes", code=1)
    assert done.stderr.startswith(f"error: nothing was changed: .github/CODEOWNERS {printed}")
    assert desk.hub.changes == []


def test_a_missing_list_of_owners_is_reported(desk: Desk) -> None:
    desk.codeowners.unlink()
    assert "names nobody" in desk.protect("yes", code=1).stderr
    assert desk.hub.changes == []


def test_owners_of_one_s_own_are_said(desk: Desk) -> None:
    assert desk.protect().stdout.startswith("CODEOWNERS names owners of your own\n")


# -- the stand-in itself


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["api", "repos/{owner}/{repo}/rulesets", "--method", "POST", "--input", "-"], {"enforcement": "active"}),
        (["api", "repos/{owner}/{repo}/rulesets", "--method", "POST", "--input", "-"], {**wanted(MAIN), "x": 1}),
        (["api", "repos/{owner}/{repo}/actions/permissions", "--method", "PUT", "--input", "-"], {"enabled": "yes"}),
        (["api", "repos/{owner}/{repo}/actions/permissions?per_page=100", "--method", "GET"], None),
        (["api", "repos/{owner}/{repo}/branches", "--method", "PATCH"], None),
        (["repo", "delete"], None),
    ],
    ids=["missing", "unknown", "another type", "another parameter", "another operation", "another command"],
)
def test_a_request_that_github_would_refuse_is_refused_here(arguments: list[str], body: Any) -> None:
    hub = Hub()
    assert hub.gh(arguments, json.dumps(body))[0] == 1
    assert len(hub.complaints) == 1
