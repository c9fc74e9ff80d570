"""Estimators of our own: classes with scikit-learn's API, which `params.yaml` names as `project.estimators.NAME`.

A class is tuned, saved, exported and served like scikit-learn's. With a method `to_onnx` it runs in ONNX Runtime.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Tags


class PriorCorrectedLogisticRegression(LogisticRegression):
    """Logistic regression for a prevalence that differs from the training table's.

    A table from a clinic holds more patients with the disease than a screening programme sees. The odds are scaled to
    the prevalence in use, which moves only the intercept (Saerens, Latinne and Decaestecker 2002; King and Zeng 2001).

    Parameters
    ----------
    prevalence : float, default=0.1
        Expected share of the second class, in sorted order, where the model is used.
    C : float, default=1.0
        Inverse of regularisation strength.
    max_iter : int, default=1000
    """

    def __init__(self, *, prevalence: float = 0.1, C: float = 1.0, max_iter: int = 1000) -> None:
        super().__init__(C=C, max_iter=max_iter)
        self.prevalence = prevalence

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Fit, then move the intercept by the difference of the log-odds of both prevalences."""
        if not 0 < self.prevalence < 1:
            raise ValueError(f"prevalence must be between 0 and 1, got {self.prevalence}")
        super().fit(X, y)
        if len(self.classes_) != 2:
            raise ValueError(f"Only binary classification is supported. y has {len(self.classes_)} classes")
        observed = np.mean(np.asarray(y) == self.classes_[1])
        self.intercept_ += np.log(self.prevalence / (1 - self.prevalence)) - np.log(observed / (1 - observed))
        return self

    def to_onnx(self, n_features: int) -> Any:
        """The fitted classifier as an ONNX graph, from a matrix of features to a matrix of probabilities."""
        from onnx import parser

        weights, shift = ", ".join(map(repr, self.coef_[0].tolist())), float(self.intercept_[0])
        return parser.parse_model(f"""
            <ir_version: 10, opset_import: ["" : 21]>
            classifier (double[N, {n_features}] X) => (double[N, 2] probabilities)
            <double[{n_features}, 1] weights = {{{weights}}}, double[1] shift = {{{shift!r}}}> {{
                product = MatMul (X, weights)
                log_odds = Add (product, shift)
                opposite = Neg (log_odds)
                first = Sigmoid (opposite)
                second = Sigmoid (log_odds)
                probabilities = Concat <axis = 1> (first, second)
            }}""")
