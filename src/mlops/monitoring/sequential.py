"""Tests that may be looked at every day for years: has the mean of a loss risen above a limit?

Every look multiplies bets on the losses that have come since the last one (Waudby-Smith and Ramdas 2024,
doi:10.1093/jrsssb/qkad009). While the mean is at most the limit, no bet gains on average. A new bet starts at each
look, so that a change is found as fast after a year as on the first day: the sum of all bets is an e-detector (Shin,
Ramdas and Rinaldo 2023, doi:10.51387/23-NEJSDS51), whose mean time to a false alarm is at least its limit. The mean on
the reference rows is not known exactly either, so the limit is its upper confidence bound (Podkopaev and Ramdas 2022,
arXiv:2110.06177).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray[Any, Any]

# Shares of the largest possible bet: large ones find a large rise at once, small ones a small rise in the end
BETS = np.array([0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5])


@dataclass
class Detector:
    """Detects that the mean of losses has risen above a limit.

    Parameters
    ----------
    limit : float
        Losses between 0 and 1 are expected to have at most this mean, between 0 and 1.
    looks : float
        Mean number of looks until a false alarm, at least.
    """

    limit: float
    looks: float
    evidence: Array = field(default_factory=lambda: np.zeros(len(BETS)))
    peak: float = 0.0

    def look(self, losses: Array) -> bool:
        """Take the losses since the last look, and say whether there is an alarm.

        Parameters
        ----------
        losses : ndarray of shape (n_samples,)
            Between 0 and 1, in the order in which they became known.
        """
        return self.add(gains(losses, self.limit).sum(axis=1)) if len(losses) else self.alarm

    def add(self, gained: Array) -> bool:
        """Take the sums of the gains of at least one loss since the last look, and say whether there is an alarm."""
        with np.errstate(over="ignore"):  # an alarm stays one
            self.evidence = (self.evidence + 1) * np.exp(gained)
        self.peak = max(self.peak, self.value)
        return self.alarm

    @property
    def value(self) -> float:
        """The evidence: an alarm is raised where it reaches `looks`."""
        return float(self.evidence.mean())

    @property
    def alarm(self) -> bool:
        return self.peak >= self.looks


def gains(losses: Array, limit: float) -> Array:
    """The logarithm of what each bet gains by each loss, of shape (n_bets, n_samples)."""
    return np.asarray(np.log1p(BETS[:, None] / limit * (losses - limit)))


def upper_bound(losses: Array, error: float) -> float:
    """An upper confidence bound of the mean of losses between 0 and 1.

    Of errors that are 0 or 1 it is exact (Clopper and Pearson 1934); of others it comes from betting (Waudby-Smith and
    Ramdas 2024), which is valid for any distribution and nearly as narrow as the normal approximation.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,)
    error : float
        Probability that the mean is larger.
    """
    n_samples = len(losses)
    if n_samples == 0:
        return 1.0
    if np.isin(losses, (0.0, 1.0)).all():
        wrong = losses.sum()
        return 1.0 if wrong == n_samples else float(stats.beta.ppf(1 - error, wrong + 1, n_samples - wrong))
    # predictable plug-in of mean and variance, as in theorem 3 there, by bisection over the means that are not refuted
    order = np.random.default_rng(0).permutation(n_samples)
    values = 1 - losses[order]
    count = np.arange(1, n_samples + 1)
    mean = (0.5 + np.cumsum(values)) / (count + 1)
    variance = (0.25 + np.cumsum((values - mean) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bets = np.sqrt(2 * np.log(1 / error) / (n_samples * before))

    def refuted(candidate: float) -> bool:
        capped = np.minimum(bets, 0.5 / max(candidate, 1e-12))
        return bool(np.cumsum(np.log1p(capped * (values - candidate))).max() >= np.log(1 / error))

    low, high = 0.0, float(values.mean())  # of 1 - loss: its lower bound is between them
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return 1 - low
