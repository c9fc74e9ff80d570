"""CPU time of a cold `dvc repro` against one plain script that uses the libraries alone, in a single process."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.measuring import STAGES, Cost, clone, least_and_median, progress, run, table, verdict

GOAL = 1.5
RUNS = 3
PLAIN = Path(__file__).with_name("plain.py")


def measure() -> str:
    pipeline: list[Cost] = []
    plain: list[Cost] = []
    stages: dict[str, list[Cost]] = {stage: [] for stage in STAGES}
    for number in range(1, RUNS + 1):
        with clone() as folder:
            pipeline.append(run("dvc", "repro", folder=folder))
            for stage in STAGES:
                stages[stage].append(run("python", "-m", f"mlops.pipeline.{stage}", folder=folder))
        with clone() as folder:
            plain.append(run("python", str(PLAIN), folder=folder))
        ratio = pipeline[-1].cpu / plain[-1].cpu
        progress(f"overhead {number}/{RUNS}: {pipeline[-1].cpu:.1f} s against {plain[-1].cpu:.1f} s, {ratio:.2f}×")
    ratio = statistics.median(cost.cpu for cost in pipeline) / statistics.median(cost.cpu for cost in plain)
    alone = sum(statistics.median(cost.cpu for cost in costs) for costs in stages.values())
    dvc = statistics.median(cost.cpu for cost in pipeline) - alone
    return "\n\n".join(
        [
            f"A cold `dvc repro` takes **{ratio:.2f}×** the CPU time of the plain script "
            f"(medians of {RUNS} alternating runs; goal: at most {GOAL}×: {verdict(ratio <= GOAL)}).",
            table(
                ["", "CPU seconds, minimum / median", "seconds, minimum / median"],
                [
                    _row("`dvc repro`, everything cold", pipeline),
                    _row("[`plain.py`](plain.py)", plain),
                ],
            ),
            "CPU seconds of each stage, run alone:",
            table(
                [*STAGES, "DVC itself"],
                [[*(f"{statistics.median(cost.cpu for cost in stages[stage]):.2f}" for stage in STAGES), f"{dvc:.2f}"]],
            ),
        ]
    )


def _row(name: str, costs: list[Cost]) -> list[str]:
    return [name, least_and_median(cost.cpu for cost in costs), least_and_median(cost.wall for cost in costs)]
