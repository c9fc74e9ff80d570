"""The fitted model as an ONNX graph: the preprocessing written here, the estimator converted by skl2onnx.

The preprocessing is of a known shape, which `estimators.make_model` gives it. Its numbers stay in double precision, and
what an encoder makes of a category is looked up in a table that the encoder itself has filled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

from mlops.contract import Contract, Field

OPSET, ML_OPSET, IR_VERSION = 21, 3, 10
UNKNOWN = "a word that nobody has seen"
DATE_PARTS = 4


class UnconvertibleError(ValueError):
    """A part of the model has no place in the graph."""


class Graph:
    """Nodes and constants, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"before_constant_{len(self.constants)}"))
        return str(self.constants[-1].name)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"before_value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output


def convert(model: Any, contract: Contract, *, double: bool) -> tuple[bytes, list[Field]]:
    """The model as the bytes of an ONNX file, and the fields with the codes of their categories.

    Its inputs are `numbers`, float64 of shape (n_samples, n_numbers): numeric and boolean columns, then four parts of
    each date; and `codes`, int64 of shape (n_samples, n_categorical). Its output are the probabilities, or the number.

    Parameters
    ----------
    double : bool
        Whether the estimator too computes in double precision, which not every converter can.

    Raises
    ------
    UnconvertibleError
        Where a column has no place in the graph; skl2onnx raises errors of its own.
    """
    if contract.classes is not None and not contract.probabilities:
        raise UnconvertibleError("a classifier without probabilities")
    pipeline = getattr(model, "estimator_", model)
    graph = Graph()
    fields = {field.name: field for field in contract.fields}
    numeric = [field.name for field in contract.fields if field.kind in ("numeric", "boolean")]
    dates = [field.name for field in contract.fields if field.kind == "date"]
    categorical = [field.name for field in contract.fields if field.kind == "categorical"]
    pieces = []
    for name, transformer, columns in pipeline["preprocessing"].transformers_:
        if name == "numeric":
            pieces.append(scaled(graph, transformer, [numeric.index(column) for column in columns]))
        elif name == "date":
            first = [len(numeric) + DATE_PARTS * dates.index(column) for column in columns]
            places = [start + part for start in first for part in range(DATE_PARTS)]
            pieces.append(scaled(graph, transformer[1:], places))
        elif name == "categorical":
            tables = encoded(transformer, columns)
            for column, (codes, table) in zip(columns, tables, strict=True):
                fields[column] = fields[column].model_copy(update={"codes": codes})
                picked = graph.add("Gather", "codes", graph.constant(categorical.index(column)), axis=1)
                pieces.append(graph.add("Gather", graph.constant(table), picked, axis=0))
        elif name != "remainder":
            raise UnconvertibleError(
                f"a column of text ({', '.join([columns] if isinstance(columns, str) else columns)})"
            )
    matrix = pieces[0] if len(pieces) == 1 else graph.add("Concat", *pieces, axis=1)
    if not double:
        matrix = graph.add("Cast", matrix, to=TensorProto.FLOAT)
    width = pipeline["preprocessing"].transform(_empty(pipeline, contract)).shape[1]
    inputs = []
    if numeric or dates:
        shape = [None, len(numeric) + DATE_PARTS * len(dates)]
        inputs.append(helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, shape))
    if categorical:
        inputs.append(helper.make_tensor_value_info("codes", TensorProto.INT64, [None, len(categorical)]))
    content = joined(graph, inputs, matrix, pipeline["estimator"], width, contract, double)
    return content, [fields[field.name] for field in contract.fields]


def _empty(pipeline: Any, contract: Contract) -> Any:
    """One row, to see how wide the matrix is."""
    import pandas as pd

    row: dict[str, Any] = {}
    for field in contract.fields:
        if field.kind in ("numeric", "boolean"):
            row[field.name] = np.array([np.nan])
        elif field.kind == "date":
            row[field.name] = np.array(["NaT"], dtype="datetime64[us]")
        else:
            row[field.name] = np.array([None], dtype=object)
    return pd.DataFrame(row).reindex(columns=pipeline["preprocessing"].feature_names_in_)


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
        The categories with a row of their own, then the row of a missing value and that of any other.
    """
    import pandas as pd

    longest = max(len(categories) for categories in encoder.categories_) + 2
    asked = {}
    for column, categories in zip(columns, encoder.categories_, strict=True):
        known = [each if isinstance(each, str) else None for each in categories]
        asked[column] = np.array([*known, *[UNKNOWN] * (longest - len(known) - 1), None], dtype=object)
    made = encoder.transform(pd.DataFrame(asked))
    made = np.asarray(made.todense() if hasattr(made, "todense") else made, dtype=np.float64)
    widths = [1] * len(columns)
    if hasattr(encoder, "drop_idx_"):  # one-hot: one column for each category that is not rare, one for the rare ones
        rare = (
            encoder.infrequent_categories_ if encoder.min_frequency or encoder.max_categories else [None] * len(columns)
        )
        counted = zip(encoder.categories_, rare, strict=True)
        widths = [len(all_) - (0 if few is None else len(few) - 1) for all_, few in counted]
    found = []
    for column, values in zip(columns, np.split(made, np.cumsum(widths)[:-1], axis=1), strict=True):
        other, missing = values[-2], values[-1]
        own = [
            (name, row)
            for name, row in zip(asked[column], values, strict=True)
            if name not in (None, UNKNOWN) and (row != other).any()
        ]
        table = np.stack([*(row for _, row in own), missing, other])
        found.append(([name for name, _ in own], table))
    return found


def joined(
    graph: Graph, inputs: list[Any], matrix: str, estimator: Any, width: int, contract: Contract, double: bool
) -> bytes:
    """The preprocessing, then the estimator as skl2onnx converts it."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if double else FloatTensorType
    options = {"zipmap": False} if contract.probabilities else None
    opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    converted = to_onnx(
        estimator, initial_types=[("X", kind([None, width]))], options=options, target_opset=opsets, name="estimator"
    )
    output = converted.graph.output[-1]
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT
    before = helper.make_graph(
        graph.nodes,
        "preprocessing",
        inputs,
        [helper.make_tensor_value_info(matrix, element, [None, width])],
        graph.constants,
    )
    imports = [helper.make_opsetid(each.domain, each.version) for each in converted.opset_import]
    first = helper.make_model(before, opset_imports=imports, ir_version=converted.ir_version)
    whole = onnx.compose.merge_models(first, converted, io_map=[(matrix, "X")], outputs=[output.name])
    return bytes(whole.SerializeToString(deterministic=True))
