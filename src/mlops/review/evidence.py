"""What the gate looks at, measured here: both models on this change's test rows, and the files held to their word.

Nothing is taken from the recorded evaluation, which the change could have edited; it is compared with what comes out.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core import files, paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError
from mlops.core.git import changed_files
from mlops.core.lock import Lock
from mlops.core.paths import METRICS, PREDICTIONS
from mlops.core.report import Chart, Series, shortened
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.data.tables import Catalogue
from mlops.model import curves, metrics, modelfile, slices
from mlops.model.metrics import Array, Classes, Predictions
from mlops.review import drift
from mlops.review.baseline import Baseline
from mlops.review.compare import Paired, compare, parts
from mlops.review.gate import Evidence, SliceEvidence

GRID = 21
MOST_SLICES = 50
# The recorded numbers have six decimals
ROUNDING = 1.5e-6


class Findings(NamedTuple):
    """The evidence, and what only the report shows."""

    evidence: Evidence
    charts: list[Chart]
    baseline_latency_ms: float | None


def gather(settings: Settings, baseline: Baseline, moved: list[str], dirty: bool, resamples: int) -> Findings:
    """Score both models and compare all that a rule may ask for.

    Parameters
    ----------
    moved : list of str
        Where `dvc.lock` is not what the commit makes.
    """
    catalogue = tables.read_catalogue()
    settings_module.check_columns(settings, catalogue.names, prepared=True)
    columns = tables.feature_columns(settings, catalogue)
    train, test = tables.read(paths.TRAIN), tables.read(paths.TEST)
    model = modelfile.load(settings)
    classes = None
    if settings.data.task == "classification":
        classes = Classes.of(np.asarray(model.classes_), settings.data.positive)

    everything = Predictions(np.array([]), None)
    latency_ms = math.inf
    try:
        learned = metrics.predict_table(model, train, columns)
        if test.num_rows:
            everything = metrics.predict_table(model, test, columns)
            latency_ms = modelfile.measure_latency(model, tables.features(test, columns))["latency_ms"]
    except Exception as error:  # an estimator may raise anything
        raise UserError(f"this change's model cannot predict: {type(error).__name__}: {error}") from None
    misrecorded = check_recorded(test, everything, settings, classes) if test.num_rows else []
    leaked = int(known_rows(test, train, catalogue.names).sum())

    rows, problem = fresh_rows(test, baseline, settings)
    test, candidate = test.take(pa.array(rows)), parts(everything, rows)
    y = tables.target(test, settings)
    theirs = None
    latency = None
    if problem is None and test.num_rows:
        theirs, problem, latency = score_baseline(test, baseline, catalogue, classes)
    pairs: dict[str, Paired] = {}
    by_slice: list[SliceEvidence] = []
    if test.num_rows:
        pairs = compare(y, theirs, candidate, classes, resamples=resamples)
        for column in slice_columns(settings, baseline, test):
            for name, members in slices.slice_rows(column, train[column], test[column]):
                compared = compare(
                    y[members],
                    None if theirs is None else parts(theirs, members),
                    parts(candidate, members),
                    classes,
                    resamples=resamples,
                    seed=1 + len(by_slice),
                )
                by_slice.append(SliceEvidence(column, name, len(members), compared))
    moved_columns = None
    if baseline.train is not None:
        names = [column.name for column in columns] + [settings.data.target]
        moved_columns = drift.drifted(baseline.train, train, names)
    bins = [] if classes is None or not test.num_rows else curves.calibration(y, candidate, classes)
    evidence = Evidence(
        rows=test.num_rows,
        pairs=pairs,
        slices=by_slice,
        baseline_problem=problem,
        first=baseline.first,
        train=metrics.score(tables.target(train, settings), learned, classes),
        calibration=bins,
        validation=json.loads(paths.VALIDATION.read_text(encoding="utf-8")) if paths.VALIDATION.exists() else None,
        drift=moved_columns,
        model_bytes=paths.MODEL.stat().st_size,
        latency_ms=latency_ms,
        moved=moved,
        # a runner has nothing to commit: what has moved there stays a failure
        dirty=dirty and not os.environ.get("CI"),
        leaked=leaked,
        misrecorded=misrecorded,
    )
    drawn = [*curve_charts(y, candidate, theirs, classes), *slice_charts(by_slice)] if test.num_rows else []
    return Findings(evidence, drawn, latency)


def slice_columns(settings: Settings, baseline: Baseline, test: pa.Table) -> list[str]:
    """Main's slices and this change's: a change cannot take away the slice in which it is worse."""
    theirs = [] if baseline.settings is None else baseline.settings.evaluate.slices
    return [name for name in dict.fromkeys([*theirs, *settings.evaluate.slices]) if name in test.column_names]


def known_rows(rows: pa.Table, others: pa.Table, columns: list[str]) -> Array:
    """Which rows have the same content as one of the others, by those of the columns that both have."""
    common = [name for name in columns if name in rows.column_names and name in others.column_names]
    return np.isin(row_hashes(rows.select(common)), row_hashes(others.select(common)))


def row_hashes(table: pa.Table) -> Array:
    """A 64-bit hash of each row's content, the same whether or not other rows have missing values."""
    import pandas as pd

    kinds = {pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype(), pa.bool_(): pd.BooleanDtype()}
    return np.asarray(pd.util.hash_pandas_object(table.to_pandas(types_mapper=kinds.get), index=False))


def fresh_rows(test: pa.Table, baseline: Baseline, settings: Settings) -> tuple[Array, str | None]:
    """Test rows that main's model was not trained on, and why there is nothing to compare with, if so.

    A change of the split, or rows that have changed sides, would let main's model shine on what it knows by heart.
    """
    everything = np.arange(test.num_rows)
    if baseline.model is None or baseline.train is None:
        return everything, baseline.problem or "main's model is not available"
    known = known_rows(test, baseline.train, test.column_names)
    kept = np.flatnonzero(~known)
    if len(kept) < test.num_rows / 2:
        return everything, (
            f"main's model was trained on {int(known.sum()):,} of the {test.num_rows:,} test rows, so it cannot be "
            "compared: has the split changed?"
        )
    return kept, None


def score_baseline(
    test: pa.Table, baseline: Baseline, catalogue: Catalogue, classes: Classes | None
) -> tuple[Predictions | None, str | None, float | None]:
    """Main's model on this change's test rows, or why it cannot be scored; and its latency."""
    if baseline.settings is None or baseline.catalogue is None:
        return None, "main's settings are not available", None
    wanted = tables.feature_columns(baseline.settings, baseline.catalogue)
    for column in wanted:
        here = next((each for each in catalogue.columns if each.name == column.name), None)
        if here is None:
            return None, f"main's model needs the column {column.name}, which the table no longer has", None
        if here.kind != column.kind:
            return None, f"main's model needs {column.name} as {column.kind}, but it is now {here.kind}", None
    X = tables.features(test, wanted)
    try:
        found = metrics.predict(baseline.model, X)
    except Exception as error:  # an estimator may raise anything on a table that it does not know
        return None, f"main's model cannot score this table: {type(error).__name__}: {error}", None
    if classes is not None:
        labels = np.asarray(baseline.model.classes_)  # type: ignore[union-attr]
        if not set(labels.tolist()) <= set(classes.labels.tolist()):
            return None, "main's model predicts classes that the table no longer has", None
        if found.probabilities is not None:
            aligned = np.zeros((len(X), len(classes.labels)))
            aligned[:, [classes.labels.tolist().index(label) for label in labels.tolist()]] = found.probabilities
            found = Predictions(found.predicted, aligned)
    return found, None, modelfile.measure_latency(baseline.model, X)["latency_ms"]


def check_recorded(test: pa.Table, found: Predictions, settings: Settings, classes: Classes | None) -> list[str]:
    """Numbers and predictions of the recorded evaluation that are not what the model does."""
    wrong = []
    try:
        recorded = {**json.loads(METRICS.read_text(encoding="utf-8"))}
        predicted = tables.read(PREDICTIONS)["predicted"].to_pylist()
    except (OSError, TypeError, ValueError, KeyError, UserError):
        return ["reports/metrics.json or predictions.parquet is missing or broken"]
    for name, value in metrics.score(tables.target(test, settings), found, classes).items():
        said = recorded.get(name)
        if said is None and not math.isfinite(value):
            continue
        if not isinstance(said, int | float) or not math.isclose(said, value, rel_tol=1e-6, abs_tol=ROUNDING):
            wrong.append(f"{name} is {value:.6g}, recorded as {said}")
    if len(predicted) != test.num_rows:
        wrong.append(f"{len(predicted):,} predictions are recorded for {test.num_rows:,} test rows")
    elif predicted != found.predicted.tolist():
        wrong.append("the recorded predictions differ")
    return wrong


def check_outputs(lock: Lock) -> list[str]:
    """Outputs whose bytes are not what the lock says; DVC would not notice a damaged cache."""
    return [
        f"{stage}: {out['path']} has another hash"
        for stage, entry in lock.items()
        for out in entry.get("outs", [])
        if Path(out["path"]).exists() and files.tree_md5(out["path"]) != out.get("md5")
    ]


def left_behind(lock: Lock) -> list[str]:
    """Outputs that Git keeps and that the pipeline has just moved: the commit holds others than it makes."""
    outputs = [(stage, out["path"]) for stage, entry in lock.items() for out in entry.get("outs", [])]
    return [
        f"{stage}: {name}"
        for name in changed_files("HEAD")
        for stage, path in outputs
        if name == path or name.startswith(f"{path}/")
    ]


def curve_charts(
    y: Array, candidate: Predictions, baseline: Predictions | None, classes: Classes | None
) -> list[Chart]:
    """One picture of the whole: the ROC curve of two classes, or the errors of a regression."""
    models = [("main", baseline)] if baseline is not None else []
    models.append(("this change", candidate))
    grid = np.linspace(0, 1, GRID)
    if classes is None:
        lines = {name: np.quantile(np.abs(y - each.predicted), grid[:-1]) for name, each in models}
        if not all(np.isfinite(errors).all() for errors in lines.values()):
            return []
        return [_chart("Absolute error", "share of the test rows", "error not exceeded", grid[:-1], lines)]
    if len(classes.labels) != 2 or any(each.probabilities is None for _, each in models):
        return []
    lines = {}
    for name, each in models:
        points = curves.roc(y, each, classes)
        lines[name] = np.interp(
            grid,
            [point["false_positive_rate"] for point in points],
            [point["true_positive_rate"] for point in points],
        )
    return [_chart("ROC curve", "false positive rate", "true positive rate", grid, lines)]


def slice_charts(by_slice: list[SliceEvidence]) -> list[Chart]:
    """The first metric that every slice has, by the slice's number in the table."""
    if not 2 <= len(by_slice) <= MOST_SLICES:
        return []
    for name in by_slice[0].pairs:
        here = [each.pairs[name].candidate for each in by_slice]
        there = [each.pairs[name].baseline for each in by_slice]
        if np.isfinite(here).all():
            lines = {"main": there, "this change": here} if np.isfinite(there).all() else {"this change": here}
            return [_chart(f"{name} by slice", "number of the slice", name, np.arange(1, len(here) + 1), lines)]
    return []


def _chart(title: str, x: str, y: str, at: Any, lines: dict[str, Any]) -> Chart:
    series = [Series(name=name, values=[round(float(value), 6) for value in values]) for name, values in lines.items()]
    return Chart(title=shortened(title), x=x, y=shortened(y), at=[round(float(each), 6) for each in at], series=series)
