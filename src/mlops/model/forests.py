"""Fit a model; the trees of a forest on a Dask cluster, where there is one.

The trees' seeds are drawn before they are distributed, so the forest is the same wherever they grow.
"""

from __future__ import annotations

from typing import Any

from mlops.core import cluster
from mlops.model.fitted import estimator_of


def fit(model: Any, X: Any, y: Any) -> None:
    """Fit a pipeline that ends in an estimator.

    Parameters
    ----------
    model : Pipeline or FixedThresholdClassifier
    X : DataFrame of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    """
    from sklearn.ensemble import BaseEnsemble
    from sklearn.ensemble._forest import BaseForest

    forest = estimator_of(model)
    if cluster.address() is None or not isinstance(forest, BaseForest):
        model.fit(X, y)
        return
    # joblib runs on the cluster what asks for several jobs: the trees, not the preprocessing
    asked = forest.n_jobs
    forest.set_params(n_jobs=-1)
    with cluster.searches(n_jobs=1):
        cluster.again(lambda: model.fit(X, y))
    forest.set_params(n_jobs=asked)
    grown = estimator_of(model)
    grown.set_params(n_jobs=asked)
    assert isinstance(grown, BaseEnsemble)  # noqa: S101
    grown.estimators_ = [_as_grown_here(grown, tree) for tree in grown.estimators_]


def _as_grown_here(forest: Any, tree: Any) -> Any:
    """A tree that shares its parameters with the forest, as one that never was elsewhere; the model file shows it."""
    from sklearn.base import clone

    made = clone(forest.estimator_)
    given = {name: getattr(forest, name) for name in forest.estimator_params}
    made.set_params(**given | {"random_state": tree.random_state})
    known = made.get_params(deep=False)
    # in the order in which fitting sets them
    vars(made).update({name: value for name, value in vars(tree).items() if name not in known})
    return made
