"""Build an ONNX graph: add nodes and constants with unique names, and return the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

# versions of ONNX and of its operators for machine learning, unless a converter needs an older one
OPSET, ML_OPSET, IR_VERSION = 21, 5, 10


class Graph:
    """Nodes and constants in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """Add a constant and return its name; a list of integers becomes int64."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"ours_constant_{len(self.constants)}"))
        return str(self.constants[-1].name)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the name of the output."""
        output = f"ours_value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def model(self, inputs: list[Any], output: str, element: int, width: int, **versions: Any) -> Any:
        """The graph as a model with one output, of shape (n_samples, width)."""
        made = helper.make_tensor_value_info(output, element, [None, width])
        graph = helper.make_graph(self.nodes, "model", inputs, [made], self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        return helper.make_model(graph, **{"opset_imports": opsets, "ir_version": IR_VERSION, **versions})
