"""Is the mean loss of one stream higher than that of another? A test of two versions that may be looked at any time.

Rows of both are put into rounds as they come, and each round bets on its difference of means. While the mean
difference is at most a limit, no bet gains on average, so the wealth exceeds 1/error with a probability of at most the
error, over all looks together (Shekhar and Ramdas 2023, doi:10.1109/TIT.2023.3305867; Waudby-Smith and Ramdas 2024,
doi:10.1093/jrsssb/qkad009). A round holds rows of the same time, so what changes for both versions does not matter.

Where losses have no known range, the test is asymptotic: the error holds if the first look is late enough.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_ndtr

Array = np.ndarray[Any, Any]

# Shares of the largest possible bet, whose wealth is averaged
BETS = np.array([0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6])
LEAST_ROUNDS = 20  # before which the differences do not say how many are needed
LEAST_ASYMPTOTIC = 500  # rounds before the first look of an asymptotic test
SKEWED = 25  # times the squared skewness: rounds before it, too (Cochran 1977, Sampling Techniques, section 2.15)
PRIOR = 50  # rounds; it needs the fewest for a difference that shows after about nine times as many


class Rounds(NamedTuple):
    """Differences of two streams.

    Attributes
    ----------
    differences : ndarray of shape (n_rounds,)
        Mean loss of the second stream less that of the first, between -1 and 1.
    closed : ndarray of shape (n_rounds,)
        The row with which each round was complete.
    """

    differences: Array
    closed: Array


def rounds(second: Array, losses: Array) -> Rounds:
    """Put rows of two streams into rounds.

    A round takes rows of both in the proportion in which they came before it, and one of the rarer stream. That depends
    on nothing that is tested, and all rows take part.

    Parameters
    ----------
    second : ndarray of bool, of shape (n_samples,)
        Whether a row is of the second stream, in the order in which the losses became known.
    losses : ndarray of shape (n_samples,)
        Between 0 and 1.
    """
    waiting: tuple[deque[float], deque[float]] = (deque(), deque())
    count = [0, 0]
    needed = (1, 1)
    differences, closed = [], []
    for number, (stream, loss) in enumerate(zip(second.astype(int).tolist(), losses.tolist(), strict=True)):
        waiting[stream].append(loss)
        count[stream] += 1
        while len(waiting[0]) >= needed[0] and len(waiting[1]) >= needed[1]:
            means = [
                sum(rows.popleft() for _ in range(size)) / size for rows, size in zip(waiting, needed, strict=True)
            ]
            differences.append(means[1] - means[0])
            closed.append(number)
            needed = (max(1, round(count[0] / count[1])), max(1, round(count[1] / count[0])))
    return Rounds(np.array(differences), np.array(closed, dtype=np.int64))


def higher(differences: Array) -> Array:
    """The evidence, after each round, that the mean difference is above 0.

    Returns
    -------
    ndarray of shape (n_rounds,)
        Wealth whose expectation is at most 1 where it is not, at any time.
    """
    return _wealth(differences, 1.0)


def lower(differences: Array, limit: float) -> Array:
    """The evidence, after each round, that the mean difference is below a limit of at least 0."""
    return _wealth(limit - differences, 1 + limit)


def _wealth(gains: Array, largest: float) -> Array:
    bets = BETS[:, None] / largest
    with np.errstate(over="ignore"):  # it stays proven
        return np.asarray(np.exp(np.log1p(bets * gains).cumsum(axis=1)).mean(axis=0))


def asymptotic(gains: Array) -> Array:
    """The evidence, after each round, that the mean of gains of any range is above 0.

    Their sum is nearly a Brownian motion (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024,
    doi:10.1214/24-AOS2408). Of that, the likelihood ratio, averaged over positive drifts by half a normal distribution
    (Robbins 1970, doi:10.1214/aoms/1177696786), is a wealth as that of `higher`.

    Parameters
    ----------
    gains : ndarray of shape (n_rounds,)
    """
    count = np.arange(1, len(gains) + 1)
    total = gains.cumsum()
    mean = total / count
    variance = (gains**2).cumsum() / count - mean**2
    third = (gains**3).cumsum() / count - 3 * mean * variance - mean**3
    spread = 1 + count / PRIOR
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        score = total / np.sqrt(variance * PRIOR * spread)
        evidence = np.exp(np.log(2 / np.sqrt(spread)) + score**2 / 2 + log_ndtr(score))
        skewness = third / variance**1.5
    return np.where((count >= np.maximum(LEAST_ASYMPTOTIC, SKEWED * skewness**2)) & (variance > 0), evidence, 0.0)


def rounds_needed(differences: Array, gain: float, wealth: float, error: float) -> float:
    """About how many more rounds the evidence needs, if each gains as much as now; infinite where none gains.

    Parameters
    ----------
    gain : float
        How far the mean difference is on the right side of the limit.
    wealth : float
        The evidence so far.
    """
    if gain <= 0:
        return math.inf
    variance = float(differences.var()) if len(differences) >= LEAST_ROUNDS else 0.25
    growth = gain**2 / (2 * (variance + gain**2))  # of the logarithm, with the best bet
    return max(1.0, (math.log(len(BETS) / error) - math.log(max(wealth, 1e-300))) / growth)
