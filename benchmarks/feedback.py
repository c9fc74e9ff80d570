"""What `make review` adds to `dvc repro`, and which of its parts takes how much of it."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import Cost, clone, progress, run, table, verdict
from mlops.core.environment import apart

GOAL = 0.1
RUNS = 2
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

    @property
    def spent(self) -> dict[str, tuple[float, float]]:
        """The parts, with the rest as one more."""
        cpu, wall = (sum(column) for column in zip(*self.parts.values(), strict=True))
        return self.parts | {"imports, Git, reading files": (self.cost.cpu - cpu, self.cost.wall - wall)}


def measure() -> str:
    cold, warm = [], []
    with pull_request() as change:
        cold.append(change.pipeline)
        alone = review(change.checkout("cold", computed=False), change.base)
        for number in range(1, RUNS + 1):
            warm.append(review(change.checkout(f"warm-{number}", computed=True), change.base))
            progress(f"feedback {number}/{RUNS}: {warm[-1].added:.1f} s more than `dvc repro` alone")
            if number < RUNS:
                with clone() as other:
                    cold.append(run("dvc", "repro", folder=other))
    pipeline = statistics.median(cost.cpu for cost in cold)
    added = statistics.median(each.added for each in warm)
    return "\n\n".join(
        [
            f"Comparison, behaviour tests, gate, report, comment and preview add **{added:.1f} s** of CPU time to a "
            f"review's `dvc repro`: **{added / pipeline:.0%}** of the {pipeline:.1f} s of a cold one on the default "
            f"table (medians of {RUNS}; goal: at most {GOAL:.0%}: {verdict(added / pipeline <= GOAL)}).",
            "`make review` of a change of one parameter, by part. Cold: no cache, so main's model is rebuilt too. "
            "Warm: "
            "main's DVC cache is available, as in CI after a merge:",
            parts_table([alone.spent, warm[-1].spent]),
        ]
    )


class PullRequest(NamedTuple):
    """A change of one parameter.

    Attributes
    ----------
    folder : Path
        Where it was made; its main and it have been run there.
    base : str
        Main's commit.
    pipeline : Cost
        Of main's `dvc repro`, cold.
    """

    folder: Path
    base: str
    pipeline: Cost

    def checkout(self, name: str, *, computed: bool) -> Path:
        """A fresh clone, with or without what main has computed."""
        folder = self.folder.parent / name
        subprocess.run(["git", "clone", "--quiet", str(self.folder), str(folder)], env=apart(), check=True)
        if computed:
            shutil.copytree(self.folder.parent / "cache", folder / CACHE)
        return folder


@contextmanager
def pull_request() -> Iterator[PullRequest]:
    """Make one in a scratch clone."""
    with clone() as folder:
        pipeline = run("dvc", "repro", folder=folder)
        base = commit(folder, "main")
        shutil.copytree(folder / CACHE, folder.parent / "cache")
        params = folder / "params.yaml"
        params.write_text(params.read_text(encoding="utf-8").replace("C: 1.0", "C: 0.5"), encoding="utf-8")
        run("dvc", "repro", folder=folder)
        commit(folder, "another C")
        yield PullRequest(folder, base, pipeline)


def commit(folder: Path, subject: str) -> str:
    """Commit all that is tracked."""
    person = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    command = ["git", *person, "commit", "--quiet", "--all", "--allow-empty", "--no-verify", "--message", subject]
    subprocess.run(command, cwd=folder, env=apart(), check=True)
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, env=apart(), text=True).strip()


def review(folder: Path, base: str) -> Review:
    """`make review` with a clock."""
    cost = run("python", str(PHASES), base, folder=folder)
    return Review(cost, json.loads((folder / "phases.json").read_text(encoding="utf-8")))


def parts_table(runs: list[dict[str, tuple[float, float]]]) -> str:
    """CPU and wall seconds of the parts of two runs, cold and warm."""
    totals = [[sum(spent[i] for spent in parts.values()) for i in range(2)] for parts in runs]
    rows = [
        [
            part,
            *(
                text
                for parts, (whole, _) in zip(runs, totals, strict=True)
                for cpu, wall in [parts[part]]
                for text in (f"{wall:.1f}", f"{cpu:.1f}", f"{100 * cpu / whole:.0f} %")
            ),
        ]
        for part in runs[0]
    ]
    whole = ["total", *(text for cpu, wall in totals for text in (f"{wall:.1f}", f"{cpu:.1f}", "100 %"))]
    return table(["", "cold: seconds", "CPU seconds", "share", "warm: seconds", "CPU seconds", "share"], [*rows, whole])
