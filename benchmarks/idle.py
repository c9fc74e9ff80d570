"""`make` with nothing changed against `dvc status` alone."""

from __future__ import annotations

import statistics

from benchmarks.measuring import Cost, clone, least_and_median, progress, run, table, verdict

GOAL = 1.5
RUNS = 15


def measure() -> str:
    make: list[Cost] = []
    status: list[Cost] = []
    with clone() as folder:
        progress("idle: installing, and a first run, so that nothing is left to do")
        run("make", folder=folder)
        for number in range(1, RUNS + 1):
            make.append(run("make", folder=folder))
            # the same that `make` runs, not this environment's
            status.append(run(str(folder / ".venv/bin/dvc"), "status", folder=folder))
            progress(f"idle {number}/{RUNS}: {make[-1].wall:.2f} s against {status[-1].wall:.2f} s")
    cpu = statistics.median(cost.cpu for cost in make) / statistics.median(cost.cpu for cost in status)
    wall = statistics.median(cost.wall for cost in make) / statistics.median(cost.wall for cost in status)
    return "\n\n".join(
        [
            f"`make` with nothing changed takes **{wall:.2f}×** the time and **{cpu:.2f}×** the CPU time of "
            f"`dvc status` (medians of {RUNS} alternating runs; goal: at most {GOAL}×: "
            f"{verdict(max(cpu, wall) <= GOAL)}).",
            table(
                ["", "CPU seconds, minimum / median", "seconds, minimum / median"],
                [
                    [name, least_and_median(cost.cpu for cost in costs), least_and_median(cost.wall for cost in costs)]
                    for name, costs in (("`make`", make), ("`dvc status`", status))
                ],
            ),
        ]
    )
