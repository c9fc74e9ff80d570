"""Main's recipe and this change's, cross-validated on the same folds of the training rows.

A recipe is what is fitted: the steps, the estimator and its parameters. The test rows compare two models; here, several
models of each recipe predict training rows that they were not trained on. That is evidence about the recipes, and it is
combined with the paired difference on the test rows (`corrected.py`).
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
from mlops.review.compare import Paired
from mlops.review.corrected import Recipe, corrected

if TYPE_CHECKING:
    from mlops.review.evidence import Ours
    from mlops.review.policy import CrossValidation

# How far predictions of a model may differ from those of one that is fitted again, relative to their standard deviation
ROUNDING = 1e-6

Folds = list[tuple[Array, Array]]


class NotComparableError(Exception):
    """Why two recipes cannot be compared, in words for the comment."""


class Recipes(NamedTuple):
    """Both recipes, cross-validated and combined with the test rows.

    Attributes
    ----------
    rows, folds, repeats : int
        0 where they are not compared.
    found : dict of str to Recipe
        By built-in metric, on all rows.
    slices : dict of (str, str) to dict of str to Recipe
        By column and name of a slice.
    problem : str or None
        Why they are not compared.
    """

    rows: int = 0
    folds: int = 0
    repeats: int = 0
    found: dict[str, Recipe] = {}  # noqa: RUF012
    slices: dict[tuple[str, str], dict[str, Recipe]] = {}  # noqa: RUF012
    problem: str | None = None


def compare(ours: Ours, baseline: Baseline, limits: CrossValidation, compared: Compared) -> Recipes:
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
    whole = np.arange(len(y))

    def combined(rows: Array, pairs: dict[str, Paired], test_rows: int) -> dict[str, Recipe]:
        by_folds = measure(y, before, after, folded, ours.classes, rows)
        return {
            name: recipe.with_test_rows(pairs[name], len(rows), test_rows)
            for name, recipe in by_folds.items()
            if name in pairs
        }

    found = combined(whole, compared.pairs, compared.rows)
    by_slice = {}
    for column, name, test_rows, pairs in compared.slices:
        members = dict(slices.slice_rows(column, train[column], train[column])).get(name)
        if members is not None:
            by_slice[column, name] = combined(members, pairs, test_rows)
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


def measure(
    y: Array,
    main: list[Predictions],
    here: list[Predictions],
    folded: list[Folds],
    classes: Classes | None,
    members: Array,
) -> dict[str, Recipe]:
    """The corrected difference in each metric.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    main, here : list of Predictions
        For all rows, one for each repeat.
    folded : list of Folds
        The folds of each repeat.
    classes : Classes or None
        None for a regression.
    members : ndarray of int
        The rows that count. A metric that is undefined for them in a fold is left out.
    """
    counted = np.zeros(len(y), dtype=bool)
    counted[members] = True
    found: dict[str, list[float]] = {}
    for before, after, each in zip(main, here, folded, strict=True):
        for _, rows in each:
            kept = rows[counted[rows]]
            if not len(kept):
                return {}
            there, now = (metrics.score(y[kept], parts(model, kept), classes) for model in (before, after))
            for name in there.keys() & now.keys():
                found.setdefault(name, []).append(now[name] - there[name])
    shape = len(folded), len(folded[0])
    whole = {name: np.array(values) for name, values in sorted(found.items()) if len(values) == shape[0] * shape[1]}
    return {name: corrected(name, each.reshape(shape)) for name, each in whole.items() if np.isfinite(each).all()}
