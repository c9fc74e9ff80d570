"""The first estimator for a table: a linear model, or boosted trees where they cross-validate better."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core.errors import UserError, counted
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.data.tables import Catalogue
from mlops.model import training
from mlops.model.estimators import make_model
from mlops.model.step_checks import filter_warnings

# rows and folds on which the two first estimators are compared
COMPARED_ROWS, FOLDS = 4_000, 3
# with fewer training rows, boosted trees have leaves of 20 rows to learn from, and lose
FEW = 500
# more columns than this, and a boosted model takes too long to be a first one
WIDE = 300
LINEAR = {
    "classification": ("sklearn.linear_model.LogisticRegression", {"C": 1.0, "max_iter": 1000}),
    "regression": ("sklearn.linear_model.Ridge", {"alpha": 1.0}),
}
BOOSTED = {
    "classification": ("sklearn.ensemble.HistGradientBoostingClassifier", {"learning_rate": 0.1}),
    "regression": ("sklearn.ensemble.HistGradientBoostingRegressor", {"learning_rate": 0.1}),
}


def linear(task: str) -> dict[str, Any]:
    """The section `model` of a linear model."""
    return _section(*LINEAR[task])


def _section(path: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"estimator": path, "params": dict(values)}


def choose(params: dict[str, Any], train: pa.Table, catalogue: Catalogue) -> tuple[dict[str, Any], str]:
    """A linear model or boosted trees, whichever cross-validates better on training rows."""
    task = params["data"]["task"]
    simple, boosted = linear(task), _section(*BOOSTED[task])
    settings = Settings.model_validate(params)
    features = tables.feature_columns(settings, catalogue)
    features = [column for column in features if train[column.name].null_count < train.num_rows]
    if any(column.kind == "text" for column in features):
        return simple, "a linear model of word frequencies: fast, and hard to beat on short texts"
    if len(features) > WIDE:
        rows = counted(train.num_rows, "training row")
        return simple, f"linear, because {len(features):,} columns are many for {rows}"
    if train.num_rows < FEW:
        return simple, f"linear, because {counted(train.num_rows, 'training row')} are few for boosted trees"
    sample = tables.some(train, COMPARED_ROWS)
    measure = "log loss" if task == "classification" else "RMSE"
    try:
        losses = [_loss(params | {"model": model}, sample, features) for model in (simple, boosted)]
    except UserError:  # too few rows of a class, or too few groups
        return simple, f"linear, because {counted(train.num_rows, 'training row')} are few"
    found = f"cross-validated {measure} on {sample.num_rows:,} training rows: linear {losses[0]:.4g}, boosted trees "
    found += f"{losses[1]:.4g}"
    return (boosted if losses[1] < 0.99 * losses[0] else simple), found


def _loss(params: dict[str, Any], rows: pa.Table, features: list[tables.Column]) -> float:
    """The cross-validated loss of an estimator; the lower, the better."""
    from sklearn.metrics import log_loss, root_mean_squared_error

    settings = Settings.model_validate(params)
    by = settings.split.group or settings.split.time
    X, y = tables.features(rows, features), tables.target(rows, settings)
    losses = []
    with warnings.catch_warnings():
        filter_warnings()
        warnings.simplefilter("ignore")
        for train, test in training.folds(y, settings, rows[by].to_numpy() if by else None, FOLDS):
            model = make_model(settings, features).fit(X.iloc[train], y[train])
            if settings.data.task == "classification":
                losses.append(log_loss(y[test], model.predict_proba(X.iloc[test]), labels=model.classes_))
            else:
                losses.append(root_mean_squared_error(y[test], model.predict(X.iloc[test])))
    return float(np.mean(losses))
