"""`make platform-result RUN=name`: take over `dvc.lock` and the files for Git of a platform's run into this checkout.

Nothing is run. What the run pushed comes with `dvc pull`; the review of the pull request runs the pipeline again and
compares, as it does for a lock from a laptop.
"""

from __future__ import annotations

import sys

from mlops.core.errors import counted, errors_in_words
from mlops.pipeline.platforms import graph, results
from mlops.pipeline.platforms.task import run_name


def main(run: str) -> None:
    """Restore the results of all stages."""
    tasks = graph.read()
    results.restore(run_name(run), tasks.values())
    print(f"{counted(len(tasks), 'stage')} of run {run}: dvc.lock and the files for Git are here")
    print("next: dvc pull, look at git diff, and commit")


if __name__ == "__main__":
    with errors_in_words():
        main(sys.argv[1])
