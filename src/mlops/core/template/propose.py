"""`make update-propose`, for the workflow `template-update`: push the branch of an update and open its pull request.

It runs main's code with a token that may write. The template's files are data: nothing is checked out, run or loaded.
GitHub refuses changes of workflows from a workflow's own token, so they are left out, unless `TEMPLATE_TOKEN` is set.
A conflict is never pushed; the run fails and says what a person does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mlops.core.commits import AUTHOR, signed
from mlops.core.errors import UserError, errors_in_words
from mlops.core.git import git
from mlops.core.github import Api, compare_page
from mlops.core.template.update import Update, Wanted, known, prepare

NEEDED = "the job needs `permissions:` with contents and pull-requests: write"
HEAD = "refs/heads/"


def main(environment: Mapping[str, str] = os.environ) -> str | None:
    """Propose the newest version, or `TO`, and return the pull request's address."""
    names = ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "BASE")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UserError(f"missing environment variables: {', '.join(missing)}", "leave this to `template-update`")
    own = environment.get("TEMPLATE_TOKEN", "")
    given = {**environment, "GITHUB_TOKEN": own or environment["GITHUB_TOKEN"]}
    try:
        address = known(Wanted()).repository
    except UserError as error:
        print(f"no update: {error}")
        return None
    if address.removesuffix("/").removesuffix(".git").endswith(f"/{environment['GITHUB_REPOSITORY']}"):
        print("no update: this is the template")
        return None
    # the workflow's token opens no other repository, and the template may be private
    for_template = signed(given) if own else None
    wanted = Wanted(environment.get("TO", ""))
    update = prepare(wanted, for_template, leave_workflows=not own)
    if update is None:
        print("no update: the template has nothing newer")
        return None
    summarize(environment, update)
    if update.merged.conflicts:
        listed = ", ".join(sorted(update.merged.conflicts))
        raise UserError(
            f"{update.title}: conflicts in {listed}; nothing was pushed",
            f"make update TO={update.new.name} on your machine",
        )
    return propose(given, update)


def propose(environment: Mapping[str, str], update: Update) -> str | None:
    """Push the branch and open the pull request, unless either is there."""
    api = Api(environment.get("GITHUB_API_URL", "https://api.github.com"), environment["GITHUB_TOKEN"], needed=NEEDED)
    repository, owner = f"/repos/{environment['GITHUB_REPOSITORY']}", environment["GITHUB_REPOSITORY"].split("/")[0]
    pulls = api.pages(f"{repository}/pulls", state="all", head=f"{owner}:{update.branch}")
    if pulls:
        print(f"left alone, because its pull request exists: {pulls[0]['html_url']}")
        return None
    with_token = signed(environment)
    if not git("ls-remote", "origin", f"{HEAD}{update.branch}", environment=with_token):
        push(update, with_token)
    what = {"title": update.title, "body": update.body}
    made = {**what, "head": update.branch, "base": environment["BASE"]}
    pull = api.post(f"{repository}/pulls", made, refusal=403)
    address = compare_page(environment, made) if pull is None else str(pull["html_url"])
    print(f"{update.title}: {address}")
    return address


def push(update: Update, with_token: Mapping[str, str]) -> str:
    """Push the commit; no force: where two runs push, the first one wins."""
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in AUTHOR.items()}
    made = git("commit-tree", update.merged.tree, "-p", "HEAD", "-m", update.title, environment={**os.environ, **who})
    try:
        git("push", "--quiet", "origin", f"{made}:{HEAD}{update.branch}", environment=with_token)
    except UserError as error:
        if "workflow" not in str(error):
            raise
        raise UserError(
            f"GitHub refuses {update.branch}, because this token may not change workflows",
            f"give TEMPLATE_TOKEN the permission workflows: write, or make update TO={update.new.name} on your machine",
        ) from None
    return made


def summarize(environment: Mapping[str, str], update: Update) -> None:
    """Put the text on the page of the run."""
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"## {update.title}\n\n{update.body}")


if __name__ == "__main__":
    with errors_in_words():
        main()
