"""This service beside FastAPI, Flask and MLflow with the same model, and beside BentoML's server with an echo.

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

ROUNDS, SECONDS, WARM_UP = 5, 4, 1
SIZES, CONNECTIONS = (1, 100), (1, 16, 64)
CASES = [(rows, connections) for rows in SIZES for connections in CONNECTIONS]
GOALS = {1: 2.0, 100: 1.5}
LEAST_OF_ECHO = 0.85
OURS, CEILING, ECHO = "this service", "echo on its server", "echo on BentoML as it comes"


def by_name(answer: Any) -> list[list[float]]:
    return [list(each["probabilities"].values()) for each in answer["predictions"]]


SERVERS = {
    OURS: Server("bentoml serve mlops.serving.service:Service --port {port}", "/predict", "rows", by_name),
    "FastAPI, uvicorn": Server(
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
    CEILING: Server(f"bentoml serve --working-dir {PEERS} echo_app:LeanEcho --port {{port}}", "/predict", "text", None),
    ECHO: Server(f"bentoml serve --working-dir {PEERS} echo_app:Echo --port {{port}}", "/predict", "text", None),
}
RIVALS = [name for name in SERVERS if name not in (OURS, CEILING, ECHO)]


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
    of_echo = {case: rate[OURS][case] / rate[CEILING][case] for case in CASES}
    goals = []
    for rows, goal in GOALS.items():
        least = min(ratio[rows, connections] for connections in CONNECTIONS)
        goals.append(
            f"Goal: {several(rows)}, at least {goal:g}× the requests of the best other server: "
            f"{verdict(least >= goal)} ({least:.1f}× at worst)."
        )
    least = min(of_echo[SIZES[0], connections] for connections in CONNECTIONS)
    goals.append(
        f"Goal: {several(SIZES[0])}, at least {LEAST_OF_ECHO:.0%} of an echo on the same server: "
        f"{verdict(least >= LEAST_OF_ECHO)} ({least:.0%} at worst)."
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
            "The model is the default table's logistic regression on 30 columns. Every server has one worker; wrk "
            "generates "
            "the load on the same machine and shares its cores. The other servers validate with pydantic, build a data "
            "frame and call the pipeline. FastAPI uses httptools, but not uvloop, which made its p99 worse. The echo "
            "returns one word. It shows the upper limit of BentoML's server, by default and as this service configures "
            "it.",
            "\n".join(f"{goal}  " for goal in goals).rstrip(),
            f"Requests per second, medians of {ROUNDS} rounds. The fastest round reached "
            f"{statistics.median(spread):.2f}× the slowest (median over cells; maximum {max(spread):.2f}×):",
            table(
                header(),
                [
                    *([name, *(f"{rate[name][case]:,.0f}" for case in CASES)] for name in SERVERS),
                    ["this service ÷ the best other server", *(f"{ratio[case]:.1f}×" for case in CASES)],
                    ["this service ÷ the echo on its server", *(f"{of_echo[case]:.0%}" for case in CASES)],
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
