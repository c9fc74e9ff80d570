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
from mlops.model.metrics import Classes
from mlops.review import policy, recipes
from mlops.review.baseline import find
from mlops.review.compare import Paired
from mlops.review.corrected import Recipe, corrected
from mlops.review.evidence import gather, read_ours
from mlops.review.policy import CrossValidation
from mlops.review.recipes import (
    Compared,
    Fitted,
    NotComparableError,
    folds,
    measure,
    predicted,
    refit,
    refuse_dear,
    refuse_elsewhere,
)

X, Y = load_breast_cancer(return_X_y=True, as_frame=True)
X, Y = X.iloc[:300], Y.to_numpy()[:300]
CLASSES = Classes(np.array([0, 1]), 1)


def fitted(strength: float = 1.0, rows: slice = slice(None)) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength)).fit(X.iloc[rows], Y[rows])


def compared(main: Pipeline, here: Pipeline) -> dict[str, Recipe]:
    folded = [folds(Y, None, CLASSES, 4, seed) for seed in range(2)]
    before, after = ([predicted(Fitted(model, X, Y, "this"), each) for each in folded] for model in (main, here))
    return measure(Y, before, after, folded, CLASSES, np.arange(300))


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


def test_the_variance_of_folds_is_corrected_for_the_training_rows_that_they_share() -> None:
    differences = np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0, 0.0]])
    found = corrected("accuracy", differences)
    assert found[1:] == pytest.approx((2.0, ((1 / 10 + 1 / 4) * 20 / 9) ** 0.5, 9))
    low, high = found.interval(0.95)
    assert (low, high) == pytest.approx((2 - 2.262157 * found.spread, 2 + 2.262157 * found.spread), abs=1e-6)
    assert found.largest_loss(0.95) == pytest.approx(-2 + 1.833113 * found.spread, abs=1e-6)


def test_intervals_of_folds_that_share_rows_contain_the_truth_as_often_as_they_say() -> None:
    """Any two of 20 differences have a correlation of 1/5, as Nadeau and Bengio assume of five folds."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        differences = rng.normal() * 0.2**0.5 + rng.normal(size=(4, 5)) * 0.8**0.5
        low, high = corrected("accuracy", differences).interval(0.95)
        held += low <= 0 <= high
    assert 0.93 <= held / 1000 <= 0.97  # 0.61 without the correction


def paired(difference: float, spread: float, unseen: float = 0.0) -> Paired:
    drawn = np.array([-1.0, 1.0]) * spread / 2**0.5
    rows = np.array([-1.0, 1.0]) * unseen
    return Paired("accuracy", 0.5, 0.5 + difference, np.zeros(2) + 0.5, 0.5 + difference + drawn, rows)


def test_folds_and_test_rows_weigh_by_their_precision() -> None:
    found = Recipe("accuracy", 0.02, 0.01, 19).with_test_rows(paired(0.0, 0.01), 300, 100)
    assert found[1:] == pytest.approx((0.01, 0.01 / 2**0.5, 4 * 19))
    found = Recipe("accuracy", 0.02, 0.01, 19).with_test_rows(paired(0.0, 0.1), 300, 100)
    assert found.difference == pytest.approx(0.02 * 100 / 101)


def test_folds_without_a_difference_are_no_certainty() -> None:
    found = Recipe("accuracy", 0.0, 0.0, 19).with_test_rows(paired(0.0, 0.0, unseen=0.01), 300, 100)
    assert 0.002 < found.spread < 0.01 / 3


def test_the_same_recipe_has_no_difference_and_a_worse_one_loses() -> None:
    assert all(each.difference == each.spread == 0 for each in compared(fitted(), fitted()).values())
    worse = compared(fitted(), fitted(1e-4))["log_loss"]
    low, high = worse.interval(0.95)
    assert 0 < low < worse.difference < high
    assert compared(fitted(1e-4), fitted())["log_loss"].largest_loss(0.95) < 0
    assert worse.p_value() < 0.001


def test_the_result_is_the_same_each_time() -> None:
    assert compared(fitted(), fitted(0.1)) == compared(fitted(), fitted(0.1))


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
    assert all(each.difference == each.spread == 0 for each in measured)  # the same recipe
    none = Compared(0, {}, [])
    dear = recipes.compare(ours, main, CrossValidation(seconds=1e-6), none)
    assert dear.problem is not None
    assert "cross_validation.seconds in gate.yaml is 1e-06" in dear.problem
    settings = ours.project.settings
    by_time = settings.model_copy(update={"split": settings.split.model_copy(update={"method": "time"})})
    timed = ours._replace(project=dataclasses.replace(ours.project, settings=by_time))
    later = recipes.compare(timed, main, CrossValidation(), none)
    assert later.problem is not None
    assert "split is by time" in later.problem
