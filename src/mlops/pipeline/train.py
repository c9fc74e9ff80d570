"""Stage `train`: fit the model that `params.yaml` names on the training rows, with the best parameters found."""

from __future__ import annotations

import json
import time
from typing import Any

from mlops.core import files, journal, paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, run
from mlops.core.settings import Settings
from mlops.model import boosting, conformance, fitted, forests, modelfile, training
from mlops.model.estimators import make_model
from mlops.model.step_checks import check_steps, fit_error


def main() -> str:
    settings = settings_module.load()
    if boosting.is_distributed(settings):
        start = time.perf_counter()
        with training.warnings_once():
            model, rows, columns = boosting.fit(settings)
        return saved(model, settings, rows, columns, time.perf_counter() - start)
    settings, known, X, y, _ = training.read()
    trials = json.loads(paths.TRIALS.read_text(encoding="utf-8"))
    tuned = best(trials)
    model = make_model(settings, known, tuned)
    start = time.perf_counter()
    with training.warnings_once():
        if conformance.is_own(settings.model.estimator):
            fitted.check(lambda: make_model(settings, known, tuned), X, y, settings)
        try:
            forests.fit(model, X, y)
        except (OSError, UserError):
            raise
        except Exception as error:  # estimators from anywhere raise anything
            unfitted = make_model(settings, known, tuned)
            raise fit_error(settings, unfitted, X, y, error, f"model: {settings.model.estimator}") from None
        check_steps(settings, model, X, y)
    return saved(model, settings, len(y), len(known), time.perf_counter() - start, len(trials))


def saved(model: Any, settings: Settings, rows: int, columns: int, seconds: float, trials: int = 0) -> str:
    """Write the model, and note how long its training took; gives the line of the log."""
    modelfile.save(model, settings)
    journal.note("train", files.md5(paths.MODEL), seconds=round(seconds, 3), rows=rows)
    searched = f" with the best of {trials} trials" if trials else ""
    return f"{settings.model.path} on {rows:,} rows × {columns:,} columns{searched} → {paths.MODEL}"


def best(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters of the best trial, the first where several are equal; empty without a search."""
    return dict(max(trials, key=lambda trial: trial["mean"])["params"]) if trials else {}


if __name__ == "__main__":
    run("train", main)
