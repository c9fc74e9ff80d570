"""Is the mean loss of one stream higher than that of another? A test of two versions that may be looked at any time.

Rows of both are put into rounds as they come, and each round bets on its difference of means. While the mean
difference is at most a limit, no bet gains on average, so the wealth exceeds 1/error with a probability of at most the
error, over all looks together (Shekhar and Ramdas 2023, doi:10.1109/TIT.2023.3305867; Waudby-Smith and Ramdas 2024,
doi:10.1093/jrsssb/qkad009). A round holds rows of the same time, so what changes for both versions does not matter.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

# Shares of the largest possible bet, whose wealth is averaged
BETS = np.array([0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6])
LEAST_ROUNDS = 20  # before which the differences do not say how many are needed


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
