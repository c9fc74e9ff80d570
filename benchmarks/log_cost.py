"""What the prediction log costs a request: this service with and without it, in turns."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.load import PEERS, started, wrk
from benchmarks.measuring import clone, progress, run, table, verdict
from benchmarks.serving import OURS, SERVERS

STARTS, ROUNDS, SECONDS, CONNECTIONS = 6, 4, 3, 16
MOST_LOSS, MOST_TAIL = 0.05, 1.05
WITHOUT, WITH = "without a log", "with a log"


def measure() -> str:
    if not shutil.which("wrk"):
        raise SystemExit("log_cost: wrk is not installed; on Debian: apt-get install wrk")
    plain = SERVERS[OURS]
    logging = plain._replace(command=f"env PREDICTION_LOG={{prepared}}/log {plain.command}")
    rate: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    cpu: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    p50: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    p99: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    with clone() as folder, tempfile.TemporaryDirectory(prefix="bench-") as place:
        prepared = Path(place)
        progress("log_cost: running the pipeline")
        params = folder / "params.yaml"
        text = params.read_text(encoding="utf-8")
        params.write_text(text.replace("\ndata:\n", "\ndata:\n  features: []\n", 1), encoding="utf-8")
        run("dvc", "repro", folder=folder)
        run("python", "-m", "mlops.release.identity", folder=folder)
        run("python", str(PEERS / "prepare.py"), str(prepared), "1", folder=folder)
        for number in range(STARTS):  # two processes of the same program differ by up to 3 %
            with ExitStack() as running:
                both = {
                    name: (server, *running.enter_context(started(server, folder, prepared)))
                    for name, server in ((WITHOUT, plain), (WITH, logging))
                }
                for again in range(ROUNDS + 1):
                    for name, (server, process, port, _) in both.items():
                        before = process.cpu_times()
                        found = wrk(server, port, prepared, 1, CONNECTIONS, SECONDS)
                        after = process.cpu_times()
                        if again == 0:  # to warm up
                            continue
                        rate[name].append(1e6 * found["requests"] / found["microseconds"])
                        spent = after.user + after.system - before.user - before.system
                        cpu[name].append(1e6 * spent / found["requests"])
                        p50[name].append(found["p50"] / 1e3)
                        p99[name].append(found["p99"] / 1e3)
            progress(f"log_cost {number + 1}/{STARTS}")
    loss = 1 - statistics.median(with_ / without for without, with_ in zip(rate[WITHOUT], rate[WITH], strict=True))
    tail = statistics.median(with_ / without for without, with_ in zip(p99[WITHOUT], p99[WITH], strict=True))
    rows = [
        [
            name,
            *(
                f"{statistics.median(each[name]):,.{digits}f}"
                for each, digits in ((rate, 0), (cpu, 1), (p50, 2), (p99, 2))
            ),
        ]
        for name in (WITHOUT, WITH)
    ]
    return "\n\n".join(
        [
            f"Requests of one row over {CONNECTIONS} connections, medians of {STARTS} starts of {ROUNDS} rounds of "
            f"{SECONDS} seconds in turns. wrk, the service and the process that writes the log share two cores.",
            f"Goal: at most {MOST_LOSS:.0%} of the requests: {verdict(loss <= MOST_LOSS)} ({loss:.1%}).  \n"
            f"Goal: nothing at the p99: {verdict(tail <= MOST_TAIL)} ({tail:.2f}×).",
            table(["", "requests/s", "CPU µs of the service per request", "p50, ms", "p99, ms"], rows),
        ]
    )
