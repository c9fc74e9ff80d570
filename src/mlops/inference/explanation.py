"""Why a model predicts what it predicts: Shapley values of the columns, from arrays that `export` wrote.

The raw score of a row is a base, the same for all rows, plus one contribution for each column. A linear model is
compared with the means of the training rows; in trees, a column that is not known follows both branches, in the
shares of the training rows that did. The arrays hold no row. Nothing here is imported before a client asks.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

FILE, GRAPH = "explanation.npz", "explanation.onnx"
# Numbers that are in memory at once
MOST_CELLS = 1_000_000


class UnexplainedError(Exception):
    """There is no exact explanation, or it would take too long; the message says why."""


class Linear(NamedTuple):
    """A linear model: the product of the coefficients with the distance from the training rows' means.

    Attributes
    ----------
    coefficients : ndarray of shape (n_outputs, n_features)
    intercepts : ndarray of shape (n_outputs,)
    means : ndarray of shape (n_features,)
        Of the training rows, after preprocessing.
    """

    coefficients: Array
    intercepts: Array
    means: Array

    @property
    def steps(self) -> int:
        """How many numbers are computed for one row."""
        return int(self.coefficients.size)

    @property
    def cells(self) -> int:
        """How many numbers are in memory for one row."""
        return self.steps

    def negated(self, probability: bool) -> Linear:
        """The same for the first of two classes."""
        return self._replace(coefficients=-self.coefficients, intercepts=-self.intercepts)

    @property
    def base(self) -> Array:
        """The score of the means, of shape (n_outputs,)."""
        found: Array = (self.coefficients * self.means).sum(axis=1) + self.intercepts
        return found

    def explain(self, matrix: Array, source: Array, n_inputs: int) -> Array:
        """Contributions of shape (n_samples, n_outputs, n_inputs); `means` are the background."""
        parts = (matrix - self.means)[:, None, :] * self.coefficients
        return summed(parts, source, n_inputs)


class Trees(NamedTuple):
    """Trees as their paths from root to leaf, with one interval for each feature on a path.

    Attributes
    ----------
    feature : ndarray of int, of shape (n_paths, n_intervals)
    low, high : ndarray of shape (n_paths, n_intervals)
        A value stays on the path if it is above `low` and at most `high`.
    missing : ndarray of bool, of shape (n_paths, n_intervals)
        Whether a missing value stays on the path.
    share : ndarray of shape (n_paths, n_intervals)
        Of the training rows at the feature's branches that stay on the path.
    value : ndarray of shape (n_outputs, n_paths)
        What the leaf adds to the score.
    start : ndarray of shape (n_outputs,)
        The score without trees.
    single : ndarray of bool, of shape ()
        Whether the trees compare in single precision.
    """

    feature: Array
    low: Array
    high: Array
    missing: Array
    share: Array
    value: Array
    start: Array
    single: Array

    @property
    def steps(self) -> int:
        """How many numbers are computed for one row, nearly all of them at the points of the integral."""
        points = (int(self.feature.shape[1]) + 1) // 2
        return int(self.feature.size) * (points + len(self.value))

    @property
    def cells(self) -> int:
        """How many numbers are in memory for one row."""
        return int(self.feature.size) * (2 + len(self.value))

    def negated(self, probability: bool) -> Trees:
        """The same for the first of two classes."""
        return self._replace(value=-self.value, start=float(probability) - self.start)

    @property
    def base(self) -> Array:
        """The mean score of the training rows, of shape (n_outputs,)."""
        found: Array = (self.value * self.share.prod(axis=1)).sum(axis=1) + self.start
        return found

    def explain(self, matrix: Array, source: Array, n_inputs: int) -> Array:
        """Contributions of shape (n_samples, n_outputs, n_inputs), of path-dependent TreeSHAP.

        Known features multiply a leaf's value by 1 or 0, unknown ones by their share (Lundberg et al. 2020,
        doi:10.1038/s42256-019-0138-9). Such a product is a multilinear game, whose Shapley value is an integral
        (Owen 1972, doi:10.1287/mnsc.18.5.64) of a polynomial, so Gauss-Legendre quadrature is exact.
        """
        if self.single:
            with np.errstate(over="ignore"):
                matrix = matrix.astype(np.float32).astype(np.float64)
        values = matrix[:, self.feature]
        known = np.where(np.isnan(values), self.missing, (values > self.low) & (values <= self.high))
        points, weights = np.polynomial.legendre.leggauss((self.feature.shape[1] + 1) // 2)
        total = np.zeros(known.shape)
        for at, weight in zip((points + 1) / 2, weights / 2, strict=True):
            factors = self.share * (1 - at) + known * at
            total += weight * factors.prod(axis=2, keepdims=True) / factors
        total *= known - self.share
        flat = source[self.feature].reshape(-1)
        parts = [(total * value[:, None]).reshape(len(matrix), -1) for value in self.value]
        return summed(np.stack(parts, axis=1), flat, n_inputs)


class Library(NamedTuple):
    """An estimator that explains itself: LightGBM, which has path-dependent TreeSHAP.

    Attributes
    ----------
    estimator : LGBMModel
    sign : float
        -1 where the score is that of the first of two classes.
    """

    estimator: Any
    sign: float = 1.0

    @property
    def steps(self) -> int:
        """An estimate that takes as long as the steps of other trees."""
        return 32 * int(self.estimator.booster_.num_trees() * self.estimator.get_params().get("num_leaves", 31))

    @property
    def cells(self) -> int:
        """How many numbers are in memory for one row."""
        return int(self.estimator.n_features_in_)

    @property
    def base(self) -> Array:
        """The mean score of the training rows, of shape (n_outputs,)."""
        return self.of(np.zeros((1, self.estimator.n_features_in_)))[0, :, -1]

    def negated(self, probability: bool) -> Library:
        """The same for the first of two classes."""
        return self._replace(sign=-self.sign)

    def of(self, matrix: Array) -> Array:
        """Of shape (n_samples, n_outputs, n_features + 1); the last one is the base."""
        found = np.asarray(self.estimator.predict(matrix, pred_contrib=True), dtype=np.float64)
        return self.sign * found.reshape(len(matrix), -1, matrix.shape[1] + 1)

    def explain(self, matrix: Array, source: Array, n_inputs: int) -> Array:
        """Contributions of shape (n_samples, n_outputs, n_inputs)."""
        return summed(self.of(matrix)[..., :-1], source, n_inputs)


class Explainer(NamedTuple):
    """An explained model.

    Attributes
    ----------
    arrays : Linear, Trees or Library
    source : ndarray of int, of shape (n_features,)
        The input that each feature of the preprocessed matrix was made of.
    n_inputs : int
    """

    arrays: Linear | Trees | Library
    source: Array
    n_inputs: int

    @property
    def base(self) -> Array:
        """The score without contributions, of shape (n_outputs,)."""
        return self.arrays.base

    def __call__(self, matrix: Array) -> Array:
        """Contributions of shape (n_samples, n_outputs, n_inputs) to the rows of a preprocessed matrix."""
        size = max(1, MOST_CELLS // self.arrays.cells)
        blocks = [matrix[start : start + size] for start in range(0, matrix.shape[0], size)]
        found = [self.arrays.explain(dense(block), self.source, self.n_inputs) for block in blocks]
        return np.concatenate(found) if found else np.empty((0, len(self.base), self.n_inputs))


def dense(block: Any) -> Array:
    """Rows of a matrix, which may be sparse, in double precision."""
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block, dtype=np.float64)


def summed(parts: Array, source: Array, n_inputs: int) -> Array:
    """Sums over the last axis by source; one after the other, so that they are the same on any number of processors."""
    order = np.argsort(source, kind="stable")
    present, starts = np.unique(source[order], return_index=True)
    found = np.zeros((*parts.shape[:-1], n_inputs))
    if len(present):
        found[..., present] = np.add.reduceat(parts[..., order], starts, axis=-1)
    return found


def to_bytes(explainer: Explainer) -> bytes:
    """The content of `explanation.npz`; the same for the same explainer."""
    buffer = io.BytesIO()
    found = explainer.arrays
    arrays = {"sign": found.sign} if isinstance(found, Library) else found._asdict()
    arrays |= {"source": explainer.source, "inputs": np.array(explainer.n_inputs)}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.save(content, values, allow_pickle=False)
            # with the date of a ZipInfo, and not by np.savez, whose bytes depend on the version of Python
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return buffer.getvalue()


def from_bytes(content: bytes, estimator: Any = None) -> Explainer:
    """Read what `to_bytes` made; pickles are refused.

    Parameters
    ----------
    estimator : LGBMModel, optional
        The one that explains itself.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    source, n_inputs = arrays.pop("source"), int(arrays.pop("inputs"))
    if "sign" in arrays:
        return Explainer(Library(estimator, float(arrays["sign"])), source, n_inputs)
    kind: Callable[..., Linear | Trees] = Trees if "feature" in arrays else Linear
    return Explainer(kind(**arrays), source, n_inputs)
