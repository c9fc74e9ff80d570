"""Costs of decisions, `evaluate.costs`, as a metric: what a row costs on average, each outcome at its price.

A price is a number or a column with the row's own amount, so that a missed fraud costs what it was about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Cost, Costs, cost_columns
from mlops.core.yamlfile import closest
from mlops.model.metrics import Array, Classes

KEY = f"{PARAMS}: evaluate.costs"


def cost_metric(costs: Costs | list[Cost], classes: Classes | None) -> tuple[Callable[..., Array], tuple[str, ...]]:
    """A function of truth, prediction and columns that gives each row's cost, and the columns that it takes.

    With two classes the function takes 1 for the positive one and 0 for the other, as all metrics do.

    Raises
    ------
    UserError
        Where the costs do not fit the classes.
    """
    if classes is None:
        hint = "a function in src/project/metrics.py, which may be about numbers"
        raise UserError(f"{KEY} is about classes, but data.task is regression", hint)
    columns = tuple(cost_columns(costs))
    binary = len(classes.labels) == 2
    if isinstance(costs, Costs) and not binary:
        raise UserError(
            f"{KEY}: false and true positives need two classes, the table has {len(classes.labels)}",
            f"a list such as [{{actual: {classes.labels[0]}, predicted: {classes.labels[1]}, cost: 5}}, {{cost: 1}}]",
        )
    labels: list[Any] = [0, 1] if binary else classes.labels.tolist()
    prices = _of_outcomes(costs) if isinstance(costs, Costs) else _of_pairs(costs, classes)

    def cost(y_true: Array, y_pred: Array, *amounts: Array) -> Array:
        given = dict(zip(columns, amounts, strict=True))
        for name, values in given.items():
            if values.dtype != np.float64:
                raise TypeError(f"the column {name!r} is not numeric")
        found = np.zeros(len(y_true))
        for (actual, predicted), price in prices.items():
            rows = (y_true == labels[actual]) & (y_pred == labels[predicted])
            found[rows] = given[price][rows] if isinstance(price, str) else price
        return found

    return cost, columns


def _of_outcomes(costs: Costs) -> dict[tuple[int, int], float | str]:
    """By numbers of classes, of which the positive one is 1."""
    return {
        (1, 0): costs.false_negative,
        (0, 1): costs.false_positive,
        (1, 1): costs.true_positive,
        (0, 0): costs.true_negative,
    }


def _of_pairs(costs: list[Cost], classes: Classes) -> dict[tuple[int, int], float | str]:
    """The price of each pair of classes: that of the entry which names most of it, else nothing."""
    names = classes.labels.tolist()
    order = list(range(len(names)))
    if len(names) == 2:  # metrics see the positive class as 1
        order = [1 - classes.positive, classes.positive]
    place = {names[number]: position for position, number in enumerate(order)}
    seen: set[tuple[Any, Any]] = set()
    for number, entry in enumerate(costs):
        for key, label in (("actual", entry.actual), ("predicted", entry.predicted)):
            if label is not None and label not in place:
                known = closest(str(label), [str(name) for name in names])
                raise UserError(f"{KEY}[{number}].{key}: the target has no class {label!r}{known}")
        if (entry.actual, entry.predicted) in seen:
            raise UserError(f"{KEY}[{number}] is about the same classes as an entry before it")
        seen.add((entry.actual, entry.predicted))
    prices: dict[tuple[int, int], float | str] = {}
    # an entry of both classes is more specific than one of a class, and the row's class counts more than the predicted
    for entry in sorted(costs, key=lambda each: 2 * (each.actual is not None) + (each.predicted is not None)):
        for actual in names:
            for predicted in names:
                if entry.actual not in (None, actual) or entry.predicted not in (None, predicted):
                    continue
                if actual == predicted and None in (entry.actual, entry.predicted):
                    continue  # a right prediction costs only what an entry says of this very pair
                prices[place[actual], place[predicted]] = entry.cost
    return prices
