"""Have the rows changed? Each column of a window of production rows against the same column of the reference.

Tests are exact or conservative far into their tails, because a limit that holds for years, many columns and every day
is a p-value of one in a million. They warn and explain; only a rise of the risk alarms.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Array = np.ndarray[Any, Any]

# Categories that are tested one by one; all others are one. So are rare ones: an id differs in each row
MOST_CATEGORIES = 50
LEAST_COUNT = 5
OTHERS = "all others"


class Change(NamedTuple):
    """How a column differs between the reference and the window.

    Attributes
    ----------
    p_value : float
        Of 'both come from the same distribution'.
    effect : float
        Between 0 and 1: the largest difference of the distribution functions of numbers (Kolmogorov and Smirnov), the
        total variation distance of categories, or the difference of the missing shares, whichever is largest.
    what : str
        Where the difference is.
    """

    p_value: float
    effect: float
    what: str


def numbers(reference: Array, window: Array) -> Change:
    """Compare numbers; NaN is a missing value.

    Parameters
    ----------
    reference, window : ndarray of float64, of shape (n_samples,)
    """
    missing = [np.isnan(each) for each in (reference, window)]
    present = [each[~absent] for each, absent in zip((reference, window), missing, strict=True)]
    changes = [missing_values(*missing)]
    if len(present[0]) and len(present[1]):
        found = stats.ks_2samp(*present, method="asymp")
        medians = [float(np.median(each)) for each in present]
        changes.append(Change(float(found.pvalue), float(found.statistic), "median {:.4g} → {:.4g}".format(*medians)))
    return combined(changes)


def categories(reference: Array, window: Array) -> Change:
    """Compare categories, each on its own by an exact test; None is a missing value.

    Parameters
    ----------
    reference, window : ndarray of object, of shape (n_samples,)
    """
    missing = [np.array([value is None for value in each], dtype=bool) for each in (reference, window)]
    counts = [Counter(str(value) for value in each if value is not None) for each in (reference, window)]
    totals = [max(1, sum(count.values())) for count in counts]
    names = sorted({*counts[0], *counts[1]}, key=lambda name: (-counts[0][name] - counts[1][name], name))
    changes = [missing_values(*missing)]
    if all(counts):
        alone = [name for name in names[:MOST_CATEGORIES] if counts[0][name] + counts[1][name] >= LEAST_COUNT]
        tested = {name: [count[name] for count in counts] for name in alone}
        rest = [total - sum(each[side] for each in tested.values()) for side, total in enumerate(totals)]
        tested |= {OTHERS: rest} if any(rest) else {}
        found = {name: share_changed(*each, *totals) for name, each in tested.items()}
        name = min(found, key=lambda each: found[each])
        new = " (new)" if not tested[name][0] else ""
        # of the tested ones, because texts that are all different have a distance of 1 without a change
        distance = 0.5 * sum(abs(each[0] / totals[0] - each[1] / totals[1]) for each in tested.values())
        what = f"{name!r}{new} {tested[name][0] / totals[0]:.1%} → {tested[name][1] / totals[1]:.1%}"
        changes.append(Change(min(1.0, len(found) * found[name]), distance, what))
    return combined(changes)


def missing_values(reference: Array, window: Array) -> Change:
    """Compare the shares of missing values."""
    before, after = (float(each.mean()) if len(each) else 0.0 for each in (reference, window))
    p_value = share_changed(int(reference.sum()), int(window.sum()), len(reference), len(window))
    return Change(p_value, abs(after - before), f"missing {before:.1%} → {after:.1%}")


def share_changed(before: int, after: int, rows_before: int, rows_after: int) -> float:
    """The p-value of Fisher's exact test for two shares."""
    if not (rows_before and rows_after and (before or after)):
        return 1.0
    return float(stats.fisher_exact([[before, rows_before - before], [after, rows_after - after]]).pvalue)


def combined(changes: list[Change]) -> Change:
    """The most significant of several changes, with its p-value corrected for their number (Bonferroni)."""
    worst = min(changes, key=lambda change: change.p_value)
    effect = max(change.effect for change in changes)
    return Change(min(1.0, len(changes) * worst.p_value), effect, worst.what)


def level(looks: float, columns: int, windows: int) -> float:
    """The p-value below which a column has changed, so that a false warning comes once in `looks` looks."""
    return 1 / (looks * max(1, columns) * windows)
