"""Stage `tune`: search for better parameters, where `params.yaml` asks for a search.

Its only output is the list of trials. `train` reads it, so a change of a metric repeats the search but not the fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.core import cluster, paths
from mlops.core import settings as settings_module
from mlops.core.errors import run
from mlops.core.files import write_json
from mlops.core.settings import BUILT_IN, Settings


def main() -> str:
    trials: list[dict[str, Any]] = []
    settings = settings_module.load()
    if settings.tuning:
        from mlops.model import boosting, training
        from mlops.model.tuning import tune

        if boosting.is_distributed(settings):
            boosting.check(settings)
        rows = training.read()
        custom = own_metrics(rows.settings, rows.y)
        with training.warnings_once(), cluster.searches():
            _, trials = tune(rows.X, rows.y, rows.settings, rows.columns, rows.order, custom)
    write_json(trials, paths.TRIALS)
    return f"{len(trials)} trials → {paths.TRIALS}" if trials else f"no search → {paths.TRIALS}"


def own_metrics(settings: Settings, y: Any) -> Any:
    """The project's own metrics for the training rows, where the search is to optimise one; None otherwise."""
    from mlops.model import resampling, training
    from mlops.model.metrics import Classes

    name = settings.tuning.metric if settings.tuning else None
    if name is None or name in BUILT_IN:
        return None
    classes = None
    if settings.data.task == "classification":
        classes = Classes.of(np.unique(y), settings.data.positive)
    declared, _ = resampling.declared(settings.evaluate, classes)
    return declared.only([name]).on(training.rows(settings))


if __name__ == "__main__":
    run("tune", main)
