"""What `make review` adds to `dvc repro`, and where the time of a pull request's run goes."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import Cost, clone, progress, run, table, verdict

GOAL = 0.25
RUNS = 3
PHASES = Path(__file__).with_name("phases.py")
CACHE = Path(".dvc/cache/files")


class Review(NamedTuple):
    """A whole review, and the CPU and wall seconds of its parts."""

    cost: Cost
    parts: dict[str, tuple[float, float]]

    @property
    def added(self) -> float:
        """CPU seconds without those of `dvc repro`."""
        return self.cost.cpu - self.parts["`dvc repro`"][0]


def measure() -> str:
    with clone() as folder:
        cold = [run("dvc", "repro", folder=folder)]
        commit(folder, "main")
        base = head(folder)
        shutil.copytree(folder / CACHE, folder.parent / "cache")
        params = folder / "params.yaml"
        params.write_text(params.read_text(encoding="utf-8").replace("C: 1.0", "C: 0.5"), encoding="utf-8")
        run("dvc", "repro", folder=folder)
        commit(folder, "another C")

        reviews = []
        for number in range(1, RUNS + 1):
            reviews.append(review(checkout(folder, f"review {number}", folder.parent / "cache"), base))
            progress(f"feedback {number}/{RUNS}: {reviews[-1].added:.1f} s more than `dvc repro` alone")
            if number < RUNS:
                with clone() as other:
                    cold.append(run("dvc", "repro", folder=other))
        uv = folder.parent / "uv"
        first = pull_request(checkout(folder, "cold", None), base, uv)
        # the tests know no cache, so they are measured once
        tests = {"tests": first["tests"]}
        again = pull_request(checkout(folder, "warm", folder.parent / "cache"), base, uv, known=tests)
    return report([cost.cpu for cost in cold], reviews, [first, again])


def commit(folder: Path, subject: str) -> None:
    """Commit all, where there is something to commit."""
    person = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    command = ["git", *person, "commit", "--quiet", "--all", "--allow-empty", "--no-verify", "--message", subject]
    subprocess.run(command, cwd=folder, check=True)


def head(folder: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def checkout(origin: Path, name: str, cache: Path | None) -> Path:
    """A fresh clone of the change, with or without what main has computed."""
    folder = origin.parent / name
    subprocess.run(["git", "clone", "--quiet", str(origin), str(folder)], check=True)
    if cache is not None:
        shutil.copytree(cache, folder / CACHE)
    return folder


def review(folder: Path, base: str) -> Review:
    cost = run("python", str(PHASES), base, folder=folder)
    return Review(cost, json.loads((folder / "phases.json").read_text(encoding="utf-8")))


def pull_request(
    folder: Path, base: str, uv: Path, known: dict[str, tuple[float, float]] | None = None
) -> dict[str, tuple[float, float]]:
    """CPU and wall seconds of each part of a run, as `ci.yaml` has them; parts that are known are not run."""
    spent = {}
    for part, target in (("installing from `uv.lock`", "setup"), ("lint and types", "lint"), ("tests", "test")):
        if known and part in known:
            spent[part] = known[part]
            continue
        cost = run("env", f"UV_CACHE_DIR={uv}", "make", target, folder=folder)
        spent[part] = cost.cpu, cost.wall
        progress(f"feedback: {folder.name}, {part}: {cost.wall:.0f} s")
    judged = review(folder, base)
    timed = [sum(column) for column in zip(*judged.parts.values(), strict=True)]
    rest = judged.cost.cpu - timed[0], judged.cost.wall - timed[1]
    return spent | judged.parts | {"imports, Git, reading files": rest}


def report(cold: list[float], reviews: list[Review], runs: list[dict[str, tuple[float, float]]]) -> str:
    """The tables, and whether the goal was met."""
    pipeline = statistics.median(cold)
    added = statistics.median(each.added for each in reviews)
    totals = [[sum(spent[i] for spent in parts.values()) for i in range(2)] for parts in runs]
    rows = [
        [
            part,
            *(
                text
                for parts, (cpu, _) in zip(runs, totals, strict=True)
                for text in (f"{parts[part][1]:.1f}", f"{parts[part][0]:.1f}", f"{100 * parts[part][0] / cpu:.0f} %")
            ),
        ]
        for part in runs[0]
    ]
    whole = ["all", *(text for cpu, wall in totals for text in (f"{wall:.1f}", f"{cpu:.1f}", "100 %"))]
    return "\n\n".join(
        [
            f"Comparison, gate, report, comment and preview add **{added:.1f} s** of CPU time to a review's "
            f"`dvc repro`: **{added / pipeline:.0%}** of the {pipeline:.1f} s of a cold one on the default table "
            f"(medians of {RUNS}; goal: at most {GOAL:.0%}: {verdict(added / pipeline <= GOAL)}).",
            "A pull request that changes one parameter, part by part. Cold: nothing was ever downloaded or computed, "
            "so main's model is rebuilt, too. Warm: uv's downloads and main's DVC cache are there, as after a merge; "
            "the tests were run once:",
            table(
                ["", "cold: seconds", "CPU seconds", "share", "warm: seconds", "CPU seconds", "share"], [*rows, whole]
            ),
        ]
    )
