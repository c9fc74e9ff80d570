"""The arithmetic of both sides: moments for the standardisation, and gradient descent on the logistic loss."""

from __future__ import annotations

import numpy as np

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def moments(X: Array) -> dict[str, Array]:
    """Share of present values, mean and mean square of each column, where a missing value counts as 0.

    Averaged over the holders with their numbers of rows as weights, they are those of all rows.
    """
    present = ~np.isnan(X)
    filled = np.where(present, X, 0.0)
    return {"present": present.mean(axis=0), "sum": filled.mean(axis=0), "square": (filled**2).mean(axis=0)}


def standardisation(found: dict[str, Array]) -> tuple[Array, Array]:
    """Mean and standard deviation of each column from its moments; 1 for a column that does not vary."""
    present = np.maximum(found["present"], np.finfo(float).tiny)
    mean = found["sum"] / present
    variance = found["square"] / present - mean**2
    # what rounding leaves of the variance of a constant is not a scale
    varies = variance > 1e-12 * np.maximum(mean**2, 1e-300)
    return mean, np.where(varies, np.sqrt(np.maximum(variance, 0.0)), 1.0)


def standardised(X: Array, mean: Array, scale: Array) -> Array:
    """Columns in units of their standard deviation; a missing value becomes the mean."""
    return np.nan_to_num((X - mean) / scale, nan=0.0, posinf=np.inf, neginf=-np.inf)


def descend(weights: Array, X: Array, y: Array, *, steps: int, rate: float, penalty: float) -> Array:
    """Gradient descent on the mean logistic loss and an L2 penalty, which spares the intercept.

    Parameters
    ----------
    weights : ndarray of shape (n_features + 1,)
        Coefficients, then the intercept.
    X : ndarray of shape (n_samples, n_features)
        Standardised.
    y : ndarray of shape (n_samples,)
        1 for the positive class, else 0.
    penalty : float
        1 / (C · rows of all holders), as in scikit-learn's LogisticRegression.
    """
    coefficients, intercept = weights[:-1].copy(), float(weights[-1])
    for _ in range(steps):
        error = 1 / (1 + np.exp(-np.clip(X @ coefficients + intercept, -500, 500))) - y
        coefficients -= rate * (X.T @ error / len(y) + penalty * coefficients)
        intercept -= rate * float(error.mean())
    return np.append(coefficients, intercept)
