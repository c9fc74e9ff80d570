"""`make monitor` on a growing prediction log: seconds and memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.growth import PARAMS
from benchmarks.measuring import Cost, clone, progress, run, table, verdict

SIZES = (1_000_000, 3_000_000, 10_000_000)
LABELLED = {"tenth": "a tenth of the rows have a label", "all": "all rows have a label"}
TABLE_ROWS = 10_000
UNTIL = "2026-01-29"
LABELS = "monitor: {labels: {source: labels.csv, row: row, time: known_at}}\n"
MOST_GROWTH, MOST_MEMORY = 1.25, 1.1


def measure() -> str:
    """`make monitor` on logs of a month."""
    costs: dict[str, list[Cost]] = {name: [] for name in LABELLED}
    with clone() as folder:
        progress("logged: preparing a release")
        prepare(folder)
        for size in SIZES:
            progress(f"logged: writing {size:,} logged rows")
            run("rm", "-rf", "log", folder=folder)
            run("python", "-m", "benchmarks.logged_rows", str(size), folder=folder)
            for name in LABELLED:
                run("cp", f"labels_{name}.csv", "labels.csv", folder=folder)
                cost = run("python", "-m", "mlops.monitoring", "log", "--until", UNTIL, folder=folder)
                costs[name].append(cost)
                progress(f"logged: {size:,} rows, {name}: {cost.wall:.1f} s, {cost.memory / 2**20:,.0f} MiB")
    return report(costs)


def report(costs: dict[str, list[Cost]]) -> str:
    """The figures, and which goals they meet."""
    parts = ["`make monitor` on the log of a month with 20 columns."]
    for name, shown in LABELLED.items():
        small, medium, large = costs[name]
        before, after = (
            1e6 * (more.cpu - less.cpu) / (rows_more - rows_less)
            for less, more, rows_less, rows_more in ((small, medium, *SIZES[:2]), (medium, large, *SIZES[1:]))
        )
        growth = large.memory / small.memory
        per_label = (large.memory - small.memory) / (SIZES[2] - SIZES[0]) / {"tenth": 0.1, "all": 1}[name]
        parts.append(
            f"Where {shown}, a further million rows takes {before:.1f} s of CPU time up to {SIZES[1]:,} rows and "
            f"{after:.1f} s up to {SIZES[2]:,}, **{after / before:.2f}×** (goal: at most {MOST_GROWTH:g}×: "
            f"{verdict(after <= MOST_GROWTH * before)}). From {SIZES[0]:,} to {SIZES[2]:,} rows, peak memory grows by "
            f"**{growth:.2f}×** (goal: at most {MOST_MEMORY:g}×: {verdict(growth <= MOST_MEMORY)}), which is "
            f"{per_label:.0f} bytes per label."
        )
    header = ["logged rows", "labels", "seconds", "CPU seconds", "peak MiB"]
    rows = [
        [
            f"{size:,}",
            {"tenth": f"{size // 10:,}", "all": f"{size:,}"}[name],
            f"{cost.wall:.1f}",
            f"{cost.cpu:.1f}",
            f"{cost.memory / 2**20:,.0f}",
        ]
        for name in LABELLED
        for size, cost in zip(SIZES, costs[name], strict=True)
    ]
    return "\n\n".join([*parts, table(header, rows)])


def prepare(folder: Path) -> None:
    """Run the pipeline on a synthetic table, whose release the log is of."""
    run("python", "-m", "benchmarks.synthetic", str(TABLE_ROWS), "data/raw/growth.parquet", folder=folder)
    (folder / "params.yaml").write_text(PARAMS.format(ending="parquet") + LABELS, encoding="utf-8")
    run("python", "-m", "mlops.pipeline.ingest", folder=folder)
    run("python", "-m", "mlops.data.expectations", folder=folder)
    run("dvc", "repro", folder=folder)
