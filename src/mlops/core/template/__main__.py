"""`make update`: merge a newer version of the template on a branch, as `git merge --squash` would.

Without a conflict, the branch has one commit. With conflicts, it is checked out with markers in the files and an index
that lists them, and Git commits only after a person has resolved them. So no commit with a conflict exists.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.files import atomic
from mlops.core.git import dirty, git
from mlops.core.template import text
from mlops.core.template.merge import LOCK, files
from mlops.core.template.update import Update, Wanted, prepare


def main(wanted: Wanted) -> int:
    if dirty():
        raise UserError("files have changes that are not committed", "git commit, or git stash, then make update")
    git("var", "GIT_COMMITTER_IDENT")  # fails here if Git does not know who commits
    update = prepare(wanted)
    if update is None:
        print("the template has nothing newer for this project")
        return 0
    check_untracked(update)
    name = switch(update)
    with atomic(text.PATH) as partial:
        partial.write_text(update.body, encoding="utf-8")
    summarize(update, name)
    return 1 if update.merged.conflicts else 0


def check_untracked(update: Update) -> None:
    """Refuse to write over a file that Git does not know."""
    new = files(update.merged.tree).keys() - files("HEAD").keys()
    if there := sorted(path for path in new if Path(path).exists() or Path(path).is_symlink()):
        raise UserError(
            f"the update brings {there[0]}, and a file of this name is here that is not in Git",
            f"mv {shlex.quote(there[0])} elsewhere, or commit it",
        )


def switch(update: Update) -> str:
    """Check the update out on its branch, and return the branch on which it is based.

    Raises
    ------
    UserError
        If the branch exists. Where it is checked out, the update goes on top of it.
    """
    before = git("symbolic-ref", "--quiet", "--short", "HEAD", check=False)
    name, head = update.branch, git("rev-parse", "HEAD")
    if before != name:
        if git("rev-parse", "--verify", "--quiet", f"refs/heads/{name}", check=False):
            raise UserError(f"there is a branch {name} already", f"git switch {name}, or git branch -D {name}")
        git("switch", "--quiet", "--create", name)
    merged = update.merged
    git("read-tree", "-m", "-u", head, merged.tree)
    if merged.conflicts:
        # as git merge leaves them: each version of the file, by stage, in place of the one entry
        removed = "".join(f"0 {'0' * len(head)}\t{path}\0" for path in merged.conflicts)
        entries = (removed + "".join(f"{stage}\0" for stage in merged.stages)).encode(errors="surrogateescape")
        git("update-index", "-z", "--index-info", given=entries)
        message = Path(git("rev-parse", "--git-path", "MERGE_MSG"))
        message.write_text(f"{update.title}\n", encoding="utf-8")
    else:
        git("commit", "--quiet", "--no-verify", "--message", update.title)
    return before if before != name else ""


def summarize(update: Update, before: str) -> None:
    """Say what happened, and what comes next."""
    merged = update.merged
    print(f"{update.title}, on the branch {update.branch}")
    for names, what in (
        (merged.edited, "changed by both"),
        (merged.kept, "kept as yours"),
        (merged.deleted, "still deleted"),
    ):
        if names:
            print(f"  {what}: {', '.join(names[:5])}" + (f" and {len(names) - 5:,} more" if len(names) > 5 else ""))
    print(f"  details: {text.PATH}")
    if merged.conflicts:
        print(f"{counted(len(merged.conflicts), 'file')} in conflict, nothing is committed:")
        for path, what in sorted(merged.conflicts.items()):
            print(f"  {path}: {what}")
        undo = f" && git switch {before} && git branch -D {update.branch}" if before else ""
        print(f"  try: edit them, git add, git commit; or give up: git reset --merge{undo}")
    locked = "uv lock && " if LOCK in merged.kept else ""
    print(f"then: {locked}make stages && make, commit what changes, make review, and:")
    print(f"  git push --set-upstream origin {update.branch}")
    print(f"  gh pr create --title {shlex.quote(update.title)} --body-file {text.PATH}")


if __name__ == "__main__":
    with errors_in_words():
        sys.exit(main(Wanted(*(os.environ.get(name, "").strip() for name in ("TO", "FROM", "TEMPLATE")))))
