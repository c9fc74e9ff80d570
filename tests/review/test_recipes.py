"""Both recipes on the same folds: what their difference is worth, and when it is no evidence about a change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import Project
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops.core import settings as settings_module
from mlops.core.git import git
from mlops.data import project as projects
from mlops.model import metrics
from mlops.model.metrics import Classes, Predictions, parts
from mlops.review import policy, recipes
from mlops.review.baseline import find
from mlops.review.compare import Paired, compare, compare_repeats
from mlops.review.evidence import gather, read_ours
from mlops.review.policy import CrossValidation
from mlops.review.recipes import (
    Compared,
    Fitted,
    NotComparableError,
    combined,
    folds,
    predicted,
    refit,
    refuse_dear,
    refuse_elsewhere,
)

X, Y = load_breast_cancer(return_X_y=True, as_frame=True)
X_TEST, Y_TEST = X.iloc[300:], Y.to_numpy()[300:]
X, Y = X.iloc[:300], Y.to_numpy()[:300]
RESAMPLES = 200
CLASSES = Classes(np.array([0, 1]), 1)


def fitted(strength: float = 1.0, rows: slice = slice(None)) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength)).fit(X.iloc[rows], Y[rows])


def crossed(model: Pipeline, repeats: int = 2) -> list[Predictions]:
    return [predicted(Fitted(model, X, Y, "this"), folds(Y, None, CLASSES, 4, seed)) for seed in range(repeats)]


def compared(main: Pipeline, here: Pipeline) -> dict[str, Paired]:
    models = metrics.predict(main, X_TEST), metrics.predict(here, X_TEST)
    tested = compare(Y_TEST, *models, CLASSES, resamples=RESAMPLES)
    held_out = list(zip(crossed(main), crossed(here), strict=True))
    return combined(Y, held_out, CLASSES, tested, len(Y_TEST), resamples=RESAMPLES)


def test_a_metric_that_the_held_out_rows_leave_undefined_is_left_out() -> None:
    """A slice may have one class among the training rows, and both among the test rows."""
    here, main = fitted(), fitted(0.1)
    tested = compare(Y_TEST, metrics.predict(main, X_TEST), metrics.predict(here, X_TEST), CLASSES, resamples=RESAMPLES)
    rows = np.flatnonzero(Y == 1)
    held_out = [(parts(main, rows), parts(here, rows)) for main, here in zip(crossed(main), crossed(here), strict=True)]
    found = combined(Y[rows], held_out, CLASSES, tested, len(Y_TEST), resamples=RESAMPLES)
    assert "log_loss" in found
    assert "roc_auc" in tested.keys() - found.keys()
    assert all(np.isfinite(pair.loss) for pair in found.values())


def test_every_row_is_predicted_by_a_model_that_was_not_trained_on_it() -> None:
    folded = folds(Y, None, CLASSES, 4, 0)
    found = predicted(Fitted(fitted(), X, Y, "this"), folded)
    for train, validation in folded:
        expected = metrics.predict(
            make_pipeline(StandardScaler(), LogisticRegression()).fit(X.iloc[train], Y[train]), X
        )
        assert found.probabilities is not None
        assert expected.probabilities is not None
        np.testing.assert_array_equal(found.probabilities[validation], expected.probabilities[validation])


def test_held_out_rows_and_test_rows_weigh_by_their_number() -> None:
    main, here = fitted(), fitted(0.01)
    before, after = ([metrics.score(Y, each, CLASSES)["roc_auc"] for each in crossed(model)] for model in (main, here))
    there, now = (metrics.score(Y_TEST, metrics.predict(model, X_TEST), CLASSES)["roc_auc"] for model in (main, here))
    found = compared(main, here)["roc_auc"]
    expected = (300 * (sum(after) - sum(before)) / 2 + 269 * (now - there)) / 569
    assert found.candidate - found.baseline == pytest.approx(expected)


def test_rows_that_are_predicted_again_are_not_more_rows() -> None:
    main, here = (metrics.predict(fitted(strength, slice(0, 150)), X) for strength in (1.0, 0.01))
    once = compare(Y, main, here, CLASSES, resamples=RESAMPLES)
    again = compare_repeats(Y, [(main, here)] * 3, CLASSES, RESAMPLES, seed=0)
    for name, pair in once.items():
        assert again[name].spread == pytest.approx(pair.spread), name


def test_the_resamples_of_held_out_rows_and_test_rows_are_independent() -> None:
    """Of the same rows twice, the variance is half."""
    main, here = (metrics.predict(fitted(strength, slice(0, 150)), X) for strength in (1.0, 0.01))
    tested = compare(Y, main, here, CLASSES, resamples=4000)["log_loss"]
    found = combined(Y, [(main, here)], CLASSES, {"log_loss": tested}, 300, resamples=4000)["log_loss"]
    assert found.spread == pytest.approx(tested.spread / 2**0.5, rel=0.05)


def test_intervals_contain_the_difference_of_the_recipes_as_often_as_they_say() -> None:
    """Two least-squares fits that differ by a column without effect, on rows that are drawn anew."""
    rng = np.random.default_rng(0)
    spread, truths, found = 2.0, [], []
    for _ in range(200):
        x = rng.normal(size=(2000, 3))
        y = x[:, 0] + spread * rng.normal(size=2000)
        train, test, rest = slice(0, 60), slice(60, 80), slice(80, None)
        held_out, tested, true = [], [], []
        for columns in (x[:, :2], x[:, ::2]):
            rows = np.arange(60) % 10
            said = np.empty(60)
            for fold in range(10):
                fit = np.linalg.lstsq(columns[train][rows != fold], y[train][rows != fold])[0]
                said[rows == fold] = columns[train][rows == fold] @ fit
            fit = np.linalg.lstsq(columns[train], y[train])[0]
            held_out.append(Predictions(said, None))
            tested.append(Predictions(columns[test] @ fit, None))
            true.append(np.abs(y[rest] - columns[rest] @ fit).mean())
        on_test = compare(y[test], *tested, None, resamples=RESAMPLES)
        pair = combined(y[train], [(held_out[0], held_out[1])], None, on_test, 20, resamples=RESAMPLES)["mae"]
        truths.append(true[1] - true[0])
        found.append(pair.difference(0.95))
    truth = float(np.mean(truths))
    held = np.mean([low <= truth <= high for low, high in found])
    assert 0.92 <= held <= 0.98


def test_labels_without_a_difference_are_no_certainty() -> None:
    """Two models with other probabilities and the same labels may differ on other rows."""
    y = np.ones(60, int)
    models = [Predictions(y, np.column_stack([np.full(60, 1 - p), np.full(60, p)])) for p in (0.9, 0.8)]
    tested = compare(y[:20], *(metrics.parts(each, np.arange(20)) for each in models), CLASSES, resamples=RESAMPLES)
    pair = combined(y, [(models[0], models[1])], CLASSES, tested, 20, resamples=RESAMPLES)["accuracy"]
    low, high = pair.difference(0.95)
    assert low < -1 / 80 < 1 / 80 < high


def test_the_same_recipe_has_no_difference_and_a_worse_one_loses() -> None:
    assert all(each.loss == each.spread == 0 for each in compared(fitted(), fitted()).values())
    worse = compared(fitted(), fitted(1e-4))["log_loss"]
    low, high = worse.difference(0.95)
    assert 0 < low < worse.loss < high
    assert compared(fitted(1e-4), fitted())["log_loss"].largest_loss(0.95) < 0
    assert worse.p_value() < 0.001


def test_the_result_is_the_same_each_time() -> None:
    first, second = (compared(fitted(), fitted(0.1))["roc_auc"].losses for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_group_is_never_on_both_sides_of_a_fold() -> None:
    group = np.arange(300) // 3
    for train, validation in folds(Y, group, CLASSES, 5, 0):
        assert not {*group[train]} & {*group[validation]}


def test_a_model_of_other_rows_is_not_stood_for_by_its_recipe() -> None:
    with pytest.raises(NotComparableError, match="main's recipe, fitted on these training rows, does not give"):
        refit(Fitted(fitted(rows=slice(0, 200)), X, Y, "main's"), X[:50])


def test_training_that_takes_too_long_is_refused_with_the_time_it_would_take() -> None:
    limits = CrossValidation(folds=5, repeats=4, seconds=60)
    refuse_dear(2.9, limits)
    with pytest.raises(
        NotComparableError, match=r"would take about 62 s, and cross_validation\.seconds in gate\.yaml is 60"
    ):
        refuse_dear(3.1, limits)


class Elsewhere(LogisticRegression):
    trained_elsewhere = True


def test_no_other_party_is_asked_to_train_again() -> None:
    refuse_elsewhere(Pipeline([("estimator", LogisticRegression())]), "main's")
    with pytest.raises(NotComparableError, match="other parties hold training rows of main's model"):
        refuse_elsewhere(Pipeline([("estimator", Elsewhere())]), "main's")


def test_too_few_rows_of_a_class_or_groups_are_named() -> None:
    with pytest.raises(NotComparableError, match="the smallest class has 3 training rows for 5 folds"):
        folds(np.repeat([0, 1], [3, 97]), None, CLASSES, 5, 0)
    with pytest.raises(NotComparableError, match="there are 4 groups for 5 folds"):
        folds(np.tile([0, 1], 50), np.arange(100) % 4, CLASSES, 5, 0)


def test_the_recipes_of_a_project_are_compared(here: Project) -> None:
    ours = read_ours(projects.open())
    main = find(git("rev-parse", "HEAD"), settings_module.load())
    gate = policy.load()
    assert gate.cross_validation is None
    assert gather(projects.open(), main, [], False, 200, gate).evidence.recipes is None
    on = gate.model_copy(update={"cross_validation": CrossValidation(folds=3, repeats=2)})
    found = gather(projects.open(), main, [], False, 200, on).evidence.recipes
    assert found is not None
    assert (found.problem, found.rows, found.folds, found.repeats) == (None, 426, 3, 2)
    assert {"roc_auc", "recall", "log_loss"} <= {*found.found}
    assert len(found.slices) == 4
    measured = [*found.found.values(), *(each for part in found.slices.values() for each in part.values())]
    assert all(each.loss == each.spread == 0 for each in measured)  # the same recipe
    none = Compared(0, {}, [])
    dear = recipes.compare(ours, main, CrossValidation(seconds=1e-6), none, resamples=200)
    assert dear.problem is not None
    assert "cross_validation.seconds in gate.yaml is 1e-06" in dear.problem
    settings = ours.project.settings
    by_time = settings.model_copy(update={"split": settings.split.model_copy(update={"method": "time"})})
    timed = ours._replace(project=dataclasses.replace(ours.project, settings=by_time))
    later = recipes.compare(timed, main, CrossValidation(), none, resamples=200)
    assert later.problem is not None
    assert "split is by time" in later.problem
