"""`make release-verify`: checks that a tag can be released.

Its name must be a version, its commit must be on main, and the check `gate` must have passed on exactly these files: on
the head of the pull request that was merged as this commit, or on the commit itself in a merge queue. A missing check
counts as failed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mlops.core.errors import UserError, errors_in_words, first_problem
from mlops.core.files import write_json
from mlops.core.git import git
from mlops.core.github import Api
from mlops.core.report import Sha
from mlops.release import gitlab_gate

FOLDER = Path("build/release")
REPORT, CARD = FOLDER / "report.json", FOLDER / "CARD.md"
VERSION = re.compile(r"v(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(?:-rc\.([1-9][0-9]{0,8}))?")
MAIN = "main"
CHECK = "gate"
WORKFLOW = ".github/workflows/ci.yaml"
ACTIONS = 15368  # the app GitHub Actions: a check of this name by anybody else does not count
EVENTS = ("pull_request", "merge_group")
NEEDED = "the job needs `permissions:` with actions, checks, contents and pull-requests: read"
AGAIN = "merge a change into main through a pull request, and tag that commit"


class Tag(BaseModel):
    """A tag that may be released, and why; `tag.json` tells it to the jobs that follow."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tag: Annotated[str, StringConstraints(pattern=f"^{VERSION.pattern}$")]
    commit: Sha
    previous: Annotated[str, StringConstraints(pattern=f"^{VERSION.pattern}$")] | None
    """The release before; None for the first."""
    pull_request: int | None
    """What was merged as this commit; None for a merge queue that names none."""
    head: Sha
    """The commit that `gate` judged."""
    url: Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9._:/-]+$")]
    """The run of `gate`."""


class Version(NamedTuple):
    """A tag in order: v1.2.0-rc.1 < v1.2.0 < v1.10.0."""

    major: int
    minor: int
    patch: int
    candidate: float
    """Number of the release candidate; infinite for the release itself."""

    @property
    def is_candidate(self) -> bool:
        return self.candidate < float("inf")


def parse(tag: str) -> Version:
    """The version that a tag names.

    Raises
    ------
    UserError
        Where it names none.
    """
    match = VERSION.fullmatch(tag)
    if not match:
        raise UserError(f"the tag {tag!r} is not a version", "vMAJOR.MINOR.PATCH, such as v1.4.0, or v1.4.0-rc.1")
    major, minor, patch, candidate = match.groups()
    return Version(int(major), int(minor), int(patch), int(candidate) if candidate else float("inf"))


def check_on_main(commit: str) -> None:
    """Only what is on main has passed review."""
    done = subprocess.run(
        ["git", "merge-base", "--is-ancestor", commit, f"origin/{MAIN}"], capture_output=True, check=False
    )
    if done.returncode == 1:
        raise UserError(f"commit {commit[:10]} is not on {MAIN}, so it was not reviewed", AGAIN)
    if done.returncode:
        raise UserError(f"git cannot determine whether {commit[:10]} is on {MAIN}: {done.stderr.decode().strip()}")


def previous(tag: str, commit: str) -> str | None:
    """The release before this one: the highest version below it in the history of its commit, candidates left out."""
    version = parse(tag)
    merged = git("tag", "--list", "v*", "--merged", commit).splitlines()
    versions = {parse(name): name for name in merged if VERSION.fullmatch(name)}
    earlier = [each for each in versions if each < version and not each.is_candidate]
    return versions[max(earlier)] if earlier else None


def read() -> Tag:
    """What `make release-verify` found.

    Raises
    ------
    UserError
        Where it is missing or invalid.
    """
    path = FOLDER / "tag.json"
    try:
        return Tag.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "leave this to .github/workflows/release.yaml") from None
    except ValidationError as error:
        raise UserError(f"{path} is invalid: {first_problem(error)}") from None


def passed(api: Api, repository: str, commit: str) -> dict[str, Any]:
    """The run of `gate` that judged this commit, with the number of its pull request.

    Raises
    ------
    UserError
        Where it failed, or where there is none.
    """
    pulls = api.pages(f"{repository}/commits/{commit}/pulls")
    merged = [pull for pull in pulls if pull["merged_at"] and pull["merge_commit_sha"] == commit]
    numbers = [int(pull["number"]) for pull in merged if pull["base"]["ref"] == MAIN]
    heads = [str(pull["head"]["sha"]) for pull in merged if pull["base"]["ref"] == MAIN]
    for judged in (commit, *heads):
        run = last_gate(api, repository, judged)
        if run is None:
            continue
        if run["conclusion"] != "success":
            how = run["conclusion"] or run["status"]
            raise UserError(f"`{CHECK}` has not passed for {judged[:10]}: it is {how!r}, see {run['html_url']}", AGAIN)
        if tree(api, repository, judged) != tree(api, repository, commit):
            raise UserError(
                f"`{CHECK}` passed for {judged[:10]}, but the files of {commit[:10]} differ: its branch was behind",
                f"`make protect` makes GitHub require an up-to-date branch; {AGAIN}",
            )
        return {"pull_request": numbers[0] if numbers else None, "head": judged, "url": run["html_url"]}
    where = f"pull request #{numbers[0]}" if numbers else "no pull request was merged as this commit"
    raise UserError(f"`{CHECK}` was not found for {commit[:10]} ({where})", AGAIN)


def last_gate(api: Api, repository: str, commit: str) -> Any:
    """The latest check `gate` of a commit that our workflow made; None where there is none.

    Any workflow can have a job named gate, and after a push to main ours is skipped; neither counts.
    """
    parameters: dict[str, str | int] = {"check_name": CHECK, "app_id": ACTIONS, "filter": "all", "per_page": 100}
    answer = api.get(f"{repository}/commits/{commit}/check-runs", **parameters)
    runs = [run for run in answer["check_runs"] if run["app"] and run["app"]["id"] == ACTIONS and run["name"] == CHECK]
    for run in sorted(runs, key=lambda run: (str(run["started_at"]), int(run["id"])), reverse=True):
        suite = int(run["check_suite"]["id"])
        workflows = api.get(f"{repository}/actions/runs", check_suite_id=suite, head_sha=commit)["workflow_runs"]
        if any(each["path"].split("@")[0] == WORKFLOW and each["event"] in EVENTS for each in workflows):
            return run
    return None


def tree(api: Api, repository: str, commit: str) -> str:
    """What a commit holds, as one hash."""
    return str(api.get(f"{repository}/git/commits/{commit}")["tree"]["sha"])


def main(environment: Mapping[str, str] = os.environ) -> None:
    on_gitlab = bool(environment.get("GITLAB_CI"))
    names = gitlab_gate.NAMES if on_gitlab else ("GITHUB_REF_NAME", "GITHUB_REPOSITORY", "GITHUB_TOKEN")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        hint = "leave this to the release of a tag; `make release-check` rehearses a release here"
        raise UserError(f"missing environment variables: {', '.join(missing)}", hint)
    tag = environment[names[0]]
    parse(tag)
    commit = git("rev-parse", "HEAD")
    if commit != git("rev-parse", f"refs/tags/{tag}^{{commit}}"):
        raise UserError(f"{tag} is not the commit checked out, {commit[:10]}", "cut the next version")
    check_on_main(commit)
    if on_gitlab:
        found = gitlab_gate.passed(environment, commit)
    else:
        url = environment.get("GITHUB_API_URL", "https://api.github.com")
        api = Api(url, environment["GITHUB_TOKEN"], needed=NEEDED)
        found = passed(api, f"/repos/{environment['GITHUB_REPOSITORY']}", commit)
    verified = Tag(tag=tag, commit=commit, previous=previous(tag, commit), **found)
    write_json(verified.model_dump(), FOLDER / "tag.json")
    if output := environment.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as file:
            file.write(f"commit={commit}\n")
    print(f"{tag} is {commit[:10]}, which is on {MAIN} and has passed `{CHECK}`: {found['url']}")


if __name__ == "__main__":
    with errors_in_words():
        main()
