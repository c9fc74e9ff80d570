"""The team's features as nodes of an ONNX graph, by calling each function with a column that notes what is done to it.

Arithmetic, comparisons, NumPy's elementwise functions and `np.where` and `np.clip` have an ONNX form. Whatever else a
function does makes it untraceable. `export_portable` compares the nodes with the function on rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from onnx import TensorProto

from mlops.core.hooks import Feature
from mlops.inference.computed import NUMBERS
from mlops.pipeline.export_graph import Graph

# NumPy's function → ONNX operator; of numbers
ARITHMETIC = {
    np.add: "Add",
    np.subtract: "Sub",
    np.multiply: "Mul",
    np.divide: "Div",
    np.power: "Pow",
    np.float_power: "Pow",
    np.maximum: "Max",
    np.minimum: "Min",
    np.negative: "Neg",
    np.absolute: "Abs",
    np.fabs: "Abs",
    np.reciprocal: "Reciprocal",
    np.sign: "Sign",
    np.exp: "Exp",
    np.log: "Log",
    np.sqrt: "Sqrt",
    np.sin: "Sin",
    np.cos: "Cos",
    np.tanh: "Tanh",
    np.floor: "Floor",
    np.ceil: "Ceil",
    np.rint: "Round",
}
COMPARISONS = {
    np.greater: "Greater",
    np.greater_equal: "GreaterOrEqual",
    np.less: "Less",
    np.less_equal: "LessOrEqual",
    np.equal: "Equal",
    np.isnan: "IsNaN",
}
LOGIC = {
    np.logical_and: "And",
    np.bitwise_and: "And",
    np.logical_or: "Or",
    np.bitwise_or: "Or",
    np.logical_xor: "Xor",
    np.bitwise_xor: "Xor",
    np.logical_not: "Not",
    np.invert: "Not",
}
# functions that consist of others
COMPOSED: dict[Any, Callable[..., Any]] = {
    np.square: lambda x: x * x,
    np.log1p: lambda x: np.log(x + 1.0),
    np.expm1: lambda x: np.exp(x) - 1.0,
    np.log2: lambda x: np.log(x) / np.log(2.0),
    np.log10: lambda x: np.log(x) / np.log(10.0),
    np.remainder: lambda x, y: x - np.floor(x / y) * y,
    np.floor_divide: lambda x, y: np.floor(x / y),
    np.not_equal: lambda x, y: ~(x == y),
    np.isfinite: lambda x: (x - x) == 0.0,
    np.isinf: lambda x: np.equal(np.absolute(x), np.inf),
}


class UntraceableError(ValueError):
    """A function does something that has no ONNX form; the message says what."""


class Traced(NDArrayOperatorsMixin):
    """A column of shape (n_samples, 1) that is computed by a graph.

    Parameters
    ----------
    graph : Graph
    name : str
        Of the graph's value.
    logical : bool
        Whether it holds true and false instead of numbers.
    """

    def __init__(self, graph: Graph, name: str, logical: bool = False) -> None:
        self.graph, self.name, self.logical = graph, name, logical

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise UntraceableError(f"uses np.{function.__name__} with {', '.join([method, *options])}")
        if function in COMPOSED:
            return COMPOSED[function](*inputs)
        if function in LOGIC:
            return self._node(LOGIC[function], *map(self._truth, inputs), logical=True)
        name = ARITHMETIC.get(function) or COMPARISONS.get(function)
        if name is None:
            raise UntraceableError(f"uses np.{function.__name__}")
        return self._node(name, *map(self._number, inputs), logical=function in COMPARISONS)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function is np.where and len(arguments) == 3:
            condition, chosen, other = arguments
            return self._node("Where", self._truth(condition), self._number(chosen), self._number(other))
        if function is np.clip:
            return Traced.clip(*arguments, **options)
        raise UntraceableError(f"uses np.{function.__name__}")

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise UntraceableError("needs the values of a column at once")

    def __bool__(self) -> bool:
        raise UntraceableError("decides by the values of a column; np.where decides row by row")

    def astype(self, kind: Any, **options: Any) -> Traced:
        """As float64 or bool."""
        wanted = np.dtype(kind)
        if wanted == np.bool_:
            return self._wrapped(self._truth(self), True)
        if wanted != np.float64:
            raise UntraceableError(f"converts a column to {wanted}")
        return self._wrapped(self._number(self), False)

    def clip(self, low: Any = None, high: Any = None) -> Any:
        """Within limits."""
        found = self if low is None else np.maximum(self, low)
        return found if high is None else np.minimum(found, high)

    def _wrapped(self, name: str, logical: bool) -> Traced:
        return Traced(self.graph, name, logical)

    def _node(self, operator: str, *inputs: str, logical: bool = False) -> Traced:
        return self._wrapped(self.graph.add(operator, *inputs), logical)

    def _number(self, value: Any) -> str:
        """Name of a value as a number."""
        if isinstance(value, Traced):
            return self.graph.add("Cast", value.name, to=TensorProto.DOUBLE) if value.logical else value.name
        return self.graph.constant(np.float64(_scalar(value)))

    def _truth(self, value: Any) -> str:
        """Name of a value as true or false."""
        if not isinstance(value, Traced):
            return self.graph.constant(np.bool_(_scalar(value)))
        if value.logical:
            return value.name
        return self.graph.add("Not", self.graph.add("Equal", value.name, self.graph.constant(np.float64(0))))


def _scalar(value: Any) -> Any:
    if np.ndim(value) or not isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating | np.ndarray):
        raise UntraceableError(f"combines a column with a {type(value).__name__}")
    return value


def added(graph: Graph, features: Sequence[Feature], columns: dict[str, str]) -> list[str]:
    """Add features to a graph, and return the names of their values, of shape (n_samples, 1).

    Parameters
    ----------
    columns : dict of str to str
        Numeric or boolean column → name of its value in the graph, of the same shape.

    Raises
    ------
    UntraceableError
        Names the feature and what it does.
    """
    found = []
    for feature in features:
        other = [name for name in feature.columns if name not in columns]
        if other:
            raise UntraceableError(f"{feature.name} is computed from {other[0]!r}, which is no number")
        if feature.kind not in NUMBERS:
            raise UntraceableError(f"{feature.name} is {feature.kind}, not a number")
        given = [Traced(graph, columns[name]) for name in feature.columns]
        try:
            made = inspect.unwrap(feature.function)(*given)
        except UntraceableError as error:
            raise UntraceableError(f"{feature.name} {error}") from None
        except Exception as error:  # the team's code may do anything with a column
            raise UntraceableError(
                f"{feature.name} does more than elementwise NumPy ({type(error).__name__})"
            ) from None
        if not isinstance(made, Traced):
            raise UntraceableError(f"{feature.name} does not compute its value from its columns")
        found.append(made.astype(np.float64).name)
    return found
