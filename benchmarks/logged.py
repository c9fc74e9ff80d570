"""`make monitor` on a growing prediction log: seconds and memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.growth import PARAMS
from benchmarks.measuring import Cost, clone, progress, run, table, verdict

SIZES = (100_000, 1_000_000, 3_000_000)
TABLE_ROWS = 10_000
UNTIL = "2026-01-29"
LABELS = "monitor: {labels: {source: labels.csv, row: row, time: known_at}}\n"
MOST_GROWTH, MOST_MEMORY = 1.25, 1.1


def measure() -> str:
    """`make monitor` on logs of a month."""
    costs: list[Cost] = []
    with clone() as folder:
        progress("logged: preparing a release")
        prepare(folder)
        for size in SIZES:
            progress(f"logged: writing {size:,} logged rows")
            run("rm", "-rf", "log", folder=folder)
            run("python", "-m", "benchmarks.logged_rows", str(size), folder=folder)
            costs.append(run("python", "-m", "mlops.monitoring", "log", "--until", UNTIL, folder=folder))
            progress(f"logged: {size:,} rows {costs[-1].wall:.1f} s, {costs[-1].memory / 2**20:,.0f} MiB")
    per_million = [
        1e6 * (after.cpu - before.cpu) / (rows_after - rows_before)
        for before, after, rows_before, rows_after in zip(costs, costs[1:], SIZES, SIZES[1:], strict=False)
    ]
    time, memory = per_million[1] / per_million[0], costs[2].memory / costs[1].memory
    return "\n\n".join(
        [
            f"`make monitor` on the log of a month with 20 columns, of which 100,000 rows have a label. A further "
            f"million rows takes {per_million[0]:.1f} s of CPU time up to {SIZES[1]:,} rows and {per_million[1]:.1f} s "
            f"up to {SIZES[2]:,}, **{time:.2f}×** (goal: at most {MOST_GROWTH:g}×: {verdict(time <= MOST_GROWTH)}). "
            f"From {SIZES[1]:,} to {SIZES[2]:,} rows, peak memory grows by **{memory:.2f}×** (goal: at most "
            f"{MOST_MEMORY:g}×: {verdict(memory <= MOST_MEMORY)}); it grows with the number of labels.",
            table(
                ["logged rows", "seconds", "CPU seconds", "peak MiB"],
                [
                    [f"{size:,}", f"{cost.wall:.1f}", f"{cost.cpu:.1f}", f"{cost.memory / 2**20:,.0f}"]
                    for size, cost in zip(SIZES, costs, strict=True)
                ],
            ),
        ]
    )


def prepare(folder: Path) -> None:
    """Run the pipeline on a synthetic table, whose release the log is of."""
    run("python", "-m", "benchmarks.synthetic", str(TABLE_ROWS), "data/raw/growth.parquet", folder=folder)
    (folder / "params.yaml").write_text(PARAMS.format(ending="parquet") + LABELS, encoding="utf-8")
    run("python", "-m", "mlops.pipeline.ingest", folder=folder)
    run("python", "-m", "mlops.data.expectations", folder=folder)
    run("dvc", "repro", folder=folder)
