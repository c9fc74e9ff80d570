"""Check an ONNX file before ONNX Runtime opens it: its operators, its trees, and that it uses no other files.

ONNX Runtime checks most things itself. But a tree of some ten thousand levels crashes its process, a cyclic tree never
terminates, and tensors may refer to other files. The image does not contain the package `onnx`, so the relevant fields
are parsed here from the bytes, in the format of Protocol Buffers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

MOST_BYTES = 1 << 30
MOST_NESTED = 8
# ONNX Runtime needs about 500 bytes of stack per level
MOST_LEVELS = 1_000

# Operators of the exporter, of skl2onnx for scikit-learn's estimators, and of frameworks for dense layers, activations
# and normalisation. None reads a file, runs a program, loops until a condition holds, or needs another library.
OPERATORS = {
    "": {
        *("Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "CumSum"),
        *("Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "Gemm", "Greater"),
        *("GreaterOrEqual", "Identity", "IsNaN", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Min", "Mul", "Neg"),
        *("Not", "Or", "Pow", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
        *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Scan", "Shape", "Sigmoid"),
        *("Sign", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "TopK"),
        *("Transpose", "Unsqueeze", "Where", "Xor"),
        *("BatchNormalization", "Ceil", "Celu", "Cos", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish"),
        *("LayerNormalization", "LeakyRelu", "LogSoftmax", "Mish", "PRelu", "Round", "Selu", "Sin", "Softsign"),
        "ThresholdedRelu",
    },
    "ai.onnx.ml": {
        *("ArrayFeatureExtractor", "Binarizer", "LabelEncoder", "LinearClassifier", "LinearRegressor", "Normalizer"),
        *("Scaler", "SVMClassifier", "SVMRegressor", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    },
}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Numbers of fields in onnx.proto
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTION = 7, 20, 25
GRAPH_NODE, GRAPH_TENSOR, GRAPH_SPARSE = 1, 5, 15
NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
NAME, A_TENSOR, A_GRAPH, INTS, STRINGS, TENSORS, GRAPHS, SPARSE, MORE_SPARSE = 1, 5, 6, 8, 9, 10, 11, 22, 23
TENSOR_ELSEWHERE, TENSOR_LOCATION = 13, 14

# Repeated fields, floats and integers, are parsed together
RUNS = re.compile(rb"(?:\x3d[\x00-\xff]{4})+|(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+", re.DOTALL)


class OnnxError(ValueError):
    """A file is truncated or altered, or contains something that is not allowed; the message names it."""


class Node(NamedTuple):
    """A node of a graph, with its numeric and text attributes.

    Attributes
    ----------
    ints : dict of str to ndarray of int64
    strings : dict of str to list of bytes
    """

    domain: str
    operator: str
    ints: dict[str, Array]
    strings: dict[str, list[bytes]]


def check(content: bytes) -> None:
    """Check a file.

    Raises
    ------
    OnnxError
        Names the operator, the tensor or the node.
    """
    if len(content) > MOST_BYTES:
        raise OnnxError(f"it has {len(content):,} bytes; at most {MOST_BYTES:,} are allowed")
    graphs = []
    for number, value in fields(memoryview(content)):
        if number in (MODEL_TRAINING, MODEL_FUNCTION):
            raise OnnxError("it defines functions")
        if number == MODEL_GRAPH:
            graphs.append(_message(value))
    if len(graphs) != 1:
        raise OnnxError(f"it has {len(graphs)} graphs")
    _check_graph(graphs[0], MOST_NESTED)


def _check_graph(content: memoryview, nested: int) -> None:
    if not nested:
        raise OnnxError(f"graphs are nested more than {MOST_NESTED} times")
    for number, value in fields(content):
        if number == GRAPH_NODE:
            node = _node(_message(value), nested)
            if node.operator not in OPERATORS.get(node.domain, ()):
                raise OnnxError(f"the operator {node.domain or 'ai.onnx'}.{node.operator} is not on the list")
            if node.operator.startswith("TreeEnsemble"):
                _check_trees(node)
        elif number == GRAPH_TENSOR:
            _check_tensor(_message(value))
        elif number == GRAPH_SPARSE:
            raise OnnxError("it contains a sparse tensor")


def _check_tensor(content: memoryview) -> None:
    for number, value in fields(content):
        if number == TENSOR_ELSEWHERE or (number == TENSOR_LOCATION and value != 0):
            raise OnnxError("a tensor is in another file")


def _node(content: memoryview, nested: int) -> Node:
    """Parse a node, and check its tensors and graphs."""
    node = {NODE_OPERATOR: "", NODE_DOMAIN: ""}
    ints: dict[str, Array] = {}
    strings: dict[str, list[bytes]] = {}
    for number, value in fields(content):
        if number in node:
            node[number] = _text(value)
        elif number == NODE_ATTRIBUTE:
            name = ""
            found: list[Array] = []
            texts: list[bytes] = []
            for inner, each in fields(_message(value)):
                if inner == NAME:
                    name = _text(each)
                elif inner in (A_TENSOR, TENSORS):
                    _check_tensor(_message(each))
                elif inner in (A_GRAPH, GRAPHS):
                    _check_graph(_message(each), nested - 1)
                elif inner in (SPARSE, MORE_SPARSE):
                    raise OnnxError("it contains a sparse tensor")
                elif inner == INTS and not isinstance(each, int):
                    found.append(numbers(each) if isinstance(each, memoryview) else each)
                elif inner == STRINGS:
                    texts.append(bytes(_message(each)))
            if name in ints:
                raise OnnxError(f"a node has the attribute {name} twice")
            ints[name] = np.concatenate([np.array([], dtype=np.int64), *found])
            strings[name] = texts
    domain = node[NODE_DOMAIN]
    return Node("" if domain == "ai.onnx" else domain, node[NODE_OPERATOR], ints, strings)


def _check_trees(node: Node) -> None:
    """Follow all branches of all trees together, level by level, to the leaves."""
    nothing = np.array([], dtype=np.int64)
    children = [node.ints.get(name, nothing) for name in ("nodes_truenodeids", "nodes_falsenodeids")]
    if node.operator == "TreeEnsemble":
        count = len(children[0])
        leafs = [node.ints.get(name, nothing) for name in ("nodes_trueleafs", "nodes_falseleafs")]
        ends = [each != 0 for each in leafs]
        inner = np.ones(count, dtype=bool)
    else:  # numbered per tree; leaves are nodes too
        trees, own = (node.ints.get(name, nothing) for name in ("nodes_treeids", "nodes_nodeids"))
        count = len(own)
        inner = np.array([mode != b"LEAF" for mode in node.strings.get("nodes_modes", [])], dtype=bool)
        if not count == len(trees) == len(inner) == len(children[0]) == len(children[1]):
            raise OnnxError("the attributes of a tree differ in length")
        _within([trees, own, *(each[inner] for each in children)], 1 << 31)
        keys = trees << 31 | own
        order = np.argsort(keys, kind="stable")
        wanted = [trees << 31 | each for each in children]
        places = [np.searchsorted(keys[order], each).clip(max=max(count - 1, 0)) for each in wanted]
        children = [order[place] for place in places]
        for child, key in zip(children, wanted, strict=True):
            if (keys[child] != key)[inner].any():
                raise OnnxError("a node of a tree refers to a node that does not exist")
        ends = [~inner[child] for child in children]
    if not len(children[0]) == len(children[1]) == len(ends[0]) == len(ends[1]) == count:
        raise OnnxError("the attributes of a tree differ in length")
    _within([child[inner & ~end] for child, end in zip(children, ends, strict=True)], count)
    here = np.flatnonzero(inner)
    for _ in range(MOST_LEVELS):
        below = np.zeros(count, dtype=bool)
        for child, end in zip(children, ends, strict=True):
            below[child[here][~end[here]]] = True
        here = np.flatnonzero(below)
        if not here.size:
            return
    raise OnnxError(f"a tree has more than {MOST_LEVELS:,} levels, or is cyclic")


def _within(values: list[Array], end: int) -> None:
    if any(((each < 0) | (each >= end)).any() for each in values):
        raise OnnxError("a node of a tree refers to a node that does not exist")


def fields(content: memoryview) -> Iterator[tuple[int, int | memoryview | Array]]:
    """The fields of a message with their numbers; repeated integers come as one array, and floats are skipped."""
    place, end = 0, len(content)
    while place < end:
        run = RUNS.match(content, place)
        if run:
            if content[place] == INTS << 3:
                yield INTS, numbers(content[place : run.end()])[1::2]  # a tag precedes every value
            place = run.end()
            continue
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = _varint(content, place)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise OnnxError("it is damaged")
        if size > end - place:
            raise OnnxError("it ends too early")
        yield number, content[place : place + size]
        place += size


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """An integer of up to ten bytes, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise OnnxError("it ends too early")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise OnnxError("it is damaged")


def numbers(content: memoryview) -> Array:
    """Consecutive integers with seven bits per byte.

    Returns
    -------
    ndarray of shape (n_numbers,), of int64
    """
    every = np.frombuffer(content, dtype=np.uint8)
    last = np.flatnonzero(every < 0x80)
    if not last.size or last[-1] != len(every) - 1:
        raise OnnxError("it ends too early")
    start = np.concatenate([[0], last[:-1] + 1])
    lengths = last - start + 1
    if lengths.max() > 10:
        raise OnnxError("it is damaged")
    shift = (np.arange(len(every)) - np.repeat(start, lengths)).astype(np.uint64) * np.uint64(7)
    return np.add.reduceat((every & 0x7F).astype(np.uint64) << shift, start).view(np.int64)


def _message(value: int | memoryview | Array) -> memoryview:
    if not isinstance(value, memoryview):
        raise OnnxError("it is damaged")
    return value


def _text(value: int | memoryview | Array) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")
