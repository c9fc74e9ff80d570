"""What two versions are compared by: losses of metrics, what decisions cost, and business figures, row by row.

A test needs the lowest and the highest value. Metrics and costs have them; a business figure has them where
`monitor.labels` says so, and else its test is asymptotic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlops.core.errors import UserError
from mlops.core.settings import Costs, Figure, GroundTruth
from mlops.core.yamlfile import closest
from mlops.model.costs import cost_metric
from mlops.monitoring.figures import decision_costs
from mlops.monitoring.losses import QUANTILE, Loss, losses
from mlops.monitoring.matched import Labelled
from mlops.monitoring.reference import Reference

Array = np.ndarray[Any, Any]

COST = "cost"


class Measure(NamedTuple):
    """A loss of each labelled row, of which less is better.

    Attributes
    ----------
    name, meaning : str
    values : ndarray of shape (n_labels,)
        Between 0 and 1 where `bounded`; NaN where a row says nothing.
    start, unit : float
        A loss of 0, and how much more a loss of 1 is, in units of the metric or figure.
    bounded : bool
    """

    name: str
    meaning: str
    values: Array
    start: float = 0.0
    unit: float = 1.0
    bounded: bool = True


def measures(known: Reference, labelled: Labelled, truth: GroundTruth, names: list[str]) -> list[Measure]:
    """All that the log and the labels allow, or those that are named.

    Raises
    ------
    UserError
        If a name is not among them, or stands for two.
    """
    found = of_losses(losses(known.metrics, known.y, known.predictions, known.classes), labelled)
    cost = of_costs(known, labelled)
    found += [] if cost is None else [cost]
    for name, figure in truth.figures.items():
        if name in {each.name for each in found}:
            raise UserError(f"params.yaml: monitor.labels.figures: {name} is a metric, too", "rename the column")
        found.append(of_figure(name, figure, labelled.figures[name]))
    for name in names:
        if name not in {each.name for each in found}:
            hint = closest(name, [each.name for each in found])
            raise UserError(f"METRICS: {name} has no loss of single rows{hint}")
    return [each for each in found if not names or each.name in names]


def of_losses(of: list[Loss], labelled: Labelled) -> list[Measure]:
    """The losses of metrics."""
    return [
        Measure(each.metric, each.meaning, each.of(labelled.y, labelled.predictions), unit=each.unit) for each in of
    ]


def of_costs(known: Reference, labelled: Labelled) -> Measure | None:
    """What decisions cost, between the lowest and the highest price; amounts are cut at quantiles of the test rows."""
    costs, values = known.project.settings.evaluate.costs, decision_costs(known.project, known.classes, labelled)
    if costs is None or values is None:
        return None
    _, columns = cost_metric(costs, known.classes)
    prices = [*costs.model_dump().values()] if isinstance(costs, Costs) else [each.cost for each in costs]
    amounts = [0.0, *(price for price in prices if not isinstance(price, str))]
    for name in columns:
        there = known.test[name].drop_null().to_numpy()
        amounts += [float(np.quantile(there, share)) for share in (1 - QUANTILE, QUANTILE)] if len(there) else []
    return between(COST, "cost of a decision", values, min(amounts), max(amounts), "lower")


def of_figure(name: str, figure: Figure, values: Array) -> Measure:
    """A column of the labels."""
    values = np.where(np.isfinite(values), values, np.nan)
    meaning = f"{figure.better} is better"
    if figure.range is not None:
        return between(name, meaning, values, *figure.range, figure.better)
    unit = 1.0 if figure.better == "lower" else -1.0
    return Measure(name, f"{meaning}; asymptotic test", values * unit, 0.0, unit, bounded=False)


def between(name: str, meaning: str, values: Array, low: float, high: float, better: str) -> Measure:
    """A figure as a loss between 0 and 1; what is outside is cut."""
    outside = int(((values < low) | (values > high)).sum())
    meaning += f"; cut to {low:.4g} to {high:.4g}" + (f", as {outside:,} rows were" if outside else "")
    share = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    if better == "lower":
        return Measure(name, meaning, share, low, high - low)
    return Measure(name, meaning, 1 - share, high, low - high)
