"""Append the ONNX graph of an estimator in `src/project/` to the graph of the preprocessing.

Its method `to_onnx(n_features)` returns the graph, or its bytes. The input is a matrix of shape (n_samples, n_features)
in single or double precision, the output the probabilities of shape (n_samples, n_classes) or the predicted numbers.
Frameworks derive names of nodes from counters and clocks, so all names are replaced by numbers here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
import onnx.compose
import onnx.inliner
from onnx import TensorProto, helper

from mlops.core import hooks
from mlops.core.errors import UserError, described
from mlops.model.conformance import is_own, place
from mlops.pipeline.export_graph import Graph

METHOD = "to_onnx"
NUMBERS = (TensorProto.FLOAT, TensorProto.DOUBLE)


class GraphError(ValueError):
    """`to_onnx` does not return a graph of that form."""


class SinglePrecisionError(Exception):
    """The graph computes in single precision, but double was requested."""


def makes_graph(estimator: Any) -> bool:
    """Whether an estimator is the team's own and has the method."""
    return is_own(type(estimator).__module__) and callable(getattr(estimator, METHOD, None))


def joined(graph: Graph, inputs: list[Any], matrix: str, estimator: Any, *, double: bool) -> onnx.ModelProto:
    """The preprocessing, then the estimator's own graph.

    Parameters
    ----------
    matrix : str
        Name of the features, in double precision.
    double : bool
        Whether the estimator is to compute in double precision.

    Raises
    ------
    GraphError
        Where the estimator's method fails, or returns something else.
    SinglePrecisionError
        Where it cannot compute in double precision.
    UserError
        Where a package that it imports is missing.
    """
    own = _own_graph(estimator)
    given, made = own.graph.input[0], own.graph.output[0]
    element = given.type.tensor_type.elem_type
    if double and element == TensorProto.FLOAT:
        raise SinglePrecisionError
    if element == TensorProto.FLOAT:
        matrix = graph.add("Cast", matrix, to=element)
    versions = {"opset_imports": own.opset_import, "ir_version": own.ir_version}
    first = graph.model(inputs, matrix, element, estimator.n_features_in_, **versions)
    whole = onnx.compose.merge_models(first, own, io_map=[(matrix, given.name)], outputs=[made.name])
    del whole.metadata_props[:]
    return whole


def _own_graph(estimator: Any) -> onnx.ModelProto:
    """The estimator's graph, checked, with names that depend on nothing but the graph."""
    kind = type(estimator)
    try:
        own = getattr(estimator, METHOD)(estimator.n_features_in_)
        if isinstance(own, bytes):
            own = onnx.load_model_from_string(own)
        if not isinstance(own, onnx.ModelProto):
            raise GraphError(f"returns {type(own).__name__}, expected onnx.ModelProto or its bytes")
        own = _alone(own)
        onnx.checker.check_model(own)
    except ImportError as error:
        hint = f"uv add {error.name}" if error.name else ""
        raise UserError(f"{hooks.raised_at(error) or place(kind, METHOD)}: {described(error)}", hint) from None
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the team's code may raise anything
        # the text may hold paths, which are another machine's, so that it is not part of an output
        print(f"  warning: {hooks.raised_at(error) or place(kind, METHOD)}: {described(error)}", flush=True)
        raise GraphError(f"{kind.__name__}.{METHOD} raises {type(error).__name__}") from None
    return own


def _alone(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without functions and remarks, and with numbers as names."""
    own = (
        onnx.inliner.inline_local_functions(model)
        if model.functions
        else onnx.ModelProto.FromString(model.SerializeToString())
    )
    graph = own.graph
    constants = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise GraphError(f"its graph has {len(inputs)} inputs and {len(graph.output)} outputs, expected one of each")
    element = inputs[0].type.tensor_type.elem_type
    if element not in NUMBERS:
        raise GraphError("its input is not a matrix of floating-point numbers")
    numbers: dict[str, str] = {"": ""}

    def numbered(name: str) -> str:
        return numbers.setdefault(name, f"own_{len(numbers)}")

    for values, value in ((graph.input, inputs[0]), (graph.output, graph.output[0])):
        tensor = value.type.tensor_type
        # the number of rows has a name of the framework's own
        shape = [None, *(each.dim_value or None for each in tensor.shape.dim[1:])] if tensor.shape.dim else None
        fresh = helper.make_tensor_value_info(numbered(value.name), tensor.elem_type, shape)
        del values[:]
        values.append(fresh)
    _rename(graph, numbered)
    graph.name, own.doc_string, own.domain = "own", "", ""
    own.producer_name, own.producer_version = "", ""
    del own.metadata_props[:]
    # in an order of their own from run to run
    opsets = {"" if each.domain == "ai.onnx" else each.domain: each.version for each in own.opset_import}
    del own.opset_import[:]
    own.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    return own


def _rename(graph: onnx.GraphProto, numbered: Callable[[str], str]) -> None:
    del graph.value_info[:]
    graph.doc_string = ""
    for constant in graph.initializer:
        constant.name, constant.doc_string = numbered(constant.name), ""
    for node in graph.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        for names in (node.input, node.output):
            names[:] = [numbered(name) for name in names]
        for inner in _inner(node):
            for value in (*inner.input, *inner.output):
                value.name = numbered(value.name)
            _rename(inner, numbered)


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        attribute.doc_string = ""
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
