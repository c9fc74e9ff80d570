"""Check the fitted arrays of transformers, `model.steps` in `params.yaml`, as `bounds` does those of estimators.

Most transformers compute with NumPy, which raises an error where arrays do not fit. Here are those whose compiled code
follows their arrays, or whose numbers decide how long one row takes and how much memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.interpolate import BSpline
from sklearn.cluster import FeatureAgglomeration
from sklearn.decomposition import (
    NMF,
    DictionaryLearning,
    LatentDirichletAllocation,
    MiniBatchDictionaryLearning,
    MiniBatchNMF,
    SparseCoder,
)
from sklearn.preprocessing import PolynomialFeatures

from mlops.inference.bounds import check_attributes, examine, need, width, within

# of a decomposition that iterates for each row that it transforms
MOST_ITERATIONS = 100_000


@examine.register
def _(spline: BSpline) -> None:
    """SciPy checks these when a spline is created, and a file does not create it so."""
    knots, coefficients, degree = spline._t, spline._c, spline.k
    need(type(degree) is int and degree >= 0, f"k is {degree}")
    for name, array in (("t", knots), ("c", coefficients)):
        need(isinstance(array, np.ndarray) and array.dtype == np.float64, f"{name} is no array of float64")
    need(knots.ndim == 1 and np.isfinite(knots).all() and (np.diff(knots) >= 0).all(), "t are no knots in order")
    n_splines = len(knots) - degree - 1
    need(n_splines > degree, f"{len(knots)} knots are too few for degree {degree}")
    need(len(np.unique(knots[degree : n_splines + 1])) > 1, "t has no knots between the ends")
    need(coefficients.ndim and len(coefficients) >= n_splines, f"c has fewer than {n_splines} rows")


@examine.register
def _(transformer: PolynomialFeatures) -> None:
    check_attributes(transformer)
    if "_n_out_full" in vars(transformer):
        shape = {"n_features": width(transformer), "max_degree": transformer._max_degree}
        shape |= {"interaction_only": transformer.interaction_only, "include_bias": transformer.include_bias}
        for name, degree in (("n_output_features_", transformer._min_degree), ("_n_out_full", 0)):
            count, found = transformer._num_combinations(min_degree=degree, **shape), getattr(transformer, name)
            need(found == count, f"{name} is {found}, but the terms are {count}")


@examine.register
def _(transformer: FeatureAgglomeration) -> None:
    check_attributes(transformer)
    if "labels_" in vars(transformer):
        need(np.shape(transformer.labels_) == (width(transformer),), "labels_ are those of other features")
        within(transformer.labels_, width(transformer), "labels_")


def check_iterations(transformer: Any) -> None:
    """How often it may go over the rows that it transforms."""
    check_attributes(transformer)
    for name in ("max_iter", "max_doc_update_iter", "transform_max_iter", "_transform_max_iter"):
        most = vars(transformer).get(name)
        need(most is None or 0 < most <= MOST_ITERATIONS, f"{name} is {most}")


for _kind in (
    NMF,
    MiniBatchNMF,
    LatentDirichletAllocation,
    DictionaryLearning,
    MiniBatchDictionaryLearning,
    SparseCoder,
):
    examine.register(_kind, check_iterations)
