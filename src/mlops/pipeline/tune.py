"""Stage `tune`: search for better parameters, where `params.yaml` asks for a search.

Its only output is the list of trials. `train` reads it, so a change of a metric repeats the search but not the fit.
"""

from __future__ import annotations

from typing import Any

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.core.errors import run
from mlops.core.files import write_json


def main() -> str:
    trials: list[dict[str, Any]] = []
    if settings_module.load().tuning:
        from mlops.model import training
        from mlops.model.tuning import tune

        rows = training.read()
        with training.warnings_once():
            _, trials = tune(rows.X, rows.y, rows.settings, rows.columns, rows.order)
    write_json(trials, paths.TRIALS)
    return f"{len(trials)} trials → {paths.TRIALS}" if trials else f"no search → {paths.TRIALS}"


if __name__ == "__main__":
    run("tune", main)
