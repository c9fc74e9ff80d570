"""Main's recipe and this change's, cross-validated on the same folds of the training rows.

A recipe is what is fitted: the steps, the estimator and its parameters. The test rows compare two models. Here, models
of both recipes predict the training rows that they were not trained on, and the difference on these rows joins that on
the test rows, each with the weight of its number of rows.

The interval comes from rows, with the mean over the repeats for each of them: the variance of Bayle, Bayle, Janson and
Mackey (2020, Cross-validation Confidence Intervals for Test Error, arXiv:2007.12671), by a paired bootstrap. It is
about the mean difference of the models that are fitted here, on new rows. Where no single training row changes a model
much, that is the difference of the recipes; how models of other training rows differ is no part of the interval.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from mlops.model import metrics, slices, training
from mlops.model.fitted import estimator_of
from mlops.model.metrics import Array, Classes, Predictions, parts
from mlops.review.baseline import Baseline
from mlops.review.compare import Paired, compare_repeats

if TYPE_CHECKING:
    from mlops.review.evidence import Ours
    from mlops.review.policy import CrossValidation

# How far predictions of a model may differ from those of one that is fitted again, relative to their standard deviation
ROUNDING = 1e-6
SEED = 20_000  # other than those of the test rows

Folds = list[tuple[Array, Array]]


class NotComparableError(Exception):
    """Why two recipes cannot be compared, in words for the comment."""


class Recipes(NamedTuple):
    """Both recipes, cross-validated and combined with the test rows.

    Attributes
    ----------
    rows, folds, repeats : int
        0 where they are not compared.
    found : dict of str to Paired
        By built-in metric, on all rows.
    slices : dict of (str, str) to dict of str to Paired
        By column and name of a slice.
    problem : str or None
        Why they are not compared.
    """

    rows: int = 0
    folds: int = 0
    repeats: int = 0
    found: dict[str, Paired] = {}  # noqa: RUF012
    slices: dict[tuple[str, str], dict[str, Paired]] = {}  # noqa: RUF012
    problem: str | None = None


def compare(ours: Ours, baseline: Baseline, limits: CrossValidation, compared: Compared, *, resamples: int) -> Recipes:
    """Cross-validate both recipes on the training rows of this change, and combine them with the test rows.

    Parameters
    ----------
    ours : Ours
        This change.
    baseline : Baseline
        Main.
    limits : CrossValidation
        `cross_validation` in `gate.yaml`.
    compared : Compared
        What the test rows say.
    """
    if baseline.model is None or baseline.project is None:
        return Recipes(problem=baseline.problem or "main's model is not available")
    project, train = ours.project, ours.train
    split = project.settings.split
    if split.method == "time":
        return Recipes(
            problem="the split is by time, and folds would train on rows that are later than those predicted"
        )
    y = project.y(train)
    group = np.unique(train[split.group].to_pandas(), return_inverse=True)[1] if split.group else None
    try:
        refuse_elsewhere(ours.model, "this change's")
        refuse_elsewhere(baseline.model, "main's")
        folded = [folds(y, group, ours.classes, limits.folds, seed) for seed in range(limits.repeats)]
        with training.warnings_once():
            here = Fitted(ours.model, project.X(train), y, "this change's")
            seconds = refit(here, project.X(ours.test))
            with baseline.own_code():
                theirs = baseline.project
                main = Fitted(baseline.model, theirs.X(theirs.append(train)), y, "main's")
                seconds += refit(main, theirs.X(theirs.append(ours.test)))
            refuse_dear(seconds, limits)
            after = [predicted(here, each) for each in folded]
            with baseline.own_code():
                before = [predicted(main, each) for each in folded]
    except NotComparableError as error:
        return Recipes(problem=str(error))
    except Exception as error:  # an estimator may raise anything
        return Recipes(problem=f"a model cannot be fitted again: {type(error).__name__}: {error}")

    def on(rows: Array, pairs: dict[str, Paired], test_rows: int, seed: int) -> dict[str, Paired]:
        held_out = [(parts(main, rows), parts(here, rows)) for main, here in zip(before, after, strict=True)]
        return combined(y[rows], held_out, ours.classes, pairs, test_rows, resamples=resamples, seed=seed)

    found = on(np.arange(len(y)), compared.pairs, compared.rows, SEED)
    by_slice = {}
    for number, (column, name, test_rows, pairs) in enumerate(compared.slices, 1):
        members = dict(slices.slice_rows(column, train[column], train[column])).get(name)
        if members is not None:
            by_slice[column, name] = on(members, pairs, test_rows, SEED + number)
    return Recipes(len(y), limits.folds, limits.repeats, found, by_slice)


class Compared(NamedTuple):
    """Both models on the test rows, and on those of each slice: column, name, number of rows, metrics."""

    rows: int
    pairs: dict[str, Paired]
    slices: list[tuple[str, str, int, dict[str, Paired]]]


class Fitted(NamedTuple):
    """A model with the features and targets that its recipe is fitted on again."""

    model: Any
    X: Any
    y: Array
    whose: str


def refuse_elsewhere(model: Any, whose: str) -> None:
    """Refuse to ask other parties to train again and again.

    Raises
    ------
    NotComparableError
        If other parties hold a part of the training rows of a model.
    """
    if getattr(estimator_of(model), "trained_elsewhere", False) is True:
        raise NotComparableError(f"other parties hold training rows of {whose} model")


def refuse_dear(seconds: float, limits: CrossValidation) -> None:
    """Refuse what would take too long.

    Parameters
    ----------
    seconds : float
        What it took to fit both recipes once.

    Raises
    ------
    NotComparableError
        If the folds would take more than `limits.seconds`.
    """
    needed = seconds * limits.folds * limits.repeats
    if needed > limits.seconds:
        raise NotComparableError(
            f"{limits.folds} folds × {limits.repeats} of both recipes would take about {needed:.0f} s, and "
            f"cross_validation.seconds in gate.yaml is {limits.seconds:g}"
        )


def folds(y: Array, group: Array | None, classes: Classes | None, number: int, seed: int) -> Folds:
    """Row numbers for training and validation; rows of a group stay together, classes have their share.

    Raises
    ------
    NotComparableError
        If there are too few rows of a class, or too few groups.
    """
    if group is not None and len(np.unique(group)) < 2 * number:
        raise NotComparableError(f"there are {len(np.unique(group))} groups for {number} folds")
    if classes is not None:
        fewest = int(np.unique(y, return_counts=True)[1].min())
        if fewest < 2 * number:
            raise NotComparableError(f"the smallest class has {fewest} training rows for {number} folds")
        kind = StratifiedKFold if group is None else StratifiedGroupKFold
    else:
        kind = KFold if group is None else GroupKFold
    return list(kind(number, shuffle=True, random_state=seed).split(np.zeros(len(y)), y, group))


def refit(recipe: Fitted, X_test: Any) -> float:
    """Fit a recipe on all rows again, and return the seconds that took.

    Raises
    ------
    NotComparableError
        If that does not give the model: it was trained on other rows, with other libraries or on a sample, so that the
        recipe does not stand for it.
    """
    start = time.perf_counter()
    again = clone(recipe.model).fit(recipe.X, recipe.y)
    seconds = time.perf_counter() - start
    if not same(metrics.predict(again, X_test), metrics.predict(recipe.model, X_test)):
        raise NotComparableError(
            f"{recipe.whose} recipe, fitted on these training rows, does not give {recipe.whose} model: the rows, the "
            "code or the libraries have changed"
        )
    return seconds


def predicted(recipe: Fitted, folded: Folds) -> Predictions:
    """The predictions of a recipe for all rows, each by the model that was not trained on it."""
    order = np.concatenate([rows for _, rows in folded])
    X, y = recipe.X, recipe.y
    made = [metrics.predict(clone(recipe.model).fit(X.iloc[fit], y[fit]), X.iloc[rows]) for fit, rows in folded]
    place = np.argsort(order)
    labels = np.concatenate([one.predicted for one in made])[place]
    probabilities = [one.probabilities for one in made if one.probabilities is not None]
    return Predictions(labels, np.concatenate(probabilities)[place] if probabilities else None)


def same(one: Predictions, other: Predictions) -> bool:
    """Whether two models predict the same, apart from rounding."""
    before, after = other.probabilities, one.probabilities
    if before is None or after is None:
        if one.predicted.dtype.kind != "f":
            return bool(np.array_equal(one.predicted, other.predicted))
        before, after = other.predicted, one.predicted
    if before.shape != after.shape:
        return False
    return bool(np.abs(before - after).max(initial=0) <= ROUNDING * max(float(np.std(before)), ROUNDING))


def combined(
    y: Array,
    held_out: list[tuple[Predictions, Predictions]],
    classes: Classes | None,
    tested: dict[str, Paired],
    test_rows: int,
    *,
    resamples: int,
    seed: int = SEED,
) -> dict[str, Paired]:
    """Each metric on held-out training rows and on test rows.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    held_out : list of (Predictions, Predictions)
        Main's and this change's for these rows, in each repeat.
    classes : Classes or None
        None for a regression.
    tested : dict of str to Paired
        On the test rows. A metric that is undefined there, or on the held-out rows, is left out.
    seed : int
        Other than that of `tested`.
    """
    share = len(y) / (len(y) + test_rows)
    return {
        name: pair.joined(tested[name], share)
        for name, pair in compare_repeats(y, held_out, classes, resamples, seed).items()
        if name in tested and np.isfinite(tested[name].loss) and np.isfinite(pair.loss)
    }
