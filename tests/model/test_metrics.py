from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_classification
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops.model.bootstrap import bootstrap, resample_counts
from mlops.model.metrics import Classes, Predictions, predict, score, weighted_metrics

EXACT = 1e-12


def reference_binary(y: Any, p: Predictions, classes: Any, positive: str, weight: Any) -> dict[str, float]:
    assert p.probabilities is not None
    column = list(classes).index(positive)
    other = classes[1 - column]
    truth, probability = y == positive, p.probabilities[:, column]
    w = {"sample_weight": weight}
    return {
        "roc_auc": sk.roc_auc_score(truth, probability, **w),
        "average_precision": sk.average_precision_score(truth, probability, **w),
        "accuracy": sk.accuracy_score(y, p.predicted, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, p.predicted, **w),
        "precision": sk.precision_score(y, p.predicted, pos_label=positive, **w),
        "recall": sk.recall_score(y, p.predicted, pos_label=positive, **w),
        "specificity": sk.recall_score(y, p.predicted, pos_label=other, **w),
        "f1": sk.f1_score(y, p.predicted, pos_label=positive, **w),
        "log_loss": sk.log_loss(y, p.probabilities, labels=classes, **w),
        "brier_score": sk.brier_score_loss(truth, probability, **w),
    }


def reference_multiclass(y: Any, p: Predictions, classes: Any, positive: str, weight: Any) -> dict[str, float]:
    w = {"sample_weight": weight}
    return {
        "accuracy": sk.accuracy_score(y, p.predicted, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, p.predicted, **w),
        "precision_macro": sk.precision_score(y, p.predicted, average="macro", zero_division=0, **w),
        "f1_macro": sk.f1_score(y, p.predicted, average="macro", **w),
        "roc_auc_ovr": sk.roc_auc_score(y, p.probabilities, multi_class="ovr", **w),
        "log_loss": sk.log_loss(y, p.probabilities, labels=classes, **w),
    }


def reference_regression(y: Any, p: Predictions, classes: Any, positive: str, weight: Any) -> dict[str, float]:
    w = {"sample_weight": weight}
    return {
        "rmse": sk.root_mean_squared_error(y, p.predicted, **w),
        "mse": sk.mean_squared_error(y, p.predicted, **w),
        "mae": sk.mean_absolute_error(y, p.predicted, **w),
        "r2": sk.r2_score(y, p.predicted, **w),
    }


def cancer() -> tuple[Any, Predictions, Any, Any, Any]:
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    labels = np.where(y == 0, "malignant", "benign")
    # four columns and a rounded probability, so that there are errors and ties
    model = LogisticRegression(max_iter=5000).fit(X.iloc[:300, :4], labels[:300])
    probabilities = model.predict_proba(X.iloc[300:, :4]).round(2)
    predictions = Predictions(model.predict(X.iloc[300:, :4]), probabilities)
    return labels[300:], predictions, model.classes_, "malignant", reference_binary


def iris() -> tuple[Any, Predictions, Any, Any, Any]:
    X, y = load_iris(return_X_y=True, as_frame=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    model = RandomForestClassifier(20, max_depth=2, random_state=0).fit(X.iloc[::2, :2], labels[::2])
    return labels[1::2], predict(model, X.iloc[1::2, :2]), model.classes_, None, reference_multiclass


def diabetes() -> tuple[Any, Predictions, Any, Any, Any]:
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    y = y.to_numpy() + 1e6  # far from zero, where naive sums of squares cancel
    model = LinearRegression().fit(X.iloc[:300], y[:300])
    return y[300:], predict(model, X.iloc[300:]), None, None, reference_regression


@pytest.mark.parametrize("case", [cancer, iris, diabetes])
def test_each_metric_of_each_resample_is_the_one_of_scikit_learn(case: Any) -> None:
    y, predictions, classes, positive, reference = case()
    weigh = weighted_metrics(y, predictions, None if classes is None else Classes.of(classes, positive))
    for counts in resample_counts(len(y), 20, seed=3):
        found = weigh(counts)
        for row, weight in enumerate(counts):
            expected = reference(y, predictions, classes, positive, weight)
            assert list(found) == list(expected)
            for name in expected:
                assert found[name][row] == pytest.approx(expected[name], rel=EXACT * 1000, abs=EXACT), name


@pytest.mark.parametrize("case", [cancer, iris, diabetes])
def test_a_score_is_the_one_of_scikit_learn(case: Any) -> None:
    y, predictions, classes, positive, reference = case()
    assert score(y, predictions, None if classes is None else Classes.of(classes, positive)) == pytest.approx(
        reference(y, predictions, classes, positive, np.ones(len(y))), rel=1e-9, abs=EXACT
    )


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for repetition in range(200):
        y = rng.normal(size=400)
        predictions = Predictions(y + rng.normal(size=400), None)
        estimate = bootstrap(y, predictions, None, resamples=400, seed=repetition)["mse"]
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 1 <= estimate.high
    assert 0.9 <= covered / 200 <= 0.98


def test_the_same_seed_gives_the_same_interval_however_it_is_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    y, predictions, classes, positive, _ = cancer()
    first = bootstrap(y, predictions, Classes.of(classes, positive), resamples=200, seed=5)
    monkeypatch.setattr("mlops.model.bootstrap.CHUNK", 1000)
    again = bootstrap(y, predictions, Classes.of(classes, positive), resamples=200, seed=5)
    for name, estimate in first.items():
        assert tuple(again[name]) == pytest.approx(tuple(estimate))
    assert bootstrap(y, predictions, Classes.of(classes, positive), resamples=200, seed=6) != first


def test_a_metric_without_any_row_of_a_class_is_undefined_not_zero() -> None:
    y, predictions, classes, positive, _ = cancer()
    only = np.flatnonzero(y == "benign")
    assert predictions.probabilities is not None
    part = Predictions(predictions.predicted[only], predictions.probabilities[only])
    estimates = bootstrap(y[only], part, Classes.of(classes, positive), resamples=100)
    assert estimates["roc_auc"].value is None
    assert estimates["accuracy"].value is not None


def test_prediction_by_blocks_is_prediction_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    monkeypatch.setattr("mlops.model.metrics.PREDICT_ROWS", 7)
    found = predict(model, X)
    assert found.probabilities is not None
    assert (found.predicted == model.predict(X)).all()
    assert found.probabilities == pytest.approx(model.predict_proba(X))


@pytest.mark.parametrize(
    "estimator",
    [HistGradientBoostingClassifier, RandomForestClassifier, ExtraTreesClassifier, LogisticRegression],
    ids=lambda estimator: estimator.__name__,
)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_labels_come_from_their_probabilities_and_are_those_of_predict(
    estimator: Any, n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, number = make_classification(500, 6, n_informative=4, n_classes=n_classes, random_state=0)
    y = np.array(["a", "b", "c"])[number]
    model = make_pipeline(StandardScaler(), estimator(random_state=0)).fit(X, y)
    expected = model.predict(X)
    asked = []
    monkeypatch.setattr(estimator, "predict", lambda self, X: asked.append(len(X)) or expected)
    assert np.array_equal(predict(model, pd.DataFrame(X)).predicted, expected)
    assert asked == []


def test_where_two_classes_are_equally_likely_the_estimator_chooses() -> None:
    X = np.zeros((20, 1))
    y = np.array(["a", "b"] * 10)
    model = HistGradientBoostingClassifier().fit(X, y)
    assert np.array_equal(predict(model, pd.DataFrame(X)).predicted, model.predict(X))
