"""The charts of a comment: which lines and bars there are, and of what."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LinearRegression, RidgeClassifier

from mlops.core.report import MOST_BARS
from mlops.model.metrics import Classes, Predictions
from mlops.review import charts
from mlops.review.compare import Paired
from mlops.review.gate import SliceMeasurements


def test_errors_of_a_regression_are_drawn_and_a_classifier_without_probabilities_has_no_curve() -> None:
    X = np.random.default_rng(0).normal(size=(80, 2))
    y = X[:, 0] + X[:, 1] ** 2
    said = Predictions(LinearRegression().fit(X, y).predict(X), None)
    (chart,) = charts.curves(y, said, said, None)
    assert [each.name for each in chart.series] == ["main", "this change"]
    assert chart.series[0].values == sorted(chart.series[0].values)
    lost = Predictions(np.where(y > y.mean(), np.nan, y), None)
    assert charts.curves(y, lost, said, None) == []
    labels = (y > 0).astype(int)
    plain = Predictions(RidgeClassifier().fit(X, labels).predict(X), None)
    assert charts.curves(labels, plain, None, Classes(np.array([0, 1]), 1)) == []


def part(column: str, name: str, **pairs: tuple[float, float]) -> SliceMeasurements:
    none = np.array([])
    return SliceMeasurements(column, name, 10, {key: Paired(key, *pair, none, none) for key, pair in pairs.items()})


def test_slices_are_bars_with_their_names() -> None:
    parts = [
        part("mean radius", "< 12", accuracy=(0.9, 0.95)),
        part("mean radius", "≥ 15.8", accuracy=(0.8, 0.7)),
    ]
    (drawn,) = charts.slices(parts)
    assert (drawn.title, drawn.y) == ("accuracy by mean radius", "accuracy")
    assert drawn.names == ["below 12", "from 15.8"]
    assert (drawn.main, drawn.here) == ([0.9, 0.8], [0.95, 0.7])
    (drawn,) = charts.slices([*parts, part("sex", "f", accuracy=(0.5, 0.5))])
    assert drawn.title == "accuracy by slice"
    assert drawn.names == ["mean radius, below 12", "mean radius, from 15.8", "sex, f"]


def test_the_metric_is_one_that_every_slice_has() -> None:
    parts = [
        part("sex", "f", roc_auc=(0.5, np.nan), accuracy=(0.5, 0.6)),
        part("sex", "m", roc_auc=(0.5, 0.5), accuracy=(np.nan, 0.7)),
    ]
    (drawn,) = charts.slices(parts)
    assert (drawn.y, drawn.main, drawn.here) == ("accuracy", [], [0.6, 0.7])
    both = [part("sex", name, recall=(0.5, 0.6), accuracy=(0.7, 0.8)) for name in "fm"]
    assert charts.slices(both)[0].y == "recall"
    assert charts.slices(both, ["no such metric", "accuracy"])[0].y == "accuracy"
    assert charts.slices(parts[:1]) == []
    assert charts.slices([part("sex", name, roc_auc=(0.5, np.nan)) for name in "fm"]) == []


def test_of_many_slices_the_largest_changes_are_drawn_in_the_order_of_the_table() -> None:
    losses = [0.001 * number for number in range(20)]
    (drawn,) = charts.slices([part("city", str(n), log_loss=(1.0, 1.0 + loss)) for n, loss in enumerate(losses)])
    assert drawn.title == "log_loss by city, largest changes"
    assert drawn.names == [str(n) for n in range(20 - MOST_BARS, 20)]
    (drawn,) = charts.slices([part("city", str(n), log_loss=(np.nan, loss)) for n, loss in enumerate(losses)])
    assert drawn.title == "log_loss by city, highest"
    assert drawn.names == [str(n) for n in range(20 - MOST_BARS, 20)]
    (drawn,) = charts.slices([part("city", str(n), accuracy=(np.nan, loss)) for n, loss in enumerate(losses)])
    assert drawn.title == "accuracy by city, lowest"
    assert drawn.names == [str(n) for n in range(MOST_BARS)]
