"""A fitted model → its explainer: exact Shapley values of the columns, or the reason why there are none.

Linear models and trees have exact ones that take milliseconds. Any other model would need a sample of all orders of
the columns, which is a guess. What is built here is compared with the model's own scores before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mlops.inference.explanation import Explainer, Library, Linear, Trees, UnexplainedError, dense
from mlops.model import tree_paths
from mlops.model.matrix_columns import sources

Array = np.ndarray[Any, Any]
Unit = Literal["log-odds", "probability", "value", "log of the value", "decision function"]
# Of scores, relative to the largest: rounding in sums of many numbers. A wrong method differs by far more.
TOLERANCE = 1e-6
# Training rows that a linear model is compared with the means of, rows that are in memory at once, and rows that are
# explained as a check
MOST_BACKGROUND, ROWS_READ, ROWS_CHECKED = 50_000, 5_000, 200
LINEAR = ("sklearn.linear_model.", "sklearn.discriminant_analysis.LinearDiscriminantAnalysis")
EXACT = "exact explanations exist for linear models and trees of scikit-learn, and for LightGBM"


class Explained(NamedTuple):
    """A model that can be explained.

    Attributes
    ----------
    steps : Pipeline
        What makes the matrix.
    explainer : Explainer
    method : {'linear', 'trees', 'library'}
    unit : str
        Of the score.
    of : label or None
        Of two classes the one that the score speaks for; None for a regression, and for more classes, where each
        has a score.
    """

    steps: Any
    explainer: Explainer
    method: str
    unit: Unit
    of: Any

    def __call__(self, X: Any) -> Array:
        """Contributions of shape (n_samples, n_outputs, n_inputs)."""
        return self.explainer(self.steps.transform(X))


def inputs_of(model: Any) -> list[str]:
    """The columns that a fitted model takes."""
    return [str(name) for name in getattr(model, "estimator_", model).feature_names_in_]


def explained(model: Any, X: Any, inputs: Sequence[str], positive: Any = None) -> Explained:
    """The explainer of a fitted model.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
        Training rows, whose means a linear model is compared with.
    inputs : sequence of str
        The columns that contributions are for, in order.
    positive : label, optional
        The class of interest of two; by default the second.

    Raises
    ------
    UnexplainedError
        Says why there is no exact explanation, or that it takes too long.
    """
    pipeline = getattr(model, "estimator_", model)  # inside a FixedThresholdClassifier
    estimator, steps = pipeline["estimator"], pipeline[:-1]
    places = {name: place for place, name in enumerate(inputs)}
    source = np.array([places[name] for name in sources(pipeline)], dtype=np.int32)
    arrays, method = _arrays(estimator, steps, X)
    classes: Any = getattr(estimator, "classes_", None)
    two = classes is not None and len(classes) == 2
    scores = raw_scores(pipeline, X.iloc[:ROWS_CHECKED])
    by_probability = classes is not None and not hasattr(estimator, "decision_function") and method == "trees"
    of = classes[1].item() if two else None
    if two and positive is not None and positive == classes[0]:
        arrays, scores, of = arrays.negated(by_probability), float(by_probability) - scores, positive
    found = Explained(steps, Explainer(arrays, source, len(inputs)), method, "value", of)
    contributions = found(X.iloc[:ROWS_CHECKED])
    sums = contributions.sum(axis=2) + found.explainer.base
    unit = _unit(pipeline, X.iloc[:ROWS_CHECKED], sums, scores, by_probability)
    return found._replace(unit=unit)


def tried(model: Any, X: Any, inputs: Sequence[str], positive: Any = None) -> Explained | str:
    """The same, or why there is none."""
    try:
        return explained(model, X, inputs, positive)
    except UnexplainedError as error:
        return str(error)
    except (ImportError, MemoryError, OSError):
        raise  # caused by this machine
    except Exception as error:  # an estimator or a step may raise anything
        name = type(getattr(model, "estimator_", model)["estimator"]).__name__
        return f"the model is a {name}, whose explanation raises {type(error).__name__}"


def _arrays(estimator: Any, steps: Any, X: Any) -> tuple[Linear | Trees | Library, str]:
    kind = type(estimator)
    name = f"{kind.__module__}.{kind.__name__}"
    try:
        trees = tree_paths.of(estimator)
    except UnexplainedError as error:
        raise UnexplainedError(f"{kind.__name__}: {error}") from None
    if trees is not None:
        return trees, "trees"
    if name.startswith("lightgbm."):
        return Library(estimator), "library"
    if not (name.startswith(LINEAR) and hasattr(estimator, "coef_")):
        raise UnexplainedError(f"the model is a {kind.__name__}; {EXACT}")
    coefficients = np.atleast_2d(np.asarray(dense(estimator.coef_), dtype=np.float64))
    intercepts = np.broadcast_to(np.asarray(estimator.intercept_, np.float64).reshape(-1), len(coefficients)).copy()
    return Linear(coefficients, intercepts, means(steps, X)), "linear"


def means(steps: Any, X: Any) -> Array:
    """The mean of each column of the matrix."""
    total: Any = 0.0
    for start in range(0, len(X), ROWS_READ):
        total = total + np.asarray(steps.transform(X.iloc[start : start + ROWS_READ]).sum(axis=0)).reshape(-1)
    found: Array = np.asarray(total, dtype=np.float64) / len(X)
    return found


def raw_scores(pipeline: Any, X: Any) -> Array:
    """What a model computes before labels: of shape (n_samples, n_outputs); of two classes the second's."""
    if not hasattr(pipeline, "classes_"):
        return np.asarray(pipeline.predict(X), dtype=np.float64).reshape(len(X), -1)
    if hasattr(pipeline, "decision_function"):
        scores = np.asarray(pipeline.decision_function(X))
    elif hasattr(pipeline["estimator"], "booster_"):
        scores = np.asarray(pipeline.predict(X, raw_score=True))
    else:
        scores = np.asarray(pipeline.predict_proba(X))
        scores = scores[:, 1:] if scores.shape[1] == 2 else scores
    return scores.reshape(len(X), -1).astype(np.float64)


def _unit(pipeline: Any, X: Any, sums: Array, scores: Array, by_probability: bool) -> Unit:
    """The unit in which the contributions add up to the score.

    Raises
    ------
    UnexplainedError
        If they do not.
    """
    if hasattr(pipeline, "classes_"):
        if not close(sums, scores):
            raise UnexplainedError("the contributions do not add up to the model's score")
        if by_probability:
            return "probability"
        if sums.shape[1] == 1 and hasattr(pipeline, "predict_proba"):
            probability = 1 / (1 + np.exp(-raw_scores(pipeline, X)[:, 0]))
            if close(probability, np.asarray(pipeline.predict_proba(X))[:, 1]):
                return "log-odds"
        return "decision function"
    if close(sums, scores):
        return "value"
    if (scores > 0).all() and close(sums, np.log(scores)):
        return "log of the value"
    raise UnexplainedError("the contributions do not add up to the model's prediction")


def close(found: Array, expected: Array) -> bool:
    """Whether numbers are the same up to rounding."""
    if found.shape != expected.shape:
        return False
    with np.errstate(invalid="ignore"):
        return bool((np.abs(found - expected) <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))).all())
