"""Stage `tune`: search for better parameters, where `params.yaml` asks for a search.

Its only output is the list of trials. `train` reads it, so a change of a metric repeats the search but not the fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.core.errors import run
from mlops.core.files import write_json
from mlops.core.settings import BUILT_IN, Settings
from mlops.data import tables


def main() -> str:
    trials: list[dict[str, Any]] = []
    if settings_module.load().tuning:
        from mlops.model import training
        from mlops.model.tuning import tune

        rows = training.read()
        custom = own_metrics(rows.settings, rows.y)
        with training.warnings_once():
            _, trials = tune(rows.X, rows.y, rows.settings, rows.columns, rows.order, custom)
    write_json(trials, paths.TRIALS)
    return f"{len(trials)} trials → {paths.TRIALS}" if trials else f"no search → {paths.TRIALS}"


def own_metrics(settings: Settings, y: Any) -> Any:
    """The project's own metrics for the training rows, where the search is to optimise one; None otherwise."""
    from mlops.model import resampling
    from mlops.model.metrics import Classes

    name = settings.tuning.metric if settings.tuning else None
    if name is None or name in BUILT_IN:
        return None
    classes = None
    if settings.data.task == "classification":
        classes = Classes.of(np.unique(y), settings.data.positive)
    declared, _ = resampling.declared(settings.evaluate, classes)
    return declared.only([name]).on(tables.read(paths.TRAIN))


if __name__ == "__main__":
    run("tune", main)
