"""The paired comparison: equal to scikit-learn's metrics resample by resample, and honest about what rows can show."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlops.model.bootstrap import resample_counts
from mlops.model.metrics import Classes, Predictions, parts
from mlops.review.compare import Paired, compare, interval, p_value
from mlops.review.rules.base import holm

RESAMPLES = 12

SKLEARN = {
    "roc_auc": lambda y, p, s: sk.roc_auc_score(y, s[:, 1]),
    "average_precision": lambda y, p, s: sk.average_precision_score(y, s[:, 1]),
    "accuracy": lambda y, p, s: sk.accuracy_score(y, p),
    "balanced_accuracy": lambda y, p, s: sk.balanced_accuracy_score(y, p),
    "precision": lambda y, p, s: sk.precision_score(y, p, zero_division=0),
    "recall": lambda y, p, s: sk.recall_score(y, p),
    "specificity": lambda y, p, s: sk.recall_score(y, p, pos_label=0),
    "f1": lambda y, p, s: sk.f1_score(y, p),
    "log_loss": lambda y, p, s: sk.log_loss(y, s),
    "brier_score": lambda y, p, s: sk.brier_score_loss(y, s[:, 1]),
    "precision_macro": lambda y, p, s: sk.precision_score(y, p, average="macro", zero_division=0),
    "f1_macro": lambda y, p, s: sk.f1_score(y, p, average="macro"),
    "roc_auc_ovr": lambda y, p, s: sk.roc_auc_score(y, s, multi_class="ovr"),
    "rmse": lambda y, p, s: sk.root_mean_squared_error(y, p),
    "mse": lambda y, p, s: sk.mean_squared_error(y, p),
    "mae": lambda y, p, s: sk.mean_absolute_error(y, p),
    "r2": lambda y, p, s: sk.r2_score(y, p),
}


def task(name: str) -> tuple[Any, Predictions, Predictions, Classes | None]:
    """Test rows of a real table, and what a smooth model and a tree say of them."""
    load = {"binary": load_breast_cancer, "multiclass": load_iris, "regression": load_diabetes}[name]
    X, y = load(return_X_y=True)
    test = np.random.default_rng(0).permutation(len(y)) < len(y) // 3
    if name == "regression":
        models = [Ridge(), DecisionTreeRegressor(max_depth=3, random_state=0)]
    else:
        smooth = make_pipeline(StandardScaler(), LogisticRegression())
        models = [smooth, DecisionTreeClassifier(max_depth=2, random_state=0)]
    said = []
    for model in models:
        model.fit(X[~test], y[~test])
        scores = None if name == "regression" else model.predict_proba(X[test])
        said.append(Predictions(model.predict(X[test]), scores))
    classes = None if name == "regression" else Classes(np.unique(y), len(np.unique(y)) - 1)
    return y[test], said[0], said[1], classes


def paired(losses: Any, *, metric: str = "accuracy", loss: float | None = None) -> Paired:
    """A pair whose resampled losses are the given ones."""
    values = np.asarray(losses, float)
    found = float(np.nanmean(values)) if loss is None else loss
    return Paired(metric, found, 0.0, values, np.zeros(len(values)))


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression"])
def test_each_resample_has_the_values_that_sklearn_gives_on_its_rows(name: str) -> None:
    y, baseline, candidate, classes = task(name)
    pairs = compare(y, baseline, candidate, classes, resamples=RESAMPLES)
    counts = np.concatenate(list(resample_counts(len(y), RESAMPLES, seed=0)))
    assert set(pairs) <= set(SKLEARN)
    for metric, pair in pairs.items():
        for model, whole, values in (
            (baseline, pair.baseline, pair.baseline_values),
            (candidate, pair.candidate, pair.candidate_values),
        ):
            assert len(values) == RESAMPLES
            assert whole == pytest.approx(SKLEARN[metric](y, *model), abs=1e-12)
            for count, value in zip(counts, values, strict=True):
                rows = np.repeat(np.arange(len(y)), count.astype(int))
                scores = None if model.probabilities is None else model.probabilities[rows]
                expected = SKLEARN[metric](y[rows], model.predicted[rows], scores)
                # the sums are of another order than scikit-learn's
                assert value == pytest.approx(expected, rel=1e-12, abs=1e-12), metric


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression"])
def test_the_same_model_twice_differs_by_exactly_nothing(name: str) -> None:
    y, model, _, classes = task(name)
    for pair in compare(y, model, model, classes, resamples=RESAMPLES).values():
        assert pair.loss == 0
        assert not pair.losses.any()
        assert pair.difference(0.95) == (0, 0)
        assert pair.worse() == 0.5
        assert pair.p_value() == 1
        assert pair.largest_loss(0.95) == 0
        assert pair.detectable(0.95) == 0


def test_a_loss_is_positive_where_the_candidate_is_worse_whichever_way_the_metric_points() -> None:
    y, good, bad, classes = task("binary")
    there, back = (compare(y, *pair, classes, resamples=RESAMPLES) for pair in ((good, bad), (bad, good)))
    for metric in ("roc_auc", "accuracy", "log_loss", "brier_score"):
        assert there[metric].loss > 0, metric
        assert there[metric].worse() > 0.5
        assert back[metric].loss == -there[metric].loss
        assert back[metric].worse() < 0.5


def test_equal_scores_are_one_step_of_the_curve() -> None:
    """A model that gives three different probabilities only."""
    y = np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 1])
    coarse = np.array([0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 0.8, 0.8, 0.8, 0.8])
    constant = np.full(10, 0.5)
    models = [
        Predictions((score >= 0.5).astype(int), np.column_stack([1 - score, score])) for score in (coarse, constant)
    ]
    pairs = compare(y, models[0], models[1], Classes(np.array([0, 1]), 1), resamples=200)
    assert pairs["roc_auc"].baseline == pytest.approx(sk.roc_auc_score(y, coarse), abs=1e-12)
    assert pairs["roc_auc"].candidate == 0.5
    defined = pairs["roc_auc"].candidate_values[np.isfinite(pairs["roc_auc"].candidate_values)]
    assert np.allclose(defined, 0.5, atol=1e-12)


def test_resamples_in_which_a_metric_is_undefined_do_not_count() -> None:
    y = np.array([1, 0, 0, 0])
    score = np.array([0.9, 0.1, 0.2, 0.3])
    good = Predictions((score >= 0.5).astype(int), np.column_stack([1 - score, score]))
    bad = Predictions(good.predicted, good.probabilities[:, ::-1])
    pair = compare(y, good, bad, Classes(np.array([0, 1]), 1), resamples=400)["roc_auc"]
    undefined = ~np.isfinite(pair.candidate_values)
    # no positive row in (3/4)^4 of them, no negative one in (1/4)^4
    assert undefined.mean() == pytest.approx(0.75**4 + 0.25**4, abs=0.08)
    assert len(pair.losses) == 400 - undefined.sum()
    assert np.isfinite([pair.spread, pair.worse(), pair.p_value(), *pair.difference(0.95)]).all()


def test_a_metric_that_is_never_defined_says_nothing() -> None:
    y = np.zeros(5)
    said = Predictions(y, np.column_stack([np.ones(5), np.zeros(5)]))
    pair = compare(y, said, said, Classes(np.array([0.0, 1.0]), 1), resamples=50)["roc_auc"]
    assert pair.p_value() == 1
    assert np.isnan([pair.worse(), pair.spread, pair.largest_loss(0.95), *pair.difference(0.95)]).all()


def test_without_a_baseline_only_the_candidate_has_values() -> None:
    y, _, candidate, classes = task("multiclass")
    for pair in compare(y, None, candidate, classes, resamples=RESAMPLES).values():
        assert np.isfinite(pair.candidate)
        assert np.isfinite(pair.candidate_values).all()
        assert np.isnan(pair.baseline)
        assert np.isnan(pair.loss)
        assert not len(pair.losses)
        assert pair.p_value() == 1


def test_a_metric_that_only_the_candidate_has_is_not_compared() -> None:
    y, baseline, candidate, classes = task("binary")
    without = Predictions(baseline.predicted, None)
    pairs = compare(y, without, candidate, classes, resamples=RESAMPLES)
    assert np.isnan(pairs["roc_auc"].baseline)
    assert np.isfinite(pairs["accuracy"].loss)
    assert "roc_auc" not in compare(y, baseline, without, classes, resamples=RESAMPLES)


def test_another_seed_draws_other_rows_and_the_same_seed_the_same() -> None:
    y, baseline, candidate, classes = task("regression")
    values = [
        compare(y, baseline, candidate, classes, resamples=RESAMPLES, seed=seed)["mae"].candidate_values
        for seed in (0, 0, 1)
    ]
    assert (values[0] == values[1]).all()
    assert not (values[0] == values[2]).any()


def test_parts_are_the_asked_rows_with_and_without_probabilities() -> None:
    _, _, candidate, _ = task("binary")
    rows = np.array([5, 2])
    part = parts(candidate, rows)
    assert (part.predicted == candidate.predicted[rows]).all()
    assert (part.probabilities == candidate.probabilities[rows]).all()
    assert parts(Predictions(candidate.predicted, None), rows).probabilities is None


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        # 0.05 / 4 = 0.0125, / 3 = 0.0167, / 2 = 0.025, / 1 = 0.05; the first that is missed ends it
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),
        ([0.01, 0.02, 0.016, 0.005], [True, True, True, True]),
        ([0.0126, 0.0126, 0.0126, 0.0126], [False, False, False, False]),
        ([0.0125, 0.9], [True, False]),
        ([0.05], [True]),
        ([0.051], [False]),
        ([1.0, 1.0], [False, False]),
        ([], []),
    ],
)
def test_holm_rejects_as_computed_by_hand(p_values: list[float], rejected: list[bool]) -> None:
    assert holm(p_values, 0.05) == rejected


def test_holm_raises_any_false_alarm_at_most_as_often_as_allowed() -> None:
    rng = np.random.default_rng(0)
    alarms = np.mean([any(holm(list(rng.uniform(size=6)), 0.05)) for _ in range(4000)])
    assert 0.04 < alarms < 0.06


def test_a_p_value_is_the_larger_of_percentile_and_normal() -> None:
    losses = np.array([-0.01, 0.0, *np.linspace(0.01, 0.2, 98)])
    pair = paired(losses)
    normal = 1 - NormalDist().cdf(pair.loss / losses.std(ddof=1))
    assert pair.p_value() == pytest.approx(max(0.02, normal))
    assert p_value(3.0, np.array([1.0, 3.0, 5.0])) == pytest.approx(1 - NormalDist().cdf(1.5))
    assert p_value(0.0, np.zeros(10)) == 1
    assert p_value(0.3, np.full(10, 0.3)) == 0
    assert p_value(0.3, np.array([0.3])) == 1
    assert p_value(float("nan"), np.ones(10)) == 1


def test_few_resamples_do_not_keep_a_clear_loss_from_being_seen_among_many_slices() -> None:
    """One in 201 would never fall below 0.05 / 50."""
    clear = paired(np.random.default_rng(0).normal(0.4, 0.05, 200))
    assert holm([clear.p_value()] + [1.0] * 49, 0.05)[0]


def test_the_detectable_loss_is_detected_in_four_samples_of_five() -> None:
    """Drawn from two models of known accuracy: at the loss that is named, the test rejects as often as it says."""
    rng = np.random.default_rng(0)
    n, classes = 400, Classes(np.array([0, 1]), 1)
    y = np.ones(n, int)

    def drawn(loss: float) -> Paired:
        """Main is wrong in a tenth of the rows; the change is wrong independently, and more often by `loss`."""
        said = [Predictions((rng.uniform(size=n) > wrong).astype(int), None) for wrong in (0.1, 0.1 + loss)]
        return compare(y, said[0], said[1], classes, resamples=200)["accuracy"]

    named = float(np.mean([drawn(0.05).detectable(0.95) for _ in range(20)]))
    seen = np.mean([drawn(named).p_value() <= 0.05 for _ in range(300)])
    assert 0.72 < seen < 0.88
    false = np.mean([drawn(0).p_value() <= 0.05 for _ in range(300)])
    assert false < 0.09


def test_the_detectable_loss_is_above_the_margin_that_is_allowed() -> None:
    pair = paired(np.random.default_rng(0).normal(0, 0.01, 500), loss=0.0)
    spread = pair.spread
    assert pair.detectable(0.95) == pytest.approx((1.6449 + 0.8416) * spread, rel=1e-3)
    assert pair.detectable(0.95, 0.05) == pytest.approx(0.05 + 0.8416 * spread, rel=1e-3)


def test_intervals_hold_the_middle_share() -> None:
    assert interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    assert np.isnan(interval(np.array([]), 0.9)).all()
    assert paired(np.arange(101.0)).largest_loss(0.95) == 95


def test_models_that_label_these_few_rows_alike_may_still_differ_on_others() -> None:
    y, model, _, classes = task("binary")
    nudged = Predictions(model.predicted, model.probabilities * 0.999 + 0.0005)
    pairs = compare(y, model, nudged, classes, resamples=2_000)
    low, high = pairs["accuracy"].difference(0.95)
    # one row each way on average, as if 0.5 of either kind had been seen
    assert low == pytest.approx(-1.96 / len(y), rel=0.05)
    assert high == pytest.approx(1.96 / len(y), rel=0.05)
    assert pairs["accuracy"].loss == 0
    assert pairs["accuracy"].largest_loss(0.95) == 0
    assert pairs["accuracy"].detectable(0.95) == pytest.approx(2.49 / len(y), rel=0.05)
    assert pairs["brier_score"].unseen == 0
    # what a row is worth: of the positive ones for recall, of all for accuracy
    assert pairs["recall"].spread / pairs["accuracy"].spread == pytest.approx(len(y) / (y == 1).sum(), rel=0.05)


def test_an_interval_is_as_wide_as_the_normal_approximation_where_percentiles_are_narrower() -> None:
    losses = np.r_[np.zeros(960), np.full(40, 0.1)]
    pair = Paired("accuracy", 0.004, 0.0, losses, np.zeros(1000))
    low, high = pair.difference(0.95)
    assert low == pytest.approx(-0.1)
    assert high == pytest.approx(-0.004 + 1.96 * losses.std(ddof=1), abs=1e-5)
