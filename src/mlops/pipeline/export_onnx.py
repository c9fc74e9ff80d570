"""The fitted model as an ONNX graph: preprocessing and trees written here, other estimators converted by skl2onnx.

The preprocessing is of a known shape, which `estimators.make_model` gives it. Its numbers stay in double precision, and
what an encoder makes of a category is looked up in a table that the encoder itself has filled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.compose
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.svm import SVC, NuSVC

from mlops.inference import onnxfile
from mlops.inference.contract import Contract
from mlops.pipeline import export_trees
from mlops.pipeline.export_graph import OPSET, Graph

CONVERTERS_ML_OPSET = 3  # what skl2onnx writes
DATE_PARTS, TIME_PARTS = 4, 3
UNKNOWN = "a word that nobody has seen"


class UnconvertibleError(ValueError):
    """A part of the model has no place in the graph."""


def convert(model: Any, contract: Contract, *, double: bool) -> tuple[bytes, Contract]:
    """The model as the bytes of an ONNX file, and its contract with the codes of the categories.

    Its inputs are `numbers`, float64 of shape (n_samples, n_numbers): numeric and boolean columns, then four parts of
    each date and three of each time of day; and `codes`, int64 of shape (n_samples, n_categorical). Its output are the
    probabilities, or the number.

    Parameters
    ----------
    double : bool
        Whether the estimator too computes in double precision, which not every converter can.

    Raises
    ------
    UnconvertibleError
        Where a column has no place in the graph, or the service would refuse the file; skl2onnx raises errors of its
        own.
    """
    if contract.classes is not None and not contract.probabilities:
        raise UnconvertibleError("a classifier without probabilities")
    pipeline = getattr(model, "estimator_", model)
    estimator = pipeline["estimator"]
    if isinstance(estimator, (SVC, NuSVC)) and contract.threshold is None:
        raise UnconvertibleError("its labels are not those of the highest probability")
    graph = Graph()
    numeric = [each.name for each in contract.inputs if each.kind in ("numeric", "boolean")]
    dates = [each.name for each in contract.inputs if each.kind == "date"]
    times = [each.name for each in contract.inputs if each.kind == "time"]
    categorical = [each.name for each in contract.inputs if each.kind == "categorical"]
    found: dict[str, list[str]] = {}
    pieces = []
    for name, transformer, columns in pipeline["preprocessing"].transformers_:
        if name == "numeric":
            pieces.append(scaled(graph, transformer, [numeric.index(column) for column in columns]))
        elif name == "date":
            first = [len(numeric) + DATE_PARTS * dates.index(column) for column in columns]
            places = [start + part for start in first for part in range(DATE_PARTS)]
            pieces.append(scaled(graph, transformer[1:], places))
        elif name == "time":
            behind = len(numeric) + DATE_PARTS * len(dates)
            first = [behind + TIME_PARTS * times.index(column) for column in columns]
            places = [start + part for start in first for part in range(TIME_PARTS)]
            pieces.append(scaled(graph, transformer[1:], places))
        elif name == "categorical":
            tables = encoded(transformer, columns)
            for column, (codes, table) in zip(columns, tables, strict=True):
                found[column] = codes
                picked = graph.add("Gather", "codes", graph.constant(categorical.index(column)), axis=1)
                pieces.append(graph.add("Gather", graph.constant(table), picked, axis=0))
        elif name != "remainder":
            raise UnconvertibleError(
                f"a column of text ({', '.join([columns] if isinstance(columns, str) else columns)})"
            )
    matrix = pieces[0] if len(pieces) == 1 else graph.add("Concat", *pieces, axis=1)
    inputs = []
    if numeric or dates or times:
        shape = [None, len(numeric) + DATE_PARTS * len(dates) + TIME_PARTS * len(times)]
        inputs.append(helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, shape))
    if categorical:
        inputs.append(helper.make_tensor_value_info("codes", TensorProto.INT64, [None, len(categorical)]))
    output = export_trees.added(graph, matrix, estimator) if double else None
    if output is not None:
        whole = graph.model(inputs, output, TensorProto.DOUBLE, len(contract.classes or [contract.target]))
    else:
        if not double:
            matrix = graph.add("Cast", matrix, to=TensorProto.FLOAT)
        whole = joined(graph, inputs, matrix, estimator, contract, double)
    content = bytes(whole.SerializeToString(deterministic=True))
    try:
        onnxfile.check(content)
    except onnxfile.OnnxError as error:
        raise UnconvertibleError(f"as ONNX, {error}") from None
    return content, contract.with_codes(found)


def scaled(graph: Graph, transformer: Any, places: list[int]) -> str:
    """Numbers as they are; or imputed, with an indicator beside them, and standardised."""
    values = graph.add("Gather", "numbers", graph.constant(places), axis=1)
    if not hasattr(transformer, "named_steps"):
        return values
    steps = dict(transformer.named_steps)
    imputer, scaler = steps.pop("simpleimputer", None), steps.pop("standardscaler", None)
    if steps:
        raise UnconvertibleError(f"the preprocessing step {', '.join(steps)}")
    if imputer is not None:
        missing = graph.add("IsNaN", values)
        fill = np.nan_to_num(np.asarray(imputer.statistics_, dtype=np.float64))
        values = graph.add("Where", missing, graph.constant(fill), values)
        indicated = [] if imputer.indicator_ is None else imputer.indicator_.features_
        if len(indicated):
            marks = graph.add("Gather", missing, graph.constant(np.asarray(indicated, dtype=np.int64)), axis=1)
            values = graph.add("Concat", values, graph.add("Cast", marks, to=TensorProto.DOUBLE), axis=1)
    if scaler is not None:
        values = graph.add("Sub", values, graph.constant(scaler.mean_))
        values = graph.add("Div", values, graph.constant(scaler.scale_))
    return values


def encoded(encoder: Any, columns: list[str]) -> list[tuple[list[str], np.ndarray[Any, Any]]]:
    """What the encoder makes of each category of each column.

    Returns
    -------
    list of (list of str, ndarray of shape (n_codes + 2, width))
        The categories with a code of their own, then the row of a missing value and that of any other.
    """
    import pandas as pd

    one_hot = hasattr(encoder, "drop_idx_")
    rare = [set() if few is None else set(few) for few in encoder.infrequent_categories_]
    # a one-hot encoder treats what is new as it does what is rare; an ordinal one tells them apart
    own = [
        [name for name in every if isinstance(name, str) and not (one_hot and name in few)]
        for every, few in zip(encoder.categories_, rare, strict=True)
    ]
    longest = max(map(len, own))
    asked = {
        column: np.array([*names, *[UNKNOWN] * (longest - len(names)), None, UNKNOWN], dtype=object)
        for column, names in zip(columns, own, strict=True)
    }
    made = encoder.transform(pd.DataFrame(asked))
    made = np.asarray(made.todense() if hasattr(made, "todense") else made, dtype=np.float64)
    widths = [1] * len(columns)
    if one_hot:  # a column for each frequent category, and one for all that are rare
        widths = [len(every) - max(len(few) - 1, 0) for every, few in zip(encoder.categories_, rare, strict=True)]
    tables = np.split(made, np.cumsum(widths)[:-1], axis=1)
    return [
        (names, np.concatenate([table[: len(names)], table[-2:]])) for names, table in zip(own, tables, strict=True)
    ]


def joined(
    graph: Graph, inputs: list[Any], matrix: str, estimator: Any, contract: Contract, double: bool
) -> onnx.ModelProto:
    """The preprocessing, then the estimator as skl2onnx converts it."""
    kind = DoubleTensorType if double else FloatTensorType
    width = estimator.n_features_in_
    options = {"zipmap": False} if contract.probabilities else None
    opsets = {"": OPSET, "ai.onnx.ml": CONVERTERS_ML_OPSET}
    converted = to_onnx(
        estimator, initial_types=[("X", kind([None, width]))], options=options, target_opset=opsets, name="estimator"
    )
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT
    versions = {"opset_imports": converted.opset_import, "ir_version": converted.ir_version}
    first = graph.model(inputs, matrix, element, width, **versions)
    whole = onnx.compose.merge_models(
        first, converted, io_map=[(matrix, "X")], outputs=[converted.graph.output[-1].name]
    )
    # twice each, and in another order from run to run, since skl2onnx keeps them in a set
    opsets = {each.domain: each.version for each in whole.opset_import}
    del whole.opset_import[:]
    whole.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    return whole
