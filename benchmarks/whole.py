"""Where the time of a pull request's run goes, from an empty machine and from one that has downloads and caches."""

from __future__ import annotations

from pathlib import Path

from benchmarks import feedback
from benchmarks.measuring import progress, run

TARGETS = {"installing from `uv.lock`": "setup", "lint and types": "lint"}
Spent = dict[str, tuple[float, float]]


def measure() -> str:
    with feedback.pull_request() as change:
        uv = change.folder.parent / "uv"
        cold = parts(change.checkout("cold", computed=False), change.base, uv)
        warm = parts(change.checkout("warm", computed=True), change.base, uv)
    return "\n\n".join(
        [
            "A pull request that changes one parameter, as `ci.yaml` runs it. Cold: nothing is cached. Warm: uv's "
            "downloads and main's DVC cache are available, as after a merge. The tests are not included: they run "
            "in a separate job, in parallel.",
            feedback.parts_table([cold, warm]),
        ]
    )


def parts(folder: Path, base: str, uv: Path) -> Spent:
    """CPU and wall seconds of each part."""
    spent: Spent = {}
    for part, target in TARGETS.items():
        cost = run("env", f"UV_CACHE_DIR={uv}", "make", target, folder=folder)
        spent[part] = cost.cpu, cost.wall
        progress(f"whole: {folder.name}, {part}: {cost.wall:.0f} s")
    return spent | feedback.review(folder, base).spent
