"""The metrics that a project adds: its own functions, those of a library by import path, and costs.

They are checked as far as that needs no data; `mlops.model.resampling` computes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mlops.core import hooks
from mlops.core.errors import UserError
from mlops.core.settings import BUILT_IN, METRIC_NAME, PARAMS, Evaluate, MetricPath, Settings
from mlops.core.yamlfile import closest
from mlops.model.costs import cost_metric
from mlops.model.custom import FILE, MODULE, CustomMetric, from_hook
from mlops.model.library import from_path
from mlops.model.metrics import Classes

# More would not fit a report of 60 slices
MOST = 20
# Names that `reports/metrics.json` gives to other numbers
RESERVED = (
    *("overfitting_gap", "worst_slice", "calibration_error", "model_bytes", "training_seconds"),
    *("threshold", "flagged_share"),
)
SUFFIXES = ("low", "high", "train", "dummy")


def load(
    evaluate: Evaluate, classes: Classes | None, *, team: bool = True
) -> tuple[list[CustomMetric], dict[str, str]]:
    """The metrics that `params.yaml` and `src/project/metrics.py` define.

    Parameters
    ----------
    classes : Classes or None
        None for a regression.
    team : bool
        Whether to look for functions of `src/project/metrics.py` at all.

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
        own = hooks.load(MODULE, hooks.Metric) if team else {}
        named = [entry for entry in entries or [] if isinstance(entry, str)]
        unknown = next((name for name in named if name not in own), None)
        if unknown is not None:
            hint = "" if "." not in unknown else f"{{metric: {unknown}}}, for a function of a library"
            known = closest(unknown, list(own)) or "; it defines none"
            raise UserError(f"{PARAMS}: evaluate.metrics: {FILE} has no metric {unknown!r}{known}", hint)
        for name, metric in own.items():
            checked = from_hook(metric)
            if named and name not in named:
                left_out[name] = f"{PARAMS}: evaluate.metrics does not name it"
            elif metric.task not in (None, kind_of(classes)):
                left_out[name] = f"it is for {metric.task} tasks, this one is {kind_of(classes)}"
            else:
                found.append(checked)
        found += [
            from_path(entry, f"evaluate.metrics[{number}]", classes)
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
