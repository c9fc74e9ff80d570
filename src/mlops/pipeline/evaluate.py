"""Stage `evaluate`: evaluate the model on the test rows, with intervals, and for each slice.

The outputs are a small file of metrics, the whole evaluation, the test predictions row by row, and tables for plots.
Latency is also measured, but recorded in the journal, because it depends on the machine.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mlops.core import cluster, files, journal, memory, paths
from mlops.core.errors import run
from mlops.core.files import write_json
from mlops.core.paths import EVALUATION, METRICS, PREDICTIONS
from mlops.core.settings import Settings
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.project import Project
from mlops.inference.contract import probability_column
from mlops.model import checks, curves, explaining, influence, metrics, modelfile, resampling, slices
from mlops.model.bootstrap import Estimate, bootstrap
from mlops.model.curves import rounded
from mlops.model.metrics import Array, Classes, Predictions, parts
from mlops.model.resampling import Custom

# Training rows that are scored; the standard error of their accuracy is at most 0.001
MOST_TRAINING_ROWS = 250_000
# Limits of permutation importance: number of predictions, and cells per prediction
IMPORTANCE_PREDICTIONS, IMPORTANCE_CELLS = 1_000, 100_000
# What a test row of a partitioned table takes: target, prediction, probabilities, and what sorts and resamples them
BYTES_EVALUATED = 200


def main() -> str:
    project = projects.open()
    settings, columns = project.settings, project.columns
    model = modelfile.load(settings)
    train, test = project.table(paths.TRAIN), project.table(paths.TEST)
    classes = None
    if settings.data.task == "classification":
        classes = Classes.of(np.asarray(model.classes_), settings.data.positive)
    y, predictions = predicted(project, model, test)
    options = settings.evaluate.model_dump(include={"confidence", "resamples", "seed"})

    declared, left_out = resampling.declared(settings.evaluate, classes)
    custom = checks.check(declared.on(test), y, predictions, classes)
    estimates = bootstrap(y, predictions, classes, custom, **options)
    learned = tables.some(train, MOST_TRAINING_ROWS)
    train_scores = score_training_rows(model, learned, columns, settings, classes, custom.on(learned))
    known = train if isinstance(train, pa.Table) else learned
    dummy = score_dummy(known, y, settings, classes, custom)
    by_slice = evaluate_slices(known, test, y, predictions, settings, classes, custom, options)
    looked_at = importance_rows(len(y), len(columns))
    X = project.X(test.take(pa.array(looked_at)))
    importance = permutation_importance(model, X, y[looked_at], classes)
    explanation = explain(model, project, train, test)
    ranked = [each["column"] for each in explanation.get("columns") or importance]
    depends = influence.dependence(model, test, project.columns, ranked, classes, options["confidence"])
    if classes is None:
        drawn = curves.regression_curves(y, predictions)
    else:
        drawn = curves.classification_curves(y, predictions, classes, custom)
    bins = drawn.get("calibration", [])
    evaluation: dict[str, Any] = {
        "task": settings.data.task,
        "target": settings.data.target,
        "classes": None if classes is None else classes.labels.tolist(),
        "positive": classes.labels[classes.positive].item() if classes and len(classes.labels) == 2 else None,
        "rows": {"train": train.num_rows, "train_scored": learned.num_rows, "test": test.num_rows},
        "model": {
            "estimator": settings.model.estimator,
            "steps": [{"name": step.key, "transformer": step.transformer} for step in settings.model.steps],
            "bytes": paths.MODEL.stat().st_size,
        },
        "served": json.loads(paths.EXPORTED.read_text(encoding="utf-8")),
        "interval": options,
        "metrics": {
            name: {
                **as_numbers(estimate),
                "train": _finite(train_scores.get(name)),
                "dummy": _finite(dummy.get(name)),
                "greater_is_better": metrics.greater_is_better(name, custom),
                **custom.details(name),
            }
            for name, estimate in estimates.items()
        },
        "left_out": left_out,
        "calibration_error": curves.calibration_error(bins) if bins else None,
        "thresholds": drawn.get("thresholds", []),
        "slices": by_slice,
        "importance": importance,
        "explanation": explanation,
        "dependence": depends,
    }
    recent = project.read(paths.RECENT)
    if recent.num_rows:
        evaluation["rows"]["recent"] = recent.num_rows
        evaluation["recent"] = evaluate_recent(project, model, recent, classes, options)
    write_json(evaluation, EVALUATION)
    write_json(summary(evaluation), METRICS)
    tables.write(prediction_table(test, predictions, settings, classes), PREDICTIONS)
    bars = {"importance": importance, **({"shap": explanation["columns"]} if "columns" in explanation else {})}
    curves.write({**drawn, **{name: rows[: curves.MOST_BARS] for name, rows in bars.items()}})
    journal.note("evaluate", files.md5(paths.MODEL), **modelfile.measure_latency(model, X))
    for name, why in left_out.items():
        print(f"  metric {name} is left out: {why}", flush=True)
    for name, estimate in estimates.items():
        if estimate.resamples:
            few = f"{estimate.resamples:,} of {options['resamples']:,} resamples"
            print(f"  metric {name}: interval from {few}, {resampling.WHY_FEWER}", flush=True)
    first, estimate = next(iter(estimates.items()))
    return f"{first} {shown(estimate)} on {len(y):,} test rows → {EVALUATION}"


def predicted(project: Project, model: Any, test: Any) -> tuple[Array, Predictions]:
    """The target and the predictions of the test rows; of a partitioned table by partition, and all at once here.

    Raises
    ------
    UserError
        If what remains of so many test rows does not fit into memory.
    """
    if isinstance(test, pa.Table):
        return project.y(test), metrics.predict(model, project.X(test))
    memory.require(
        BYTES_EVALUATED * test.num_rows,
        f"the evaluation of {test.num_rows:,} test rows",
        "a smaller split.test_size: intervals of a million rows are narrow already",
    )
    found = list(cluster.each(partial(_predicted, project, model, test), test.files, "partition"))
    targets, answers = zip(*((target, answer) for target, answer in found if len(target)), strict=True)
    probabilities = [each.probabilities for each in answers]
    return np.concatenate(targets), Predictions(
        np.concatenate([each.predicted for each in answers]),
        None if probabilities[0] is None else np.concatenate(probabilities),
    )


def _predicted(project: Project, model: Any, test: Any, file: Path) -> tuple[Array, Predictions | None]:
    rows = test.read(file)
    return project.y(rows), metrics.predict_table(model, rows, project.columns) if rows.num_rows else None


def as_numbers(estimate: Estimate) -> dict[str, float | None]:
    """Value, low and high, rounded; and the number of resamples if it is lower than requested."""
    bounds = {key: getattr(estimate, key) for key in ("value", "low", "high")}
    numbers = {key: None if number is None else rounded(number) for key, number in bounds.items()}
    return {**numbers, "resamples": estimate.resamples} if estimate.resamples else numbers


def _finite(value: float | None) -> float | None:
    return rounded(value) if value is not None and np.isfinite(value) else None


def shown(estimate: Estimate) -> str:
    """``0.991 [0.981, 0.998]``."""
    if estimate.value is None:
        return "undefined"
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"


def summary(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The numbers for `dvc metrics show`."""
    first, detail = next(iter(evaluation["metrics"].items()))
    worst = [
        each["metrics"][first]["value"] for each in evaluation["slices"] if each["metrics"][first]["value"] is not None
    ]
    numbers = {name: each["value"] for name, each in evaluation["metrics"].items()}
    if detail["train"] is not None and detail["value"] is not None:
        sign = 1 if detail["greater_is_better"] else -1
        numbers["overfitting_gap"] = rounded(sign * (detail["train"] - detail["value"]))
    if worst:
        numbers["worst_slice"] = min(worst) if detail["greater_is_better"] else max(worst)
    if evaluation["calibration_error"] is not None:
        numbers["calibration_error"] = evaluation["calibration_error"]
    return {**numbers, "model_bytes": evaluation["model"]["bytes"]}


def score_training_rows(
    model: Any,
    train: pa.Table,
    columns: list[tables.Column],
    settings: Settings,
    classes: Classes | None,
    custom: Custom,
) -> dict[str, float]:
    """The same metrics on training rows; much better values mean overfitting."""
    known = metrics.predict_table(model, train, columns)
    return metrics.score(tables.target(train, settings), known, classes, custom)


def score_dummy(
    train: pa.Table, y: Array, settings: Settings, classes: Classes | None, custom: Custom
) -> dict[str, float]:
    """The metrics of a dummy model, which ignores all features."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    dummy = DummyRegressor() if classes is None else DummyClassifier(strategy="prior")
    known = tables.target(train, settings)
    dummy.fit(np.zeros((len(known), 1)), known)
    return metrics.score(y, metrics.predict(dummy, pd.DataFrame(np.zeros((len(y), 1)))), classes, custom)


def evaluate_slices(
    train: pa.Table,
    test: pa.Table,
    y: Array,
    predictions: Predictions,
    settings: Settings,
    classes: Classes | None,
    custom: Custom,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """Every metric with its interval for each slice of the columns in `evaluate.slices`."""
    results = []
    for column in settings.evaluate.slices:
        for label, rows in slices.slice_rows(column, train[column], test[column]):
            estimates = bootstrap(y[rows], parts(predictions, rows), classes, custom.at(rows), **options)
            judged = {name: as_numbers(estimate) for name, estimate in estimates.items()}
            results.append({"column": column, "slice": label, "rows": len(rows), "metrics": judged})
    return results


def evaluate_recent(
    project: Project, model: Any, recent: pa.Table, classes: Classes | None, options: dict[str, Any]
) -> dict[str, Any]:
    """Every metric with its interval on the newest labelled rows, which no model was trained on."""
    declared, _ = resampling.declared(project.settings.evaluate, classes)
    y, predictions = project.y(recent), metrics.predict_table(model, recent, project.columns)
    custom = checks.check(declared.on(recent), y, predictions, classes)
    return {name: as_numbers(each) for name, each in bootstrap(y, predictions, classes, custom, **options).items()}


def importance_rows(rows: int, columns: int) -> Array:
    """Which test rows show the importance of columns."""
    size = int(np.clip(IMPORTANCE_CELLS // columns, 200, 2_000))
    return np.sort(np.random.default_rng(0).choice(rows, min(rows, size), replace=False))


def permutation_importance(model: Any, X: pd.DataFrame, y: Array, classes: Classes | None) -> list[dict[str, Any]]:
    """The loss of the first metric if a column is shuffled (Breiman 2001), most important first."""
    from sklearn.inspection import permutation_importance as permute

    repeats = int(np.clip(IMPORTANCE_PREDICTIONS // X.shape[1], 1, 5))
    result = permute(model, X, y, scoring=metrics.scorer(classes), n_repeats=repeats, random_state=0)
    order = np.argsort(-result.importances_mean, kind="stable")
    return [
        {
            "column": str(X.columns[column]),
            "importance": rounded(result.importances_mean[column]),
            "std": rounded(result.importances_std[column]),
        }
        for column in order
    ]


def explain(model: Any, project: Project, train: pa.Table, test: pa.Table) -> dict[str, Any]:
    """The mean absolute contribution of each column to the model's score on test rows, or why there is none."""
    inputs = explaining.inputs_of(model)
    background = project.X(tables.some(train, explaining.MOST_BACKGROUND))
    found = explaining.tried(model, background, inputs, project.settings.data.positive)
    if isinstance(found, str):
        return {"why": found}
    rows = tables.some(test, influence.rows_explained(found, test.num_rows))
    return influence.summary(found, inputs, project.X(rows), project.settings.evaluate.confidence)


def prediction_table(test: pa.Table, predictions: Predictions, settings: Settings, classes: Classes | None) -> pa.Table:
    """Key, actual value, prediction and probabilities of each test row, in the order of the test table."""
    columns = {name: test[name] for name in settings.data.key}
    columns |= {"actual": test[settings.data.target], "predicted": pa.array(predictions.predicted)}
    if classes is not None and predictions.probabilities is not None:
        for column, label in enumerate(classes.labels.tolist()):
            columns[probability_column(label)] = pa.array(predictions.probabilities[:, column])
    return pa.table(columns)


if __name__ == "__main__":
    run("evaluate", main)
