"""`make publish`: post a review as the one comment of its pull request or merge request.

It runs on main's code, with a token that may write comments. The request is found through the API of GitHub or GitLab,
the owners come from CODEOWNERS, and the verdict is derived again. If there is no usable report, the comment says so,
because an earlier comment must not remain beside a newer commit.
"""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words
from mlops.core.report import Report, read
from mlops.review import policy
from mlops.review.artifact import NAME
from mlops.review.files import CODEOWNERS, is_untouched, owned
from mlops.review.forge import Forge, Run, Touched
from mlops.review.on_github import GitHub
from mlops.review.on_gitlab import GitLab
from mlops.review.render import comment, no_review
from mlops.review.verdict import derive, recorded_directions, recorded_window

MOST_COMMENT = 60_000


def main(environment: Mapping[str, str] = os.environ, timeout: float = 30) -> None:
    on = GitLab if environment.get("GITLAB_CI") else GitHub
    forge: Forge = on(environment, timeout)
    problems = []
    for run in forge.runs():
        try:
            publish(forge, run)
        except UserError as error:  # the first one is raised in the end; go on with the next request
            problems.append(error)
    for other in problems[1:]:
        print(f"error: {other}", file=sys.stderr)
    if problems:
        raise problems[0]


def publish(forge: Forge, run: Run) -> None:
    """Publish the review of one run.

    Raises
    ------
    UserError
        Where its report is missing or refused; the comment says so, too.
    """
    numbers = forge.numbers(run)
    if not numbers:
        raise UserError(f"no open {forge.request} has {run.head[:10]} as its head; nothing was posted")
    try:
        if len(numbers) > 1:
            which = ", ".join(f"{forge.mark}{number}" for number in numbers[:10])
            raise UserError(f"the {forge.request}s {which} have the same head, so the report is ambiguous")
        report = checked(fetch_report(forge, run), run, *forge.files(numbers[0]), forge.__class__.__name__)
        markdown = comment(report, run_url=run.url)
        if len(markdown.encode()) > MOST_COMMENT:
            raise UserError(f"the comment has {len(markdown.encode()):,} bytes; the limit is {MOST_COMMENT:,}")
    except UserError as error:
        # an earlier comment must not remain beside a newer commit
        reason = str(error).splitlines()[0]
        for number in numbers:
            try:
                print(forge.comment(run, number, no_review(run.head, reason, run_url=run.url)))
                forge.conclude(run, passed=False)
            except UserError as other:  # the first error is raised in the end; go on with the next comment
                print(f"error: {other}", file=sys.stderr)
        raise
    print(forge.comment(run, numbers[0], markdown))
    forge.conclude(run, passed=not report.blocks)


def fetch_report(forge: Forge, run: Run) -> Report:
    """Download and check the report that the run left."""
    content = forge.report(run)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(content)
        report = read(path)
    if report.head != run.head:
        raise UserError(f"{NAME} is about commit {report.head[:10]}, but the run was of {run.head[:10]}")
    return report


def checked(report: Report, run: Run, files: list[Touched], complete: bool, lister: str) -> Report:
    """Replace the verdict and the files that need approval by those that this job derives.

    Parameters
    ----------
    files : list of Touched
        The files of the change, as GitHub or GitLab lists them; the change cannot alter this list.
    complete : bool
        Whether these are all.
    lister : str
        Who lists them.
    """
    names = [name for file in files for name in (file.name, file.before) if name]
    if not report.touched and not (complete and is_untouched(names)):
        raise UserError(f"{NAME} says that the model is not affected, but the change touches other files")
    kept = [file.name for file in files if not file.removed]
    gate = policy.load() if policy.GATE.exists() else None
    today = datetime.datetime.now(datetime.UTC).date()
    directions = recorded_directions()
    number = str(run.id)
    report = derive(report, gate, kept, run.conclusion, today, directions, windowed=recorded_window(), run=number)
    owners = owned(names, CODEOWNERS.read_text(encoding="utf-8") if CODEOWNERS.exists() else None)
    if not complete:
        more = f"{lister} lists {len(files):,} files of this change and leaves out the others"
        report = report.model_copy(update={"doubts": [more, *report.doubts][:20], "blocks": True, "verdict": "fail"})
    return report.model_copy(update={"owned": owners})


if __name__ == "__main__":
    with errors_in_words():
        main()
