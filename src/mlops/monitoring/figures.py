"""Business figures per version, with intervals: numeric columns of the labels, and what decisions cost."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mlops.core.settings import cost_columns
from mlops.data.project import Project
from mlops.model.costs import cost_metric
from mlops.model.metrics import Classes
from mlops.monitoring.collect import collect
from mlops.monitoring.labels import Truth
from mlops.monitoring.log import Reading
from mlops.monitoring.matched import Labelled, Matched

Array = np.ndarray[Any, Any]

COST = "cost of a decision"
COVERAGE = 0.95
MOST_VERSIONS = 5  # of other releases, those with the most rows


class Mean(NamedTuple):
    """The mean of a figure over the labelled rows of a version; NaN where it is not known."""

    figure: str
    version: str
    mean: float
    low: float
    high: float
    rows: int


def cost_inputs(project: Project, logged: list[str]) -> list[str]:
    """The columns that the costs of decisions depend on, as far as the log has them."""
    return [name for name in cost_columns(project.settings.evaluate.costs) if name in logged]


def decision_costs(project: Project, classes: Classes | None, labelled: Labelled) -> Array | None:
    """What each decision cost, of shape (n_labels,); None where the log lacks a column that it depends on."""
    costs = project.settings.evaluate.costs
    if costs is None or classes is None or not {*cost_columns(costs)} <= labelled.columns.keys():
        return None
    cost, columns = cost_metric(costs, classes)
    actual, predicted = labelled.y, labelled.predictions.predicted
    if len(classes.labels) == 2:
        actual, predicted = ((each == classes.labels[classes.positive]).astype(int) for each in (actual, predicted))
    return cost(actual, predicted, *(labelled.columns[name] for name in columns))


def by_version(project: Project, classes: Classes | None, labelled: Matched) -> list[Mean]:
    """The mean of each figure, per version."""
    parts: defaultdict[tuple[str, str], list[Array]] = defaultdict(list)
    for rows in labelled:
        costs = decision_costs(project, classes, rows)
        figures = {**({} if costs is None else {COST: costs}), **rows.figures}
        for figure, values in figures.items():
            for version in set(rows.version.tolist()):
                parts[figure, version].append(values[rows.version == version])
    return [mean(figure, version, np.concatenate(values)) for (figure, version), values in sorted(parts.items())]


def mean(figure: str, version: str, values: Array) -> Mean:
    """A mean with its t interval (Student 1908, doi:10.1093/biomet/6.1.1), whose rows are taken as independent."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Mean(figure, version, float(values.mean()) if len(values) else np.nan, np.nan, np.nan, len(values))
    middle, spread = float(values.mean()), float(stats.sem(values))
    half = spread * float(stats.t.ppf((1 + COVERAGE) / 2, len(values) - 1))
    return Mean(figure, version, middle, middle - half, middle + half, len(values))


def other_releases(
    project: Project, classes: Classes | None, truth: Truth, reading: Reading, own: set[str]
) -> list[Mean]:
    """The figures of other releases in the same log, to compare with; it is read once more."""
    others = [version for version, _ in reading.others.most_common() if version not in own][:MOST_VERSIONS]
    if not others or not (truth.figures or project.settings.evaluate.costs):
        return []
    again = Reading(reading.folder, reading.contract, reading.model, tuple(others))
    logged = [part.name for part in reading.contract.inputs]
    found = collect(again, truth, cost_inputs(project, logged), 1, ("version",)).labelled
    return [] if found is None else by_version(project, classes, found)
