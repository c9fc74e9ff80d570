"""How things are measured: a process with its children, in a scratch clone of the commit that is checked out.

This module imports nothing large, because a child's peak memory counts from what its parent holds when it starts.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mlops.core.environment import apart

ROOT = Path(__file__).parents[1]
STAGES = ("ingest", "validate", "split", "profile", "tune", "train", "export", "evaluate", "card", "track")


class Cost(NamedTuple):
    """What a command took, with all processes that it started.

    Attributes
    ----------
    cpu : float
        User and system seconds.
    wall : float
        Seconds on the clock.
    memory : int
        Bytes that the largest of its processes held at its peak.
    """

    cpu: float
    wall: float
    memory: int


def progress(text: str) -> None:
    """Say what is being measured."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def run(*command: str, folder: Path) -> Cost:
    """Run a command in a scratch clone; its output is shown only where it fails."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{output.read().decode()}\n{' '.join(command)} exited with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * unit)


def environment(folder: Path) -> dict[str, str]:
    """What a command sees in a scratch clone: this interpreter, the clone's modules, one thread, telemetry off.

    What this interpreter's environment holds is only read: `make` in the clone installs one of the clone's own.
    """
    kept = {name: value for name, value in apart().items() if not name.startswith(("MLFLOW_", "GIT_"))}
    # one thread for the plain script and other servers too, as `mlops.pipeline` pins it for the stages
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    telemetry = {"GX_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "true"}
    # uv last, so that `make` in the clone finds it also where no `make` has started this
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"], str(ROOT / ".uv/bin")])
    return kept | threads | telemetry | {"PATH": path, "PYTHONPATH": str(folder / "src")}


def uv() -> str:
    """Where uv is: on the path, or where `make` puts it."""
    found = shutil.which("uv") or shutil.which(str(ROOT / ".uv/bin/uv"))
    if not found:
        sys.exit("uv is not installed; `make .uv/bin/uv` installs it, or pip")
    return found


@contextmanager
def clone() -> Iterator[Path]:
    """A scratch clone of the commit checked out, with nothing run in it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        folder = Path(place) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], env=apart(), check=True)
        # without the lock every stage is new to DVC, also those whose outputs are in Git
        (folder / "dvc.lock").unlink(missing_ok=True)
        yield folder


def least_and_median(values: Iterable[float]) -> str:
    """``1.23 / 1.31``."""
    values = list(values)
    return f"{min(values):.2f} / {statistics.median(values):.2f}"


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The machine and the versions, in one sentence."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = _system()
    packages = ("bentoml", "dvc", "great-expectations", "mlflow", "onnxruntime", "pandas", "pyarrow", "scikit-learn")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return (
        f"{names[0] if names else platform.processor()} with {os.cpu_count()} cores and {memory:.0f} GiB of memory, "
        f"{system}, Python {platform.python_version()}; {versions}."
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"
