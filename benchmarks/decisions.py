"""What the gate decides on simulated pull requests whose true effect is known, beside the rules that teams use instead.

Half of a real table trains real models. The other half, resampled with a little noise (the smoothed bootstrap,
Silverman and Young 1987), is the population, in which each model's true metrics are
known and from which test sets are drawn.
"""

from __future__ import annotations

import datetime
import math
import multiprocessing
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.measuring import ROOT, progress, table, verdict
from mlops.model import metrics, slices
from mlops.model.metrics import Array, Classes, Predictions, parts
from mlops.review import gate, policy
from mlops.review.compare import Paired, compare
from mlops.review.rules.comparison import NoWorse, SlicesNoWorse

# test rows → simulations of each case on each table
SIZES = {150: 60, 500: 60, 2_000: 60, 10_000: 10}
RESAMPLES = 500
POPULATION = 30_000
# of a column's standard deviation
NOISE = 0.2
SEEDS = 8
LOSSES = (0.5, 1.0, 2.0, 4.0)
# a change counts as of a size when its true loss is so near
NEAR = 0.2
ROUNDED = 1e-6
MOST_FALSE, LEAST_CAUGHT, COVERAGE = 0.05, 0.9, (0.93, 0.97)

REGRESSION = policy.Gate.model_validate(
    {
        "rules": [
            {"rule": "no_worse", "metric": "rmse", "margin": 1.5},
            {"rule": "no_worse", "metric": "mae", "margin": 1.5},
            {"rule": "no_worse", "metric": "r2", "margin": 0.03},
            {"rule": "slices_no_worse", "metric": "mae", "margin": 4},
        ]
    }
)


class Change(NamedTuple):
    """A pull request: main's predictions of the population and its own."""

    main: Predictions
    here: Predictions


class Outcome(NamedTuple):
    """The verdicts of the rules on one pull request, and the intervals that contain the true difference."""

    blocked: bool
    unclear: bool
    first_below: bool
    any_below: bool
    under_threshold: bool
    covered: dict[str, bool]


class World:
    """A table, its population, and the pull requests that are made on it."""

    def __init__(self, name: str, X: Any, y: Array, column: str, gate: policy.Gate) -> None:
        rng = np.random.default_rng(0)
        stratify = y if y.dtype != float else None
        X, elsewhere, self.y_train, y_elsewhere = train_test_split(
            X, y, test_size=0.5, random_state=0, stratify=stratify
        )
        drawn = rng.integers(0, len(elsewhere), POPULATION)
        spread = NOISE * elsewhere.std(axis=0).to_numpy()
        population = elsewhere.iloc[drawn] + rng.normal(size=(POPULATION, X.shape[1])) * spread
        self.name, self.X_train, self.X = name, X.reset_index(drop=True), population.reset_index(drop=True)
        self.y = y_elsewhere[drawn]
        self.classes = None
        if stratify is None:
            self.y = self.y + rng.normal(size=POPULATION) * NOISE * y.std()
        else:
            self.classes = Classes(np.unique(y), 1)
        comparing = (NoWorse, SlicesNoWorse)
        self.gate = gate.model_copy(update={"rules": [rule for rule in gate.rules if isinstance(rule, comparing)]})
        self.margins = {rule.metric: rule.margin for rule in self.gate.rules if isinstance(rule, NoWorse)}
        self.slice_rule = next(rule for rule in self.gate.rules if isinstance(rule, SlicesNoWorse))
        self.first = next(iter(self.margins))
        self.slices = slices.slice_rows(column, pa.chunked_array([X[column]]), pa.chunked_array([self.X[column]]))
        self.slice_of = np.empty(POPULATION, dtype=int)
        for number, (_, rows) in enumerate(self.slices):
            self.slice_of[rows] = number

    def fit(self, model: Any, y: Array | None = None, columns: list[str] | None = None) -> Predictions:
        """Predictions of the population by a model that was trained on the other half."""
        columns = columns or list(self.X)
        model.fit(self.X_train[columns], self.y_train if y is None else y)
        return metrics.predict(model, self.X[columns])

    def forest(self, seed: int) -> Predictions:
        kind = RandomForestClassifier if self.classes else RandomForestRegressor
        return self.fit(kind(60, random_state=seed))

    def boosted(self, seed: int = 0, trees: int = 60, **fit: Any) -> Predictions:
        kind = HistGradientBoostingClassifier if self.classes else HistGradientBoostingRegressor
        return self.fit(kind(max_iter=trees, max_features=0.5, early_stopping=False, random_state=seed), **fit)

    def truth(self, predictions: Predictions, rows: Array | slice = slice(None)) -> dict[str, float]:
        """Each metric of the population."""
        return metrics.score(self.y[rows], parts(predictions, np.arange(POPULATION)[rows]), self.classes)

    def loss(self, change: Change) -> float:
        """The true loss of a change, in margins of the rule that suffers most."""
        before, after = self.truth(change.main), self.truth(change.here)
        return max(
            (1 if metrics.greater_is_better(name) else -1) * (before[name] - after[name]) / margin
            for name, margin in self.margins.items()
        )

    @cached_property
    def changes(self) -> dict[str, list[Change]]:
        """Pull requests by kind."""
        found = dict(self.equal())
        worse = list(self.degraded())
        sizes = [self.loss(change) for change in worse]
        for wanted in LOSSES:
            near = [change for change, size in zip(worse, sizes, strict=True) if abs(size / wanted - 1) <= NEAR]
            if not near:
                raise SystemExit(f"{self.name}: no model is worse by {wanted} margins; there are {sorted(sizes)}")
            found[f"worse by {wanted:g}×"] = near
        found["better"] = [Change(here, main) for main, here in found["worse by 1×"] + found["worse by 2×"]]
        found["one slice"] = list(self.worse_in_a_slice([worse[i].here for i in np.argsort(sizes)]))
        return found

    def equal(self) -> Iterator[tuple[str, list[Change]]]:
        """Changes that alter nothing but chance."""
        forests = [self.forest(seed) for seed in range(SEEDS)]
        boosted = [self.boosted(seed) for seed in range(SEEDS)]
        descent: Callable[[int], Any] = lambda seed: (  # noqa: E731
            SGDClassifier(loss="log_loss", alpha=0.01, average=True, random_state=seed)
            if self.classes
            else SGDRegressor(average=True, random_state=seed)
        )
        descents = [self.fit(make_pipeline(StandardScaler(), descent(seed))) for seed in range(SEEDS)]
        solvers = [
            LogisticRegression(solver=solver, max_iter=1000) if self.classes else Ridge(solver=solver)
            for solver in (("lbfgs", "newton-cholesky") if self.classes else ("svd", "lsqr"))
        ]
        solved = [self.fit(make_pipeline(StandardScaler(), model)) for model in solvers]
        for name, models in (("boosting", boosted), ("forest", forests), ("descent", descents), ("solver", solved)):
            yield f"same, {name}", [Change(main, here) for main in models for here in models if main is not here]

    def degraded(self) -> Iterator[Change]:
        """Main's boosted trees with columns dropped, fewer trees, or wrong labels among its training rows."""
        main = self.boosted()
        for seed in (1, 2):
            rng = np.random.default_rng(seed)
            order = rng.permutation(self.X.shape[1])
            for kept in np.unique(np.geomspace(2, len(order), 12).astype(int))[:-1]:
                yield Change(main, self.boosted(seed, columns=[list(self.X)[i] for i in order[:kept]]))
            for trees in (2, 3, 4, 6, 8, 11, 15, 20, 25, 30, 40, 50):
                yield Change(main, self.boosted(seed, trees))
            order = rng.permutation(len(self.y_train))
            for share in np.geomspace(0.005, 0.4, 20):
                noisy, wrong = self.y_train.copy(), order[: int(share * len(order))]
                noisy[wrong] = rng.permutation(noisy[wrong]) if self.classes is None else ~noisy[wrong]
                yield Change(main, self.boosted(seed, y=noisy))

    def worse_in_a_slice(self, degraded: list[Predictions]) -> Iterator[Change]:
        """Main's model, but a worse one for so many rows of one slice that it loses there twice what is allowed."""
        main = self.boosted()
        metric, wanted = self.slice_rule.metric, 2 * self.slice_rule.margin
        sign = 1 if metrics.greater_is_better(metric) else -1
        for _, rows in self.slices:
            before = self.truth(main, rows)[metric]
            lost = ((sign * (before - self.truth(other, rows)[metric]), other) for other in degraded)
            whole, broken = next(((loss, other) for loss, other in lost if loss >= wanted), (math.nan, None))
            if broken is None:
                continue
            # the metric of a slice is a mean over rows, so it is lost in proportion to the rows
            hit = np.zeros(POPULATION, dtype=bool)
            hit[np.random.default_rng(0).permutation(rows)[: int(wanted / whole * len(rows))]] = True
            yield Change(main, _mixed(main, broken, hit))

    def draw(self, change: Change, size: int, rng: np.random.Generator) -> Outcome:
        """One pull request, judged on its test set."""
        rows = rng.integers(0, POPULATION, size)
        pairs = self.compare(change, rows)
        by_slice = []
        for number, (name, _) in enumerate(self.slices):
            members = rows[self.slice_of[rows] == number]
            if len(members) >= self.slice_rule.min_rows:
                by_slice.append(gate.SliceMeasurements("column", name, len(members), self.compare(change, members)))
        judged = gate.judge(self.gate, evidence(size, pairs, by_slice), {}, datetime.date.min)
        before, after = self.truth_of(change.main), self.truth_of(change.here)
        covered = {}
        for name, pair in pairs.items():
            low, high = pair.difference(0.95)
            covered[name] = low - 1e-12 <= after[name] - before[name] <= high + 1e-12
        first = pairs[self.first]
        lost = first.sign * (before[self.first] - first.candidate)
        return Outcome(
            judged.blocks,
            judged.verdict == "inconclusive",
            first.loss > ROUNDED,
            any(pairs[name].loss > ROUNDED for name in self.margins),
            lost > self.margins[self.first],
            covered,
        )

    def compare(self, change: Change, rows: Array) -> dict[str, Paired]:
        main, here = (parts(each, rows) for each in change)
        return compare(self.y[rows], main, here, self.classes, resamples=RESAMPLES)

    def truth_of(self, predictions: Predictions) -> dict[str, float]:
        """Each metric of the population, computed once for each model."""
        key = id(predictions.predicted)
        if key not in self._truths:
            self._truths[key] = self.truth(predictions)
        return self._truths[key]

    @cached_property
    def _truths(self) -> dict[int, dict[str, float]]:
        return {}


def _mixed(main: Predictions, broken: Predictions, hit: Array) -> Predictions:
    probabilities = None
    if main.probabilities is not None and broken.probabilities is not None:
        probabilities = np.where(hit[:, None], broken.probabilities, main.probabilities)
    return Predictions(np.where(hit, broken.predicted, main.predicted), probabilities)


def evidence(size: int, pairs: dict[str, Paired], by_slice: list[gate.SliceMeasurements]) -> gate.Measurements:
    """Evidence of which only the comparison counts."""
    return gate.Measurements(
        rows=size,
        pairs=pairs,
        slices=by_slice,
        baseline_problem=None,
        first=False,
        train={},
        calibration=[],
        validation=None,
        drift=None,
        model_bytes=0,
        latency_ms=0.0,
        moved=[],
        dirty=False,
        leaked=0,
        misrecorded=[],
    )


def worlds() -> list[World]:
    """The tables, each with its gate; two classes are judged by the rules of `gate.yaml`."""
    declared = policy.load(ROOT / "gate.yaml")
    cancer, digits, diabetes = (load(as_frame=True) for load in (load_breast_cancer, load_digits, load_diabetes))
    return [
        World("breast cancer", cancer.data, (cancer.target == 0).to_numpy(), "mean radius", declared),
        World("digits", digits.data, (digits.target % 2 == 1).to_numpy(), "pixel_4_4", declared),
        World("diabetes", diabetes.data, diabetes.target.to_numpy(dtype=float), "bmi", REGRESSION),
    ]


class Group(NamedTuple):
    """All simulations of one case on one table with test sets of one size."""

    world: str
    case: str
    size: int
    outcomes: list[Outcome]


WORLDS: list[World] = []


def simulate(task: tuple[int, str, int]) -> Group:
    """Draw pull requests of one case, each with a test set of its own."""
    number, case, size = task
    world = WORLDS[number]
    rng = np.random.default_rng([number, size, *case.encode()])
    choices = world.changes[case]
    drawn = [world.draw(choices[rng.integers(len(choices))], size, rng) for _ in range(SIZES[size])]
    progress(f"decisions: {world.name}, {case}, {size:,} rows")
    return Group(world.name, case, size, drawn)


def measure() -> str:
    threadpool_limits(1)
    for world in worlds():
        progress(f"decisions: training on {world.name}")
        world.changes  # noqa: B018  computed before the processes part
        WORLDS.append(world)
    tasks = [(i, case, size) for size in reversed(SIZES) for i, world in enumerate(WORLDS) for case in world.changes]
    with multiprocessing.get_context("fork").Pool() as pool:
        return report(pool.map(simulate, tasks, chunksize=1))


class Share(NamedTuple):
    """How many of the simulations, with the simulation's standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, found: list[bool]) -> Share:
        value = float(np.mean(found))
        # as of one more of each kind, so that 0 of 100 is not without error
        middle = (sum(found) + 1) / (len(found) + 2)
        return cls(value, math.sqrt(middle * (1 - middle) / len(found)))

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f}"


RULES = {
    "the gate blocks": "blocked",
    "the gate is inconclusive, and warns": "unclear",
    "first metric below main's": "first_below",
    "any metric below main's": "any_below",
    "below a threshold": "under_threshold",
}


def report(groups: list[Group]) -> str:
    """The tables, and what of the goals was met."""

    def chosen(kind: str, size: int | None = None) -> list[Outcome]:
        here = [each for each in groups if each.case.startswith(kind) and size in (None, each.size)]
        return [outcome for group in here for outcome in group.outcomes]

    def shares(outcomes: list[Outcome]) -> list[str]:
        return [
            f"{len(outcomes):,}",
            *(str(Share.of([bool(getattr(outcome, name)) for outcome in outcomes])) for name in RULES.values()),
        ]

    false = {size: Share.of([each.blocked for each in chosen("same", size)]) for size in SIZES}
    naive = [Share.of([getattr(each, name) for each in chosen("same")]) for name in ("first_below", "any_below")]
    caught = Share.of([each.blocked for each in chosen("worse by 2×", 2_000)])
    sure = all(share.value <= MOST_FALSE + 2 * share.error for share in false.values())
    cases = [f"worse by {loss:g}×" for loss in LOSSES]
    names = list(dict.fromkeys(each.case for each in groups if each.case.startswith("same")))
    worst = max(false, key=lambda size: false[size].value)
    held, coverage = covered(groups)
    return "\n\n".join(
        [
            f"{sum(len(each.outcomes) for each in groups):,} simulated pull requests on "
            f"{', '.join(world.name for world in WORLDS)}. One half of each table trains real models. The other half, "
            f"resampled to {POPULATION:,} rows with noise of {NOISE:g} standard deviations, is the population. Test "
            "sets are drawn from it, and every model's true metrics are computed on it. The margins for two classes "
            f"are those of `gate.yaml`. The simulation uses {RESAMPLES} resamples, a review "
            f"{WORLDS[0].gate.resamples:,}. "
            "Shares are in percent ± one standard error of the simulation.",
            "Pull requests that change nothing (another seed for boosting, a forest or stochastic gradient descent; "
            "another solver):",
            table(
                ["test rows", "simulations", *RULES],
                [[f"{size:,}", *shares(chosen("same", size))] for size in SIZES],
            ),
            f"Goal: at most {MOST_FALSE:.0%} false blocks at each size, within two standard errors: {verdict(sure)} "
            f"(worst case {100 * false[worst].value:.1f} %, with {worst:,} rows). 'Not below main' blocks "
            f"{100 * naive[0].value:.0f} % when it looks at the first metric, {100 * naive[1].value:.0f} % when it "
            "looks at all.",
            "By kind of change, all sizes together:",
            table(["", "simulations", *RULES], [[name, *shares(chosen(name))] for name in names]),
            "Pull requests with a worse model: dropped columns, fewer trees, or wrong training labels. '2×' means that "
            f"the true loss is twice the margin (± {NEAR:.0%}) of the rule it violates most. 'One slice' loses twice "
            "the margin in one slice. 'Better' swaps main and the change in the cases 1× and 2×:",
            table(
                ["", "test rows", "simulations", *RULES],
                [
                    [case, f"{size:,}", *shares(chosen(case, size))]
                    for case in [*cases, "one slice", "better"]
                    for size in SIZES
                ],
            ),
            f"Goal: at least {LEAST_CAUGHT:.0%} of the losses of twice the margin detected at 2,000 rows: "
            f"{verdict(caught.value >= LEAST_CAUGHT)} ({caught} %). The threshold in the last column is main's true "
            "value minus the margin, which is unknown in practice.",
            "Share of 95 % intervals that contain the true difference, in percent:",
            coverage,
            f"Goal: between {COVERAGE[0]:.0%} and {COVERAGE[1]:.0%} for each size, within two standard errors: {held}.",
        ]
    )


def covered(groups: list[Group]) -> tuple[str, str]:
    """Whether the intervals cover the truth as often as they claim, and a table of coverage."""

    def share(size: int, same: bool, name: str | None = None) -> Share:
        # intervals of one test set are right or wrong together, so test sets are counted for the error
        sets = [
            [held for metric, held in outcome.covered.items() if name in (None, metric)]
            for group in groups
            if group.size == size and group.case.startswith("same") == same
            for outcome in group.outcomes
            if name is None or name in outcome.covered
        ]
        means = np.array([np.mean(each) for each in sets])
        return Share(float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means))))

    names = list(dict.fromkeys(name for group in groups for name in group.outcomes[0].covered))
    rows, kept = [], True
    for same, kind in ((False, "better or worse"), (True, "the same")):
        for size in SIZES:
            mean = share(size, same)
            kept &= COVERAGE[0] - 2 * mean.error <= mean.value <= COVERAGE[1] + 2 * mean.error
            rows.append(
                [kind, f"{size:,}", str(mean), *(f"{100 * share(size, same, name).value:.0f}" for name in names)]
            )
    return verdict(kept), table(["the two models are", "test rows", "all metrics", *names], rows)
