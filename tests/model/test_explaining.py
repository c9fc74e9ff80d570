"""Contributions are those of another implementation, shap, and add up to what the model computes."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops.core.settings import Settings
from mlops.data.tables import Column
from mlops.inference import explanation
from mlops.inference.explanation import UnexplainedError
from mlops.model import explaining, tree_paths
from mlops.model.estimators import make_model
from mlops.model.explaining import Explained

shap = pytest.importorskip("shap")

N = 300
RNG = np.random.default_rng(0)
SIZE = RNG.normal(size=N)
X = pd.DataFrame(
    {
        "size": np.where(RNG.random(N) < 0.1, np.nan, SIZE),
        "count": RNG.integers(0, 9, N).astype(float),
        "joined": pd.date_range("2020-01-01", periods=N, freq="31h"),
        "town": RNG.choice(["A", "B", "C", "rare"], N, p=[0.4, 0.3, 0.29, 0.01]),
        "smokes": (RNG.random(N) < 0.5).astype(float),
    }
)
KINDS = {"size": "numeric", "count": "numeric", "joined": "date", "town": "categorical", "smokes": "boolean"}
NUMBER = SIZE + 0.3 * X["count"].to_numpy() + (X["town"] == "B") + RNG.normal(0, 0.3, N)
TARGETS = {
    "two": np.where(NUMBER > 1.5, "yes", "no"),
    "three": np.array(["a", "b", "c"])[np.digitize(NUMBER, [0.8, 2])],
    "number": NUMBER,
    "counts": np.round(np.exp(NUMBER / 2)),
}
S = "sklearn."
MODELS: list[tuple[str, dict[str, Any], str, str, str]] = [
    (S + "linear_model.LogisticRegression", {}, "two", "linear", "log-odds"),
    (S + "linear_model.LogisticRegression", {}, "three", "linear", "decision function"),
    (S + "linear_model.RidgeClassifier", {}, "two", "linear", "decision function"),
    (S + "discriminant_analysis.LinearDiscriminantAnalysis", {}, "two", "linear", "log-odds"),
    (S + "linear_model.Ridge", {}, "number", "linear", "value"),
    (S + "linear_model.PoissonRegressor", {}, "counts", "linear", "log of the value"),
    (S + "tree.DecisionTreeClassifier", {}, "two", "trees", "probability"),
    (S + "tree.DecisionTreeRegressor", {"max_depth": 1}, "number", "trees", "value"),
    (S + "ensemble.RandomForestClassifier", {"n_estimators": 5}, "three", "trees", "probability"),
    (S + "ensemble.ExtraTreesRegressor", {"n_estimators": 5}, "number", "trees", "value"),
    (S + "ensemble.GradientBoostingClassifier", {"n_estimators": 9}, "two", "trees", "log-odds"),
    (S + "ensemble.HistGradientBoostingClassifier", {"max_iter": 9}, "two", "trees", "log-odds"),
    (S + "ensemble.HistGradientBoostingClassifier", {"max_iter": 9}, "three", "trees", "decision function"),
    (S + "ensemble.HistGradientBoostingRegressor", {"max_iter": 9}, "number", "trees", "value"),
    (
        S + "ensemble.HistGradientBoostingRegressor",
        {"max_iter": 9, "loss": "poisson"},
        "counts",
        "trees",
        "log of the value",
    ),
    ("lightgbm.LGBMClassifier", {"n_estimators": 9, "verbose": -1}, "two", "library", "log-odds"),
    ("lightgbm.LGBMRegressor", {"n_estimators": 9, "verbose": -1}, "number", "library", "value"),
]


def fitted(estimator: str, params: dict[str, Any], target: str, **model: Any) -> Any:
    task = "regression" if TARGETS[target].dtype.kind == "f" else "classification"
    settings = Settings.model_validate(
        {
            "data": {"source": "data/raw/x.csv", "task": task, "target": "y", "positive": model.pop("positive", None)},
            "validate": {},
            "split": {},
            "model": {"estimator": estimator, "params": params, **model},
            "tuning": None,
            "evaluate": {},
        }
    )
    columns = [
        Column(name=name, kind=kind, type="", unit=None, missing=0, distinct=4)  # type: ignore[arg-type]
        for name, kind in KINDS.items()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_model(settings, columns).fit(X, TARGETS[target])


def by_shap(model: Any, found: Explained) -> np.ndarray[Any, Any]:
    """Contributions of shape (n_samples, n_outputs, n_inputs) by the library, summed by input."""
    estimator, matrix = model["estimator"], explanation.dense(model[:-1].transform(X))
    if found.method == "linear":
        masker = shap.maskers.Independent(matrix, max_samples=len(matrix))
        values = shap.LinearExplainer(estimator, masker).shap_values(matrix)
    else:
        values = shap.TreeExplainer(estimator, feature_perturbation="tree_path_dependent").shap_values(matrix)
    values = np.asarray(values).reshape(len(X), matrix.shape[1], -1)
    if values.shape[2] == 2:  # both classes
        values = values[:, :, 1:]
    summed = np.zeros((len(X), values.shape[2], len(KINDS)))
    for column, place in enumerate(found.explainer.source):
        summed[:, :, place] += values[:, column, :]
    return summed


@pytest.mark.parametrize(
    ("estimator", "params", "target", "method", "unit"),
    MODELS,
    ids=[f"{m[0].rsplit('.', 1)[1]}-{m[2]}" for m in MODELS],
)
def test_contributions_are_those_of_shap_and_add_up_to_the_score(
    estimator: str, params: dict[str, Any], target: str, method: str, unit: str
) -> None:
    model = fitted(estimator, params, target)
    found = explaining.explained(model, X, list(KINDS))
    assert (found.method, found.unit) == (method, unit)
    contributions = found(X)
    np.testing.assert_allclose(contributions, by_shap(model, found), atol=1e-9)
    scores = explaining.raw_scores(model, X)
    scores = np.log(scores) if unit == "log of the value" else scores
    np.testing.assert_allclose(contributions.sum(axis=2) + found.explainer.base, scores, atol=1e-9)
    # what is written explains the same, to the bit
    content = explanation.to_bytes(found.explainer)
    again = explanation.from_bytes(content, model["estimator"])
    assert content == explanation.to_bytes(again)
    assert np.array_equal(again(model[:-1].transform(X)), contributions)


@pytest.mark.parametrize("estimator", [S + "linear_model.LogisticRegression", S + "tree.DecisionTreeClassifier"])
def test_of_two_classes_the_score_speaks_for_the_positive_one(estimator: str) -> None:
    model = fitted(estimator, {}, "two", positive="no")
    second, first = (explaining.explained(model, X, list(KINDS), positive=name) for name in ("yes", "no"))
    assert (second.of, first.of) == ("yes", "no")
    np.testing.assert_allclose(first(X), -second(X))
    whole = 1 if first.unit == "probability" else 0
    np.testing.assert_allclose(first.explainer.base, whole - second.explainer.base)


def test_columns_that_a_step_selects_keep_their_names() -> None:
    step = {"transformer": "sklearn.feature_selection.SelectKBest", "params": {"k": 3}}
    model = fitted(S + "linear_model.LogisticRegression", {}, "two", steps=[step])
    found = explaining.explained(model, X, list(KINDS))
    assert np.array_equal(np.flatnonzero(np.abs(found(X)).sum(axis=(0, 1))), np.unique(found.explainer.source))
    assert len(found.explainer.source) == 3
    np.testing.assert_allclose(found(X), by_shap(model, found), atol=1e-9)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"estimator": S + "svm.SVC"}, "the model is a SVC; exact explanations exist for linear models and trees"),
        ({"estimator": S + "calibration.CalibratedClassifierCV"}, "the model is a CalibratedClassifierCV"),
        (
            {
                "estimator": S + "linear_model.LogisticRegression",
                "steps": [{"transformer": "sklearn.decomposition.PCA", "params": {"n_components": 2}}],
            },
            "(PCA) combines columns",
        ),
        (
            {"estimator": S + "ensemble.RandomForestClassifier", "params": {"n_estimators": 20}},
            "RandomForestClassifier: its trees have too many leaves, so that one row would take too long",
        ),
    ],
    ids=["svc", "calibrated", "pca", "large"],
)
def test_what_would_be_a_guess_or_slow_is_refused_with_the_reason(
    model: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_paths, "MOST_INTERVALS", 10_000)
    estimator, params = model.pop("estimator"), model.pop("params", {})
    with pytest.raises(UnexplainedError, match=re.escape(why)):
        explaining.explained(fitted(estimator, params, "two", **model), X, list(KINDS))
