"""Measure the evidence for the gate: both models on this change's test rows, and checks of the recorded files.

The recorded evaluation is not used as evidence, because the change could have edited it. It is compared with the
measured values instead.
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
from mlops.core.errors import UserError
from mlops.core.git import changed_files
from mlops.core.lock import Lock
from mlops.core.paths import METRICS, PREDICTIONS
from mlops.core.report import Chart, Influence
from mlops.core.settings import Settings
from mlops.data import features, tables
from mlops.data.project import Project
from mlops.data.tables import Catalogue
from mlops.model import curves, metrics, modelfile, slices
from mlops.model.metrics import Array, Classes, Predictions, parts
from mlops.model.objects import imported
from mlops.model.resampling import Custom
from mlops.review import charts, drift, influence, recipes
from mlops.review.baseline import Baseline
from mlops.review.compare import Paired, compare
from mlops.review.definitions import Definitions, define, recorded
from mlops.review.gate import Judged, Measurements, Recent, SliceMeasurements
from mlops.review.policy import Gate

RECENT_SEED = 10_000  # slices have the numbers from 1
# The recorded numbers have six decimals
ROUNDING = 1.5e-6


class Findings(NamedTuple):
    """The evidence, and what only the report shows."""

    evidence: Measurements
    charts: list[Chart]
    baseline_latency_ms: float | None
    redefined: list[str] = []  # noqa: RUF012
    """Metrics whose definition this change edits; main's definition is used."""
    lost: list[str] = []  # noqa: RUF012
    """Metrics of main that this change does not have."""
    influence: Influence | None = None
    """How both models' contributions divide among the columns."""


class Ours(NamedTuple):
    """This change: its model and rows.

    Attributes
    ----------
    model : estimator
    classes : Classes or None
        None for a regression.
    train, test : pyarrow.Table
        With the computed features.
    on_train, on_test : Predictions
        Predictions for the training rows and the test rows.
    latency_ms : float
        Infinite without a test row.
    """

    project: Project
    model: Any
    classes: Classes | None
    train: pa.Table
    test: pa.Table
    on_train: Predictions
    on_test: Predictions
    latency_ms: float


class Scored(NamedTuple):
    """Both models on the test rows that main's model was not trained on.

    Attributes
    ----------
    rows : ndarray of shape (n_scored,)
        Their indices in the test table.
    y : ndarray of shape (n_scored,)
    candidate : Predictions
    baseline : Predictions or None
        None where there is nothing to compare with; `problem` says why.
    latency_ms : float or None
        Latency of main's model.
    """

    rows: Array
    y: Array
    candidate: Predictions
    baseline: Predictions | None
    problem: str | None
    latency_ms: float | None


def gather(
    project: Project, baseline: Baseline, moved: list[str], dirty: bool, resamples: int, gate: Gate | None = None
) -> Findings:
    """Score both models and measure the evidence for all rules.

    Parameters
    ----------
    moved : list of str
        Stages and outputs that differ from `dvc.lock`.
    gate : Gate, optional
        Its `cross_validation` says whether the recipes are compared too.
    """
    ours = read_ours(project)
    defined = own_metrics(ours, baseline)
    scored = score_both(ours, baseline)
    custom = defined.deciding.on(ours.test.take(pa.array(scored.rows)))
    pairs: dict[str, Paired] = {}
    if len(scored.y):
        pairs = compare(scored.y, scored.baseline, scored.candidate, ours.classes, custom, resamples=resamples)
    by_slice = compare_slices(ours, baseline, scored, custom, resamples) if len(scored.y) else []
    window = on_recent(ours)
    evidence = Measurements(
        rows=len(scored.y),
        pairs=pairs,
        slices=by_slice,
        baseline_problem=scored.problem,
        first=baseline.first,
        train=metrics.score(project.y(ours.train), ours.on_train, ours.classes, custom.on(ours.train)),
        calibration=curves.calibration(scored.y, scored.candidate, ours.classes)
        if len(scored.y) and ours.classes is not None
        else [],
        validation=json.loads(paths.VALIDATION.read_text(encoding="utf-8")) if paths.VALIDATION.exists() else None,
        drift=moved_columns(ours, baseline),
        model_bytes=paths.MODEL.stat().st_size,
        latency_ms=ours.latency_ms,
        moved=moved,
        # on a CI runner, there is nothing to commit, so the difference remains a failure
        dirty=dirty and not os.environ.get("CI"),
        leaked=sum(int(known_rows(rows, ours.train, project.source.names).sum()) for rows in (ours.test, window.test)),
        misrecorded=check_recorded(ours.test, ours.on_test, project.settings, ours.classes, defined.ours)
        if ours.test.num_rows
        else [],
        judged=Judged(
            ours.test.take(pa.array(scored.rows)),
            scored.y,
            scored.candidate,
            scored.baseline,
            ours.classes,
            project.settings.data.positive,
        ),
        recent=compare_recent(window, baseline, defined, resamples),
        elsewhere=trained_elsewhere(project.settings),
    )
    if gate is not None and gate.cross_validation is not None and scored.problem is None and pairs:
        compared = recipes.Compared(len(scored.y), pairs, [(*each[:3], each.pairs) for each in by_slice])
        found = recipes.compare(ours, baseline, gate.cross_validation, compared, resamples=resamples)
        evidence = evidence._replace(recipes=found)
    drawn = []
    if len(scored.y):
        drawn = charts.curves(scored.y, scored.candidate, scored.baseline, ours.classes)
    missing = [name for name in recorded(baseline.commit) if name not in pairs]
    lost = [f"{name} ({defined.lost[name]})" if name in defined.lost else name for name in missing]
    test = ours.test.take(pa.array(scored.rows))
    drives = None
    if scored.problem is None:
        drives = influence.compare(
            project, ours.model, ours.train, test, baseline, project.settings.evaluate.confidence
        )
    return Findings(evidence, drawn, scored.latency_ms, defined.redefined, lost, drives)


def trained_elsewhere(settings: Settings) -> bool:
    """Whether the estimator's class says that other parties hold a part of its training rows."""
    return getattr(imported(settings.model.estimator, "model.estimator"), "trained_elsewhere", False) is True


def own_metrics(ours: Ours, baseline: Baseline) -> Definitions:
    """The project's own metrics, for this change's test rows."""
    theirs = None if baseline.project is None else baseline.project.settings.evaluate
    evaluate = ours.project.settings.evaluate
    return define(evaluate, theirs, ours.classes, ours.test, ours.project.y(ours.test), ours.on_test)


def read_ours(project: Project) -> Ours:
    """Load this change's model and predict the training and test rows."""
    model = modelfile.load(project.settings)
    classes = None
    if project.settings.data.task == "classification":
        classes = Classes.of(np.asarray(model.classes_), project.settings.data.positive)
    train, test = project.read(paths.TRAIN), project.read(paths.TEST)
    on_test, latency_ms = Predictions(np.array([]), None), math.inf
    try:
        on_train = metrics.predict_table(model, train, project.columns)
        if test.num_rows:
            on_test = metrics.predict_table(model, test, project.columns)
            latency_ms = modelfile.measure_latency(model, project.X(test))["latency_ms"]
    except Exception as error:  # an estimator may raise anything
        raise UserError(f"this change's model cannot predict: {type(error).__name__}: {error}") from None
    return Ours(project, model, classes, train, test, on_train, on_test, latency_ms)


def score_both(ours: Ours, baseline: Baseline) -> Scored:
    """Both models on the same rows, or why main's cannot be scored."""
    rows, problem = fresh_rows(ours.test.select(ours.project.source.names), baseline)
    test = ours.test.take(pa.array(rows))
    theirs = latency = None
    if problem is None and test.num_rows:
        theirs, problem, latency = score_baseline(test, baseline, ours.project.source, ours.classes)
    return Scored(rows, ours.project.y(test), parts(ours.on_test, rows), theirs, problem, latency)


def on_recent(ours: Ours) -> Ours:
    """The same with the rows of the recent window in the place of the test rows; maybe none."""
    table = ours.project.read(paths.RECENT) if paths.RECENT.exists() else ours.test.slice(0, 0)
    if not table.num_rows:
        return ours._replace(test=table, on_test=Predictions(np.array([]), None))
    return ours._replace(test=table, on_test=metrics.predict_table(ours.model, table, ours.project.columns))


def compare_recent(window: Ours, baseline: Baseline, defined: Definitions, resamples: int) -> Recent:
    """Both models on the recent window: after a change of the relation, old test rows alone defend the old model."""
    had = baseline.project is not None and bool(baseline.project.settings.data.recent)
    if not window.test.num_rows:
        return Recent(lost=had)
    scored = score_both(window, baseline)
    custom = defined.deciding.on(window.test.take(pa.array(scored.rows)))
    pairs = compare(
        scored.y, scored.baseline, scored.candidate, window.classes, custom, resamples=resamples, seed=RECENT_SEED
    )
    return Recent(len(scored.y), pairs, scored.problem)


def compare_slices(
    ours: Ours, baseline: Baseline, scored: Scored, custom: Custom, resamples: int
) -> list[SliceMeasurements]:
    """The comparison for each slice on its own."""
    found: list[SliceMeasurements] = []
    test = ours.test.take(pa.array(scored.rows))
    for column in slice_columns(ours.project.settings, baseline, test):
        for name, members in slices.slice_rows(column, ours.train[column], test[column]):
            compared = compare(
                scored.y[members],
                None if scored.baseline is None else parts(scored.baseline, members),
                parts(scored.candidate, members),
                ours.classes,
                custom.at(members),
                resamples=resamples,
                seed=1 + len(found),
            )
            found.append(SliceMeasurements(column, name, len(members), compared))
    return found


def moved_columns(ours: Ours, baseline: Baseline) -> list[drift.Moved] | None:
    """How far each column has moved from main's training rows; this change's code computes the features of both."""
    if baseline.train is None:
        return None
    project = ours.project
    available = [feature for feature in project.features if {*feature.columns} <= {*baseline.train.column_names}]
    try:
        before, _ = features.appended(baseline.train, available, project.source)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a column has another kind on main
        before = baseline.train
    names = [column.name for column in project.columns] + [project.settings.data.target]
    return drift.drifted(before, ours.train, names)


def slice_columns(settings: Settings, baseline: Baseline, test: pa.Table) -> list[str]:
    """Main's slices and this change's: a change cannot take away the slice in which it is worse."""
    theirs = [] if baseline.project is None else baseline.project.settings.evaluate.slices
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


def fresh_rows(test: pa.Table, baseline: Baseline) -> tuple[Array, str | None]:
    """Test rows that main's model was not trained on, and why there is nothing to compare with, if so.

    After a change of the split, main's model would be evaluated on its own training rows.
    """
    everything = np.arange(test.num_rows)
    if baseline.model is None or baseline.train is None:
        return everything, baseline.problem or "main's model is not available"
    known = known_rows(test, baseline.train, test.column_names)
    kept = np.flatnonzero(~known)
    if len(kept) < test.num_rows / 2:
        return everything, (
            f"main's model was trained on {int(known.sum()):,} of the {test.num_rows:,} test rows, so it cannot be "
            "compared; check whether the split has changed"
        )
    return kept, None


def score_baseline(
    test: pa.Table, baseline: Baseline, catalogue: Catalogue, classes: Classes | None
) -> tuple[Predictions | None, str | None, float | None]:
    """Main's model on this change's test rows, or why it cannot be scored; and its latency.

    Its features are computed by main's code, from the columns of this change's table.

    Parameters
    ----------
    catalogue : Catalogue
        Of this change's table.
    """
    project = baseline.project
    if project is None:
        return None, "main's settings are not available", None
    computed = {feature.name for feature in project.features}
    needed = {name for feature in project.features for name in feature.columns}
    needed |= {column.name for column in project.columns} - computed
    for column in project.source.columns:
        here = next((other for other in catalogue.columns if other.name == column.name), None)
        if column.name not in needed:
            continue
        if here is None:
            return None, f"main's model needs the column {column.name}, which the table no longer has", None
        if here.kind != column.kind:
            return None, f"main's model needs {column.name} as {column.kind}, but it is now {here.kind}", None
    try:
        with baseline.own_code():
            X = project.X(project.append(test))
            found = metrics.predict(baseline.model, X)
            latency = modelfile.measure_latency(baseline.model, X)["latency_ms"]
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
    return found, None, latency


def check_recorded(
    test: pa.Table, found: Predictions, settings: Settings, classes: Classes | None, custom: Custom | None = None
) -> list[str]:
    """Numbers and predictions of the recorded evaluation that differ from those of the model."""
    wrong = []
    try:
        recorded = {**json.loads(METRICS.read_text(encoding="utf-8"))}
        predicted = tables.read(PREDICTIONS)["predicted"].to_pylist()
    except (OSError, TypeError, ValueError, KeyError, UserError):
        return ["reports/metrics.json or predictions.parquet is missing or broken"]
    for name, value in metrics.score(tables.target(test, settings), found, classes, custom).items():
        written = recorded.get(name)
        if written is None and not math.isfinite(value):
            continue
        if not isinstance(written, int | float) or not math.isclose(written, value, rel_tol=1e-6, abs_tol=ROUNDING):
            wrong.append(f"{name} is {value:.6g}, recorded as {written}")
    if len(predicted) != test.num_rows:
        wrong.append(f"{len(predicted):,} predictions are recorded for {test.num_rows:,} test rows")
    elif predicted != found.predicted.tolist():
        wrong.append("the recorded predictions differ")
    return wrong


def check_outputs(lock: Lock) -> list[str]:
    """Outputs whose hash differs from the lock; DVC does not detect a corrupt cache."""
    return [
        f"{stage}: {out['path']} has another hash"
        for stage, entry in lock.items()
        for out in entry.get("outs", [])
        if Path(out["path"]).exists() and files.tree_md5(out["path"]) != out.get("md5")
    ]


def left_behind(lock: Lock) -> list[str]:
    """Outputs in Git that the pipeline has just changed, so that the commit contains outdated ones."""
    outputs = [(stage, out["path"]) for stage, entry in lock.items() for out in entry.get("outs", [])]
    return [
        f"{stage}: {name}"
        for name in changed_files("HEAD")
        for stage, path in outputs
        if name == path or name.startswith(f"{path}/")
    ]
