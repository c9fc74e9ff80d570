"""Many rows are resampled in subsets, with the spread that resamples of all rows have."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from mlops.model import bootstrap as bootstraps
from mlops.model.bootstrap import LEAST_ROWS, SUBSETS, bootstrap, draw, resample_counts, subset_size
from mlops.model.metrics import Classes, Predictions, all_metrics

MANY = 80_000
CLASSES = Classes(np.array(["no", "yes"]), 1)


def binary(n: int, rate: float = 0.3, strength: float = 1.5, seed: int = 0) -> tuple[Any, Predictions]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < rate
    score = 1 / (1 + np.exp(-(strength * (truth - 0.5) + rng.normal(size=n) + np.log(rate / (1 - rate)))))
    return np.where(truth, "yes", "no"), Predictions(
        np.where(score > 0.5, "yes", "no"), np.column_stack([1 - score, score])
    )


def regression(n: int) -> tuple[Any, Predictions]:
    rng = np.random.default_rng(0)
    y = rng.gamma(2, size=n)
    return y, Predictions(y + rng.laplace(size=n), None)


def of_all_rows(y: Any, predictions: Predictions, classes: Classes | None, resamples: int) -> dict[str, Any]:
    """The metrics on plain resamples of all rows."""
    weigh, _ = all_metrics(y, predictions, classes, None, resamples)
    chunks = [weigh(counts, 0) for counts in resample_counts(len(y), resamples, 1)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


@pytest.mark.parametrize(("make", "classes"), [(binary, CLASSES), (regression, None)], ids=["binary", "regression"])
def test_subsets_have_the_spread_of_resamples_of_all_rows(make: Any, classes: Classes | None) -> None:
    y, predictions = make(MANY)
    size = subset_size(y, [predictions], classes)
    assert size is not None
    assert LEAST_ROWS <= size < MANY / 10
    (found,) = draw(y, [predictions], classes, resamples=1_000, seed=0)
    plain = of_all_rows(y, predictions, classes, 1_000)
    assert found.resampled.keys() == plain.keys()
    for name, values in plain.items():
        # two estimates of a spread from 1,000 resamples differ by 3 % (one standard error)
        assert found.resampled[name].std() == pytest.approx(values.std(), rel=0.12), name
        assert np.mean(found.resampled[name]) == pytest.approx(found.values[name], abs=values.std() / 5), name


def test_the_difference_of_two_models_has_its_spread_too() -> None:
    y, one = binary(MANY)
    noise = np.random.default_rng(1).normal(scale=0.2, size=MANY)
    score = np.clip(one.probabilities[:, 1] + noise, 0.001, 0.999)  # type: ignore[index]
    other = Predictions(np.where(score > 0.5, "yes", "no"), np.column_stack([1 - score, score]))
    pair = draw(y, [one, other], CLASSES, resamples=1_000, seed=0)
    plain = [of_all_rows(y, model, CLASSES, 1_000) for model in (one, other)]
    for name in plain[0]:
        expected = (plain[0][name] - plain[1][name]).std()
        assert (pair[0].resampled[name] - pair[1].resampled[name]).std() == pytest.approx(expected, rel=0.12), name


def test_the_interval_of_a_share_is_the_one_of_the_binomial_distribution() -> None:
    y, predictions = binary(MANY)
    found = bootstrap(y, predictions, CLASSES, resamples=2_000)["accuracy"]
    assert found.value is not None
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / MANY)
    assert found.low == pytest.approx(found.value - half, abs=half / 8)
    assert found.high == pytest.approx(found.value + half, abs=half / 8)


def test_few_rows_and_rare_classes_are_resampled_as_a_whole() -> None:
    y, predictions = binary(2 * LEAST_ROWS)
    assert subset_size(y, [predictions], CLASSES) is None
    y, predictions = binary(MANY, rate=0.01)
    assert subset_size(y, [predictions], CLASSES) is None, "a subset would have 200 of the rare class"
    y, predictions = binary(MANY, rate=0.04)
    assert subset_size(y, [predictions], CLASSES) == pytest.approx(1_000 / 0.04, rel=0.05)


def test_each_subset_is_another_one_and_all_resamples_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstraps, "LEAST_ROWS", 500)
    monkeypatch.setattr(bootstraps, "RARE", 10)
    y, predictions = binary(5_000)
    (found,) = draw(y, [predictions], CLASSES, resamples=105, seed=0)
    assert {len(values) for values in found.resampled.values()} == {105}
    starts = np.diff(np.linspace(0, 105, SUBSETS + 1).astype(int))
    groups = np.split(found.resampled["brier_score"], np.cumsum(starts)[:-1])
    assert all(not np.array_equal(a[:5], b[:5]) for a, b in itertools.pairwise(groups))
    (again,) = draw(y, [predictions], CLASSES, resamples=105, seed=0)
    assert all(np.array_equal(found.resampled[name], again.resampled[name]) for name in found.resampled)
