"""Main's model and this change's on the same rows: differences with a paired bootstrap.

Both models are evaluated on the same resamples, so that the difficulty of a resample cancels in the difference
(Efron and Tibshirani 1993; Dietterich 1998 on why unpaired comparisons mislead).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from mlops.model.bootstrap import Draws, draw
from mlops.model.metrics import Array, Classes, Predictions, greater_is_better, score
from mlops.model.resampling import Custom

# A loss counts as detectable if it would be detected with this probability
POWER = 0.8


class Resampled(NamedTuple):
    """A number with its bootstrap resamples.

    Attributes
    ----------
    value : float
    values : ndarray of shape (n_resamples,)
    """

    value: float
    values: Array

    def interval(self, confidence: float) -> tuple[float, float]:
        """Percentile interval."""
        return interval(self.values, confidence)

    def p_above(self, limit: float) -> float:
        """One-sided p-value of 'it is not above the limit'."""
        return p_value(self.value - limit, self.values - limit)


class Paired(NamedTuple):
    """A metric of two models on the same rows; NaN where it is undefined.

    Attributes
    ----------
    baseline, candidate : float
    baseline_values, candidate_values : ndarray of shape (n_resamples,)
        Both have the same resamples in the same order.
    unseen : ndarray of shape (n_resamples,) or float
        What unobserved rows might add to the difference.
    own : bool or None
        For the project's own metrics: whether greater is better.
    unit : str
    resamples : int
        How many resamples there are, where a metric cannot be computed for all of them in time; 0 otherwise.
    """

    metric: str
    baseline: float
    candidate: float
    baseline_values: Array
    candidate_values: Array
    unseen: Array | float = 0.0
    own: bool | None = None
    unit: str = ""
    resamples: int = 0

    @property
    def greater_is_better(self) -> bool:
        return greater_is_better(self.metric) if self.own is None else self.own

    @property
    def sign(self) -> int:
        return 1 if self.greater_is_better else -1

    @property
    def verb(self) -> str:
        """The verb for a loss."""
        return "dropped" if self.sign > 0 else "risen"

    @property
    def found(self) -> Resampled:
        """The candidate's metric."""
        return Resampled(self.candidate, self.candidate_values[np.isfinite(self.candidate_values)])

    def behind(self, other: float) -> Resampled:
        """How much better the metric is on other rows, such as the training rows."""
        values = self.sign * (other - self.candidate_values)
        return Resampled(self.sign * (other - self.candidate), values[np.isfinite(values)])

    def above(self, other: Paired) -> Resampled:
        """How much higher the candidate's metric is on these rows than on others."""
        values = self.candidate_values - other.candidate_values
        return Resampled(self.candidate - other.candidate, values[np.isfinite(values)])

    def joined(self, other: Paired, share: float) -> Paired:
        """The weighted mean with the metric on other rows, resampled with another seed; `share` is that of these."""
        rest = 1 - share
        return self._replace(
            baseline=share * self.baseline + rest * other.baseline,
            candidate=share * self.candidate + rest * other.candidate,
            baseline_values=share * self.baseline_values + rest * other.baseline_values,
            candidate_values=share * self.candidate_values + rest * other.candidate_values,
            unseen=share * self.unseen + rest * other.unseen,
        )

    def p_missed(self, limit: float) -> float:
        """One-sided p-value of 'the candidate reaches the limit'."""
        return p_value(self.sign * (limit - self.candidate), self.sign * (limit - self.candidate_values))

    @property
    def identical(self) -> bool:
        """Whether no resample shows a difference."""
        return not self.losses.any()

    @property
    def loss(self) -> float:
        """How much worse the candidate is; negative where it is better."""
        return self.sign * (self.baseline - self.candidate)

    @property
    def losses(self) -> Array:
        """The loss in each resample in which it is defined."""
        losses = self.sign * (self.baseline_values - self.candidate_values)
        return np.asarray(losses[np.isfinite(losses)])

    @property
    def possible(self) -> Array:
        """The losses, with what unobserved rows might add."""
        losses = self.sign * (self.baseline_values - self.candidate_values + self.unseen)
        return np.asarray(losses[np.isfinite(losses)])

    @property
    def spread(self) -> float:
        """Standard error of the loss; NaN where there are no two resamples."""
        return float(self.possible.std(ddof=1)) if len(self.possible) > 1 else float("nan")

    def difference(self, confidence: float) -> tuple[float, float]:
        """Interval of candidate minus baseline: the percentiles, or the normal approximation where that is wider."""
        low, high = interval(-self.sign * self.possible, confidence)
        value, half = self.candidate - self.baseline, NormalDist().inv_cdf((1 + confidence) / 2) * self.spread
        # plus zero turns -0.0 into 0.0
        return min(low, value - half) + 0.0, max(high, value + half) + 0.0

    def worse(self) -> float:
        """Share of the resamples in which the candidate is worse; ties count half."""
        losses = self.losses
        return float(((losses > 0) + 0.5 * (losses == 0)).mean()) if len(losses) else float("nan")

    def p_value(self) -> float:
        """One-sided, of 'the candidate is no worse'."""
        return p_value(self.loss, self.losses)

    def largest_loss(self, confidence: float) -> float:
        """The upper confidence bound of the loss, one-sided."""
        losses = self.losses
        return float(np.quantile(losses, confidence)) if len(losses) else float("nan")

    def detectable(self, confidence: float, margin: float = 0.0) -> float:
        """The smallest loss that a share `POWER` of samples of this size detects as significant and above a margin."""
        normal = NormalDist()
        return max(normal.inv_cdf(confidence) * self.spread, margin) + normal.inv_cdf(POWER) * self.spread


def p_value(found: float, resampled: Array) -> float:
    """One-sided, of 'it is not above zero'; 1 where that is unknown.

    The larger of the percentile's and the normal approximation's p-value: if few rows differ, the percentile alone is
    too confident. If no resample is below zero, only the approximation counts; a lower limit of one in the number of
    resamples would prevent a rule about many slices from ever failing.
    """
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) < 2 or not np.isfinite(found):
        return 1.0
    spread = resampled.std(ddof=1)
    by_spread = 1 - NormalDist().cdf(found / spread) if spread > 0 else float(found <= 0)
    return float(max((resampled <= 0).mean(), by_spread))


def interval(values: Array, confidence: float) -> tuple[float, float]:
    """Percentile interval; NaN where there are no values."""
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def compare(
    y: Array,
    baseline: Predictions | None,
    candidate: Predictions,
    classes: Classes | None,
    custom: Custom | None = None,
    *,
    resamples: int,
    seed: int = 0,
) -> dict[str, Paired]:
    """Compare every metric of the task.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    baseline : Predictions or None
        None if there is no model to compare with; its numbers are NaN.
    classes : Classes or None
        None for a regression.
    custom : Custom, optional
        The project's own metrics, for these rows.
    seed : int
        Use a different seed for each part of the rows that is compared with other parts.

    Returns
    -------
    dict of str to Paired
        In the order of the metrics.
    """
    return compare_repeats(y, [(baseline, candidate)], classes, resamples, seed, custom)


def compare_repeats(
    y: Array,
    repeats: Sequence[tuple[Predictions | None, Predictions]],
    classes: Classes | None,
    resamples: int,
    seed: int,
    custom: Custom | None = None,
) -> dict[str, Paired]:
    """The same where the rows are predicted several times; each metric is the mean over the repeats.

    Parameters
    ----------
    repeats : sequence of (baseline, candidate)
        All or none have a baseline.
    """
    before = [baseline for baseline, _ in repeats if baseline is not None]
    # all at once, so that all have the same resamples
    drawn = draw(y, [*(each for _, each in repeats), *before], classes, custom, resamples=resamples, seed=seed)
    used = drawn[0].used
    here, there = mean_of(drawn[: len(repeats)]), mean_of(drawn[len(repeats) :])
    added = [
        unseen_rows(y, baseline, candidate, classes, custom, resamples, seed)
        for baseline, candidate in repeats
        if baseline is not None
    ]
    pairs = {}
    for name, (value, values) in here.items():
        pair = Paired(name, float("nan"), value, np.full_like(values, np.nan), values)
        if name in there:
            pair = pair._replace(baseline=there[name].value, baseline_values=there[name].values)
            pair = pair._replace(unseen=sum(each.get(name, 0.0) for each in added) / len(added))
        if custom is not None and name in custom.names:
            count = used[name] if used[name] < resamples else 0
            own = custom.greater_is_better(name)
            pair = pair._replace(own=own, unit=custom.details(name).get("unit", ""), resamples=count)
        pairs[name] = pair
    return pairs


def mean_of(drawn: Sequence[Draws]) -> dict[str, Resampled]:
    """Each metric that all of them have, averaged on all rows and on each resample."""
    names = [name for name in drawn[0].values if all(name in each.values for each in drawn)] if drawn else []
    return {
        name: Resampled(
            float(np.mean([each.values[name] for each in drawn])),
            np.mean([each.resampled[name] for each in drawn], axis=0),
        )
        for name in names
    }


def unseen_rows(
    y: Array,
    baseline: Predictions,
    candidate: Predictions,
    classes: Classes | None,
    custom: Custom | None,
    resamples: int,
    seed: int,
) -> dict[str, Array]:
    """What unobserved rows, which only one of two classifiers predicts correctly, add to each resample's difference.

    If both classifiers predict the same labels, no resample shows a difference, even for few rows. So each resample
    gets additional rows, on average half a row in favour of each model (Agresti and Min 2005, Statistics in Medicine
    24:729). Models with identical predictions are considered the same.
    """
    if classes is None or all(np.array_equal(*pair) for pair in zip(baseline, candidate, strict=True)):  # type: ignore[arg-type]
        return {}
    rng = np.random.default_rng([seed, resamples])
    rows = rng.poisson(0.5, resamples) - rng.poisson(0.5, resamples)
    custom = custom and custom.averaged()  # the amount of a single row is arbitrary
    whole = score(y, Predictions(candidate.predicted, None), classes, custom)
    steps = dict.fromkeys(whole, 0.0)
    for number, label in enumerate(classes.labels):
        right = np.flatnonzero((y == label) & (candidate.predicted == label))
        if len(right):
            wrong = candidate.predicted.copy()
            wrong[right[0]] = classes.labels[number - 1]
            for name, value in score(y, Predictions(wrong, None), classes, custom).items():
                steps[name] = float(np.fmax(steps[name], abs(value - whole[name])))
    return {name: step * rows for name, step in steps.items() if np.isfinite(step)}
