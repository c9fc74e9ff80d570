"""Checks of a project's own metrics on the test rows: is the value one finite number, the same each time?

Errors name the line of the team's file, or the key of `params.yaml`, and say what the function returns instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlops.core import hooks
from mlops.core.errors import UserError, described
from mlops.model.custom import CustomMetric
from mlops.model.metrics import Array, Classes, Predictions
from mlops.model.resampling import Custom, as_number, attempted, called, inputs, quiet

# Two sums of the same numbers in another order
CLOSE = 1e-9


def check(custom: Custom, y: Array, predictions: Predictions, classes: Classes | None) -> Custom:
    """Check each metric on the test rows, and how it may be resampled.

    Returns
    -------
    Custom
        Metrics whose `sample_weight` does not count rows are to be called with repeated rows.

    Raises
    ------
    UserError
        Names file and line or key, the metric, and what is wrong with its value.
    """
    settled = []
    rng = np.random.default_rng(0)
    order, drawn = rng.permutation(len(y)), np.bincount(rng.integers(0, len(y), len(y)), minlength=len(y))
    for metric in custom.metrics:
        rows = _frozen(metric, custom, y, predictions, classes)
        value = _checked(metric, rows, classes)
        again = _checked(metric, rows, classes)
        if not _equal(value, again):
            problem = f"is not deterministic: called twice it gives {value:.6g} and {again:.6g}"
            raise UserError(f"{metric.place}: {metric.name} {problem}", "no random numbers, time or files")
        mixed = _checked(metric, tuple(values[order] for values in rows), classes)
        if not _equal(value, mixed):
            problem = f"depends on the order of the rows: {value:.6g} becomes {mixed:.6g} in another order"
            raise UserError(f"{metric.place}: {metric.name} {problem}", "a function of the rows whatever their order")
        if metric.mode == "weighted":
            repeated = attempted(metric, rows, classes, drawn, "one by one")
            weighted = attempted(metric, rows, classes, drawn, "weighted")
            if not _equal(repeated, weighted):
                metric = replace(metric, mode="one by one")
        settled.append(metric)
    return custom._replace(metrics=tuple(settled))


def value(metric: CustomMetric, custom: Custom, y: Array, predictions: Predictions, classes: Classes | None) -> float:
    """A metric on all rows; errors are those of `check`."""
    return _checked(metric, _frozen(metric, custom, y, predictions, classes), classes)


def _frozen(
    metric: CustomMetric, custom: Custom, y: Array, predictions: Predictions, classes: Classes | None
) -> tuple[Array, ...]:
    """Truth, prediction and columns of a metric, which its function cannot change."""
    views = []
    for values in (*inputs(metric, y, predictions, classes), *(custom.columns[name] for name in metric.columns)):
        view = values.view()
        view.flags.writeable = False
        views.append(view)
    return tuple(views)


def _equal(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=CLOSE, atol=CLOSE, equal_nan=True))


def _checked(metric: CustomMetric, rows: tuple[Array, ...], classes: Classes | None) -> float:
    """The value of a metric, or what is wrong with it."""
    about = f"{metric.place}: {metric.name}"
    n_samples = len(rows[0])
    try:
        with quiet():
            value = called(metric, rows, classes)
    except Exception as error:  # the team's code may raise anything
        hint = _hint(error, classes)
        place = hooks.raised_at(error) or metric.place
        raise UserError(f"{place}: {metric.name} raises {described(error)}", hint) from None
    if metric.mode != "per row":
        number = as_number(value)
        if np.isfinite(number):
            return number
        raise UserError(f"{about} returns {_shown(value)}, expected a finite number", _missing(metric, rows))
    found = np.asarray(value)
    if found.shape != (n_samples,) or found.dtype.kind not in "biuf":
        wanted = f"an array of {n_samples:,} numbers, one for each row, because it is declared with per_row"
        raise UserError(f"{about} returns {_shown(value)}, expected {wanted}")
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        given = [f"{name} = {values[bad[0]]}" for name, values in zip(metric.columns, rows[2:], strict=True)]
        where = f"{found[bad[0]]} in test row {bad[0] + 1:,}" + (f", where {', '.join(given)}" if given else "")
        more = f" (and {len(bad) - 1:,} more rows)" if len(bad) > 1 else ""
        raise UserError(f"{about} returns {where}{more}, expected a finite number", _missing(metric, rows))
    return float(found.mean())


def _hint(error: Exception, classes: Classes | None) -> str:
    """What scikit-learn's functions are most often missing."""
    if "read-only" in str(error):
        return "y_true = y_true.copy(), before it is changed"
    if "average=" in str(error):
        return "params: {average: macro}"
    if "pos_label" in str(error) and classes is not None and len(classes.labels) == 2:
        return f"no pos_label: metrics see {classes.labels[classes.positive]} as 1 and the other class as 0"
    return ""


def _missing(metric: CustomMetric, rows: tuple[Array, ...]) -> str:
    """A hint where a column has gaps."""
    for name, values in zip(metric.columns, rows[2:], strict=True):
        gaps = int(np.sum(values != values))
        if gaps:
            return f"{name} is missing in {gaps:,} of these rows: np.nan_to_num, or another column"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}"
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    if isinstance(value, complex | np.complexfloating):
        return f"the complex number {value:g}"
    if value is None:
        return "nothing"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
