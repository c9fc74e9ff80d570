"""`make retrain-propose`: push the branch of a retraining and open its pull request.

It runs main's code with a token that may write. What it reads is data that the job before has left: JSON of a strict
schema, and tables that are not opened. The commit is made here, on main as it is now. Nothing is merged, and nothing
that a person did is overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from mlops.core.commits import signed
from mlops.core.errors import UserError, errors_in_words
from mlops.core.git import git
from mlops.core.github import Api, compare_page
from mlops.core.markdown import escaped
from mlops.monitoring import branch as branches
from mlops.monitoring.proposal import Proposal, read, text

NEEDED = "the job needs `permissions:` with contents and pull-requests: write"


def main(environment: Mapping[str, str] = os.environ) -> str | None:
    """Push and open what `make retrain` proposes, and return the pull request's address."""
    names = ("GITHUB_REPOSITORY", "GITHUB_TOKEN")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UserError(f"missing environment variables: {', '.join(missing)}", "leave this to the workflow `monitor`")
    found, contents = read()
    with_token = signed(environment)
    what = {"title": found.title, "body": body(text(found))}
    if found.state != "proposed":
        alone = interrupted(found, with_token) if found.state == "waiting" else None
        if alone is None:
            print(f"nothing to propose: {found.why}")
            return None
        what = alone
    api = Api(environment.get("GITHUB_API_URL", "https://api.github.com"), environment["GITHUB_TOKEN"], needed=NEEDED)
    repository = f"/repos/{environment['GITHUB_REPOSITORY']}"
    owner = environment["GITHUB_REPOSITORY"].split("/")[0]
    pulls = api.pages(f"{repository}/pulls", state="all", head=f"{owner}:{found.branch}")
    closed = [pull for pull in pulls if pull["state"] != "open"]
    if closed:
        print(f"left alone, because a person has closed or merged it: {closed[0]['html_url']}")
        return None
    if found.state == "waiting" and pulls:
        print(f"nothing to propose: {found.why}")
        return None
    if found.state == "proposed" and not push(found, contents, with_token):
        return None
    if pulls:
        address = str(api.patch(f"{repository}/pulls/{pulls[0]['number']}", what)["html_url"])
    else:
        opened = {**what, "head": found.branch, "base": branches.MAIN}
        pull = api.post(f"{repository}/pulls", opened, refusal=403)
        address = compare_page(environment, opened) if pull is None else str(pull["html_url"])
    print(f"{what['title']}: {address}")
    return address


def push(found: Proposal, contents: Mapping[str, bytes], with_token: Mapping[str, str]) -> bool:
    """Push the branch, unless it is there; whether the pull request is to be opened."""
    there, main = on_origin(found.branch, with_token)
    if there.work != "none":
        print(there.why)
        return there.work == "ours"
    made = branches.commit(found, contents, main)
    try:
        # no force: where two runs push, the first one wins
        git("push", "--quiet", "origin", f"{made}:refs/heads/{found.branch}", environment=with_token)
    except UserError:
        if on_origin(found.branch, with_token)[0].work == "none":
            raise
        print(f"another run has pushed {found.branch} meanwhile, and opens its pull request")
        return False
    return True


def on_origin(branch: str, with_token: Mapping[str, str]) -> tuple[branches.State, str]:
    """What has become of a branch on the remote, and main's commit there."""
    git("fetch", "--quiet", "origin", f"+refs/heads/{branches.MAIN}:refs/remotes/origin/main", environment=with_token)
    main = git("rev-parse", "refs/remotes/origin/main")
    tip = None
    if git("ls-remote", "origin", f"refs/heads/{branch}", environment=with_token):
        git("fetch", "--quiet", "origin", f"refs/heads/{branch}", environment=with_token)
        tip = git("rev-parse", "FETCH_HEAD")
    return branches.state(branch, tip, main), main


def interrupted(found: Proposal, with_token: Mapping[str, str]) -> dict[str, str] | None:
    """Title and text for a branch of an earlier run, which may have ended before it opened the pull request."""
    there, _ = on_origin(found.branch, with_token)
    if there.work != "ours" or there.tip is None:
        return None
    title, _, message = git("log", "-1", "--format=%s%n%b", there.tip).partition("\n")
    return {"title": title, "body": body(escaped(message))}


def body(content: str) -> str:
    """The text of the pull request."""
    return (
        f"{content}\n\n"
        "The rows were validated before they were added. The workflow `relock`, or `make` on the branch, rebuilds "
        "`dvc.lock`. The review compares both models on the test rows and on the recent window.\n\n"
        "<sub>Its checks wait for *Approve workflows to run*. No machine merges it.</sub>\n"
    )


if __name__ == "__main__":
    with errors_in_words():
        main()
