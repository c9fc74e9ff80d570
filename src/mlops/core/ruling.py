"""What a rule in `src/project/rules.py` receives and returns: the evidence of a review, and a verdict.

Nothing here imports NumPy: jobs with a token import `mlops` without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """A metric of the candidate and of main's model on the same rows.

    Attributes
    ----------
    candidate : Estimate
        This change's model.
    main : Estimate or None
        None where main has no model to compare with.
    difference : Estimate or None
        Candidate minus main, with a paired interval.
    greater_is_better : bool
    """

    candidate: Estimate
    main: Estimate | None
    difference: Estimate | None
    greater_is_better: bool


@dataclass(frozen=True)
class Slice:
    """Test rows that share a value of a column in `evaluate.slices`."""

    column: str
    name: str
    rows: int
    metrics: Mapping[str, Compared]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a review has measured.

    Attributes
    ----------
    rows : int
        Number of test rows.
    metrics : mapping of str to Compared
        Every metric of the task, as `dvc metrics show` names it.
    slices : tuple of Slice
    train_metrics : mapping of str to float
        The candidate's metrics on the training rows.
    y_true : ndarray of shape (n_samples,)
        Target of the test rows.
    y_pred, y_pred_main : ndarray of shape (n_samples,)
        Predictions of the candidate and of main's model; `y_pred_main` is None where main has no model to compare with.
    y_prob, y_prob_main : ndarray of shape (n_samples, n_classes) or None
        Probabilities, if the models give any.
    classes : tuple
        Class labels, in the order of the probabilities; empty for a regression.
    positive : str, int, float, bool or None
        `data.positive` of `params.yaml`.
    columns : mapping of str to ndarray of shape (n_samples,)
        Columns of the test rows; missing values are NaN or None.
    calibration_error : float or None
        Expected calibration error; None for a model without probabilities.
    drift : mapping of str to float or None
        How far each column's distribution is from that of main's training rows, from 0 to 1, also where that is
        chance; None where main has none.
    validation : mapping of str to int or None
        Number of `expectations`, and of those that `passed`, `failed_warning` and `failed_critical`.
    leaked : int
        Number of test rows that are also training rows.
    model_bytes : int
    latency_ms : float
        Median time to predict one row, on the machine of the review.
    main_problem : str or None
        Why there is no model of main to compare with.
    confidence : float
        `confidence` of the gate, which is the coverage of all intervals.
    recent : mapping of str to Compared or None
        Every metric on the recent window, the newest labelled rows; None where there is none.
    """

    rows: int
    metrics: Mapping[str, Compared]
    slices: tuple[Slice, ...]
    train_metrics: Mapping[str, float]
    y_true: Array
    y_pred: Array
    y_pred_main: Array | None
    y_prob: Array | None
    y_prob_main: Array | None
    classes: tuple[Any, ...]
    positive: str | int | float | bool | None
    columns: Mapping[str, Array]
    calibration_error: float | None
    drift: Mapping[str, float] | None
    validation: Mapping[str, int] | None
    leaked: int
    model_bytes: int
    latency_ms: float
    main_problem: str | None
    confidence: float
    recent: Mapping[str, Compared] | None = None


@dataclass(frozen=True)
class Verdict:
    """What a rule decides: make one with `passed`, `failed` or `inconclusive`."""

    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str
    value: float | None = None
    limit: float | None = None


def passed(reason: str, value: float | None = None, limit: float | None = None) -> Verdict:
    """The change meets the rule.

    Parameters
    ----------
    reason : str
        One sentence for the reviewer.
    value, limit : float, optional
        The judged number and its limit, for the columns of the table.
    """
    return _verdict("pass", reason, value, limit)


def failed(reason: str, value: float | None = None, limit: float | None = None) -> Verdict:
    """The change violates the rule and must not be merged; the parameters are those of `passed`."""
    return _verdict("fail", reason, value, limit)


def inconclusive(reason: str, value: float | None = None, limit: float | None = None) -> Verdict:
    """The evidence does not suffice to decide; `inconclusive` of the row in `gate.yaml` says whether that blocks."""
    return _verdict("inconclusive", reason, value, limit)


def _verdict(
    verdict: Literal["pass", "fail", "inconclusive"], reason: str, value: float | None, limit: float | None
) -> Verdict:
    if not isinstance(reason, str) or not reason.strip():
        raise TypeError(f"the reason of a verdict must be a sentence, got {reason!r}")
    return Verdict(verdict, reason, _number("value", value), _number("limit", limit))


def _number(name: str, value: float | None) -> float | None:
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"the {name} of a verdict must be a number, got {value!r}") from None
    return number if math.isfinite(number) else None
