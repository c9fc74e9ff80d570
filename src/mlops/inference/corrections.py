"""Corrections of values that `data.clean` declares: the same code for the table, the service and batch scoring.

The rules travel in the contract, so that a client sends raw values and the model sees what it was trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlops.inference.contract import Contract, Correction

Array = np.ndarray[Any, Any]


def corrected(values: Array, rule: Correction) -> Array:
    """Values after a unit fix, then after limits.

    Parameters
    ----------
    values : ndarray of float64, of shape (n_samples,)
        NaN where missing, which stays missing.

    Returns
    -------
    ndarray of float64, of shape (n_samples,)
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if rule.factor is not None:
            values = np.where(misscaled(values, rule), values * rule.factor, values)
        if rule.outside == "clip":
            return np.clip(values, rule.low, rule.high)
        if rule.outside == "missing":
            return np.where(beyond(values, rule.low, rule.high), np.nan, values)
    return values


def misscaled(values: Array, rule: Correction) -> Array:
    """Where a value is in the other unit."""
    above = np.inf if rule.above is None else rule.above
    below = -np.inf if rule.below is None else rule.below
    return np.asarray((values > above) | (values < below))


def beyond(values: Array, low: float | None, high: float | None) -> Array:
    """Where a value is outside limits, which are inside themselves; a missing value is not."""
    return np.asarray((values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high)))


def correct(columns: dict[str, Any], contract: Contract) -> None:
    """Correct the columns of a request in place, before anything else looks at them."""
    for field in contract.fields:
        if field.clean is not None:
            columns[field.name] = corrected(columns[field.name], field.clean)
