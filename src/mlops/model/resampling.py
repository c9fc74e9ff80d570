"""The values of a project's own metrics, on all rows and on resamples of them.

A mean of one value per row is a matrix product, like the built-in metrics. Others are called once for each resample:
with the number of times that each row was drawn as its weight where they take weights, with repeated rows otherwise.
A metric of classes alone sees each pair of truth and prediction once, so that its cost does not grow with the rows, and
equal resamples are computed once.

Calls are limited to `SECONDS` for the rows of a table. Their time is estimated from the number of rows and never
measured, so that the number of resamples, and with it each interval, is the same on every machine.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core.errors import UserError
from mlops.core.settings import Evaluate
from mlops.core.yamlfile import closest
from mlops.model.custom import CustomMetric
from mlops.model.declared import load
from mlops.model.metrics import Array, Classes, Predictions

# What the calls of a metric may take for all rows of a table, and what one call is taken to take: measured for
# scikit-learn's functions of a score, as a round number
SECONDS, PER_CALL, PER_ROW = 10.0, 1e-3, 5e-7
# Fewer resamples give no interval
FEWEST = 100
WHY_FEWER = f"because one call for each may take about {SECONDS:g} s"

Weigher = Callable[[Array, int], dict[str, Array]]


class Custom(NamedTuple):
    """A project's own metrics and the columns that they see, for some rows.

    Attributes
    ----------
    metrics : tuple of CustomMetric
    columns : mapping of str to ndarray of shape (n_samples,)
    n_samples : int
    share : float
        Share of the table's rows that these are, which is their share of the time.
    """

    metrics: tuple[CustomMetric, ...] = ()
    columns: Mapping[str, Array] = MappingProxyType({})
    n_samples: int = 0
    share: float = 1.0

    def on(self, table: pa.Table) -> Custom:
        """The same metrics for the rows of a table.

        Raises
        ------
        UserError
            Where the table lacks a column.
        """
        found = {}
        for metric in self.metrics:
            for name in metric.columns:
                if name not in table.column_names:
                    gone = "a column of data.drop is not there either; data.key keeps one from the model"
                    near = closest(name, table.column_names)
                    raise UserError(f"{metric.place}: {metric.name}: the table has no column {name!r}{near}", gone)
                found[name] = as_array(table[name])
        return self._replace(columns=found, n_samples=table.num_rows, share=1.0)

    def at(self, rows: Array) -> Custom:
        """The same metrics for some of the rows."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        share = self.share * len(rows) / max(1, self.n_samples)
        return self._replace(columns=columns, n_samples=len(rows), share=share)

    def averaged(self) -> Custom:
        """Each amount replaced by its mean: what a row like these would have."""
        columns = {
            name: np.full(len(values), values.mean()) if values.dtype == np.float64 and len(values) else values
            for name, values in self.columns.items()
        }
        return self._replace(columns=columns)

    def only(self, names: Sequence[str]) -> Custom:
        """Some of the metrics."""
        return self._replace(metrics=tuple(metric for metric in self.metrics if metric.name in names))

    @property
    def names(self) -> list[str]:
        return [metric.name for metric in self.metrics]

    def greater_is_better(self, name: str) -> bool:
        """Direction of one of these metrics."""
        return next(metric.greater_is_better for metric in self.metrics if metric.name == name)

    def details(self, name: str) -> dict[str, str]:
        """What an evaluation says of one of these metrics beside its numbers; nothing of others."""
        unit = next((metric.unit for metric in self.metrics if metric.name == name), "")
        return {"unit": unit} if unit else {}

    def weigher(
        self, y: Array, predictions: Predictions, classes: Classes | None, resamples: int
    ) -> tuple[Weigher, dict[str, int]]:
        """`weigher` of these metrics and rows."""
        return weigher(self, y, predictions, classes, resamples)

    def value(self, name: str, y: Array, predictions: Predictions, classes: Classes | None) -> float:
        """One of these metrics on these rows.

        Raises
        ------
        UserError
            Where it raises, or is no finite number.
        """
        from mlops.model.checks import value

        metric = next(metric for metric in self.metrics if metric.name == name)
        return value(metric, self, y, predictions, classes)


def declared(evaluate: Evaluate, classes: Classes | None, *, team: bool = True) -> tuple[Custom, dict[str, str]]:
    """The metrics of `params.yaml` and `src/project/metrics.py`, and those left out with the reason."""
    found, left_out = load(evaluate, classes, team=team)
    return Custom(tuple(found)), left_out


def as_array(values: pa.ChunkedArray) -> Array:
    """A column as functions of the project see it: float64, datetime64[us], or objects with None.

    Times of day are seconds since midnight.
    """
    if pa.types.is_time(values.type):
        return np.asarray(values.cast(pa.time64("us")).cast(pa.int64()).cast(pa.float64()).to_numpy() / 1e6)
    if pa.types.is_timestamp(values.type):
        return np.asarray(values.cast(pa.timestamp("us")).to_numpy())
    if pa.types.is_string(values.type):
        return np.array(values.to_pylist(), dtype=object)
    return np.asarray(values.cast(pa.float64()).to_numpy())


def inputs(metric: CustomMetric, y: Array, predictions: Predictions, classes: Classes | None) -> tuple[Array, Array]:
    """Truth and prediction as a metric takes them: 1 and 0 of two classes, else labels or numbers."""
    if classes is None:
        return y, predictions.predicted
    binary = len(classes.labels) == 2
    truth = (y == classes.labels[classes.positive]).astype(int) if binary else y
    if metric.needs == "predict":
        said = predictions.predicted
        return truth, (said == classes.labels[classes.positive]).astype(int) if binary else said
    probabilities = predictions.probabilities
    if probabilities is None:
        raise UserError(
            f"{metric.place}: {metric.name} needs probabilities, which the model does not give",
            "an estimator with predict_proba, or evaluate.metrics without it",
        )
    return truth, probabilities[:, classes.positive] if binary else probabilities


def called(metric: CustomMetric, rows: tuple[Array, ...], classes: Classes | None, weight: Array | None = None) -> Any:
    """Call a metric's function on truth, prediction and columns."""
    keywords: dict[str, Any] = {}
    if "labels" in metric.takes and classes is not None:
        keywords["labels"] = [0, 1] if len(classes.labels) == 2 else classes.labels
    if weight is not None:
        keywords["sample_weight"] = weight
    return metric.call(*rows, **keywords)


def as_number(value: Any) -> float:
    """A metric's value; NaN for what is no real number."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    return float(value) if isinstance(value, Real) and not isinstance(value, bool | np.bool_) else float("nan")


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings of metrics that are undefined on a resample."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def attempted(
    metric: CustomMetric, rows: tuple[Array, ...], classes: Classes | None, counts: Array, mode: str
) -> float:
    """A metric on a resample; NaN where it is undefined."""
    kept = np.flatnonzero(counts)
    try:
        if mode == "weighted":
            return as_number(
                called(metric, tuple(values[kept] for values in rows), classes, counts[kept].astype(float))
            )
        repeated = np.repeat(kept, counts[kept].astype(int))
        return as_number(called(metric, tuple(values[repeated] for values in rows), classes))
    except Exception:  # a resample without a class, say
        return float("nan")


def allowed(metric: CustomMetric, n_calls: int, n_rows: int, share: float = 1.0) -> int:
    """How many of the resamples a metric is computed for: what fits into its share of `SECONDS`, by estimate.

    Parameters
    ----------
    n_calls : int
        Resamples that were asked for.
    n_rows : int
        Rows that the function sees in a call.
    share : float
        Share of the table's rows that is resampled.
    """
    if metric.mode == "per row":
        return n_calls
    return min(n_calls, max(FEWEST, int(share * SECONDS / (PER_CALL + PER_ROW * n_rows))))


def weigher(
    custom: Custom, y: Array, predictions: Predictions, classes: Classes | None, resamples: int
) -> tuple[Weigher, dict[str, int]]:
    """Prepare rows for many resamples of them.

    A metric that needs probabilities is left out where there are none, as a built-in one is; `check` has refused such
    a model before.

    Returns
    -------
    weigh : callable
        From counts of shape (n_resamples, n_samples) and the number of the first of these resamples to each metric, of
        shape (n_resamples,); NaN where it is undefined or beyond the number of resamples that it is computed for.
    resamples : dict of str to int
        How many of the resamples each metric is computed for.
    """
    prepared: dict[str, Callable[[Array, int], Array]] = {}
    limits: dict[str, int] = {}
    for metric in custom.metrics:
        if metric.needs == "probability" and classes is not None and predictions.probabilities is None:
            continue
        rows = (*inputs(metric, y, predictions, classes), *(custom.columns[name] for name in metric.columns))
        if metric.mode == "per row":
            limits[metric.name], each = resamples, _product(metric, rows, classes)
        else:
            of_classes = metric.needs == "predict" and classes is not None and not metric.columns
            table, rows = _pairs(rows) if of_classes else (None, rows)
            limit = allowed(metric, resamples, len(rows[0]) if metric.mode == "weighted" else len(y), custom.share)
            limits[metric.name], each = limit, functools.partial(_calls, metric, rows, classes, table, limit, {})
        prepared[metric.name] = each

    def weigh(weights: Array, first: int) -> dict[str, Array]:
        with quiet():
            return {name: each(weights, first) for name, each in prepared.items()}

    return weigh, limits


def _product(metric: CustomMetric, rows: tuple[Array, ...], classes: Classes | None) -> Callable[[Array, int], Array]:
    """A mean of values per row, for all resamples at once."""
    try:
        with quiet():
            values = np.asarray(called(metric, rows, classes), dtype=float)
        if values.shape != (len(rows[0]),):
            raise ValueError("one value for each row")
    except Exception:  # undefined on these rows
        values = np.full(len(rows[0]), np.nan)
    return lambda weights, _: np.asarray(weights @ values / weights.sum(axis=1))


def _pairs(rows: tuple[Array, ...]) -> tuple[Array | None, tuple[Array, ...]]:
    """Which of the different rows each row is, and these; None where too many differ for that to help."""
    codes = [
        np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)[1] for values in rows
    ]
    found, first, number = np.unique(np.column_stack(codes), axis=0, return_index=True, return_inverse=True)
    if len(found) > len(rows[0]) / 2:
        return None, rows
    return number.ravel(), tuple(values[first] for values in rows)


def _calls(
    metric: CustomMetric,
    rows: tuple[Array, ...],
    classes: Classes | None,
    table: Array | None,
    limit: int,
    known: dict[bytes, float],
    weights: Array,
    first: int,
) -> Array:
    """A metric of each resample, called once for each that differs from those before."""
    values = np.full(len(weights), np.nan)
    for number, counts in enumerate(weights[: max(0, limit - first)]):
        if table is None:
            values[number] = attempted(metric, rows, classes, counts, metric.mode)
            continue
        by_pair = np.bincount(table, counts, len(rows[0]))
        key = by_pair.tobytes()
        if key not in known:
            known[key] = attempted(metric, rows, classes, by_pair, metric.mode)
        values[number] = known[key]
    return values
