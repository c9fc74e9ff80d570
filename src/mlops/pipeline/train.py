"""Stage `train`: fit the model that `params.yaml` names on the training rows, with the best parameters found."""

from __future__ import annotations

import json
import time
from typing import Any

from mlops.core import files, journal, paths
from mlops.core.errors import run
from mlops.model import conformance, fitted, modelfile, training
from mlops.model.estimators import make_model
from mlops.model.step_checks import check_steps, fit_error


def main() -> str:
    settings, columns, X, y, _ = training.read()
    trials = json.loads(paths.TRIALS.read_text(encoding="utf-8"))
    tuned = best(trials)
    model = make_model(settings, columns, tuned)
    start = time.perf_counter()
    with training.warnings_once():
        if conformance.is_own(settings.model.estimator):
            fitted.check(lambda: make_model(settings, columns, tuned), X, y, settings)
        try:
            model.fit(X, y)
        except OSError:
            raise
        except Exception as error:  # estimators from anywhere raise anything
            unfitted = make_model(settings, columns, tuned)
            raise fit_error(settings, unfitted, X, y, error, f"model: {settings.model.estimator}") from None
        check_steps(settings, model, X, y)
    seconds = time.perf_counter() - start
    modelfile.save(model, settings)
    journal.note("train", files.md5(paths.MODEL), seconds=round(seconds, 3), rows=len(y))
    searched = f" with the best of {len(trials)} trials" if trials else ""
    return f"{settings.model.path} on {len(y):,} rows × {len(columns):,} columns{searched} → {paths.MODEL}"


def best(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters of the best trial, the first where several are equal; empty without a search."""
    return dict(max(trials, key=lambda trial: trial["mean"])["params"]) if trials else {}


if __name__ == "__main__":
    run("train", main)
