"""Performance estimated without labels after real shifts, beside NannyML in an environment of its own."""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.measuring import progress, table, uv
from mlops.model.metrics import Classes, Predictions
from mlops.monitoring.estimate import expected

Array = np.ndarray[Any, Any]

PEER = Path(__file__).with_name("nannyml_peer.py")
# NannyML needs lightgbm < 4.6, and statsmodels, which it does not ask for
PACKAGES = ("nannyml==0.13.1", "statsmodels")
CLASSES = Classes(np.array([0, 1]), 1)
REPEATS = 5
METRICS = {"accuracy": accuracy_score, "f1": f1_score}


class Shift(NamedTuple):
    """A table, whose production rows have more of something than its reference rows.

    Attributes
    ----------
    by : ndarray of shape (n_samples,)
        What production rows have more of.
    flipped : float
        Share of the production rows whose label changes: concept drift.
    """

    name: str
    X: Array
    y: Array
    by: Array
    flipped: float = 0.0


class Split(NamedTuple):
    """Labels and probabilities of reference and production rows."""

    y: tuple[Array, Array]
    p: tuple[Array, Array]


def shifts() -> Iterator[Shift]:
    cancer, wine, digits, diabetes = (load() for load in (load_breast_cancer, load_wine, load_digits, load_diabetes))
    ill = 1 - cancer.target
    names = list(cancer.feature_names)
    for column in ("mean radius", "mean texture", "mean smoothness"):
        yield Shift(f"breast cancer: more {column}", cancer.data, ill, cancer.data[:, names.index(column)])
    middle = (wine.target == 1).astype(int)
    weak = wine.data[:, [1, 2, 3, 4, 7]]  # with all columns there is no error to estimate
    yield Shift("wine, five columns: more alcohol", weak, middle, wine.data[:, 0])
    high = (digits.target >= 5).astype(int)
    yield Shift("digits, 5 or more: more ink", digits.data, high, digits.data.sum(axis=1))
    yield Shift("digits, 5 or more: later writers", digits.data, high, np.arange(len(high)) * 1.0)
    worse = (diabetes.target > np.median(diabetes.target)).astype(int)
    for column in ("age", "bmi", "bp"):
        by = diabetes.data[:, diabetes.feature_names.index(column)]
        yield Shift(f"diabetes: more {column}", diabetes.data, worse, by)
    yield Shift("breast cancer: 20 % of the labels turn (concept drift)", cancer.data, ill, cancer.data[:, 0], 0.2)


def splits(shift: Shift) -> Iterator[Split]:
    """Train on rows with less, set reference rows aside, and predict rows with more."""
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        score = (shift.by - shift.by.mean()) / shift.by.std() + 0.5 * rng.normal(size=len(shift.y))
        order = np.argsort(score)
        before, production = order[: 2 * len(order) // 3], order[2 * len(order) // 3 :]
        before = rng.permutation(before)
        train, reference = before[: len(before) // 2], before[len(before) // 2 :]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000)).fit(shift.X[train], shift.y[train])
        turned = rng.random(len(production)) < shift.flipped
        y = np.where(turned, 1 - shift.y[production], shift.y[production])
        p = [model.predict_proba(shift.X[rows])[:, 1] for rows in (reference, production)]
        yield Split((shift.y[reference], y), (p[0], p[1]))


def estimates() -> str:
    """The mean absolute error of each estimate, over the repeats of each shift."""
    found = [(shift.name, list(splits(shift))) for shift in shifts()]
    theirs = nannyml([split for _, repeats in found for split in repeats])
    rows = []
    for number, (name, repeats) in enumerate(found):
        progress(f"monitoring: estimated performance, {name}")
        their_part = theirs[number * REPEATS : (number + 1) * REPEATS]
        cells = []
        for metric, of in METRICS.items():
            true = np.array([[of(y, p >= 0.5) for y, p in zip(*split, strict=True)] for split in repeats])
            ours = np.array([expected(predictions(split.p[1]), CLASSES)[metric] for split in repeats])
            peer = np.array([each[metric] for each in their_part])
            errors = [np.abs(each - true[:, 1]).mean() for each in (ours, peer, true[:, 0])]
            cells += [f"{true[:, 0].mean():.3f} → {true[:, 1].mean():.3f}", *(f"{error:.3f}" for error in errors)]
        rows.append([name, *cells])
    header = [
        f"{metric}{each}"
        for metric in METRICS
        for each in (", release → production", ": ours", ": NannyML", ": as at the release")
    ]
    return "\n\n".join(
        [
            "Estimated performance: how far the estimate is from production's true value (mean absolute error of "
            f"{REPEATS} splits). A logistic regression is trained on the rows that have less of something, and "
            "predicts those that have more. 'As at the release' is the estimate that nothing has changed. NannyML's "
            "CBPE (0.13.1) calibrates the probabilities on the reference rows; ours takes them as they are.",
            table(["shift", *header], rows),
            "In the last row the relation changes, which no estimate without labels sees: none of them may be trusted "
            "there, so none of them alarms.",
        ]
    )


def predictions(p: Array) -> Predictions:
    return Predictions((p >= 0.5).astype(int), np.column_stack([1 - p, p]))


def nannyml(splits_: list[Split]) -> list[dict[str, float]]:
    """What NannyML estimates of the production rows of each split."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        folder = Path(place)
        progress("monitoring: installing NannyML")
        subprocess.run([uv(), "venv", "--quiet", str(folder / "env")], check=True)
        python = str(folder / "env/bin/python")
        subprocess.run([uv(), "pip", "install", "--quiet", "--python", python, *PACKAGES], check=True)
        for number, split in enumerate(splits_):
            for part, y, p in zip(("reference", "production"), split.y, split.p, strict=True):
                with (folder / f"{number}-{part}.csv").open("w", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(["y", "p", "predicted"])
                    writer.writerows(zip(y.tolist(), p.tolist(), (p >= 0.5).astype(int).tolist(), strict=True))
        progress("monitoring: NannyML estimates")
        said = subprocess.run(
            [python, str(PEER), str(folder), str(len(splits_)), *METRICS], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    found: list[dict[str, float]] = json.loads(said.splitlines()[-1])
    return found
