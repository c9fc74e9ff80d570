"""`make trust`: writes what each job of the workflows may do into `docs/trust.md`, and lists violations of the rules.

The table is generated, so that it always agrees with the workflows. The rules keep code that a code owner
has not approved away from tokens, secrets and caches; a test applies them to the workflows and to altered ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import atomic
from mlops.core.markdown import table

WORKFLOWS = Path(".github/workflows")
PAGE = Path("docs/trust.md")
BEGIN, END = "<!-- jobs: written by `make trust` -->", "<!-- end of jobs -->"
DEFAULT_BRANCH = "${{ github.event.repository.default_branch }}"
# Events whose commit may hold what no code owner has approved
UNREVIEWED = frozenset({"pull_request", "merge_group"})
# Targets that run the pipeline or the model, and with them the team's code
TEAM = frozenset(
    {
        *("", "pipeline", "review", "behaviour", "test", "lint", "release-check", "release-facts", "site"),
        *("monitor-deployed", "retrain-deployed"),
    }
)
SETUPS = frozenset({"setup", "setup-trusted", "setup-comment", "setup-image", "setup-registry", "setup-storage"})
# Runners: GitHub's own, or one that a variable names; code that no owner has approved shares none with other jobs
HOSTED = "ubuntu-24.04"
REVIEWS, TRAINING = (f"${{{{ vars.{name} || '{HOSTED}' }}}}" for name in ("REVIEW_RUNNER", "TRAINING_RUNNER"))
PUBLISHING = frozenset({"packages", "id-token", "attestations", "pages"})


class Job(NamedTuple):
    """What matters about a job."""

    name: str
    events: tuple[str, ...]
    code: str
    unreviewed: bool
    """Whether it runs code that no code owner has approved."""
    targets: tuple[str, ...]
    writes: tuple[str, ...]
    secrets: tuple[str, ...]
    environment: str
    cache: str
    body: dict[str, Any]

    @property
    def runner(self) -> str:
        return str(self.body.get("runs-on", "not set"))

    @property
    def runs_team_code(self) -> bool:
        return bool(TEAM & set(self.targets))

    @property
    def trusted(self) -> bool:
        """Whether it holds something that others must not get."""
        return bool(self.writes or self.secrets or self.environment)


def jobs(folder: Path = WORKFLOWS) -> list[Job]:
    """Every job of every workflow."""
    found = []
    for path in sorted(folder.glob("*.y*ml")):
        workflow = YAML(typ="safe").load(path)
        for name, body in workflow["jobs"].items():
            found.append(_job(f"{path.stem} / {name}", workflow, body))
    return found


def _job(name: str, workflow: dict[str, Any], body: dict[str, Any]) -> Job:
    on: Any = workflow["on"]
    on = on if isinstance(on, dict) else dict.fromkeys([on] if isinstance(on, str) else on)
    events = tuple(event for event in on if _runs_for(body, event))
    steps = body.get("steps", [])
    refs = {
        str((step.get("with") or {}).get("ref", "")) for step in steps if "actions/checkout@" in step.get("uses", "")
    }
    main = refs <= {DEFAULT_BRANCH}
    text = json.dumps(body)
    permissions = body.get("permissions", workflow.get("permissions", "write-all"))
    writes = (
        tuple(sorted(scope for scope, level in permissions.items() if level == "write"))
        if isinstance(permissions, dict)
        else (str(permissions),)
    )
    return Job(
        name=name,
        events=events,
        code="main" if main else _code(events, on),
        unreviewed=not main and (bool(UNREVIEWED & set(events)) or "workflow_dispatch" in events),
        targets=tuple(_target(step["run"]) for step in steps if "run" in step),
        writes=writes,
        secrets=tuple(sorted(set(re.findall(r"secrets\.(\w+)", text)))),
        environment=_name(body.get("environment", "")),
        cache=str(body.get("cache-mode", "not set")),
        body=body,
    )


def _runs_for(body: dict[str, Any], event: str) -> bool:
    condition = str(body.get("if", ""))
    if f"github.event_name != '{event}'" in condition:
        return False
    only = re.findall(r"github\.event_name == '(\w+)'", condition)
    return not only or event in only


def _code(events: Iterable[str], on: dict[str, Any]) -> str:
    sources = []
    for event in events:
        if event == "push":
            sources.append("the tag" if "tags" in (on["push"] or {}) else "main")
        elif event in UNREVIEWED:
            sources.append("the pull request")
        else:
            sources.append("the branch that was chosen")
    return ", ".join(dict.fromkeys(sources))


def _target(command: str) -> str:
    return command.split()[-1] if len(command.split()) > 1 and not command.split()[-1].startswith("-") else ""


def _name(environment: Any) -> str:
    return str(environment.get("name", "")) if isinstance(environment, dict) else str(environment)


def violations(found: list[Job]) -> list[str]:
    """List where a job breaks a rule, one sentence each."""
    return [f"{job.name}: {problem}" for job in found for problem in _violations(job)]


def _violations(job: Job) -> Iterable[str]:
    if job.unreviewed and job.trusted:
        yield "runs code that no code owner has approved, and holds a write token, a secret or an environment"
    if job.runs_team_code and (job.writes or "secrets." in json.dumps(job.body.get("env", {}))):
        yield "runs the pipeline or the model, and holds a write token or a secret"
    if job.secrets and not job.environment:
        yield "holds a secret outside an environment"
    if PUBLISHING & set(job.writes) and not job.environment:
        yield "publishes or signs outside an environment"
    if "write-all" in job.writes or "read-all" in job.writes:
        yield "does not declare its permissions"
    allowed = {HOSTED} if job.trusted or not job.runs_team_code else {HOSTED, REVIEWS if job.unreviewed else TRAINING}
    if job.runner not in allowed:
        yield f"may run on {job.runner}, which other jobs with other code or rights may use"
    yield from _cache(job)
    yield from _steps(job)


def _cache(job: Job) -> Iterable[str]:
    uses = {step.get("uses", "").split("@")[0] for step in job.body.get("steps", [])}
    if job.cache not in ("none", "read", "write"):
        yield "does not say its cache-mode"
    if job.cache == "write" and (job.unreviewed or job.trusted):
        yield "may write a cache that others restore"
    if job.cache != "none" and (job.trusted or "the tag" in job.code):
        yield "may restore a cache although it holds a token or makes a release"
    if "actions/cache" in uses or ("actions/cache/save" in uses and job.cache != "write"):
        yield "saves a cache without saying so"
    if "actions/cache/restore" in uses and job.cache == "none":
        yield "restores a cache without saying so"


def _steps(job: Job) -> Iterable[str]:
    ready = team = False
    for step in job.body.get("steps", []):
        given = step.get("with") or {}
        if "actions/checkout@" in step.get("uses", ""):
            if given.get("persist-credentials") is not False:
                yield "leaves the token in the checkout"
            if job.trusted and given.get("ref", "") not in ("", DEFAULT_BRANCH, "${{ github.sha }}"):
                yield f"checks out {given['ref']}, which is neither main nor the event's own commit"
        if "run" not in step:
            continue
        if not re.fullmatch(r"make --file=Makefile( [a-z0-9-]+)?", step["run"]):
            yield f"does not name its makefile: {step['run']}"
        target = _target(step["run"])
        token = bool(re.search(r"secrets\.|github\.token", json.dumps(step.get("env", {}))))
        team = team or target in TEAM
        if token and team:
            yield f"gives a secret to the team's code, or to a step after it: {target or 'make'}"
        if token and target in SETUPS:
            yield f"installs packages in the step that holds a token: {target}"
        if token and job.trusted and not ready:
            yield f"has no set-up step before the one that holds a token: {target}"
        ready = ready or target in SETUPS


def jobs_table(found: list[Job]) -> str:
    """The jobs as a Markdown table."""
    header = ["job", "runs for", "code", "runs the team's code", "writes", "secrets", "environment", "cache", "runner"]
    return table(
        header,
        [
            [
                job.name,
                ", ".join(job.events),
                job.code,
                "yes" if job.runs_team_code else "no",
                ", ".join(job.writes) or "–",
                ", ".join(job.secrets) or "–",
                job.environment or "–",
                job.cache,
                _runner(job),
            ]
            for job in found
        ],
    )


def _runner(job: Job) -> str:
    variable = re.search(r"vars\.(\w+)", job.runner)
    return f"`{variable[1]}`" if variable else "GitHub's"


def page(text: str, found: list[Job]) -> str:
    """The page with its table written anew.

    Raises
    ------
    UserError
        Where the page has lost the two comments between which the table stands.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{PAGE} must have the lines {BEGIN} and {END}, between which the table is written")
    return f"{before}{BEGIN}\n\n{jobs_table(found)}\n\n{END}{after}"


def main() -> None:
    found = jobs()
    problems = violations(found)
    if problems:
        raise UserError("the workflows break the rules of docs/trust.md:\n" + "\n".join(problems))
    text = page(PAGE.read_text(encoding="utf-8"), found)
    with atomic(PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"wrote the table of {len(found)} jobs into {PAGE}")


if __name__ == "__main__":
    with errors_in_words():
        main()
