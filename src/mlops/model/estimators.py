"""From `params.yaml` to an estimator: import it, check its parameters, and put the preprocessing before it.

Preprocessing follows from the kinds of the columns, and is part of the model: what is fitted on training rows, and
what a service must do with a row, cannot come apart.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from typing import Any

from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Settings, closest
from mlops.data.tables import Column
from mlops.inference.columns import date_parts, filled, time_parts

# Rare categories share one column of the one-hot encoding, so that its width does not follow the number of names.
RARE, MOST_CATEGORIES = 0.01, 50
# Words that a text column may contribute; fewer where the estimator needs a dense matrix.
VOCABULARY, DENSE_VOCABULARY = 20_000, 300


def check_estimator(settings: Settings) -> None:
    """Check that the estimator can be imported, fits the task and takes its parameters and tuned ones.

    Raises
    ------
    UserError
        Names the key, the value, and the closest match.
    """
    from sklearn.base import is_classifier, is_regressor

    estimator = make_estimator(settings, {})
    task = settings.data.task
    if not (is_classifier(estimator) if task == "classification" else is_regressor(estimator)):
        raise UserError(f"{PARAMS}: model.estimator: {settings.model.estimator} does not do {task} (data.task)")
    if settings.tuning:
        for name, values in settings.tuning.space.items():
            tried = values if isinstance(values, list) else [values.low, values.high]
            for value in tried:
                whole = not isinstance(values, list) and values.integer
                make_estimator(settings, {name: int(value) if whole else value}, f"tuning.space.{name}")


def make_estimator(settings: Settings, tuned: dict[str, Any], key: str = "model.params") -> Any:
    """The estimator with its parameters, checked; a `random_state` that was left open is set to 0."""
    path = settings.model.estimator
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except ImportError as error:
        parent, _, missing = (error.name or "").rpartition(".")
        beside = _modules(parent) if parent else ["sklearn"]
        near = closest(missing, beside) if difflib.get_close_matches(missing, {*beside} - {missing}, 1) else ""
        hint = "" if parent or near else f"uv add {missing}, if that is a package to be installed"
        raise UserError(f"{PARAMS}: model.estimator: {path} cannot be imported: {error}{near}", hint) from None
    except AttributeError:
        names = [name for name in dir(importlib.import_module(module)) if name[0].isupper()]
        raise UserError(f"{PARAMS}: model.estimator: {module} has no {name!r}{closest(name, names)}") from None
    is_estimator = inspect.isclass(found) and all(hasattr(found, name) for name in ("fit", "predict", "get_params"))
    if not is_estimator:
        raise UserError(f"{PARAMS}: model.estimator: {path} is not an estimator of scikit-learn's API")
    params = {**settings.model.params, **tuned}
    try:
        known: list[str] = sorted(found().get_params())
    except TypeError as error:
        raise UserError(
            f"{PARAMS}: model.estimator: {path} cannot be made from parameters alone: {error}",
            "an estimator whose parameters all have a default",
        ) from None
    open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(found.__init__).parameters.values())
    for param in params:
        if param not in known and not open_ended:
            key = key if param in tuned else "model.params"
            raise UserError(f"{PARAMS}: {key}: {name} takes no parameter {param!r}{closest(param, known)}")
    if "random_state" in known:
        params.setdefault("random_state", 0)
    try:
        estimator = found(**params)
        if hasattr(estimator, "_parameter_constraints"):  # scikit-learn's own; others check when they are fitted
            estimator._validate_params()
    except (TypeError, ValueError) as error:
        raise UserError(f"{PARAMS}: {key}: {error}") from None
    return estimator


def _modules(package: str) -> list[str]:
    """Public modules of a package, to find what was meant."""
    folders = getattr(importlib.import_module(package), "__path__", [])
    return [module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")]


def make_model(settings: Settings, columns: list[Column], tuned: dict[str, Any] | None = None) -> Any:
    """The unfitted model: preprocessing by the kinds of the columns, then the estimator.

    Parameters
    ----------
    columns : list of Column
        The features.
    tuned : dict, optional
        Parameters that the tuning found.

    Returns
    -------
    sklearn.pipeline.Pipeline or sklearn.model_selection.FixedThresholdClassifier
        The latter where `model.threshold` is set.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import FixedThresholdClassifier
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
    from sklearn.utils import get_tags

    estimator = make_estimator(settings, tuned or {})
    takes_sparse = get_tags(estimator).input_tags.sparse
    named = {
        kind: [column.name for column in columns if column.kind == kind]
        for kind in ("numeric", "boolean", "date", "time", "categorical")
    }

    rare = {"min_frequency": RARE, "max_categories": MOST_CATEGORIES}
    if get_tags(estimator).input_tags.allow_nan:
        # trees have a place for missing values, need no scale, and split an order of categories as well as columns
        numeric, scaling = "passthrough", []
        categorical = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **rare)
    else:
        # what the imputer made is nobody else's
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
    texts = [column.name for column in columns if column.kind == "text"]
    steps += [
        (f"text {number}", make_pipeline(FunctionTransformer(filled), TfidfVectorizer(max_features=words)), name)
        for number, name in enumerate(texts, 1)
    ]
    preprocessing = ColumnTransformer(steps, sparse_threshold=0.3 if takes_sparse else 0.0)
    model = Pipeline([("preprocessing", preprocessing), ("estimator", estimator)])
    if settings.model.threshold is None:
        return model
    return FixedThresholdClassifier(model, threshold=settings.model.threshold, pos_label=settings.data.positive)
