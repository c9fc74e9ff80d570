"""Convert trees, forests and histogram gradient boosting of scikit-learn to nodes of an ONNX graph in double precision.

skl2onnx sums their leaves in single precision, so that labels of rows near the threshold change. It also sends missing
values to the wrong branch, and does not convert histogram gradient boosting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mlops.pipeline.export_graph import Graph

Array = np.ndarray[Any, Any]


class Tree(NamedTuple):
    """The nodes of one tree; the values for branches have no meaning for leaves.

    Attributes
    ----------
    left, right : ndarray of shape (n_nodes,)
        The node to go to where the feature is at most the threshold, and otherwise.
    missing_left : ndarray of shape (n_nodes,)
        Whether a missing value goes left.
    value : ndarray of shape (n_nodes,)
        The value of a leaf.
    """

    leaf: Array
    left: Array
    right: Array
    feature: Array
    threshold: Array
    missing_left: Array
    value: Array


def added(graph: Graph, matrix: str, estimator: Any) -> str | None:
    """Add the estimator to the graph.

    Returns
    -------
    str or None
        The name of the output (probabilities or numbers); None for an unsupported estimator.
    """
    from sklearn import ensemble, tree

    forests = (
        ensemble.RandomForestClassifier,
        ensemble.RandomForestRegressor,
        ensemble.ExtraTreesClassifier,
        ensemble.ExtraTreesRegressor,
    )
    writers: dict[tuple[type, ...], Callable[[Graph, str, Any], str]] = {
        (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor): boosted,
        (tree.DecisionTreeClassifier, tree.DecisionTreeRegressor): averaged,
        forests: averaged,
    }
    write = next((write for kinds, write in writers.items() if isinstance(estimator, kinds)), None)
    return None if write is None else write(graph, matrix, estimator)


def boosted(graph: Graph, matrix: str, estimator: Any) -> str:
    """Histogram gradient boosting: the sum of the leaves, transformed by the inverse link of its loss."""
    trees = [
        (target, _of_boosting(tree)) for iteration in estimator._predictors for target, tree in enumerate(iteration)
    ]
    width = estimator.n_trees_per_iteration_
    raw = leaves(graph, matrix, trees, width)
    raw = graph.add("Add", raw, graph.constant(np.asarray(estimator._baseline_prediction, np.float64).reshape(1, -1)))
    if not hasattr(estimator, "classes_"):
        return graph.add("Exp", raw) if estimator.loss in ("poisson", "gamma") else raw
    if width > 1:
        return graph.add("Softmax", raw, axis=1)
    positive = graph.add("Sigmoid", raw)
    return graph.add("Concat", graph.add("Sub", graph.constant(1.0), positive), positive, axis=1)


def averaged(graph: Graph, matrix: str, estimator: Any) -> str:
    """A tree, or the mean of a forest; scikit-learn converts the features to single precision."""
    matrix = graph.add("Cast", graph.add("Cast", matrix, to=TensorProto.FLOAT), to=TensorProto.DOUBLE)
    trees = [tree.tree_ for tree in getattr(estimator, "estimators_", [estimator])]
    count = graph.constant(float(len(trees)))
    classes = trees[0].value.shape[2]
    if classes > 2:
        return graph.add("Div", _summed(graph, matrix, trees), count)
    total = leaves(graph, matrix, [(0, _of_forest(tree, tree.value[:, 0, -1])) for tree in trees], 1)
    if classes == 2:  # before the division, which rounds
        total = graph.add("Concat", graph.add("Sub", count, total), total, axis=1)
    return graph.add("Div", total, count)


def _summed(graph: Graph, matrix: str, trees: list[Any]) -> str:
    """The sum of the leaves' probabilities of many classes, looked up by the leaf that each tree leads to."""
    rows = np.cumsum([0, *(tree.node_count for tree in trees)])
    found = [(place, _of_forest(tree, np.arange(tree.node_count) + rows[place])) for place, tree in enumerate(trees)]
    reached = graph.add("Cast", leaves(graph, matrix, found, len(trees)), to=TensorProto.INT64)
    table = graph.constant(np.concatenate([tree.value[:, 0] for tree in trees]))
    return graph.add("ReduceSum", graph.add("Gather", table, reached, axis=0), graph.constant([1]), keepdims=0)


def _of_boosting(tree: Any) -> Tree:
    nodes = tree.nodes
    if nodes["is_categorical"].any():
        raise ValueError("a split by categories")
    return Tree(
        leaf=nodes["is_leaf"].astype(bool),
        left=nodes["left"],
        right=nodes["right"],
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        missing_left=nodes["missing_go_to_left"],
        value=nodes["value"],
    )


def _of_forest(tree: Any, value: Array) -> Tree:
    return Tree(
        leaf=tree.children_left < 0,
        left=tree.children_left,
        right=tree.children_right,
        feature=tree.feature,
        threshold=tree.threshold,
        missing_left=tree.missing_go_to_left,
        value=value,
    )


def leaves(graph: Graph, matrix: str, trees: list[tuple[int, Tree]], width: int) -> str:
    """The sum of the leaves that each row falls into, by target.

    Parameters
    ----------
    trees : list of (int, Tree)
        Trees with the index of their target.
    """
    parts: dict[str, list[Array]] = {}
    roots: list[int] = []
    branches = ends = 0
    for target, tree in trees:
        roots.append(branches)
        tree = _with_branch(tree)
        inner = ~tree.leaf
        place = np.where(tree.leaf, np.cumsum(tree.leaf) - 1 + ends, np.cumsum(inner) - 1 + branches)
        left, right = tree.left[inner].astype(np.int64), tree.right[inner].astype(np.int64)
        for name, values in {
            "nodes_featureids": tree.feature[inner],
            "nodes_splits": tree.threshold[inner],
            "nodes_missing_value_tracks_true": tree.missing_left[inner],
            "nodes_truenodeids": place[left],
            "nodes_trueleafs": tree.leaf[left],
            "nodes_falsenodeids": place[right],
            "nodes_falseleafs": tree.leaf[right],
            "leaf_weights": tree.value[tree.leaf],
            "leaf_targetids": np.full(tree.leaf.sum(), target),
        }.items():
            parts.setdefault(name, []).append(values)
        branches += int(inner.sum())
        ends += int(tree.leaf.sum())
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    doubles = ("nodes_splits", "leaf_weights")
    attributes: dict[str, Any] = {
        name: numpy_helper.from_array(values.astype(np.float64)) if name in doubles else values.astype(int).tolist()
        for name, values in whole.items()
    }
    modes = helper.make_tensor("modes", TensorProto.UINT8, [branches], bytes(branches), raw=True)  # all: at most
    attributes |= {"nodes_modes": modes, "tree_roots": roots, "n_targets": width}
    return graph.add("TreeEnsemble", matrix, domain="ai.onnx.ml", **attributes)


def _with_branch(tree: Tree) -> Tree:
    """Add a branch that leads to the leaf on both sides to a tree with a single leaf, because ONNX needs a branch."""
    if len(tree.leaf) > 1:
        return tree
    return Tree(
        leaf=np.array([False, True]),
        left=np.array([1, 0]),
        right=np.array([1, 0]),
        feature=np.array([0, 0]),
        threshold=np.array([0.0, 0.0]),
        missing_left=np.array([False, False]),
        value=np.append(tree.value, tree.value),
    )
