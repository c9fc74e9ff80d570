"""A metric of a library, named in `params.yaml` by its import path, with its direction and what it needs."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Literal

from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, MetricPath
from mlops.core.yamlfile import closest
from mlops.model.custom import CustomMetric, parameters_of
from mlops.model.metrics import Array, Classes
from mlops.model.objects import imported

# Names of a second argument that holds probabilities
PROBABILITIES = ("y_score", "y_prob", "y_proba")


def from_path(entry: MetricPath, key: str, classes: Classes | None) -> CustomMetric:
    """A function of a library, with its parameters.

    Parameters
    ----------
    key : str
        Where `params.yaml` has it.

    Raises
    ------
    UserError
        Names the key of `params.yaml`.
    """
    place = f"{PARAMS}: {key}"
    function = imported(entry.metric, key)
    if not callable(function) or inspect.isclass(function):
        raise UserError(f"{place}: {entry.metric} is not a function", "a function (y_true, y_pred)")
    parameters = parameters_of(function, f"{place}: {entry.metric}")
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
    name = entry.shown
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
