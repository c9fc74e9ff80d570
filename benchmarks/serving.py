"""This service beside FastAPI, Flask and MLflow with the same model, and beside a bare application on its HTTP server.

Each server is alone while it is measured, in rounds that go through all of them, so that what else happens on the
machine hits all alike. wrk makes the load: it asks again as soon as it is answered.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load import PEERS, Server, check, started, wrk
from benchmarks.measuring import clone, progress, run, table, uv, verdict

ROUNDS, SECONDS, WARM_UP = 3, 4, 1
SIZES, CONNECTIONS = (1, 100), (1, 16, 64)
CASES = [(rows, connections) for rows in SIZES for connections in CONNECTIONS]
FASTAPI_GOAL = 25
OURS, FASTAPI, BARE, PARSING = "this service", "FastAPI, uvicorn", "bare application", "bare application, `json.loads`"
# what this service is measured against, and which share of its requests is the goal
LIMITS = {1: (BARE, 0.5), 100: (PARSING, 0.7)}
MOST_P99 = 3.0


# as BentoML starts it
UVICORN = "--port {port} --loop asyncio --http httptools --no-access-log --log-level error --lifespan off"


def by_name(answer: Any) -> list[list[float]]:
    return [list(each["probabilities"].values()) for each in answer["predictions"]]


SERVERS = {
    OURS: Server(
        "python -m mlops.serving.start mlops.serving.service:Service --port {port}", "/predict", "rows", by_name
    ),
    FASTAPI: Server(
        f"uvicorn --app-dir {PEERS} fastapi_app:app --port {{port}} --loop asyncio --no-access-log",
        "/predict",
        "rows",
        by_name,
        packages="standard",
    ),
    "Flask, gunicorn": Server(
        f"gunicorn --pythonpath {PEERS} flask_app:app --bind 127.0.0.1:{{port}} --workers 1 --threads 4",
        "/predict",
        "rows",
        by_name,
    ),
    "`mlflow models serve`": Server(
        "mlflow models serve --model-uri {prepared}/mlflow --env-manager local --port {port} --workers 1",
        "/invocations",
        "split",
        lambda answer: answer["predictions"],
    ),
    BARE: Server(f"uvicorn --app-dir {PEERS} bare_app:app {UVICORN}", "/predict", "rows", None),
    PARSING: Server(f"uvicorn --app-dir {PEERS} bare_app:parsing {UVICORN}", "/predict", "rows", None),
}
RIVALS = [name for name in SERVERS if name not in (OURS, BARE, PARSING)]


class Round(NamedTuple):
    """One server, once.

    Attributes
    ----------
    start : float
        Seconds from the start of the process to the first answer.
    memory : float
        Bytes that its processes held after the load, together.
    rate, p50, p99, cpu : dict
        By rows and connections: requests in a second, milliseconds, and CPU milliseconds of the server for a request.
    """

    start: float
    memory: float
    rate: dict[tuple[int, int], float]
    p50: dict[tuple[int, int], float]
    p99: dict[tuple[int, int], float]
    cpu: dict[tuple[int, int], float]


def measure() -> str:
    if not shutil.which("wrk"):
        raise SystemExit("serving: wrk is not installed; on Debian: apt-get install wrk")
    rounds: dict[str, list[Round]] = {name: [] for name in SERVERS}
    limits: list[dict[str, list[float]]] = []
    with clone() as folder, tempfile.TemporaryDirectory(prefix="bench-") as place:
        prepared = Path(place)
        sizes = [str(rows) for rows in SIZES]
        progress("serving: running the pipeline")
        params = folder / "params.yaml"
        text = params.read_text(encoding="utf-8")
        # the other servers would need the team's features as code of their own
        params.write_text(text.replace("\ndata:\n", "\ndata:\n  features: []\n", 1), encoding="utf-8")
        run("dvc", "repro", folder=folder)
        run("python", "-m", "mlops.release.identity", folder=folder)
        run("python", str(PEERS / "prepare.py"), str(prepared), *sizes, folder=folder)
        accelerate(prepared / "standard", folder)
        for number in range(1, ROUNDS + 1):
            for name, server in SERVERS.items():
                found = ask(server, folder, prepared)
                rounds[name].append(found)
                progress(
                    f"serving {number}/{ROUNDS}: {name}: {found.start:.1f} s, "
                    + ", ".join(f"{found.rate[case]:.0f}/s" for case in CASES)
                )
            run("python", str(PEERS / "loop.py"), str(prepared), *sizes, folder=folder)
            limits.append(json.loads((prepared / "loop.json").read_text(encoding="utf-8")))
    return report(rounds, limits)


def accelerate(target: Path, folder: Path) -> None:
    """Fetch what `pip install "fastapi[standard]"` brings for reading HTTP, where this environment has it not."""
    target.mkdir()
    if importlib.util.find_spec("httptools") is None:
        run(uv(), "pip", "install", "--python", sys.executable, "--target", str(target), "httptools", folder=folder)


def ask(server: Server, folder: Path, prepared: Path) -> Round:
    """Start a server, check its answers, put it under load, and stop it."""
    rate, p50, p99, cpu = {}, {}, {}, {}
    with started(server, folder, prepared) as (process, port, start):
        for rows in SIZES:
            check(server, port, prepared, rows)
        family = [process, *process.children(recursive=True)]
        for rows, connections in CASES:
            wrk(server, port, prepared, rows, connections, WARM_UP)
            before = sum(each.cpu_times().user + each.cpu_times().system for each in family)
            found = wrk(server, port, prepared, rows, connections, SECONDS)
            if not found["requests"]:
                raise SystemExit(f"{server.command}: no answer within {SECONDS} s; is the machine busy?")
            after = sum(each.cpu_times().user + each.cpu_times().system for each in family)
            cpu[rows, connections] = 1e3 * (after - before) / found["requests"]
            rate[rows, connections] = 1e6 * found["requests"] / found["microseconds"]
            p50[rows, connections], p99[rows, connections] = found["p50"] / 1e3, found["p99"] / 1e3
        memory = sum(each.memory_info().rss for each in family)
    return Round(start, memory, rate, p50, p99, cpu)


Cells = dict[tuple[int, int], float]


def report(rounds: dict[str, list[Round]], limits: list[dict[str, list[float]]]) -> str:
    """The tables, and what of the goals was met."""
    rate, p50, p99, cpu = (medians(rounds, name) for name in ("rate", "p50", "p99", "cpu"))
    start = {name: statistics.median(each.start for each in found) for name, found in rounds.items()}
    memory = {name: statistics.median(each.memory for each in found) for name, found in rounds.items()}
    best = {case: max(rate[name][case] for name in RIVALS) for case in CASES}
    ratio = {case: rate[OURS][case] / best[case] for case in CASES}
    of_limit = {case: rate[OURS][case] / rate[LIMITS[case[0]][0]][case] for case in CASES}
    goals = []
    for rows, (limit, goal) in LIMITS.items():
        least = min(of_limit[rows, connections] for connections in CONNECTIONS)
        goals.append(
            f"Goal: {several(rows)}, at least {goal:.0%} of the requests of the {limit}: "
            f"{verdict(least >= goal)} ({least:.0%} at worst)."
        )
    times = rate[OURS][1, 16] / rate[FASTAPI][1, 16]
    goals.append(
        f"Goal: 1 row, 16 connections, at least {FASTAPI_GOAL}× the requests of FastAPI: "
        f"{verdict(times >= FASTAPI_GOAL)} ({times:.0f}×)."
    )
    tail = p99[OURS][1, 64] / p50[OURS][1, 64]
    goals.append(
        f"Goal: 1 row, 64 connections, a p99 of at most {MOST_P99:g}× the median: "
        f"{verdict(tail <= MOST_P99)} ({tail:.1f}×)."
    )
    slower = [
        f"{name} ({several(rows)})"
        for name in RIVALS
        for rows, connections in CASES
        if connections == CONNECTIONS[-1] and p99[OURS][rows, connections] >= p99[name][rows, connections]
    ]
    goals.append(
        f"Goal: at {CONNECTIONS[-1]} connections, a p99 below that of every other server: {verdict(not slower)}"
        + (f" against {', '.join(slower)}." if slower else ".")
    )
    spread = [
        max(each.rate[case] for each in found) / min(each.rate[case] for each in found)
        for found in rounds.values()
        for case in CASES
    ]
    alone = {
        name: [statistics.median(each[name][i] for each in limits) for i in range(len(SIZES))] for name in limits[0]
    }
    return "\n\n".join(
        [
            "The model is the default table's logistic regression on 30 columns. Every server has one "
            "worker; wrk generates the load on the same machine and shares its cores. The other servers validate with "
            "pydantic, build a data frame and call the pipeline. FastAPI uses httptools, but not uvloop, which made "
            "its p99 worse. The bare application runs on the same uvicorn and httptools as this service. It reads the "
            "body and answers two bytes, without a model; the second one also parses the body.",
            "\n".join(f"{goal}  " for goal in goals).rstrip(),
            f"Requests per second, medians of {ROUNDS} rounds. The fastest round reached "
            f"{statistics.median(spread):.2f}× the slowest (median over cells; maximum {max(spread):.2f}×):",
            table(
                header(),
                [
                    *([name, *(f"{rate[name][case]:,.0f}" for case in CASES)] for name in SERVERS),
                    ["this service ÷ the best other server", *(f"{ratio[case]:.1f}×" for case in CASES)],
                    ["this service ÷ its limit", *(f"{of_limit[case]:.0%}" for case in CASES)],
                ],
            ),
            "Latency in milliseconds, p50 / p99:",
            table(
                header(),
                [[name, *(f"{p50[name][case]:.1f} / {p99[name][case]:.1f}" for case in CASES)] for name in SERVERS],
            ),
            "CPU milliseconds of the server per request:",
            table(header(), [[name, *(f"{cpu[name][case]:.2f}" for case in CASES)] for name in SERVERS]),
            "Time from the start of the process to the first prediction, and memory of all its processes after the "
            "load:",
            table(
                ["", "cold start, seconds", "÷ this service", "MiB", "÷ this service"],
                [
                    [
                        name,
                        f"{start[name]:.1f}",
                        f"{start[name] / start[OURS]:.1f}×",
                        f"{memory[name] / 2**20:,.0f}",
                        f"{memory[name] / memory[OURS]:.1f}×",
                    ]
                    for name in SERVERS
                ],
            ),
            "The model alone, in a loop in one process, calls per second:",
            table(["", *map(several, SIZES)], [[name, *(f"{each:,.0f}" for each in alone[name])] for name in alone]),
        ]
    )


def medians(rounds: dict[str, list[Round]], field: str) -> dict[str, Cells]:
    return {
        name: {case: statistics.median(getattr(each, field)[case] for each in found) for case in CASES}
        for name, found in rounds.items()
    }


def header() -> list[str]:
    """Rows and connections of each column."""
    return [
        "",
        *(
            f"{f'{several(rows)}, ' if connections == CONNECTIONS[0] else ''}{several(connections, 'connection')}"
            for rows, connections in CASES
        ),
    ]


def several(number: int, what: str = "row") -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
