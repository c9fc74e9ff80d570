"""Check what an estimator of `src/project/` fits: on a sample of the training rows, before the fit on all of them.

A model that depends on the clock, that the model file cannot hold, or whose predictions have another shape than
scikit-learn's would fail later and elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from mlops.core import hooks
from mlops.core.errors import UserError, described
from mlops.core.settings import Settings
from mlops.model import modelfile
from mlops.model.conformance import place

# Rows on which an estimator is fitted twice
MOST_ROWS, FEWEST_OF_A_CLASS = 1_000, 10
# what single precision costs
ROUNDING = 1e-5

Array = np.ndarray[Any, Any]


def check(make: Callable[[], Any], X: Any, y: Array, settings: Settings) -> None:
    """Fit twice on a sample, and check what does not need all rows.

    Parameters
    ----------
    make : callable
        Makes the model, unfitted.
    X : DataFrame of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)

    Raises
    ------
    UserError
        Where fitting changes parameters or gives another model the second time, where the model cannot be saved, or
        where its predictions have another shape than scikit-learn's.
    """
    classify = settings.data.task == "classification"
    rows = sample(y, classify)
    X, y = X.iloc[rows], y[rows]
    contents, estimators = [], []
    for _ in range(2):
        model = make()
        kind = type(estimator_of(model))
        before = _parameters(estimator_of(model))
        try:
            model.fit(X, y)
        except Exception:  # too few rows, perhaps: the fit on all rows reports what is wrong
            return
        estimator = estimator_of(model)
        after = _parameters(estimator)
        changed = [name for name, value in before.items() if after.get(name) != value]
        if changed:
            raise UserError(
                f"{place(kind, 'fit')} changes the parameter {changed[0]!r} "
                f"from {before[changed[0]]} to {after.get(changed[0])}",
                f"store what fit computes in an attribute of its own, self.{changed[0]}_",
            )
        contents.append(saved(estimator, settings))
        estimators.append(estimator)
    check_predictions(model, X, y)
    if contents[0] != contents[1]:
        one, other = map(vars, estimators)
        differ = [name for name in one if _content(one[name]) != _content(other.get(name))]
        raise UserError(
            f"{place(kind, 'fit')} is not deterministic: with the same rows, {', '.join(differ) or 'the model'} "
            "gets another value the second time",
            "a parameter random_state, from which all random numbers come; no time or id in an attribute",
        )


def sample(y: Array, classify: bool) -> Array:
    """Places of some rows, with rows of each class, in their order."""
    order = np.random.default_rng(0).permutation(len(y))
    if len(y) <= MOST_ROWS:
        return np.arange(len(y))
    if not classify:
        return np.sort(order[:MOST_ROWS])
    share = MOST_ROWS / len(y)
    _, codes = np.unique(y[order], return_inverse=True)
    chosen = [order[codes == code] for code in range(codes.max() + 1)]
    return np.sort(np.concatenate([each[: max(FEWEST_OF_A_CLASS, round(share * len(each)))] for each in chosen]))


def check_predictions(model: Any, X: Any, y: Array) -> None:
    """Check shapes and values of what a fitted model predicts.

    Raises
    ------
    UserError
        Says which shape or value was expected.
    """
    estimator = estimator_of(model)
    kind, classify, known = type(estimator), is_classifier(estimator), np.unique(y)
    if classify:
        classes = getattr(estimator, "classes_", None)
        if classes is None or not np.array_equal(classes, known):
            raise UserError(
                f"{place(kind, 'fit')} sets classes_ to {_short(classes)}, expected {_short(known)}",
                "self.classes_ = numpy.unique(y)",
            )
    rows = len(X)
    if hasattr(model, "predict_proba"):
        probabilities = _called(model.predict_proba, X, kind)
        if np.shape(probabilities) != (rows, len(known)):
            raise UserError(
                f"{place(kind, 'predict_proba')} returns an array of shape {np.shape(probabilities)} for {rows} rows "
                f"and {len(known)} classes, expected ({rows}, {len(known)})",
                "one column for each class, in the order of classes_",
            )
        sums = np.asarray(probabilities, dtype=np.float64).sum(axis=1)
        if not (np.isfinite(sums).all() and np.min(probabilities) >= 0 and abs(sums - 1).max() < ROUNDING):
            raise UserError(f"{place(kind, 'predict_proba')} returns rows that are not probabilities with the sum 1")
    predicted = _called(model.predict, X, kind)
    if np.shape(predicted) != (rows,):
        raise UserError(
            f"{place(kind, 'predict')} returns an array of shape {np.shape(predicted)} for {rows} rows, "
            f"expected ({rows},)"
        )
    if classify:
        unknown = np.setdiff1d(predicted, known)
        if unknown.size:
            raise UserError(
                f"{place(kind, 'predict')} returns {_short(unknown)}, expected values of classes_: {_short(known)}",
                "self.classes_[probabilities.argmax(axis=1)]",
            )
    elif np.asarray(predicted).dtype.kind not in "fiu" or not np.isfinite(predicted).all():
        raise UserError(f"{place(kind, 'predict')} returns values that are not finite numbers")


def _called(method: Callable[[Any], Any], X: Any, kind: Any) -> Any:
    try:
        return method(X)
    except Exception as error:  # the team's code may raise anything
        raise UserError(
            f"{hooks.raised_at(error) or place(kind)}: {method.__name__} raises {described(error)}"
        ) from None


def estimator_of(model: Any) -> Any:
    """The last step of a model, fitted or not."""
    return getattr(model, "estimator_", getattr(model, "estimator", model))["estimator"]


def saved(estimator: Any, settings: Settings) -> bytes:
    """An estimator as the model file holds it.

    Raises
    ------
    UserError
        Names the attribute that skops cannot save, with its type.
    """
    kind = type(estimator)
    for name, value in vars(estimator).items():
        try:
            content = _content(value)
        except Exception as error:  # skops raises what the object's own methods raise
            raise _unsaveable(kind, name, value, f": {described(error)}") from None
        foreign = modelfile.untrusted(content, settings)
        if foreign:
            raise _unsaveable(kind, name, value, "" if foreign[0] == _type(value) else f" that holds a {foreign[0]}")
    return _content(estimator)


def _unsaveable(kind: Any, name: str, value: Any, why: str) -> UserError:
    return UserError(
        f"{place(kind)}: the model file cannot hold the attribute {name}, a {_type(value)}{why}",
        "keep numbers, texts, lists, NumPy arrays and estimators, and build the rest from them in predict",
    )


def _type(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _content(value: Any) -> bytes:
    import skops.io

    return modelfile.canonical(skops.io.dumps(value))


def _parameters(estimator: Any) -> dict[str, str]:
    return {name: repr(value) for name, value in estimator.get_params(deep=False).items()}


def _short(values: Any) -> str:
    return "nothing" if values is None else repr(np.asarray(values).tolist()[:5])
