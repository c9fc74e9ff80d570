"""`make gate-required`: the one check that a pull request needs, from the results of the jobs before it.

A job that was skipped, cancelled or removed from the workflow counts as a failure: every expected job must succeed.
It needs only Python, so that the check cannot fail because of a missing package.
"""

from __future__ import annotations

import json
import os

from mlops.core.errors import UserError, errors_in_words

JOBS = ("test", "e2e", "review")


def problems(needs: str) -> list[str]:
    """What keeps this run from passing; `needs` is GitHub's `toJSON(needs)`."""
    try:
        found = json.loads(needs)
        results = {name: found[name]["result"] for name in found}
    except (ValueError, TypeError, KeyError):
        return [f"NEEDS is not what GitHub's toJSON(needs) gives: {needs[:200]!r}"]
    missing = [f"the job {name!r} is missing" for name in JOBS if name not in results]
    return missing + [f"{name} ended as {result!r}" for name, result in results.items() if result != "success"]


def main() -> None:
    found = problems(os.environ.get("NEEDS", ""))
    if found:
        raise UserError(f"this change cannot be merged: {'; '.join(found)}", "read the log of that job")
    print(f"every required job succeeded: {', '.join(JOBS)}")


if __name__ == "__main__":
    with errors_in_words():
        main()
