"""The text of an update's pull request, in Markdown. Names, subjects and lines are data, and escaped."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mlops.core.errors import counted
from mlops.core.markdown import code, details, escaped, one_line, table
from mlops.core.template.merge import LOCK, WORKFLOWS, Merged, changes
from mlops.core.template.versions import Version

PATH = Path("build/update/pull-request.md")
MOST_BYTES = 60_000
MOST_NAMES = 200
MOST_SUBJECTS = 30
MOST_DIFF = 6_000
VERBS = {"A": "new", "M": "changed", "D": "deleted", "R": "renamed", "T": "changed"}


def title(now: Version, new: Version) -> str:
    """The title of the pull request, and the subject of its commit."""
    return (
        f"Update the template from {now.name} to {new.name}"
        if now.tree != new.tree
        else f"Add the workflows of {new.name}"
    )


def steps(new: Version, merged: Merged) -> list[str]:
    """What remains to be done by a person, as Markdown."""
    found = []
    if merged.left:
        found.append(
            f"**Add the workflows.** {counted(len(merged.left), 'file')} below `{WORKFLOWS}` changed in the template, "
            "which this pull request leaves out, because the token of a workflow may not change them. On this branch, "
            f"run `make update TO={new.name}` on your machine, and push: it adds them as a second commit."
        )
    if merged.conflicts:
        found.append("**Resolve the conflicts**, `git add` the files, and `git commit`.")
    if LOCK in merged.kept:
        found.append(f"**Lock the packages.** Both sides changed `{LOCK}`; this project's is kept. Run `uv lock`.")
    found.append("**Run the pipeline.** `make stages && make`, and commit what changes: `dvc.lock`, reports, the card.")
    return found


def text(now: Version, new: Version, merged: Merged, before: str, subjects: list[str]) -> str:
    """The text.

    Parameters
    ----------
    before : str
        The commit of this project that the update is based on.
    subjects : list of str
        The commits of the template between both versions.
    """
    parts = [
        f"The template changed from `{now.name}` to `{new.name}`. Its changes were merged three-way into this project: "
        "what only one side changed is as that side has it, and where both changed a file, both changes are in it.",
        "### To do\n\n" + "\n".join(f"{n}. {step}" for n, step in enumerate(steps(new, merged), start=1)),
    ]
    if merged.conflicts:
        rows = [[code(one_line(path, 200)), what] for path, what in sorted(merged.conflicts.items())]
        parts.append("### Conflicts\n\n" + table(["file", "what happened"], rows))
    touched = changes(before, merged.tree)
    blocks = [
        details(_moved(path, to), _diff(f"{before}:{path}", f"{merged.tree}:{to}"))
        for letter, path, to in touched
        if path in merged.edited and letter != "D"
    ]
    if blocks:
        note = "You had changed these files, and the update changes them too. Below is what it does to yours."
        listed = "\n".join(blocks[:MOST_NAMES])
        parts.append(f"### Files of yours that the update touches\n\n{note}\n\n{listed}")
    if merged.kept:
        look = f"git diff {now.commit[:10]} {new.commit[:10]} -- FILE"
        note = f"You have changed these, so they stay as they are. `{look}` shows what the template changed."
        parts.append(f"### Kept as yours\n\n{note}\n\n{_names(merged.kept)}")
    if merged.deleted:
        note = "You deleted these files or their folder. The template changed or added them, and they stay away."
        parts.append(f"### Still deleted\n\n{note}\n\n{_names(merged.deleted)}")
    if merged.left:
        parts.append(f"### Left out\n\n{_names(merged.left)}")
    if subjects:
        listed = "\n".join(f"- {escaped(one_line(subject, 200))}" for subject in subjects[:MOST_SUBJECTS])
        more = f"\n- and {len(subjects) - MOST_SUBJECTS:,} more" if len(subjects) > MOST_SUBJECTS else ""
        parts.append("### What the template did\n\n" + listed + more)
    count = Counter(letter for letter, *_ in touched)
    numbers = ", ".join(f"{count[letter]:,} {verb}" for letter, verb in VERBS.items() if count[letter])
    lines = [f"{VERBS[letter]} {_moved(path, to)}" for letter, path, to in touched]
    parts.append(details(f"All files: {numbers or 'none'}", _list(lines)))
    return _limited(parts)


def _names(paths: Iterable[str]) -> str:
    return _list([code(one_line(path, 200)) for path in paths])


def _list(lines: list[str]) -> str:
    more = [f"and {len(lines) - MOST_NAMES:,} more"] if len(lines) > MOST_NAMES else []
    return "\n".join(f"- {line}" for line in [*lines[:MOST_NAMES], *more])


def _moved(path: str, to: str) -> str:
    return code(one_line(path if path == to else f"{path} → {to}", 200))


def _diff(before: str, after: str) -> str:
    """The lines of a file that differ, in a block that none of them can end."""
    command = ["git", "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--unified=1", before, after]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace").split("\n")
    start = next((number for number, line in enumerate(lines) if line.startswith("@@")), 0)
    shown = "\n".join(lines[start:]).strip("\n")
    if len(shown) > MOST_DIFF:
        shown = shown[:MOST_DIFF].rpartition("\n")[0] + "\n… more lines"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", shown) or [""]))
    return f"{fence}diff\n{shown}\n{fence}"


def _limited(parts: list[str]) -> str:
    """The parts that fit into a pull request, whole ones only."""
    taken: list[str] = []
    for number, part in enumerate(parts):
        if len("\n\n".join([*taken, part]).encode()) > MOST_BYTES:
            taken.append(
                f"{counted(len(parts) - number, 'section')} left out for length; the files of the commit show all."
            )
            break
        taken.append(part)
    return "\n\n".join(taken) + "\n"
