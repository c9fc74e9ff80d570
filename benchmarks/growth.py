"""Seconds and peak memory of each stage as the table grows, with gradient boosting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import STAGES, Cost, clone, progress, run, table, verdict

SIZES = (10_000, 1_000_000, 10_000_000)
MOST_MEMORY = 3.0
# sorting and caches that overflow are not what is looked for
MOST_GROWTH = 1.25
# a CSV of 100 and of 1,000 columns
WIDE_ROWS, TIMES, COLUMNS = 20_000, (5, 50), 20
PLAIN, MOST_WHOLE = Path(__file__).with_name("plain_growth.py"), 1.6

CSV = "ingest (CSV)"
SCRIPT = "[plain script](plain_growth.py)"

PARAMS = """
data:
  {{source: data/raw/growth.{ending}, task: classification, target: left, positive: 'yes', features: [],
    clean: {{functions: []}}}}
validate: {{suite: data/expectations/growth.json}}
split: {{method: stratified, test_size: 0.25}}
model: {{estimator: sklearn.ensemble.HistGradientBoostingClassifier}}
tuning: null
evaluate: {{slices: [region]}}
"""


def measure() -> str:
    costs: dict[str, list[Cost]] = {}
    bytes_held = []
    for size in SIZES:
        with clone() as folder:
            for name, cost in grow(folder, size):
                costs.setdefault(name, []).append(cost)
                progress(f"growth {size:,} rows: {name} {cost.wall:.1f} s, {cost.memory / 2**20:,.0f} MiB")
            bytes_held.append(_in_memory(folder / "data/prepared/table.parquet"))
    return f"{report(costs, bytes_held)}\n\n{by_columns()}"


def by_columns() -> str:
    """How the time of `ingest` grows with the columns of a CSV."""
    cost = []
    for times in (1, *TIMES):
        with clone() as folder:
            _synthetic(str(WIDE_ROWS), str(folder / "data/raw/growth.csv"), str(times))
            (folder / "params.yaml").write_text(PARAMS.format(ending="csv"), encoding="utf-8")
            cost.append(run("python", "-m", "mlops.pipeline.ingest", folder=folder).cpu)
            progress(f"growth {COLUMNS * times:,} columns: ingest {cost[-1]:.1f} s")
    # the first only shows what a start takes
    per_column = [(after - cost[0]) / (COLUMNS * (times - 1)) for after, times in zip(cost[1:], TIMES, strict=True)]
    growth = per_column[1] / per_column[0]
    wide, wider = (f"{COLUMNS * times:,}" for times in TIMES)
    return (
        f"`ingest` of a CSV of {WIDE_ROWS:,} rows with {COLUMNS}, {wide} and {wider} columns takes "
        f"{cost[0]:.1f}, {cost[1]:.1f} and {cost[2]:.1f} s of CPU time. A column more takes **{growth:.2f}×** as long "
        f"with {wider} columns as with {wide} (goal: at most {MOST_GROWTH:g}×: {verdict(growth <= MOST_GROWTH)})."
    )


def grow(folder: Path, size: int) -> list[tuple[str, Cost]]:
    """Run each stage alone on a table of this size."""
    measured = []

    def stage(name: str, shown: str) -> None:
        measured.append((shown, run("python", "-m", f"mlops.pipeline.{name}", folder=folder)))

    for ending in ("csv", "parquet"):
        progress(f"growth {size:,} rows: writing {ending}")
        _synthetic(str(size), str(folder / f"data/raw/growth.{ending}"))
        (folder / "params.yaml").write_text(PARAMS.format(ending=ending), encoding="utf-8")
        stage("ingest", CSV if ending == "csv" else "ingest (Parquet)")
    run("python", "-m", "mlops.data.expectations", folder=folder)
    for name in STAGES[1:]:
        stage(name, name)
    measured.append((SCRIPT, run("python", str(PLAIN), folder=folder)))
    return measured


def _synthetic(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.synthetic", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _in_memory(path: Path) -> int:
    return int(_synthetic("--bytes", str(path)))


def report(costs: dict[str, list[Cost]], bytes_held: list[int]) -> str:
    """The tables, and what of the goals was met."""
    rows, too_large, too_slow = [], [], []
    for name, (small, medium, large) in costs.items():
        memory = [
            (cost.memory - small.memory) / held for cost, held in zip((medium, large), bytes_held[1:], strict=True)
        ]
        per_million = [
            1e6 * (after.cpu - before.cpu) / (rows_after - rows_before)
            for before, after, rows_before, rows_after in (
                (small, medium, *SIZES[:2]),
                (medium, large, *SIZES[1:]),
            )
        ]
        growth = per_million[1] / per_million[0] if per_million[0] > 0.05 else 1.0
        if name != SCRIPT:
            too_large += [name] if max(memory) > MOST_MEMORY else []
            too_slow += [name] if growth > MOST_GROWTH else []
        rows.append(
            [
                name,
                *(f"{cost.wall:.1f}" for cost in (small, medium, large)),
                *(f"{seconds:.1f}" for seconds in per_million),
                f"{growth:.2f}×",
                *(
                    f"{(cost.memory - small.memory) / millions / 2**20:,.0f}"
                    for cost, millions in ((medium, SIZES[1] / 1e6), (large, SIZES[2] / 1e6))
                ),
                *(f"{ratio:.1f}×" for ratio in memory),
            ]
        )
    stages = [name for name in costs if name not in (SCRIPT, CSV)]
    further, plain = (
        sum(1e6 * (costs[name][2].cpu - costs[name][1].cpu) / (SIZES[2] - SIZES[1]) for name in names)
        for names in (stages, [SCRIPT])
    )
    whole = sum(costs[name][1].cpu for name in stages)
    ratio = whole / costs[SCRIPT][1].cpu
    sizes = ", ".join(f"{size:,} rows {held / 2**20:,.0f} MiB" for size, held in zip(SIZES, bytes_held, strict=True))
    return "\n\n".join(
        [
            f"At {SIZES[1]:,} rows the stages take **{ratio:.1f}×** the CPU time of a plain script that reads, fits, "
            f"predicts and computes point metrics: {whole:.1f} s against {costs[SCRIPT][1].cpu:.1f} s "
            f"(goal: at most {MOST_WHOLE}×: {verdict(ratio <= MOST_WHOLE)}).",
            f"Up to {SIZES[2]:,} rows, a further million takes **{further / plain:.2f}×** the CPU time that it takes "
            f"the plain script: {further:.1f} s against {plain:.1f} s.",
            f"The prepared table in memory (Arrow): {sizes}.",
            table(
                [
                    "stage",
                    *(f"seconds, {_short(size)} rows" for size in SIZES),
                    "CPU s per million rows, up to 1M",
                    f"{_short(SIZES[1])} to {_short(SIZES[2])}",
                    "growth",
                    f"MiB per million rows, {_short(SIZES[1])}",
                    _short(SIZES[2]),
                    f"÷ table, {_short(SIZES[1])}",
                    _short(SIZES[2]),
                ],
                rows,
            ),
            f"Goal: no stage's peak memory exceeds that at {SIZES[0]:,} rows by more than {MOST_MEMORY:g}× the table's "
            f"size: {_outcome(too_large)}.  \n"
            f"Goal: the CPU time per row from {_short(SIZES[1])} to {_short(SIZES[2])} rows is at most "
            f"{MOST_GROWTH:g}× that up to {_short(SIZES[1])} (sorting takes n log n): {_outcome(too_slow)}.",
        ]
    )


def _short(size: int) -> str:
    return f"{size // 1_000_000}M" if size >= 1_000_000 else f"{size // 1_000}k"


def _outcome(failing: list[str]) -> str:
    return verdict(not failing) + (f" by {', '.join(failing)}" if failing else "")
