"""`make rollback`: open the revert of the last deployment to production.

It looks at main as it is on the remote, works in a folder of its own, and leaves what is checked out here alone. It
shows what would change; with APPLY=yes it pushes the branch and opens the pull request with `gh`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words
from mlops.core.git import git, show
from mlops.release.deploy import NOTHING, PLACES, STAGING, deployed
from mlops.release.tag import MAIN, VERSION

REMOTE = "origin"
PRODUCTION = tuple(path for path in PLACES if path != STAGING)


def images(commit: str) -> dict[Path, str]:
    """What each place in production runs, as a commit has it; without the places that wait for a first release."""
    texts = {path: content.decode() for path in PRODUCTION if (content := show(commit, path)) is not None}
    found = {path: deployed(path, text) for path, text in texts.items()}
    return {path: image for path, image in found.items() if image and not image.endswith(f"@{NOTHING}")}


def last_deployment(tip: str) -> str:
    """The commit on main that brought what runs now; what was rolled back since does not count.

    So a second rollback goes one release further back, and not to the one that was taken back.

    Raises
    ------
    UserError
        Where there is none, or where nothing ran before it.
    """
    commits = git("log", "--first-parent", "--reverse", "--format=%H", tip, "--", *map(str, PRODUCTION)).splitlines()
    # the releases that ran, each on top of the one before it, with the commit that brought it
    stack: list[tuple[str, dict[Path, str]]] = [("", {})]
    for commit in commits:
        now = images(commit)
        if len(stack) > 1 and now == stack[-2][1]:
            stack.pop()
        elif now != stack[-1][1]:
            stack.append((commit, now))
    if len(stack) == 1:
        raise UserError(f"no commit on {MAIN} deploys an image, so there is nothing to roll back")
    if not stack[-2][1]:
        raise UserError(f"{stack[-1][0][:10]} is the first deployment, so there is no earlier release")
    return stack[-1][0]


def version(commit: str, reference: str) -> str:
    """The tag under which an image was deployed, from the commit that did; else the beginning of its digest."""
    digest = reference.partition("@")[2]
    subjects = git("log", "--reverse", "--format=%s", f"-S{digest}", commit, "--", *map(str, PLACES)).splitlines()
    match = VERSION.search(subjects[0]) if subjects else None
    return match[0] if match else digest[:19]


def revert(commit: str, tip: str, title: str) -> str:
    """A commit on `tip` that takes `commit` back, made in a folder of its own.

    What later commits have changed again, such as a release candidate in staging, stays.
    """
    with tempfile.TemporaryDirectory(prefix="rollback-") as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), tip)
        try:
            mainline = ("--mainline", "1") if " " in git("log", "-1", "--format=%P", commit) else ()
            git("-C", str(tree), "revert", "--no-commit", "--strategy-option=ours", *mainline, commit)
            git("-C", str(tree), "commit", "--quiet", "--message", f"{title}\n\nThis reverts commit {commit}.")
            made = git("-C", str(tree), "rev-parse", "HEAD")
        finally:
            git("worktree", "remove", "--force", str(tree))
    if images(made) != images(f"{commit}^"):
        hint = f"git revert {commit[:10]}, and resolve the conflicts"
        raise UserError(f"{commit[:10]} cannot be reverted: later commits changed the same lines", hint)
    return made


def main(apply: bool = os.environ.get("APPLY") == "yes") -> None:
    if subprocess.run(["git", "remote", "get-url", REMOTE], capture_output=True, check=False).returncode:
        raise UserError(f"this repository has no remote {REMOTE!r}, where a pull request could be opened")
    git("fetch", "--quiet", REMOTE, f"+refs/heads/{MAIN}:refs/remotes/{REMOTE}/{MAIN}")
    tip = git("rev-parse", f"refs/remotes/{REMOTE}/{MAIN}")
    if git("rev-parse", "--is-shallow-repository") == "true":
        raise UserError("this clone is shallow, so the previous release cannot be found", "git fetch --unshallow")
    commit = last_deployment(tip)
    now, before = images(commit), images(f"{commit}^")
    place = next(path for path in PRODUCTION if now.get(path) != before.get(path))
    from_version = version(commit, now[place]) if place in now else "none"
    to_version = version(f"{commit}^", before[place]) if place in before else "none"
    title = f"Roll back {from_version} to {to_version}"
    made = revert(commit, tip, title)
    branch = f"rollback/{re.sub('[^A-Za-z0-9.-]', '-', f'{from_version}-to-{to_version}')}"
    print(f"{title}: {git('log', '-1', '--format=%h %s', commit)} will be reverted\n")
    print(git("diff", "--unified=0", tip, made), flush=True)
    others = [name for name in git("diff", "--name-only", tip, made).splitlines() if not name.startswith("deploy/")]
    if others:
        print(f"\nwarning: the commit changed files outside deploy/, also reverted: {', '.join(others)}")
    if not apply:
        print(f"\nnothing was pushed; to open a pull request from {branch}: make rollback APPLY=yes")
        return
    if not shutil.which("gh"):
        raise UserError("gh is not installed, so nothing was pushed", "https://cli.github.com")
    git("push", "--quiet", "--force", REMOTE, f"{made}:refs/heads/{branch}")
    body = (
        f"Takes back {commit}: `{before.get(place, 'nothing')}` runs again.\n\n"
        "An MLflow server's alias `champion` follows when the job `register` of that release is run again."
    )
    command = ["gh", "pr", "create", "--base", MAIN, "--head", branch, "--title", title, "--body", body]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "already exists" not in done.stderr:
        raise UserError(f"{branch} is pushed, but gh pr create failed: {done.stderr.strip()}", "gh auth status")
    print(f"\n{(done.stdout if not done.returncode else done.stderr).strip()}\nmerge it to roll back")


if __name__ == "__main__":
    with errors_in_words():
        main()
