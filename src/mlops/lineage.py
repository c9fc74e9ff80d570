"""Where a model comes from, and what happened on this machine.

Hashes and the commit are lineage, the same for everybody. Seconds, latency and the MLflow run are facts of one
machine; they go to `reports/journal`, which is neither in Git nor an output of DVC.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from mlops.stage import write_json

# What the pipeline leaves for its readers
TRIALS = Path("reports/tuning.json")
EXPORTED = Path("reports/export.json")
METRICS = Path("reports/metrics.json")
EVALUATION = Path("reports/evaluation.json")
PREDICTIONS = Path("reports/predictions.parquet")
TRACKED = Path("reports/track.json")
JOURNAL = Path("reports/journal")


def md5(path: str | Path) -> str:
    """MD5 of a file, as `dvc.lock` holds it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def commit() -> str:
    """The commit checked out, with ``-dirty`` where tracked files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def note(stage: str, model_md5: str, **facts: Any) -> None:
    """Write down what a stage saw on this machine, for the model with this hash."""
    write_json({"model": model_md5, **facts}, JOURNAL / f"{stage}.json")


def noted(stage: str, model_md5: str) -> dict[str, Any]:
    """What `note` wrote, if it was about this model; empty otherwise."""
    try:
        facts: dict[str, Any] = json.loads((JOURNAL / f"{stage}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return facts if facts.get("model") == model_md5 else {}
