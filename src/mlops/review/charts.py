"""The charts of a comment: the curves of both models, and a metric by slice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops.core.report import MOST_BARS, Bars, Chart, Series, shortened
from mlops.model import curves as curve_points
from mlops.model.metrics import Array, Classes, Predictions
from mlops.review.compare import Paired
from mlops.review.gate import SliceMeasurements

GRID = 21


def curves(y: Array, candidate: Predictions, baseline: Predictions | None, classes: Classes | None) -> list[Chart]:
    """The ROC curve of two classes, or the absolute errors of a regression."""
    models = [("main", baseline)] if baseline is not None else []
    models.append(("this change", candidate))
    grid = np.linspace(0, 1, GRID)
    if classes is None:
        lines = {name: np.quantile(np.abs(y - model.predicted), grid[:-1]) for name, model in models}
        if not all(np.isfinite(errors).all() for errors in lines.values()):
            return []
        return [_lines("Absolute error", "share of the test rows", "error not exceeded", grid[:-1], lines)]
    if len(classes.labels) != 2 or any(model.probabilities is None for _, model in models):
        return []
    lines = {}
    for name, model in models:
        points = curve_points.roc(y, model, classes)
        lines[name] = np.interp(
            grid,
            [point["false_positive_rate"] for point in points],
            [point["true_positive_rate"] for point in points],
        )
    return [_lines("ROC curve", "false positive rate", "true positive rate", grid, lines)]


def slices(by_slice: list[SliceMeasurements], asked: Sequence[str] = ()) -> list[Bars]:
    """Bars of the first metric that every slice has; of many slices, those that changed most.

    Parameters
    ----------
    asked : sequence of str
        Metrics that rules of the gate are about, which come first.
    """
    if len(by_slice) < 2:
        return []
    for name in [*(each for each in asked if each in by_slice[0].pairs), *by_slice[0].pairs]:
        pairs = [part.pairs[name] for part in by_slice]
        if np.isfinite([pair.candidate for pair in pairs]).all():
            break
    else:
        return []
    compared = all(np.isfinite(pair.baseline) for pair in pairs)
    order = sorted(range(len(pairs)), key=lambda place: -_interest(pairs[place], compared))
    shown = sorted(order[:MOST_BARS])
    several = len({part.column for part in by_slice}) > 1
    title = f"{name} by slice" if several else f"{name} by {by_slice[0].column}"
    if len(shown) < len(pairs):
        title += ", largest changes" if compared else ", lowest" if pairs[0].greater_is_better else ", highest"
    return [
        Bars(
            title=shortened(title),
            y=shortened(name),
            names=[shortened(_label(by_slice[place], several)) for place in shown],
            main=[round(float(pairs[place].baseline), 6) for place in shown if compared],
            here=[round(float(pairs[place].candidate), 6) for place in shown],
        )
    ]


def _interest(pair: Paired, compared: bool) -> float:
    return abs(pair.candidate - pair.baseline) if compared else -pair.sign * pair.candidate


def _label(part: SliceMeasurements, several: bool) -> str:
    """A slice in the letters that a chart may hold."""
    name = re.sub(r"^< ", "below ", re.sub(r"^≥ ", "from ", part.name))
    return f"{part.column}, {name}" if several else name


def _lines(title: str, x: str, y: str, at: Any, lines: dict[str, Any]) -> Chart:
    series = [Series(name=name, values=[round(float(value), 6) for value in values]) for name, values in lines.items()]
    return Chart(
        title=shortened(title), x=x, y=shortened(y), at=[round(float(value), 6) for value in at], series=series
    )
