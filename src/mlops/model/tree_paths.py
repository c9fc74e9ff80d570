"""Fitted trees, forests and boosted trees → their paths from root to leaf, for `mlops.inference.explanation`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlops.inference.explanation import Trees, UnexplainedError

Array = np.ndarray[Any, Any]
# Intervals on all paths, times points of the integral: more would take longer than a tenth of a second for one row
MOST_INTERVALS = 5_000_000


class Tree(NamedTuple):
    """The nodes of one tree; `value` has the shape (n_nodes, n_outputs)."""

    left: Array
    right: Array
    feature: Array
    threshold: Array
    missing_left: Array
    rows: Array
    value: Array


class Path(NamedTuple):
    """A leaf, and by feature the values that lead to it: above, at most, whether missing, and the share of rows."""

    value: Array
    intervals: dict[int, tuple[float, float, bool, float]]


def of(estimator: Any) -> Trees | None:
    """The paths of an estimator; None if it does not consist of trees.

    Raises
    ------
    UnexplainedError
        Where its trees cannot be explained exactly, or have too many paths.
    """
    from sklearn import ensemble, tree

    single = (tree.DecisionTreeClassifier, tree.DecisionTreeRegressor)  # extra trees are among these
    forests = (
        ensemble.RandomForestClassifier,
        ensemble.RandomForestRegressor,
        ensemble.ExtraTreesClassifier,
        ensemble.ExtraTreesRegressor,
    )
    if isinstance(estimator, single):
        return together([_averaged(estimator, 1)], np.zeros(1), single=True)
    if isinstance(estimator, forests):
        return together([_averaged(each, len(estimator.estimators_)) for each in estimator.estimators_], single=True)
    if isinstance(estimator, (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)):
        start = np.asarray(estimator._baseline_prediction, np.float64).reshape(-1)
        trees = [
            _of_histogram(each, output, len(start))
            for iteration in estimator._predictors
            for output, each in enumerate(iteration)
        ]
        return together(trees, start)
    if isinstance(estimator, (ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor)):
        return _boosted(estimator)
    return None


def _nodes(tree: Any, value: Array) -> Tree:
    return Tree(
        tree.children_left,
        tree.children_right,
        tree.feature,
        tree.threshold,
        tree.missing_go_to_left.astype(bool),
        tree.weighted_n_node_samples,
        value,
    )


def _averaged(estimator: Any, trees: int) -> Tree:
    """A tree of a forest: the mean of a target, or the probabilities, of two classes only that of the second."""
    values = estimator.tree_.value
    if values.shape[1] > 1:
        raise UnexplainedError("it predicts more than one target")
    values = values[:, 0, 1:] if values.shape[2] == 2 else values[:, 0]
    return _nodes(estimator.tree_, values / trees)


def _boosted(estimator: Any) -> Trees:
    """Gradient boosting whose first prediction is a constant."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if not isinstance(estimator.init_, (DummyClassifier, DummyRegressor, str)):
        raise UnexplainedError(f"its first prediction is made by another model, {type(estimator.init_).__name__}")
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0].astype(np.float64)
    trees = [
        _nodes(each.tree_, _only(estimator.learning_rate * each.tree_.value[:, 0, 0], output, len(start)))
        for iteration in estimator.estimators_
        for output, each in enumerate(iteration)
    ]
    return together(trees, start, single=True)


def _of_histogram(tree: Any, output: int, outputs: int) -> Tree:
    nodes = tree.nodes
    if nodes["is_categorical"].any():
        raise UnexplainedError("it splits by sets of categories")
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    missing, rows = nodes["missing_go_to_left"].astype(bool), nodes["count"].astype(np.float64)
    value = _only(nodes["value"], output, outputs)
    return Tree(left, right, nodes["feature_idx"], nodes["num_threshold"], missing, rows, value)


def _only(values: Array, output: int, outputs: int) -> Array:
    """Values of one output, and zeros for the others."""
    found = np.zeros((len(values), outputs))
    found[:, output] = values
    return found


def together(trees: list[Tree], start: Array | None = None, *, single: bool = False) -> Trees:
    """The paths of all trees in arrays.

    Raises
    ------
    UnexplainedError
        If there are too many, or no training row had weight at a branch.
    """
    found: list[Path] = []
    width, outputs = 1, trees[0].value.shape[1]
    for tree in trees:
        for path in walked(tree):
            found.append(path)
            width = max(width, len(path.intervals))
            if len(found) * width * ((width + 1) // 2) > MOST_INTERVALS:
                raise UnexplainedError("its trees have too many leaves, so that one row would take too long")
    shape = (len(found), width)
    feature, missing = np.zeros(shape, np.int32), np.ones(shape, bool)
    low, high, share = np.full(shape, -np.inf), np.full(shape, np.inf), np.ones(shape)
    for row, path in enumerate(found):
        for column, (name, interval) in enumerate(path.intervals.items()):
            feature[row, column] = name
            low[row, column], high[row, column], missing[row, column], share[row, column] = interval
    if not (share > 0).all():
        raise UnexplainedError("its trees have branches without a training row")
    value = np.ascontiguousarray(np.stack([path.value for path in found], axis=1))
    start = np.zeros(outputs) if start is None else start
    return Trees(feature, low, high, missing, share, value, start, np.array(single))


def walked(tree: Tree) -> list[Path]:
    """The paths of one tree, from left to right."""
    found = []
    waiting: list[tuple[int, dict[int, tuple[float, float, bool, float]]]] = [(0, {})]
    while waiting:
        node, intervals = waiting.pop()
        if tree.left[node] < 0:
            found.append(Path(tree.value[node], intervals))
            continue
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        low, high, missing, share = intervals.get(feature, (-np.inf, np.inf, True, 1.0))
        left, right, to_left = int(tree.left[node]), int(tree.right[node]), bool(tree.missing_left[node])
        here, down = float(tree.rows[node]), (float(tree.rows[left]), float(tree.rows[right]))
        ends = (
            (right, (max(low, threshold), high, missing and not to_left, share * down[1] / here)),
            (left, (low, min(high, threshold), missing and to_left, share * down[0] / here)),
        )
        waiting += [(child, {**intervals, feature: interval}) for child, interval in ends]
    return found
