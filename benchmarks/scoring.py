"""Batch scoring against a plain loop in one process that reads, predicts and writes the same rows."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from benchmarks.measuring import Cost, clone, progress, run, table, verdict

SIZES = (1_000_000, 10_000_000)
ROUNDS = 3
GOAL, MOST_GROWTH = 0.8, 1.1
LOOP = Path(__file__).with_name("scoring_loop.py")
COMMANDS = {
    "`mlops.serving.score`": ("-m", "mlops.serving.score"),
    "[`scoring_loop.py`](scoring_loop.py)": (str(LOOP), "loop"),
}
Costs = dict[tuple[str, str, int], list[Cost]]


def measure() -> str:
    costs: Costs = {}
    alone: dict[str, list[float]] = {}
    with clone() as folder:
        progress("scoring: running the pipeline")
        run("dvc", "repro", folder=folder)
        run("python", "-m", "mlops.release.identity", folder=folder)
        for ending in ("parquet", "csv"):
            for size in SIZES:
                progress(f"scoring: writing {size:,} rows as {ending}")
                run("python", str(LOOP), "write", str(size), f"in-{size}.{ending}", folder=folder)
            for number in range(1, ROUNDS + 1):
                for size in SIZES:
                    for name, command in COMMANDS.items():
                        cost = run("python", *command, f"in-{size}.{ending}", f"out.{ending}", folder=folder)
                        costs.setdefault((ending, name, size), []).append(cost)
                        progress(
                            f"scoring {number}/{ROUNDS}: {size:,} rows of {ending}, {name.split('`')[1]}: "
                            f"{cost.wall:.1f} s, {cost.memory / 2**20:,.0f} MiB"
                        )
                    found = json.loads((folder / "limit.json").read_text(encoding="utf-8"))
                    alone.setdefault(ending, []).append(found)
            for path in folder.glob(f"*.{ending}"):
                path.unlink()
    return report(costs, alone)


def report(costs: Costs, alone: dict[str, list[float]]) -> str:
    """The table, and what of the goals was met."""
    ours, plain = COMMANDS
    rows, slow, growing = [], [], []
    for ending, predicted in alone.items():
        rate = {name: speed(costs, ending, name) for name in COMMANDS}
        share = rate[ours] / rate[plain]
        slow += [f"{ending} ({share:.0%})"] if share < GOAL else []
        for name in COMMANDS:
            small, large = (max(each.memory for each in costs[ending, name, size]) for size in SIZES)
            if name == ours and large > MOST_GROWTH * small:
                growing.append(f"{ending} ({large / small:.2f}×)")
            rows.append(
                [
                    f"{name}, {ending}",
                    f"{rate[name] / 1e3:,.0f}",
                    f"{rate[name] / rate[plain]:.0%}",
                    f"{statistics.median(each.cpu for each in costs[ending, name, SIZES[1]]):.1f}",
                    *(f"{held / 2**20:,.0f}" for held in (small, large)),
                    f"{large / small:.2f}×",
                ]
            )
        rows.append([f"the model alone, {ending}", f"{statistics.median(predicted) / 1e3:,.0f}", *[""] * 5])
    few, many = (f"{size // 1_000_000} million" for size in SIZES)
    return "\n\n".join(
        [
            f"Goal: at least {GOAL:.0%} of the rows per second of a plain loop without checks: {outcome(slow)}.  \n"
            f"Goal: memory flat from {few} to {many} rows (up to {MOST_GROWTH:g}×): {outcome(growing)}.",
            f"30 numeric columns. The rate is measured between {few} and {many} rows, so that start-up does not count; "
            f"medians of {ROUNDS} rounds:",
            table(
                [
                    "",
                    "thousand rows per second",
                    "relative to the loop",
                    f"CPU seconds, {many} rows",
                    f"peak MiB, {few} rows",
                    f"{many} rows",
                    "growth",
                ],
                rows,
            ),
        ]
    )


def speed(costs: Costs, ending: str, name: str) -> float:
    """Rows a second beyond the first million."""
    few, many = (statistics.median(each.wall for each in costs[ending, name, size]) for size in SIZES)
    return (SIZES[1] - SIZES[0]) / (many - few)


def outcome(failing: list[str]) -> str:
    return verdict(not failing) + (f" by {', '.join(failing)}" if failing else "")
