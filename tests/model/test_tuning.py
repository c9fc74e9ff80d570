from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data.tables import Column
from mlops.model.estimators import make_model
from mlops.model.training import folds
from mlops.model.tuning import tune

CANCER = load_breast_cancer(as_frame=True)
X = CANCER.data.iloc[:200, :3]
y = np.where(CANCER.target[:200] == 0, "malignant", "benign")
DIABETES = load_diabetes(as_frame=True)
LOGISTIC = "sklearn.linear_model.LogisticRegression"


def settings(
    estimator: str = LOGISTIC,
    task: str = "classification",
    split: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    **tuning: Any,
) -> Settings:
    return Settings.model_validate(
        {
            "data": {"source": "data/raw/x.csv", "task": task, "target": "y"},
            "validate": {},
            "split": split or {},
            "model": {"estimator": estimator, "params": params or {}},
            "tuning": {"folds": 3, **tuning},
            "evaluate": {},
        }
    )


def columns(frame: pd.DataFrame) -> list[Column]:
    return [Column(name=name, kind="numeric", type="", unit=None, missing=0, distinct=0) for name in frame.columns]


def search(asked: Settings, order: Any = None, labels: Any = y) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return tune(X, labels, asked, columns(X), order)


def test_a_grid_tries_each_combination_once_and_agrees_with_scikit_learn() -> None:
    space = {"C": [0.001, 0.1, 10], "fit_intercept": [True, False]}
    asked = settings(method="grid", metric="roc_auc", space=space)
    best, trials = search(asked)
    tried = [tuple(trial["params"].values()) for trial in trials]
    assert sorted(tried) == sorted(itertools.product(*space.values()))

    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    grid = {f"estimator__{name}": values for name, values in space.items()}
    theirs = GridSearchCV(make_model(asked, columns(X)), grid, scoring="roc_auc", cv=folds).fit(X, y)
    assert {f"estimator__{name}": value for name, value in best.items()} == theirs.best_params_
    means = {
        tuple(params.values()): mean
        for params, mean in zip(theirs.cv_results_["params"], theirs.cv_results_["mean_test_score"], strict=True)
    }
    for trial, key in zip(trials, tried, strict=True):
        assert trial["mean"] == pytest.approx(means[key], abs=1e-6)


@pytest.mark.parametrize(
    ("method", "space"),
    [
        ("grid", {"C": [0.01, 1, 100]}),
        ("random", {"C": {"low": 0.001, "high": 100, "log": True}, "fit_intercept": [True, False]}),
        ("bayesian", {"C": {"low": 0.001, "high": 100, "log": True}, "fit_intercept": [True, False]}),
    ],
)
def test_a_search_gives_the_same_trials_each_time(method: str, space: dict[str, Any]) -> None:
    asked = settings(method=method, space=space, trials=6)
    best, trials = search(asked)
    assert (best, trials) == search(asked)
    assert len(trials) == (3 if method == "grid" else 6)
    assert best in [trial["params"] for trial in trials]


@pytest.mark.parametrize("method", ["random", "bayesian"])
def test_another_seed_searches_elsewhere(method: str) -> None:
    space = {"C": {"low": 0.001, "high": 100, "log": True}}
    asked = [settings(method=method, space=space, trials=3, seed=seed) for seed in (0, 1)]
    assert search(asked[0])[1] != search(asked[1])[1]


def test_a_bayesian_search_learns_where_to_look() -> None:
    """Good values of alpha are a thousandth of the range: a search that learns comes back to them."""
    space = {"alpha": {"low": 0, "high": 100_000}}
    means = {}
    for method in ("random", "bayesian"):
        asked = settings("sklearn.linear_model.Ridge", "regression", method=method, space=space, trials=25)
        _, trials = tune(DIABETES.data, DIABETES.target.to_numpy(), asked, columns(DIABETES.data), None)
        means[method] = [trial["mean"] for trial in trials]
    assert means["bayesian"][:10] == means["random"][:10]
    assert np.mean(means["bayesian"][15:]) > np.mean(means["random"][15:])


def test_values_stay_in_their_range_with_four_digits_and_whole_where_asked() -> None:
    forest = "sklearn.ensemble.RandomForestClassifier"
    space = {
        "max_depth": {"low": 2, "high": 5, "integer": True},
        "max_features": {"low": 0.123456, "high": 0.12347},
    }
    _, trials = search(settings(forest, method="random", space=space, trials=4, params={"n_estimators": 2}))
    for params in (trial["params"] for trial in trials):
        assert params["max_depth"] in (2, 3, 4, 5)
        assert isinstance(params["max_depth"], int)
        assert 0.123456 <= params["max_features"] <= 0.12347
    _, trials = search(settings(method="random", space={"C": {"low": 0.1, "high": 9}}, trials=4))
    assert all(float(f"{trial['params']['C']:.4g}") == trial["params"]["C"] for trial in trials)


def test_lists_and_missing_values_can_be_tried() -> None:
    best, trials = search(settings(method="grid", space={"class_weight": [None, "balanced", {"malignant": 9}]}))
    assert best["class_weight"] in (None, "balanced", {"malignant": 9})
    assert len(trials) == 3


def test_an_error_measure_is_made_small() -> None:
    asked = settings(
        "sklearn.linear_model.Ridge", "regression", method="grid", metric="mse", space={"alpha": [1, 10_000]}
    )
    best, trials = tune(DIABETES.data, DIABETES.target.to_numpy(), asked, columns(DIABETES.data), None)
    assert best == {"alpha": 1}
    assert all(trial["mean"] < 0 for trial in trials), "more is better, so an error counts as negative"


def test_the_earliest_of_equal_trials_is_taken() -> None:
    best, trials = search(settings(method="grid", space={"max_iter": [300, 301, 302]}, params={"solver": "liblinear"}))
    assert len({trial["mean"] for trial in trials}) == 1
    assert best == trials[0]["params"]


def test_the_search_tells_each_trial_with_the_metric_as_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    asked = settings("sklearn.linear_model.Ridge", "regression", method="grid", space={"alpha": [1]})
    tune(DIABETES.data, DIABETES.target.to_numpy(), asked, columns(DIABETES.data), None)
    line = capsys.readouterr().out
    assert line.startswith("  trial 1/1: alpha=1: rmse 5")


def test_groups_stay_together_in_the_folds() -> None:
    groups = np.array([f"clinic {number % 7}" for number in range(len(y))])
    asked = settings(split={"method": "group", "group": "clinic"}, method="grid", space={"C": [1]})
    assert asked.tuning
    found = folds(y, asked, groups, asked.tuning.folds)
    assert len(found) == 3
    for learned, judged in found:
        assert not set(groups[learned]) & set(groups[judged])
    assert sorted(np.concatenate([judged for _, judged in found])) == list(range(len(y)))


def test_time_goes_forward_in_the_folds() -> None:
    days = np.datetime64("2024-01-01") + np.random.default_rng(0).permutation(len(y))
    asked = settings(split={"method": "time", "time": "day"}, method="grid", space={"C": [1]})
    assert asked.tuning
    for learned, judged in folds(y, asked, days, asked.tuning.folds):
        assert days[learned].max() < days[judged].min()


def test_a_class_too_small_for_the_folds_is_reported() -> None:
    rare = np.where(np.arange(len(y)) < 2, "rare", y)
    with pytest.raises(UserError, match=r"params.yaml: tuning.folds: 3: the smallest class .*\n  try: fewer folds"):
        search(settings(method="grid", space={"C": [1]}), labels=rare)


def test_a_fold_without_a_class_is_reported() -> None:
    ordered = np.where(np.arange(len(y)) < len(y) / 2, "early", "late")
    asked = settings(split={"method": "time", "time": "day"}, method="grid", space={"C": [1]})
    with pytest.raises(UserError, match=r"tuning.folds: 3: class 'late' has no training row in fold 1"):
        search(asked, np.arange(len(y)), ordered)


def test_too_few_groups_are_reported() -> None:
    asked = settings(split={"method": "group", "group": "clinic"}, method="grid", space={"C": [1]})
    with pytest.raises(UserError, match=r"tuning.folds: 3: .*number of groups: 2"):
        search(asked, np.where(np.arange(len(y)) % 2, "a", "b"))


def test_a_metric_that_a_fold_leaves_undefined_is_reported() -> None:
    labels = np.where(np.arange(len(y)) % 2, "a", "b")
    labels[-50:] = "a"
    asked = settings(split={"method": "time", "time": "day"}, method="grid", metric="roc_auc", space={"C": [1]})
    with pytest.raises(
        UserError, match=r"tuning.metric: roc_auc is undefined on fold 3 of 3.*\n  try: use metric: acc"
    ):
        search(asked, np.arange(len(y)), labels)


def test_an_unknown_metric_is_reported_with_the_closest() -> None:
    with pytest.raises(UserError, match=r"tuning.metric: no metric 'roc_acu' here; did you mean 'roc_auc'"):
        search(settings(method="grid", metric="roc_acu", space={"C": [1]}))


@pytest.mark.parametrize(
    ("estimator", "space", "message"),
    [
        (LOGISTIC, {"solver": ["lbfgs"], "l1_ratio": [1.0]}, "Solver lbfgs supports only"),
        ("lightgbm.LGBMClassifier", {"num_leaves": [1]}, "num_leaves"),
    ],
)
def test_values_that_do_not_go_together_are_reported(estimator: str, space: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"params.yaml: tuning.space: .* cannot be fitted: .*{message}"):
        search(settings(estimator, method="grid", space=space))
