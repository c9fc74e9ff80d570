"""Transformations of columns that scikit-learn lacks; they are part of fitted models.

A model file refers to them by import path, so this module must stay here. The service needs nothing else of the project
to load a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def date_parts(dates: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Days since 1970, month, weekday and hour of every date, as columns; NaN if missing.

    Returns
    -------
    ndarray of shape (n_samples, 4 * n_columns)
    """
    return np.column_stack([part for _, column in dates.items() for part in parts(column.to_numpy())])


def parts(moments: np.ndarray[Any, Any]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Days since 1970, month (1 to 12), weekday (Monday is 0) and hour of every timestamp; NaN for NaT.

    Parameters
    ----------
    moments : ndarray of datetime64, of shape (n_samples,)
    """
    seconds = moments.astype("datetime64[s]").astype(np.float64)
    seconds[np.isnat(moments)] = np.nan
    days = np.floor(seconds / 86_400)
    month = moments.astype("datetime64[M]").astype(np.float64) % 12 + 1
    month[np.isnat(moments)] = np.nan
    # the first of January 1970 was a Thursday
    return [seconds / 86_400, month, (days + 3) % 7, np.floor(seconds / 3600) % 24]


def time_parts(times: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What `clock` makes of each time of day, side by side.

    Returns
    -------
    ndarray of shape (n_samples, 3 * n_columns)
    """
    return np.column_stack([part for _, column in times.items() for part in clock(column.to_numpy())])


def clock(seconds: np.ndarray[Any, Any]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Hours since midnight, and the sine and cosine of the hour hand's angle in a day, so that 23:59 is next to 0:00.

    Parameters
    ----------
    seconds : ndarray of float64, of shape (n_samples,)
        Since midnight; NaN where missing.
    """
    angle = seconds * (2 * np.pi / 86_400)
    sine: np.ndarray[Any, np.dtype[np.float64]] = np.sin(angle)
    cosine: np.ndarray[Any, np.dtype[np.float64]] = np.cos(angle)
    # processors differ in the last digits
    return [seconds / 3600, sine.round(12), cosine.round(12)]


def filled(texts: pd.Series[str]) -> pd.Series[str]:
    """Texts with missing ones replaced by empty texts."""
    return texts.fillna("")
