"""Convert steps to nodes of an ONNX graph in double precision: scaling, selection, projection, bins, encoders.

skl2onnx converts all other steps, and everything after them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn import decomposition, impute, preprocessing, random_projection
from sklearn.feature_selection import SelectorMixin

from mlops.pipeline.export_graph import Graph

Array = np.ndarray[Any, Any]
Writer = Callable[[Graph, str, Any], str | None]


def added(graph: Graph, matrix: str, transformer: Any) -> str | None:
    """Add a fitted transformer to the graph.

    Returns
    -------
    str or None
        The name of its output; None for a transformer, or an option of it, that is not supported.
    """
    kind = type(transformer)
    if issubclass(kind, SelectorMixin) and kind.__module__.startswith("sklearn."):
        return graph.add("Gather", matrix, graph.constant(transformer.get_support(indices=True)), axis=1)
    write = WRITERS.get(kind)
    return None if write is None else write(graph, matrix, transformer)


def standardised(graph: Graph, matrix: str, scaler: Any) -> str:
    """`StandardScaler` and `RobustScaler`."""
    centre = getattr(scaler, "mean_", None) if hasattr(scaler, "with_mean") else scaler.center_
    if centre is not None and getattr(scaler, "with_mean", True):
        matrix = graph.add("Sub", matrix, graph.constant(np.asarray(centre, np.float64)))
    if scaler.scale_ is not None:
        matrix = graph.add("Div", matrix, graph.constant(np.asarray(scaler.scale_, np.float64)))
    return matrix


def ranged(graph: Graph, matrix: str, scaler: Any) -> str:
    """`MinMaxScaler`."""
    matrix = graph.add("Mul", matrix, graph.constant(np.asarray(scaler.scale_, np.float64)))
    matrix = graph.add("Add", matrix, graph.constant(np.asarray(scaler.min_, np.float64)))
    if not scaler.clip:
        return matrix
    low, high = (graph.constant(np.float64(end)) for end in scaler.feature_range)
    return graph.add("Clip", matrix, low, high)


def divided(graph: Graph, matrix: str, scaler: Any) -> str:
    """`MaxAbsScaler`."""
    return graph.add("Div", matrix, graph.constant(np.asarray(scaler.scale_, np.float64)))


def projected(graph: Graph, matrix: str, transformer: Any) -> str:
    """PCA and other products with a matrix of components."""
    mean = getattr(transformer, "mean_", None)
    if mean is not None:
        matrix = graph.add("Sub", matrix, graph.constant(np.asarray(mean, np.float64)))
    components = np.asarray(transformer.components_, np.float64).T
    if getattr(transformer, "whiten", False) and hasattr(transformer, "explained_variance_"):
        scale = np.sqrt(transformer.explained_variance_)
        components = components / np.maximum(scale, np.finfo(scale.dtype).eps)
    return graph.add("MatMul", matrix, graph.constant(np.ascontiguousarray(components)))


def imputed(graph: Graph, matrix: str, imputer: Any) -> str | None:
    """`SimpleImputer` of numbers, with its indicator columns."""
    fill = np.asarray(imputer.statistics_)
    if fill.dtype.kind != "f" or not np.isnan(imputer.missing_values):
        return None
    if np.isnan(fill).any() and not imputer.keep_empty_features:  # it drops columns
        return None
    fill = np.nan_to_num(fill)
    missing = graph.add("IsNaN", matrix)
    values = graph.add("Where", missing, graph.constant(fill.astype(np.float64)), matrix)
    indicated = [] if imputer.indicator_ is None else imputer.indicator_.features_
    if not len(indicated):
        return values
    marks = graph.add("Gather", missing, graph.constant(np.asarray(indicated, dtype=np.int64)), axis=1)
    return graph.add("Concat", values, graph.add("Cast", marks, to=TensorProto.DOUBLE), axis=1)


def multiplied(graph: Graph, matrix: str, transformer: Any) -> str:
    """`PolynomialFeatures`: each term is the product of as many columns as its degree, or fewer and ones."""
    powers = transformer.powers_
    width = powers.shape[1]
    first = graph.add("IsNaN", graph.add("Gather", matrix, graph.constant([0]), axis=1))
    one = graph.constant(np.float64(1))
    matrix = graph.add("Concat", matrix, graph.add("Where", first, one, one), axis=1)
    factors = np.full((max(int(powers.sum(axis=1).max()), 1), len(powers)), width, dtype=np.int64)
    for term, degrees in enumerate(powers):
        columns = np.repeat(np.arange(width), degrees)
        factors[: len(columns), term] = columns
    terms = graph.add("Gather", matrix, graph.constant(factors[0]), axis=1)
    for columns in factors[1:]:
        terms = graph.add("Mul", terms, graph.add("Gather", matrix, graph.constant(columns), axis=1))
    return terms


def binned(graph: Graph, matrix: str, transformer: Any) -> str:
    """`KBinsDiscretizer`: the number of edges that a value has reached, or a column for each bin."""
    inner = [np.asarray(edges, np.float64)[1:-1] for edges in transformer.bin_edges_]
    table = np.full((len(inner), max(1, *map(len, inner))), np.inf)
    for place, edges in enumerate(inner):
        table[place, : len(edges)] = edges
    last = graph.constant([2])
    reached = graph.add("GreaterOrEqual", graph.add("Unsqueeze", matrix, last), graph.constant(table))
    code = graph.add("ReduceSum", graph.add("Cast", reached, to=TensorProto.INT64), last, keepdims=0)
    if transformer.encode == "ordinal":
        return graph.add("Cast", code, to=TensorProto.DOUBLE)
    most = int(max(transformer.n_bins_))
    places = [feature * most + bin_ for feature, bins in enumerate(transformer.n_bins_) for bin_ in range(bins)]
    same = graph.add("Equal", graph.add("Unsqueeze", code, last), graph.constant(np.arange(most)))
    flat = graph.add("Reshape", graph.add("Cast", same, to=TensorProto.DOUBLE), graph.constant([-1, len(inner) * most]))
    return graph.add("Gather", flat, graph.constant(places), axis=1)


def computed(graph: Graph, matrix: str, transformer: Any) -> str | None:
    """`FunctionTransformer` of a NumPy function that ONNX also has."""
    if transformer.func is None:
        return matrix
    if transformer.kw_args:
        return None
    if transformer.func is np.log1p:
        return graph.add("Log", graph.add("Add", matrix, graph.constant(np.float64(1))))
    operator = {np.log: "Log", np.exp: "Exp", np.sqrt: "Sqrt", np.abs: "Abs"}.get(transformer.func)
    return None if operator is None else graph.add(operator, matrix)


WRITERS: dict[type, Writer] = {
    decomposition.FastICA: projected,
    decomposition.IncrementalPCA: projected,
    decomposition.PCA: projected,
    decomposition.TruncatedSVD: projected,
    impute.SimpleImputer: imputed,
    preprocessing.FunctionTransformer: computed,
    preprocessing.KBinsDiscretizer: binned,
    preprocessing.MaxAbsScaler: divided,
    preprocessing.MinMaxScaler: ranged,
    preprocessing.PolynomialFeatures: multiplied,
    preprocessing.RobustScaler: standardised,
    preprocessing.StandardScaler: standardised,
    random_projection.GaussianRandomProjection: projected,
}


def encoded(encoder: Any, columns: list[str], unseen: str) -> list[tuple[list[str], Array]]:
    """The output of an encoder for each category of each column.

    Returns
    -------
    list of (list of str, ndarray of shape (n_codes + 2, width))
        The categories, and the output for each of them, for a missing value, and for any other value.
    """
    import pandas as pd

    one_hot = isinstance(encoder, preprocessing.OneHotEncoder)
    few = getattr(encoder, "infrequent_categories_", None) or [None] * len(columns)
    rare: list[set[Any]] = [set() if names is None else set(names) for names in few]
    # a one-hot encoder may treat new categories as rare ones; an ordinal encoder distinguishes them
    as_new = one_hot and encoder.handle_unknown == "infrequent_if_exist"
    own = [
        [name for name in every if isinstance(name, str) and not (as_new and name in rare)]
        for every, rare in zip(encoder.categories_, rare, strict=True)
    ]
    longest = max(map(len, own))
    inputs = {
        column: np.array([*names, *[unseen] * (longest - len(names)), None, unseen], dtype=object)
        for column, names in zip(columns, own, strict=True)
    }
    made = encoder.transform(pd.DataFrame(inputs))
    made = np.asarray(made.todense() if hasattr(made, "todense") else made, dtype=np.float64)
    widths = encoder._n_features_outs if one_hot else [made.shape[1] // len(columns)] * len(columns)
    tables = np.split(made, np.cumsum(widths)[:-1], axis=1)
    return [
        (names, np.concatenate([table[: len(names)], table[-2:]])) for names, table in zip(own, tables, strict=True)
    ]


ENCODERS = (preprocessing.OneHotEncoder, preprocessing.OrdinalEncoder, preprocessing.TargetEncoder)
