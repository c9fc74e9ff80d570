"""The files with which the service explains predictions: arrays of the explainer, and the preprocessing as ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.inference import explanation, runtime
from mlops.inference.contract import Contract, Explanation
from mlops.model import explaining
from mlops.model.metrics import Array
from mlops.pipeline.export_onnx import UnconvertibleError, matrix_only


def made(model: Any, contract: Contract, X: Any, columns: dict[str, Array]) -> tuple[Explanation, dict[str, bytes]]:
    """What the contract says of explanations, and the files by name.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
        Training rows.
    columns : dict of str to ndarray
        The first of them as the service takes them, to compare the preprocessing on.
    """
    found = explaining.tried(model, X, [each.name for each in contract.inputs], contract.positive)
    if isinstance(found, str):
        return Explanation(why=found), {}
    files = {explanation.FILE: explanation.to_bytes(found.explainer)}
    if contract.runtime == "onnx":
        try:
            files[explanation.GRAPH] = matrix_only(model, contract)
        except UnconvertibleError as error:
            return Explanation(why=f"the preprocessing does not convert by itself: {error}"), {}
        matrix = runtime.onnx_graph(files[explanation.GRAPH], contract, explanation.GRAPH)(columns)
        rows = len(next(iter(columns.values())))
        expected = explanation.dense(found.steps.transform(X.iloc[:rows]))
        if not np.allclose(matrix, expected, rtol=1e-9, atol=1e-9, equal_nan=True):
            return Explanation(why="the preprocessing as ONNX differs"), {}
    return Explanation(method=found.method, unit=found.unit, of=found.of), files
