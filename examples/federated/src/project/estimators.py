"""The result of a federation as an estimator: nothing is fitted here, as other hospitals hold most training rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

CATALOGUE = Path("data/prepared/catalogue.json")


class FederatedLogisticRegression(ClassifierMixin, BaseEstimator):
    """Logistic regression with the standardisation and the coefficients of a file that `federation/` has written.

    Parameters
    ----------
    result : str
        Path of the file.
    sha256 : str
        Its hash, so that `params.yaml` says which federation the model comes from, and another one trains it anew.
    """

    trained_elsewhere = True  # the gate's rules about training rows cannot apply

    def __init__(self, *, result: str = "federation/result.json", sha256: str = "") -> None:
        self.result = result
        self.sha256 = sha256

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True  # so that the columns arrive as they are, not standardised by the rows here
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Take the numbers of the file, which must belong to these columns and classes."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        found = self._read()
        self.classes_ = np.unique(y)
        if found["positive"] not in self.classes_ or len(self.classes_) != 2:
            raise ValueError(f"{self.result} predicts {found['positive']!r}, the table has {self.classes_.tolist()}")
        expected = [each["name"] for each in json.loads(CATALOGUE.read_text(encoding="utf-8"))["columns"]]
        if [name for name in expected if name in found["columns"]] != found["columns"] or X.shape[1] != len(
            found["columns"]
        ):
            raise ValueError(f"the columns of {self.result} are not those of the table: run the federation again")
        sign = 1 if found["positive"] == self.classes_[1] else -1
        self.mean_ = np.array(found["mean"])
        weights = sign * np.array(found["coefficients"]) / np.array(found["scale"])
        self.coef_ = weights[None]
        self.intercept_ = np.array([sign * found["intercept"] - weights @ self.mean_])
        return self

    def decision_function(self, X: Any) -> np.ndarray[Any, Any]:
        """Log-odds of the second class; a missing value counts as the mean of all hospitals."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        return np.where(np.isnan(X), self.mean_, X) @ self.coef_[0] + self.intercept_[0]

    def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
        log_odds = self.decision_function(X)
        with np.errstate(over="ignore"):
            return np.column_stack([1 / (1 + np.exp(log_odds)), 1 / (1 + np.exp(-log_odds))])

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        return self.classes_[(self.decision_function(X) > 0).astype(int)]

    def to_onnx(self, n_features: int) -> Any:
        """The classifier as an ONNX graph, from a matrix of columns to a matrix of probabilities."""
        from onnx import parser

        weights, means = (", ".join(map(repr, each.tolist())) for each in (self.coef_[0], self.mean_))
        return parser.parse_model(f"""
            <ir_version: 10, opset_import: ["" : 21]>
            classifier (double[N, {n_features}] X) => (double[N, 2] probabilities)
            <double[{n_features}, 1] weights = {{{weights}}}, double[{n_features}] means = {{{means}}},
             double[1] shift = {{{float(self.intercept_[0])!r}}}> {{
                missing = IsNaN (X)
                filled = Where (missing, means, X)
                product = MatMul (filled, weights)
                log_odds = Add (product, shift)
                opposite = Neg (log_odds)
                first = Sigmoid (opposite)
                second = Sigmoid (log_odds)
                probabilities = Concat <axis = 1> (first, second)
            }}""")

    def _read(self) -> dict[str, Any]:
        try:
            content = Path(self.result).read_bytes()
        except FileNotFoundError:
            raise ValueError(f"{self.result} is missing: run the federation, docs/federated.md") from None
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ValueError(f"{self.result} has another hash than params.yaml: set model.params.sha256: {found}")
        result: dict[str, Any] = json.loads(content)
        return result
