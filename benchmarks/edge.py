"""The same model outside the service: in a browser, in C and as a Python package, beside the container."""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import ROOT, clone, environment, progress, run, table, uv

PARTS = Path(__file__).with_name("edge_parts")
RUNTIME = "build/onnxruntime-web/.ready"
HEADERS = ROOT / "build/tools/onnxruntime"
STARTS, ROWS, ROWS_IN_C = 7, 2_000, 50_000


class Found(NamedTuple):
    """Bytes on disk and over the line, seconds to the first prediction, milliseconds for one row."""

    size: float
    sent: float | None
    start: float
    latency: float


def measure() -> str:
    with clone() as folder, tempfile.TemporaryDirectory(prefix="bench-") as place:
        scratch = Path(place)
        progress("edge: running the pipeline")
        run("dvc", "repro", folder=folder)
        run("make", RUNTIME, folder=folder)
        run("python", "-m", "mlops.release.edge", folder=folder)
        run("python", "-m", "mlops.release.wheel", folder=folder)
        found = {
            "container": container(folder),
            "browser (Chromium)": browser(folder),
            "Python package": package(folder, scratch),
            "C": program(folder, scratch),
        }
    rows = [
        [
            name,
            f"{each.size / 1e6:,.1f}",
            "–" if each.sent is None else f"{each.sent / 1e6:,.1f}",
            f"{each.start:.2f}",
            f"{each.latency:.3f}",
        ]
        for name, each in found.items()
    ]
    return "\n\n".join(
        [
            "The default model elsewhere. The size includes ONNX Runtime, and for the package also NumPy; the "
            "container also contains Python and the system. A start ends with the first prediction. A row is predicted "
            "alone, after another; of the container it is sent over HTTP. The browser's row is a mean, "
            "since its clock is coarse.",
            table(["", "size, MB", "compressed, MB", f"start, s, median of {STARTS}", "one row, ms, median"], rows),
        ]
    )


def asked(folder: Path, script: str, *arguments: str) -> Any:
    """What a script of `edge_parts` prints, run in the clone."""
    command = ["python", str(PARTS / script), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def container(folder: Path) -> Found:
    progress("edge: container")
    found = asked(folder, "container.py", str(STARTS))
    return Found(found["size"], None, found["start"], found["latency"])


def browser(folder: Path) -> Found:
    progress("edge: browser")
    files = list((folder / "build/edge").iterdir())
    sent = sum(len(gzip.compress(file.read_bytes())) for file in files)
    found = asked(folder, "browser.py", str(STARTS), str(ROWS))
    return Found(sum(file.stat().st_size for file in files), sent, found["start"], found["latency"])


def package(folder: Path, scratch: Path) -> Found:
    progress("edge: Python package")
    (wheel,) = (folder / "build/wheel/dist").iterdir()
    python = scratch / "env/bin/python"
    run(uv(), "venv", "--quiet", str(scratch / "env"), folder=folder)
    run(uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), str(wheel), folder=folder)
    script = (str(python), "-I", str(PARTS / "package.py"), wheel.name.partition("-")[0])
    starts = [run(*script, "1", folder=folder).wall for _ in range(STARTS)]
    done = subprocess.run([*script, str(ROWS)], stdout=subprocess.PIPE, text=True, check=True)
    inside = scratch / "env/lib"
    size = sum(file.stat().st_size for file in inside.rglob("*") if file.is_file() and not file.is_symlink())
    return Found(size, None, statistics.median(starts), float(done.stdout))


def program(folder: Path, scratch: Path) -> Found:
    progress("edge: C")
    (library,) = (scratch / "env").glob("lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (scratch / name).symlink_to(library)
    made = scratch / "predict"
    command = ["cc", "-O2", str(ROOT / "deploy/edge/predict.c"), "-o", str(made), "-isystem", str(HEADERS)]
    run(*command, f"-L{scratch}", f"-Wl,-rpath,{scratch}", "-lonnxruntime", "-lm", folder=folder)
    contract = json.loads((folder / "build/edge/contract.json").read_text(encoding="utf-8"))
    example = {field["name"]: field["example"] for field in contract["fields"]}
    row = ",".join(str(example[each["field"]]) for each in contract["numbers"]) + "\n"

    def seconds(rows: int) -> float:
        start = time.perf_counter()
        command = [made, folder / "build/edge/model.onnx"]
        subprocess.run(command, input=row * rows, stdout=subprocess.DEVNULL, text=True, check=True)
        return time.perf_counter() - start

    start = statistics.median(seconds(1) for _ in range(STARTS))
    many = statistics.median(seconds(1 + ROWS_IN_C) for _ in range(STARTS))
    size = made.stat().st_size + library.stat().st_size + (folder / "build/edge/model.onnx").stat().st_size
    return Found(size, None, start, 1000 * (many - start) / ROWS_IN_C)
