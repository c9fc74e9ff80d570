"""The difference of two recipes: a mean over folds with a corrected variance, combined with the test rows.

The models of the folds share most of their training rows, so their differences are not independent. The variance of
the mean is corrected for that (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366), and Student's t has as many
degrees of freedom as there are differences, minus one (Bouckaert and Frank 2004, doi:10.1007/978-3-540-24775-3_3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from mlops.model import metrics
from mlops.model.metrics import Array
from mlops.review.compare import Paired


class Recipe(NamedTuple):
    """The difference of two recipes in a metric.

    Attributes
    ----------
    metric : str
    difference : float
        This change's minus main's.
    spread : float
        Its standard error.
    freedom : float
        Degrees of freedom of Student's t.
    """

    metric: str
    difference: float
    spread: float
    freedom: float

    @property
    def loss(self) -> float:
        """How much worse this change is; negative where it is better."""
        return -self.difference if metrics.greater_is_better(self.metric) else self.difference

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided interval of the difference."""
        half = float(stats.t.ppf((1 + confidence) / 2, self.freedom)) * self.spread
        return self.difference - half, self.difference + half

    def largest_loss(self, confidence: float) -> float:
        """The upper confidence bound of the loss, one-sided."""
        return self.loss + float(stats.t.ppf(confidence, self.freedom)) * self.spread

    def p_value(self) -> float:
        """One-sided, of 'this change is no worse'."""
        return float(stats.t.sf(self.loss / self.spread, self.freedom)) if self.spread > 0 else float(self.loss <= 0)

    def with_test_rows(self, pair: Paired, rows: int, test_rows: int) -> Recipe:
        """The mean with the paired difference on the test rows, weighted by inverse variance.

        Parameters
        ----------
        pair : Paired
        rows, test_rows : int
            Of the training and the test rows, for what unobserved rows might add where the folds do not differ.
        """
        if not np.isfinite(pair.spread) or not np.isfinite(pair.loss):
            return self
        unseen = float(np.var(pair.unseen)) * (test_rows / rows) ** 2
        here, there = max(self.spread**2, unseen), pair.spread**2
        difference = pair.candidate - pair.baseline
        if here == 0 or there == 0:  # the folds, or the two models, do not differ at all
            return self if here == 0 else Recipe(self.metric, difference, 0.0, self.freedom)
        weight = there / (here + there)
        parts_of = weight**2 * here, (1 - weight) ** 2 * there
        # Welch and Satterthwaite; the bootstrap's variance counts as known
        freedom = self.freedom * (sum(parts_of) / parts_of[0]) ** 2
        value = weight * self.difference + (1 - weight) * difference
        return Recipe(self.metric, value, sum(parts_of) ** 0.5, freedom)


def corrected(metric: str, differences: Array) -> Recipe:
    """The mean of the folds' differences, with the variance of Nadeau and Bengio.

    Parameters
    ----------
    differences : ndarray of shape (n_repeats, n_folds)
        This change's metric minus main's, in each fold.

    Notes
    -----
    With J differences s² is divided by J if they are independent. They share training rows, so the ratio of the sizes
    of validation and training, 1 / (n_folds - 1), is added to 1 / J.
    """
    count, folds = differences.size, differences.shape[1]
    variance = (1 / count + 1 / (folds - 1)) * differences.var(ddof=1)
    return Recipe(metric, float(differences.mean()), float(variance**0.5), count - 1)
