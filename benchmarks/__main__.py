"""``python -m benchmarks [PART …]`` measures the parts named, or all, and writes them to `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

from benchmarks.measuring import machine, progress

README = Path(__file__).with_name("README.md")
# the last four import NumPy, whose memory would count for the processes started after it
PARTS = {
    "overhead": "Overhead of the pipeline",
    "idle": "Nothing to do",
    "start": "From a table to a project",
    "growth": "Growth",
    "feedback": "What a review adds",
    "whole": "A pull request, part by part",
    "serving": "Serving",
    "log_cost": "What the prediction log costs",
    "edge": "Without the service",
    "scoring": "Batch scoring",
    "dask": "More data than memory",
    "logged": "A growing prediction log",
    "dependencies": "What an image installs",
    "monitoring": "Monitoring",
    "resampling": "Resampling",
    "decisions": "Decisions of the gate",
    "recipes": "Cross-validated recipes",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    asked = parser.parse_args().parts or PARTS
    unknown = set(asked) - set(PARTS)
    if unknown:
        parser.error(f"no part {sorted(unknown)[0]!r}; there are {', '.join(PARTS)}")
    for part in asked:
        insert(part, importlib.import_module(f"benchmarks.{part}").measure() + f"\n\nMeasured on {machine()}")
    progress(f"→ {README.relative_to(Path.cwd()) if README.is_relative_to(Path.cwd()) else README.name}")


def insert(part: str, text: str) -> None:
    """Put a result between the part's markers; a part that is new comes last."""
    start, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    section = f"{start}\n\n{text}\n\n{end}"
    page = README.read_text(encoding="utf-8")
    page, found = re.subn(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: section, page, flags=re.DOTALL)
    if not found:
        page = f"{page.rstrip()}\n\n## {PARTS[part]}\n\n{section}\n"
    README.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
