"""The exported model as one that explains its predictions; loaded when it is first asked to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.inference import runtime
from mlops.inference.contract import Contract
from mlops.inference.explanation import FILE, GRAPH, Explainer, UnexplainedError, from_bytes
from mlops.inference.runtime import Answer, Array, Columns


class Explained(NamedTuple):
    """Explanations of n_samples predictions: `base` plus the contributions of a row are its score.

    Attributes
    ----------
    of : list
        The class that each row's score speaks for; None for a regression.
    base : ndarray of shape (n_samples,)
    contributions : ndarray of shape (n_samples, n_inputs)
        In the order of the contract's inputs.
    """

    of: list[Any]
    base: Array
    contributions: Array

    @property
    def score(self) -> Array:
        """Of shape (n_samples,)."""
        found: Array = self.base + self.contributions.sum(axis=1)
        return found


class Explain:
    """Explains predictions, from the columns of some rows and the model's answer to them.

    Parameters
    ----------
    matrix_of : callable
        From columns to the matrix that the estimator takes.
    """

    def __init__(self, contract: Contract, explainer: Explainer, matrix_of: Callable[[Columns], Any]) -> None:
        self.of, self.explainer, self.matrix_of = contract.explanation.of, explainer, matrix_of
        self.places = {label: place for place, label in enumerate(contract.classes or [])}
        self.bases = explainer.base
        self.steps = explainer.arrays.steps

    def __call__(self, columns: Columns, answer: Answer) -> Explained:
        """The explanation of each row."""
        found = self.explainer(self.matrix_of({**columns, **(answer.computed or {})}))
        if len(self.bases) == 1:
            return Explained([self.of] * len(found), np.repeat(self.bases, len(found)), found[:, 0])
        predicted = answer.predicted.tolist()
        chosen = np.array([self.places[label] for label in predicted], dtype=np.intp)
        return Explained(predicted, self.bases[chosen], found[np.arange(len(chosen)), chosen])


def load(contract: Contract, folder: Path = paths.SERVICE) -> Explain:
    """Read what explains the predictions of an exported model.

    Raises
    ------
    UnexplainedError
        If the model has no exact explanation.
    UserError
        If a file is missing or damaged.
    """
    about = contract.explanation
    if about.method is None:
        raise UnexplainedError(about.why or "there is none")
    estimator = None
    matrix_of: Callable[[Columns], Any]
    try:
        if contract.runtime == "onnx":
            matrix_of = runtime.onnx_graph((folder / GRAPH).read_bytes(), contract, GRAPH)
        else:
            model, frame = runtime.sklearn_parts((folder / contract.file).read_bytes(), contract)
            pipeline = getattr(model, "estimator_", model)
            steps, estimator = pipeline[:-1], pipeline[-1]

            def matrix_of(columns: Columns) -> Any:
                return steps.transform(frame(columns))

        explainer = from_bytes((folder / FILE).read_bytes(), estimator)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing", "make, or dvc checkout") from None
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{folder / FILE} is damaged: {error}", "dvc checkout --force") from None
    return Explain(contract, explainer, matrix_of)
