"""Facts of this machine: durations, latency, the MLflow run, and the checked-out commit.

These facts differ between machines. They go to `reports/journal`, which is neither in Git nor an output of DVC.
"""

from __future__ import annotations

import json
import os
from typing import Any

from mlops.core import paths
from mlops.core.files import write_json
from mlops.core.git import git


def commit() -> str:
    """The checked-out commit, with ``-dirty`` if tracked files differ from it; in an image, the commit of the image."""
    return (
        os.environ.get("PIPELINE_COMMIT")
        or git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", check=False)
        or "unknown"
    )


def note(stage: str, model_md5: str, **facts: Any) -> None:
    """Record facts of a stage on this machine, for the model with this hash."""
    write_json({"model": model_md5, **facts}, paths.JOURNAL / f"{stage}.json")


def noted(stage: str, model_md5: str) -> dict[str, Any]:
    """Facts that `note` recorded for this model; empty if there are none."""
    try:
        facts: dict[str, Any] = json.loads((paths.JOURNAL / f"{stage}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return facts if facts.get("model") == model_md5 else {}
