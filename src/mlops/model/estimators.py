"""From `params.yaml` to a model: the estimator with its parameters, and preprocessing and steps before it.

Preprocessing follows from the kinds of the columns, and is part of the model: what is fitted on training rows, and
what a service must do with a row, cannot come apart.
"""

from __future__ import annotations

import inspect
from typing import Any

from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Settings
from mlops.data.tables import Column
from mlops.inference.columns import date_parts, filled, time_parts
from mlops.model import conformance
from mlops.model.objects import create, imported
from mlops.model.steps import check_step_name, make_steps, of_columns, step_of

# Rare categories share one column of the one-hot encoding, which limits its width.
RARE, MOST_CATEGORIES = 0.01, 50
# Maximum number of words per text column; fewer if the estimator needs a dense matrix.
VOCABULARY, DENSE_VOCABULARY = 20_000, 300


def check_estimator(settings: Settings) -> None:
    """Check that estimator and steps can be imported, fit the task and take their parameters and tuned ones.

    Raises
    ------
    UserError
        Names the key, the value, and the closest match.
    """
    from sklearn.base import is_classifier, is_regressor

    estimator = make_estimator(settings, {})
    task = settings.data.task
    if not (is_classifier(estimator) if task == "classification" else is_regressor(estimator)):
        raise UserError(f"{PARAMS}: model.estimator: {settings.model.estimator} does not support {task} (data.task)")
    make_steps(settings, {})
    if settings.tuning:
        for name, values in settings.tuning.space.items():
            tried = values if isinstance(values, list) else [values.low, values.high]
            for value in tried:
                whole = not isinstance(values, list) and values.integer
                tuned = {name: int(value) if whole else value}
                make = make_steps if step_of(settings, name) else make_estimator
                make(settings, tuned, f"tuning.space.{name}")


def make_estimator(settings: Settings, tuned: dict[str, Any], key: str = "model.params") -> Any:
    """The estimator with its parameters, checked; an unset `random_state` becomes 0."""
    path = settings.model.estimator
    found = imported(path, "model.estimator")
    if conformance.is_own(path):
        conformance.check_class(found)
    elif not inspect.isclass(found) or not all(hasattr(found, name) for name in ("fit", "predict", "get_params")):
        raise UserError(f"{PARAMS}: model.estimator: {path} does not have scikit-learn's API")
    own = {name: value for name, value in tuned.items() if step_of(settings, name) is None}
    for name in own:
        check_step_name(settings, name, found)
    keys = dict.fromkeys(settings.model.params, "model.params") | {name: f"tuning.space.{name}" for name in own}
    estimator = create(found, path, "model.estimator", {**settings.model.params, **own}, keys, key)
    if conformance.is_own(path):
        conformance.check_clone(estimator)
    return estimator


def make_model(settings: Settings, columns: list[Column], tuned: dict[str, Any] | None = None) -> Any:
    """The unfitted model: preprocessing by the kinds of the columns, the steps that learn, then the estimator.

    Parameters
    ----------
    columns : list of Column
        The features.
    tuned : dict, optional
        Parameters found by tuning.

    Returns
    -------
    sklearn.pipeline.Pipeline or sklearn.model_selection.FixedThresholdClassifier
        The latter if `model.threshold` is set.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import FixedThresholdClassifier
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
    from sklearn.utils import get_tags

    estimator = make_estimator(settings, tuned or {})
    made = make_steps(settings, tuned or {})
    by_columns = of_columns(settings, made, columns)
    after = [(step.key, transformer) for step, transformer in made if step.columns is None]
    # the preprocessing gives what all that follows takes
    tags = [get_tags(each).input_tags for each in (*(transformer for _, transformer in after), estimator)]
    # PCA would solve a sparse matrix by another method, which takes no share of the variance as n_components
    takes_sparse = all(each.sparse for each in tags) and not any(
        getattr(transformer, "svd_solver", None) == "auto" for _, transformer in after
    )
    replaced = {name for step, _ in made for name in step.columns or []}
    named = {
        kind: [column.name for column in columns if column.kind == kind and column.name not in replaced]
        for kind in ("numeric", "boolean", "date", "time", "categorical", "text")
    }

    rare = {"min_frequency": RARE, "max_categories": MOST_CATEGORIES}
    # trees that take missing values in a dense matrix take none in a sparse one
    may_be_sparse = takes_sparse and (named["text"] or by_columns)
    if all(each.allow_nan for each in tags) and not may_be_sparse:
        # trees accept missing values, need no scaling, and split ordinal codes as well as one-hot columns
        numeric, scaling = "passthrough", []
        categorical = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **rare)
    else:
        # no other code uses the imputer's output
        scaling = [
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
            StandardScaler(copy=False),
        ]
        numeric = make_pipeline(*scaling)
        categorical = OneHotEncoder(handle_unknown="infrequent_if_exist", **rare)
    steps: list[tuple[str, Any, str | list[str]]] = [
        ("numeric", numeric, named["numeric"] + named["boolean"]),
        ("date", make_pipeline(FunctionTransformer(date_parts, feature_names_out=None), *scaling), named["date"]),
        ("time", make_pipeline(FunctionTransformer(time_parts, feature_names_out=None), *scaling), named["time"]),
        ("categorical", categorical, named["categorical"]),
    ]
    steps = [step for step in steps if step[2]]
    words = VOCABULARY if takes_sparse else DENSE_VOCABULARY
    steps += [
        (f"text {number}", make_pipeline(FunctionTransformer(filled), TfidfVectorizer(max_features=words)), name)
        for number, name in enumerate(named["text"], 1)
    ]
    steps += by_columns
    preprocessing = ColumnTransformer(steps, sparse_threshold=0.3 if takes_sparse else 0.0)
    model = Pipeline([("preprocessing", preprocessing), *after, ("estimator", estimator)])
    if settings.model.threshold is None:
        return model
    return FixedThresholdClassifier(model, threshold=settings.model.threshold, pos_label=settings.data.positive)
