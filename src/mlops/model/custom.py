"""A metric that a project adds, and how one is made of a function in `src/project/metrics.py`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlops.core import hooks
from mlops.core.errors import UserError
from mlops.model.metrics import Array

MODULE = "metrics"
FILE = hooks.ROOM / f"{MODULE}.py"
TASKS = ("binary", "multiclass", "regression")


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
    parameters = parameters_of(metric.function, about)
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


def where(function: Callable[..., Any]) -> str:
    """``src/project/metrics.py, line 12``."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return str(FILE)
    return f"{hooks.ROOM / Path(code.co_filename).name}, line {code.co_firstlineno}"


def parameters_of(function: Any, about: str) -> list[inspect.Parameter]:
    """The arguments of a function."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise UserError(f"{about}: its arguments cannot be read: {error}") from None


def _as_name(column: str) -> str:
    return re.sub(r"\W+", "_", column).strip("_") or "column"
