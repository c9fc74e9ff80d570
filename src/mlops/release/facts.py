"""`make release-facts`: what is known of the model of a tag, as data, for the jobs that publish it.

The bytes are hashed against `dvc.lock`, and the model is compared with the release before on the same test rows. What
comes out, in `build/release`, is data: the release, the report, the model card.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from mlops.core import paths
from mlops.core import report as reports
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import write_json
from mlops.core.paths import RELEASE
from mlops.core.report import Report
from mlops.release.identity import identify
from mlops.release.tag import CARD, FOLDER, REPORT, read

REVIEW = Path("build/review/report.json")


def compare(base: str) -> Report:
    """How the model fares against that of another commit, on the same test rows."""
    REVIEW.unlink(missing_ok=True)
    # whether it may be merged was decided when it was: here the exit status says nothing new
    subprocess.run([sys.executable, "-m", "mlops.review", "--base", base], check=False)
    if not REVIEW.is_file():
        raise UserError(f"the comparison with {base} wrote no report", "read the error above")
    return reports.read(REVIEW)


def main() -> None:
    tag = read()
    identify()
    # the first release has no predecessor: only the rules that need none apply
    base = tag.previous or tag.commit
    report = compare(base)
    if report.problem:
        raise UserError(f"{tag.tag} cannot be compared with {base}: {report.problem}")
    # again, after all that ran here: it is what the next job gets
    release = identify().model_copy(update={"version": tag.tag.removeprefix("v")})
    if release.commit != tag.commit:
        raise UserError(f"{release.commit} is not the commit of {tag.tag}, {tag.commit}", "start the run again")
    write_json(release.model_dump(), RELEASE)
    write_json(release.model_dump(), FOLDER / RELEASE.name)
    shutil.copyfile(REVIEW, REPORT)
    if paths.CARD.is_file():
        shutil.copyfile(paths.CARD, CARD)
    print(f"{tag.tag} of commit {release.commit[:10]}: model {release.model_md5[:10]} as in dvc.lock → {FOLDER}")


if __name__ == "__main__":
    with errors_in_words():
        main()
