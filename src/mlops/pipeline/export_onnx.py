"""The fitted model as an ONNX graph: this package writes preprocessing, steps and trees; skl2onnx converts the rest.

`estimators.make_model` determines the form of the preprocessing. Its numbers stay in double precision. The output of an
encoder for each category is looked up in a table that was computed with the encoder.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx.compose
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from mlops.inference import onnxfile
from mlops.inference.contract import Contract
from mlops.pipeline import export_own, export_steps, export_trees
from mlops.pipeline.export_graph import OPSET, Graph

CONVERTERS_ML_OPSET = 3  # the version of skl2onnx
DATE_PARTS, TIME_PARTS = 4, 3
UNKNOWN = "a word that nobody has seen"


class UnconvertibleError(ValueError):
    """A part of the model cannot be converted."""


def convert(model: Any, contract: Contract, *, double: bool) -> tuple[bytes, Contract]:
    """The model as the bytes of an ONNX file, and its contract with the codes of the categories.

    Its inputs are `numbers`, float64 of shape (n_samples, n_numbers): numeric and boolean columns, then four parts of
    each date and three of each time of day; and `codes`, int64 of shape (n_samples, n_categorical). Its output are the
    probabilities, or the predicted number.

    Parameters
    ----------
    double : bool
        Whether the estimator also computes in double precision, which not every converter supports.

    Raises
    ------
    UnconvertibleError
        If a column cannot be converted, or the service would refuse the file. skl2onnx and `export_own` raise other
        errors.
    """
    if contract.classes is not None and not contract.probabilities:
        raise UnconvertibleError("a classifier without probabilities")
    pipeline = getattr(model, "estimator_", model)
    estimator = pipeline["estimator"]
    if isinstance(estimator, (SVC, NuSVC)) and contract.threshold is None:
        raise UnconvertibleError("its labels are not those of the highest probability")
    graph = Graph()
    matrix, inputs, rest, found = preprocessed(graph, pipeline, contract)
    own = export_own.makes_graph(estimator)
    if own and len(rest) > 1:
        raise UnconvertibleError(f"the step {rest[0][0]} has no place before the graph of {type(estimator).__name__}")
    output = export_trees.added(graph, matrix, estimator) if double and len(rest) == 1 and not own else None
    if own:
        whole = export_own.joined(graph, inputs, matrix, estimator, double=double)
    elif output is not None:
        whole = graph.model(inputs, output, TensorProto.DOUBLE, len(contract.classes or [contract.target]))
    else:
        if not double:
            matrix = graph.add("Cast", matrix, to=TensorProto.FLOAT)
        whole = joined(graph, inputs, matrix, estimator if len(rest) == 1 else Pipeline(rest), contract, double)
    return checked(whole), contract.with_codes(found)


def matrix_only(model: Any, contract: Contract) -> bytes:
    """The preprocessing and the steps as the bytes of an ONNX file: what the estimator takes, in double precision.

    Raises
    ------
    UnconvertibleError
        If a step cannot be converted, or the service would refuse the file.
    """
    pipeline = getattr(model, "estimator_", model)
    graph = Graph()
    matrix, inputs, rest, _ = preprocessed(graph, pipeline, contract)
    if len(rest) > 1:
        raise UnconvertibleError(f"the step {rest[0][0]}")
    made = graph.model(inputs, matrix, TensorProto.DOUBLE, int(pipeline["estimator"].n_features_in_))
    return checked(made)


def checked(made: onnx.ModelProto) -> bytes:
    """The bytes of a graph, which the service does not refuse."""
    content = bytes(made.SerializeToString(deterministic=True))
    try:
        onnxfile.check(content)
    except onnxfile.OnnxError as error:
        raise UnconvertibleError(f"as ONNX, {error}") from None
    return content


def preprocessed(
    graph: Graph, pipeline: Any, contract: Contract
) -> tuple[str, list[Any], list[tuple[str, Any]], dict[str, list[str]]]:
    """Add the preprocessing, and the steps that this package writes.

    Returns
    -------
    str, list, list, dict
        The name of the matrix, the inputs of the graph, the steps that are left, the codes of categories.
    """
    numeric = [each.name for each in contract.inputs if each.kind in ("numeric", "boolean")]
    dates = [each.name for each in contract.inputs if each.kind == "date"]
    times = [each.name for each in contract.inputs if each.kind == "time"]
    categorical = [each.name for each in contract.inputs if each.kind == "categorical"]
    found: dict[str, list[str]] = {}
    pieces = []

    def looked_up(encoder: Any, columns: list[str]) -> str:
        made = []
        for column, (codes, table) in zip(columns, export_steps.encoded(encoder, columns, UNKNOWN), strict=True):
            found[column] = codes
            picked = graph.add("Gather", "codes", graph.constant(categorical.index(column)), axis=1)
            made.append(graph.add("Gather", graph.constant(table), picked, axis=0))
        return made[0] if len(made) == 1 else graph.add("Concat", *made, axis=1)

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
            pieces.append(looked_up(transformer, columns))
        elif name.startswith("step ") and set(columns) <= {*numeric}:
            values = graph.add("Gather", "numbers", graph.constant([numeric.index(each) for each in columns]), axis=1)
            pieces.append(of_columns(graph, transformer.steps, values))
        elif (
            name.startswith("step ")
            and set(columns) <= {*categorical}
            and type(transformer[0]) in export_steps.ENCODERS
        ):
            pieces.append(of_columns(graph, transformer.steps[1:], looked_up(transformer[0], columns)))
        elif name.startswith("step ") and not isinstance(columns, str):
            raise UnconvertibleError(f"{name} of columns ({', '.join(columns)})")
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
    rest = list(pipeline.steps[1:])
    while len(rest) > 1:
        made = export_steps.added(graph, matrix, rest[0][1])
        if made is None:
            break
        matrix, rest = made, rest[1:]
    return matrix, inputs, rest, found


def scaled(graph: Graph, transformer: Any, places: list[int]) -> str:
    """Numbers unchanged; or imputed, with an indicator column, and standardised."""
    values = graph.add("Gather", "numbers", graph.constant(places), axis=1)
    return of_columns(graph, transformer.steps, values) if hasattr(transformer, "steps") else values


def of_columns(graph: Graph, chain: list[tuple[str, Any]], values: str) -> str:
    """Apply steps for certain columns in order."""
    for key, transformer in chain:
        made = export_steps.added(graph, values, transformer)
        if made is None:
            raise UnconvertibleError(f"the step {key}, {type(transformer).__name__}, of columns")
        values = made
    return values


def joined(
    graph: Graph, inputs: list[Any], matrix: str, estimator: Any, contract: Contract, double: bool
) -> onnx.ModelProto:
    """The preprocessing, then the estimator, or steps and estimator, as skl2onnx converts them."""
    kind = DoubleTensorType if double else FloatTensorType
    width = estimator.n_features_in_
    options = {id(estimator): {"zipmap": False}} if contract.probabilities else None
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
    # skl2onnx returns them twice and in random order, because it keeps them in a set
    opsets = {each.domain: each.version for each in whole.opset_import}
    del whole.opset_import[:]
    whole.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    return whole
