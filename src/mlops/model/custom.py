"""The metrics that a project adds: its own functions, those of a library by import path, and costs.

Each becomes a `CustomMetric`, checked as far as that needs no data; `mlops.model.resampling` computes them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mlops.core import hooks
from mlops.core.errors import UserError
from mlops.core.settings import METRIC_NAME, PARAMS, Evaluate, MetricPath, Settings, closest
from mlops.model.costs import cost_metric
from mlops.model.metrics import BUILT_IN, Array, Classes

MODULE = "metrics"
FILE = hooks.ROOM / f"{MODULE}.py"
# More would not fit a report of 60 slices
MOST = 20
# Names that `reports/metrics.json` gives to other numbers
RESERVED = (
    *("overfitting_gap", "worst_slice", "calibration_error", "model_bytes", "training_seconds"),
    *("threshold", "flagged_share"),
)
SUFFIXES = ("low", "high", "train", "dummy")
TASKS = ("binary", "multiclass", "regression")
PROBABILITIES = ("y_score", "y_prob", "y_proba")


@dataclass(frozen=True)
class CustomMetric:
    """A metric that a project adds.

    Attributes
    ----------
    call : callable
        ``(y_true, y_pred, *columns, **keywords)``, with the keywords `sample_weight` and `labels` where `takes` names
        them.
    place : str
        Where it is defined, for errors.
    mode : {'per row', 'weighted', 'one by one'}
        Whether it is a mean of one value per row, takes weights, or must be called with repeated rows.
    definition : object
        What `params.yaml` says of it; equal where two files define it alike.
    """

    name: str
    call: Callable[..., Any]
    place: str
    greater_is_better: bool
    needs: Literal["predict", "probability"]
    columns: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    mode: Literal["per row", "weighted", "one by one"] = "one by one"
    unit: str = ""
    definition: Any = None


def load(evaluate: Evaluate, classes: Classes | None) -> tuple[list[CustomMetric], dict[str, str]]:
    """The metrics that `params.yaml` and `src/project/metrics.py` define.

    Parameters
    ----------
    classes : Classes or None
        None for a regression.

    Returns
    -------
    metrics : list of CustomMetric
    left_out : dict of str to str
        Metrics of the file that are not used here, with the reason.

    Raises
    ------
    UserError
        Names the place, what is wrong, and what is allowed.
    """
    found: list[CustomMetric] = []
    left_out: dict[str, str] = {}
    entries = evaluate.metrics
    if entries != []:
        own = hooks.load(MODULE, hooks.Metric)
        named = [entry for entry in entries or [] if isinstance(entry, str)]
        unknown = next((name for name in named if name not in own), None)
        if unknown is not None:
            hint = "" if "." not in unknown else f"{{metric: {unknown}}}, for a function of a library"
            known = closest(unknown, list(own)) or "; it defines none"
            raise UserError(f"{PARAMS}: evaluate.metrics: {FILE} has no metric {unknown!r}{known}", hint)
        for name, metric in own.items():
            checked = from_hook(metric)
            if entries is not None and name not in named:
                left_out[name] = f"{PARAMS}: evaluate.metrics does not name it"
            elif metric.task not in (None, kind_of(classes)):
                left_out[name] = f"it is for {metric.task} tasks, this one is {kind_of(classes)}"
            else:
                found.append(checked)
        found += [
            from_path(entry, f"{PARAMS}: evaluate.metrics[{number}]", classes)
            for number, entry in enumerate(entries or [])
            if isinstance(entry, MetricPath)
        ]
    if evaluate.costs is not None:
        call, columns = cost_metric(evaluate.costs, classes)
        place, written = f"{PARAMS}: evaluate.costs", evaluate.model_dump()["costs"]
        cost = CustomMetric("cost", call, place, False, "predict", columns, mode="per row", definition=written)
        found.append(cost)
    _check_names(found)
    return found, left_out


def check(settings: Settings) -> None:
    """Check what can be checked of the metrics without a table.

    Raises
    ------
    UserError
        As `load`.
    """
    any_two = Classes(np.array([False, True]), 1)
    classes = any_two if settings.data.task == "classification" else None
    load(settings.evaluate.model_copy(update={"costs": None}), classes)


def kind_of(classes: Classes | None) -> str:
    """Binary, multiclass or regression."""
    return "regression" if classes is None else "binary" if len(classes.labels) == 2 else "multiclass"


def from_hook(metric: hooks.Metric) -> CustomMetric:
    """A function of `src/project/metrics.py`, checked against what its decorator says.

    Raises
    ------
    UserError
        Names file and line.
    """
    place = where(metric.function)
    about = f"{place}: metric {metric.name}"
    if not isinstance(metric.greater_is_better, bool):
        raise UserError(
            f"{about} does not say whether a greater value is better",
            "@metric(greater_is_better=True), or False for an error or a cost",
        )
    for option, value, allowed in (
        ("needs", metric.needs, ("predict", "probability")),
        ("task", metric.task, (None, *TASKS)),
    ):
        if value not in allowed:
            known = ", ".join(repr(each) for each in allowed if each)
            raise UserError(f"{about}: {option} must be one of {known}, got {value!r}")
    columns = metric.columns
    if not isinstance(columns, tuple) or not all(isinstance(name, str) for name in columns):
        raise UserError(f"{about}: columns must be a list of names, got {columns!r}", 'columns=["amount"]')
    parameters = _parameters(metric.function, about)
    extra = [each for each in parameters[2:] if each.name not in ("sample_weight", "labels")]
    taken, rest = extra[: len(columns)], extra[len(columns) :]
    needless = [each.name for each in rest if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    if len(parameters) < 2 or len(taken) < len(columns) or needless:
        wanted = ", ".join(["y_true", "y_pred" if metric.needs == "predict" else "y_prob", *map(_as_name, columns)])
        given = ", ".join(each.name for each in parameters)
        raise UserError(f"{about} takes ({given})", f"def {metric.name}({wanted})")
    takes = frozenset(each.name for each in parameters) & {"sample_weight", "labels"}
    if metric.per_row and "sample_weight" in takes:
        raise UserError(f"{about} returns one value per row, so it takes no sample_weight", "leave one of the two out")
    names = [each.name for each in taken]

    def call(y_true: Array, y_pred: Array, *values: Array, **keywords: Any) -> Any:
        return metric.function(y_true, y_pred, **dict(zip(names, values, strict=True)), **keywords)

    mode: Any = "per row" if metric.per_row else "weighted" if "sample_weight" in takes else "one by one"
    return CustomMetric(
        metric.name,
        call,
        place,
        metric.greater_is_better,
        metric.needs,
        columns,
        takes - {"sample_weight"} if mode != "weighted" else takes,
        mode,
        metric.unit or "",
    )


def from_path(entry: MetricPath, place: str, classes: Classes | None) -> CustomMetric:
    """A function of a library, with its parameters.

    Raises
    ------
    UserError
        Names the key of `params.yaml`.
    """
    function = _imported(entry.metric, place)
    parameters = _parameters(function, f"{place}: {entry.metric}")
    names = [each.name for each in parameters]
    if len(names) < 2:
        raise UserError(
            f"{place}: {entry.metric} is not a metric: it takes ({', '.join(names)})", "a function (y_true, y_pred)"
        )
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for name in entry.params:
        if (name not in names[2:] and not open_ended) or name == "sample_weight":
            known = [each for each in names[2:] if each != "sample_weight"]
            raise UserError(f"{place}: {entry.metric} takes no parameter {name!r}{closest(name, known)}")
    known_direction, known_needs = known_of(function, names[1])
    direction = entry.greater_is_better if known_direction is None else known_direction
    if direction is None:
        raise UserError(
            f"{place}: it is not known whether a greater {entry.metric} is better", "greater_is_better: true, or false"
        )
    if entry.greater_is_better not in (None, direction):
        better = "greater" if direction else "smaller"
        raise UserError(f"{place}: a {better} {entry.metric} is better; greater_is_better says the opposite")
    needs = entry.needs or known_needs
    takes = frozenset(names) & {"sample_weight", "labels"} - entry.params.keys()
    if needs == "predict" or classes is None:
        takes -= {"labels"}
    written = entry.model_dump(exclude={"name"})
    call = functools.partial(_call_path, function, entry.params)
    mode: Any = "weighted" if "sample_weight" in takes else "one by one"
    name = entry.name or entry.metric.rpartition(".")[2]
    return CustomMetric(name, call, f"{place} ({name})", direction, needs, (), takes, mode, "", written)


def _call_path(function: Any, params: dict[str, Any], y_true: Array, y_pred: Array, **keywords: Any) -> Any:
    return function(y_true, y_pred, **params, **keywords)


def known_of(function: Any, second: str) -> tuple[bool | None, Literal["predict", "probability"]]:
    """Direction of a metric and what it needs, as scikit-learn's scorers and the endings of its names say.

    Functions that end with ``_score`` are to be maximised, those with ``_error``, ``_loss`` or ``_deviance`` minimised
    (https://scikit-learn.org/stable/modules/model_evaluation.html).
    """
    needs: Literal["predict", "probability"] = "probability" if second in PROBABILITIES else "predict"
    name = getattr(function, "__name__", "")
    if getattr(function, "__module__", "").partition(".")[0] != "sklearn":
        return None, needs
    from sklearn.metrics import get_scorer, get_scorer_names

    for scorer in map(get_scorer, get_scorer_names()):
        if scorer._score_func is function:
            methods = scorer._response_method
            asks = "predict_proba" in ([methods] if isinstance(methods, str) else methods)
            return scorer._sign > 0, "probability" if asks else needs
    if name.endswith("_score"):
        return True, needs
    return (False if name.endswith(("_error", "_loss", "_deviance")) else None), needs


def where(function: Callable[..., Any]) -> str:
    """``src/project/metrics.py, line 12``."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return str(FILE)
    return f"{hooks.ROOM / Path(code.co_filename).name}, line {code.co_firstlineno}"


def _imported(path: str, place: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # a module may raise anything
        raise UserError(f"{place}: {path} cannot be imported: {error}") from None
    if not hasattr(found, name):
        raise UserError(
            f"{place}: {module} has no {name!r}{closest(name, [each for each in dir(found) if each[0] != '_'])}"
        )
    function = getattr(found, name)
    if not callable(function) or inspect.isclass(function):
        raise UserError(f"{place}: {path} is not a function", "a function (y_true, y_pred)")
    return function


def _parameters(function: Any, about: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise UserError(f"{about}: its arguments cannot be read: {error}") from None


def _as_name(column: str) -> str:
    return re.sub(r"\W+", "_", column).strip("_") or "column"


def _check_names(metrics: Sequence[CustomMetric]) -> None:
    names = [metric.name for metric in metrics]
    for number, metric in enumerate(metrics):
        clash = ""
        if metric.name in BUILT_IN or metric.name in RESERVED:
            clash = "is taken by a number that every evaluation has"
        elif metric.name in names[:number]:
            clash = "is taken by another metric"
        elif any(metric.name == f"{other}_{suffix}" for other in (*BUILT_IN, *names) for suffix in SUFFIXES):
            clash = "is the name under which MLflow keeps a bound or a training value of another metric"
        elif not re.fullmatch(METRIC_NAME, metric.name):
            clash = "has letters that a table or MLflow cannot hold, or more than 60"
        if clash:
            raise UserError(f"{metric.place}: the name {metric.name!r} {clash}", "another name")
    if len(metrics) > MOST:
        raise UserError(
            f"{PARAMS}: evaluate.metrics: {len(metrics)} metrics, at most {MOST} can be compared beside the usual ones",
            "evaluate.metrics: the names of those that matter",
        )


def same(one: CustomMetric, other: CustomMetric) -> bool:
    """Whether two files of parameters define a metric alike; the team's own code is one for both."""
    return bool(one.definition == other.definition)
