"""A table of four times the memory that each worker gets: `ingest`, `split` and `score` on 2 Dask workers.

Beside them scripts that read, divide and score the same files, and check and hash nothing: plain Dask on 2 workers,
Polars and DuckDB on both cores. A part of the table shows what no worker, one and two take.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import synthetic
from benchmarks.measuring import clone, environment, progress, run, table, uv, verdict

MEANT = 50_000_000
ROWS = int(os.environ.get("BENCH_DASK_ROWS", MEANT))
FILE = 250_000
# enough that starting the commands no longer decides what a second worker gains
PART = min(ROWS, 5_000_000)
TIMES = 4
# what a worker takes with its packages, and one partition
LEAST_MEMORY = 600 << 20
DATA = "data/raw/growth"
PEERS = Path(__file__).with_name("dask_peers.py")
PACKAGES = ("polars==2.1.0", "duckdb==2.0.0")

PARAMS = """
data:
  {source: data/raw/growth/, task: classification, target: left, positive: 'yes', features: [],
    clean: {functions: []}}
validate: {suite: null}
split: {method: random, test_size: 0.25}
model: {estimator: sklearn.linear_model.LogisticRegression, training_rows: 100000}
tuning: null
evaluate: {}
"""
WORKER = 'import os, sys, mlops.pipeline; os.execvp("dask", ["dask", "worker", *sys.argv[1:]])'
EVALUATE = ("-m", "mlops.pipeline.evaluate")
STEPS = {
    "ingest": ("-m", "mlops.pipeline.ingest"),
    "split": ("-m", "mlops.pipeline.split"),
    "score": ("-m", "mlops.serving.score", DATA, "build/scored"),
}


def measure() -> str:
    scaling: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    with clone() as folder:
        (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
        write(folder / DATA, range(1))
        progress("dask: a model of the first file")
        prepare(folder)
        held = write(folder / DATA, range(PART // FILE))
        memory = max(held * ROWS // PART // TIMES, LEAST_MEMORY)
        progress(f"dask: {memory / 2**20:,.0f} MiB for each worker; {PART:,} rows first")
        for workers in (0, 1, 2):
            steps(folder, workers, memory, scaling)
        held += write(folder / DATA, range(PART // FILE, ROWS // FILE))
        progress(f"dask: {ROWS:,} rows, {held / 2**20:,.0f} MiB in memory")
        peak = steps(folder, 2, memory, whole)
        shutil.rmtree(folder / "build/scored")
        whole |= peers(folder, memory)
        shutil.rmtree(folder / "build/peer")
        with cluster(folder, 2, memory) as address:
            evaluated = timed(folder, [sys.executable, *EVALUATE], DASK_SCHEDULER_ADDRESS=address)
            progress(f"dask: evaluate {evaluated:.1f} s")
            peak = max(peak, largest(address))
    return report(scaling, whole, evaluated, held, memory, peak)


def steps(folder: Path, workers: int, memory: int, seconds: dict[str, list[float]]) -> int:
    """Time each step into `seconds`; gives the bytes that the largest worker held."""
    name = "no Dask, one process" if not workers else f"{workers} worker{'s' * (workers > 1)}"
    with cluster(folder, workers, memory) as address:
        for step, command in STEPS.items():
            shutil.rmtree(folder / "build/scored", ignore_errors=True)
            took = timed(folder, [sys.executable, *command], DASK_SCHEDULER_ADDRESS=address)
            seconds.setdefault(name, []).append(took)
            progress(f"dask: {name}: {step} {took:.1f} s")
        return largest(address)


def write(folder: Path, numbers: range) -> int:
    """These files of the table of `growth`; gives their size in memory."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    held = 0
    for number in numbers:
        rows = synthetic.chunk(FILE, number)
        held += rows.nbytes
        pq.write_table(rows, folder / f"part-{number:04}.parquet")
    return held


def prepare(folder: Path) -> None:
    """A model to score with, of a sample of the rows."""
    for stage in ("ingest", "split", "tune", "train", "export", "evaluate"):
        run("python", "-m", f"mlops.pipeline.{stage}", folder=folder)
    run("dvc", "commit", "--force", "ingest", "split", "tune", "train", "export", "evaluate", folder=folder)
    run("python", "-m", "mlops.release.identity", folder=folder)


@contextmanager
def cluster(folder: Path, workers: int, memory: int) -> Iterator[str]:
    """Yield the address of a scheduler with workers; none for 0 of them."""
    if not workers:
        yield ""
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    options = ["--nworkers", str(workers), "--nthreads", "1", "--memory-limit", str(memory), "--no-dashboard"]
    commands = (
        ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        [sys.executable, "-c", WORKER, address, *options],
    )
    with tempfile.TemporaryFile() as log:
        started = [
            subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)
            for command in commands
        ]
        try:
            from distributed import Client

            with Client(address, timeout=300, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=300)
            yield address
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()


def largest(address: str) -> int:
    """Bytes that the largest worker held at its peak; 0 without workers."""
    if not address:
        return 0
    from distributed import Client

    def peak() -> int:  # inside, because workers do not have this module
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with Client(address, timeout=300, set_as_default=False) as client:
        return int(max(client.run(peak).values()))


def timed(folder: Path, command: list[str], **more: str) -> float:
    """Seconds on the clock, because workers are no children of the command."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env={**environment(folder), **more}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{' '.join(command)} exited with {done.returncode}")
    return time.perf_counter() - start


def peers(folder: Path, memory: int) -> dict[str, list[float]]:
    """What plain Dask, Polars and DuckDB take."""
    progress("dask: installing Polars and DuckDB")
    subprocess.run([uv(), "venv", "--quiet", str(folder / "build/peers")], check=True)
    python = str(folder / "build/peers/bin/python")
    subprocess.run([uv(), "pip", "install", "--quiet", "--python", python, *PACKAGES], check=True)
    found = {}
    for name, interpreter, workers in (("Dask", sys.executable, 2), ("Polars", python, 0), ("DuckDB", python, 0)):
        with cluster(folder, workers, memory) as address:
            shown = f"{name}, {'2 workers' if workers else 'both cores'}"
            found[shown] = []
            for step in STEPS:
                # safe paths, so that this folder's dask.py is not taken for Dask
                command = [interpreter, "-P", str(PEERS), name, step]
                found[shown].append(timed(folder, command, DASK_SCHEDULER_ADDRESS=address))
                progress(f"dask: {shown}: {step} {found[shown][-1]:.1f} s")
    return found


def report(
    scaling: dict[str, list[float]], whole: dict[str, list[float]], evaluated: float, held: int, memory: int, peak: int
) -> str:
    """The tables, and what of the goals was met."""
    speedup = sum(scaling["1 worker"]) / sum(scaling["2 workers"])
    return "\n\n".join(
        [
            f"{ROWS:,} rows × {len(synthetic.chunk(1, 0).column_names)} columns in {ROWS // FILE:,} Parquet files, "
            f"{held / 2**20:,.0f} MiB in memory: {held / memory:.1f} times the {memory / 2**20:,.0f} MiB of a "
            f"worker, which held at most {peak / 2**20:,.0f} MiB. All of them read, divide "
            "and score every row with a logistic regression; ours also types, checks, describes and validates "
            "each, and one-hot encodes categories. Two cores, which the scheduler and the driver share."
            + (f" Run with fewer rows than the {MEANT:,} that are meant." if ROWS < MEANT else ""),
            seconds(whole),
            f"`evaluate` on the test rows, a quarter of them, takes {evaluated:,.0f} s more on 2 workers.",
            f"With {PART:,} of the rows, two workers take **{speedup:.2f}×** less time than one "
            f"(goal: at least 1.6×: {verdict(speedup >= 1.6)}).",
            seconds(scaling),
        ]
    )


def seconds(taken: dict[str, list[float]]) -> str:
    rows = [[name, *(f"{each:.1f}" for each in steps), f"{sum(steps):.1f}"] for name, steps in taken.items()]
    return table(["seconds", *STEPS, "together"], rows)
