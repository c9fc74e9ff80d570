"""Check the fitted arrays that scikit-learn's compiled code uses without bounds checks.

skops checks the types in a file, not their values. A tree with a child beyond its last node passes, then crashes the
process that predicts with it, or makes it loop forever. The rest of scikit-learn computes with NumPy, which raises an
error if arrays do not match.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, singledispatch
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.cluster._kmeans import _BaseKMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import _ball_tree, _kd_tree
from sklearn.neighbors._base import NeighborsBase
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from sklearn.svm._base import BaseLibSVM
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from mlops.core.hooks import PACKAGE

Array = np.ndarray[Any, Any]

PLAIN = (str, bytes, int, float, type(None), np.generic)
LEAF = -1
KERNELS = ("linear", "poly", "rbf", "sigmoid")
BITSET = 8  # words of a set of categories in a tree of histogram gradient boosting
MOST_THREADS = 256
NODES_OF_SPACE = (_kd_tree.BinaryTree64, _kd_tree.BinaryTree32, _ball_tree.BinaryTree64, _ball_tree.BinaryTree32)


class AlteredError(ValueError):
    """The arrays of a model are inconsistent; the message says where and how."""


class Part(NamedTuple):
    """An object inside a model and its location: the containing part, and its name or index there."""

    value: Any
    holder: Part | None
    name: str

    def __str__(self) -> str:
        return self.name if self.holder is None else f"{self.holder}{self.name}"


def check(model: Any) -> None:
    """Check every array that compiled code uses as an index.

    Raises
    ------
    AlteredError
        Names the attribute and what is wrong with it.
    """
    from mlops.inference import bounds_steps  # noqa: F401 - it registers what it examines here

    parts = [part for part in parts_of(model) if not isinstance(part.value, type)]
    trees = [part for part in parts if isinstance(part.value, Tree)]
    if trees:
        check_trees(trees)
    for function in (examine, ask):
        for part in parts:
            try:
                function(part.value)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                raise AlteredError(f"{type(part.value).__name__} at {part}: {error}") from None


def parts_of(model: Any) -> Iterator[Part]:
    """Every object inside a model once, except numbers and texts."""
    seen = set()
    waiting = [Part(model, None, "model")]
    while waiting:
        part = waiting.pop()
        value = part.value
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            held = [(f"[{key!r}]", each) for key, each in value.items() if not isinstance(each, PLAIN)]
        elif isinstance(value, (list, tuple, set, frozenset)):
            held = [(f"[{place}]", each) for place, each in enumerate(value) if not isinstance(each, PLAIN)]
        elif isinstance(value, np.ndarray):
            objects = value.flat if value.dtype == object else ()
            held = [(f"[{place}]", each) for place, each in enumerate(objects) if not isinstance(each, PLAIN)]
        else:
            yield part
            own = {} if isinstance(value, type) else getattr(value, "__dict__", {})
            held = [(f".{name}", each) for name, each in own.items() if not isinstance(each, PLAIN)]
        waiting.extend(Part(each, part, name) for name, each in held)


@lru_cache
def methods(kind: type) -> frozenset[str]:
    """Names of the callable attributes of a class."""
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name, None)))


def need(holds: Any, problem: str) -> None:
    """Raise an error unless a condition is true."""
    if not holds:
        raise ValueError(problem)


def width(estimator: Any) -> int:
    """The number of features that an estimator requires; scikit-learn does not check it if the attribute is missing."""
    found = vars(estimator).get("n_features_in_")
    need(isinstance(found, (int, np.integer)) and not isinstance(found, bool), "n_features_in_ is not an integer")
    return int(found)


def within(values: Any, end: int, name: str, start: int = 0) -> None:
    """Check that integers are at least `start` and below `end`."""
    array = np.asarray(values)
    need(array.dtype.kind in "iu", f"{name} does not contain integers")
    outside = array[(array < start) | (array >= end)]
    need(
        not outside.size,
        f"{name} contains {outside.flat[0] if outside.size else ''}, but the range is {start} to {end - 1}",
    )


@singledispatch
def examine(part: Any) -> None:
    """Check one object; compiled code uses no array of most kinds."""
    if issparse(part):
        check_sparse(part)
    elif type(part).__module__.partition(".")[0] in ("sklearn", PACKAGE):
        check_attributes(part)


def check_attributes(part: Any) -> None:
    """An attribute must not replace a method, which checks the rows, and must not start many threads."""
    own = vars(part) if hasattr(part, "__dict__") else {}
    kind: Any = type(part)
    replaced = methods(kind).intersection(own)
    need(not replaced, f"{', '.join(sorted(replaced))} is a method, but the file has a value for it")
    for name, fewest in (("n_jobs", -MOST_THREADS), ("_n_threads", 1)):
        threads = own.get(name)
        need(threads is None or fewest <= threads <= MOST_THREADS, f"{name} is {threads}")


def check_sparse(matrix: Any) -> None:
    """The indices of a SciPy matrix."""
    rows, columns = matrix.shape
    if matrix.format == "coo":
        within(matrix.row, rows, "row")
        within(matrix.col, columns, "col")
        need(len(matrix.row) == len(matrix.col) == len(matrix.data), "row, col and data differ in length")
        return
    need(matrix.format in ("csr", "csc"), f"a sparse matrix in the format {matrix.format} is not checked")
    lines, places = (rows, columns) if matrix.format == "csr" else (columns, rows)
    need(len(matrix.indptr) == lines + 1 and matrix.indptr[0] == 0, f"indptr is not that of {lines} lines")
    need((np.diff(matrix.indptr) >= 0).all(), "indptr decreases")
    need(len(matrix.data) == len(matrix.indices) >= matrix.indptr[-1], "indptr goes beyond the data")
    within(matrix.indices, places, "indices")


def check_trees(parts: list[Part]) -> None:
    """The trees of decision trees, forests and gradient boosting, together."""
    for part in parts:
        tree = part.value
        if not (0 < tree.node_count <= tree.capacity and tree.n_outputs > 0 and tree.max_n_classes > 0):
            raise AlteredError(f"Tree at {part}: node_count is {tree.node_count}, but there are {tree.capacity} nodes")
    nodes = [part.value.__getstate__()["nodes"] for part in parts]
    counts = np.array([len(each) for each in nodes])
    left, right, feature, threshold = (
        np.concatenate([each[name] for each in nodes]) for name in ("left_child", "right_child", "feature", "threshold")
    )
    leaf = left == LEAF
    n_features = np.repeat([part.value.n_features for part in parts], counts)
    every = Nodes(counts, leaf, left, right, feature, threshold, n_features)
    problem = every.problem()
    if problem is None and (right[leaf] != LEAF).any():
        number, node = every.located(leaf & (right != LEAF))
        problem = number, f"node {node} is a leaf on one side only"
    if problem:
        raise AlteredError(f"Tree at {parts[problem[0]]}: {problem[1]}")
    for part, depth in zip(parts, every.depths(), strict=True):
        if part.value.max_depth != depth:
            raise AlteredError(f"Tree at {part}: max_depth is {part.value.max_depth}, but its nodes are {depth} deep")


class Nodes(NamedTuple):
    """The nodes of many trees, concatenated.

    Attributes
    ----------
    counts : ndarray of shape (n_trees,)
    leaf, left, right, feature, threshold, n_features : ndarray of shape (n_nodes,)
        Per node: the positions of its children in its tree, and the number of features of its tree.
    """

    counts: Array
    leaf: Array
    left: Array
    right: Array
    feature: Array
    threshold: Array
    n_features: Array

    def problem(self) -> tuple[int, str] | None:
        """The first invalid tree and the reason: every node except the root must be the child of one earlier node."""
        starts = np.cumsum(self.counts) - self.counts
        own = np.arange(len(self.leaf)) - np.repeat(starts, self.counts)
        inner, count = ~self.leaf, np.repeat(self.counts, self.counts)
        for name, child in (("left", self.left), ("right", self.right)):
            # scikit-learn numbers nodes before their children
            wrong = inner & ((child <= own) | (child >= count))
            if wrong.any():
                tree, node = self.located(wrong)
                return tree, f"the {name} child of node {node} is {child[wrong][0]}, of {self.counts[tree]} nodes"
        first = np.repeat(starts, self.counts)[inner]
        parents = np.bincount(np.concatenate([self.left[inner] + first, self.right[inner] + first]), minlength=len(own))
        parents[starts] += 1  # counts the root as if it had a parent
        for wrong, what in (
            (parents != 1, "is not the child of exactly one node"),
            (
                inner & ((self.feature < 0) | (self.feature >= self.n_features)),
                "splits on a feature that does not exist",
            ),
            (inner & np.isnan(self.threshold), "has no threshold"),
        ):
            if wrong.any():
                tree, node = self.located(wrong)
                return tree, f"node {node} {what}"
        return None

    def located(self, wrong: Array) -> tuple[int, int]:
        """The tree of the first selected node, and the node's position there."""
        place, ends = int(np.argmax(wrong)), np.cumsum(self.counts)
        tree = int(np.searchsorted(ends, place, side="right"))
        return tree, place - int(ends[tree] - self.counts[tree])

    def depths(self) -> Array:
        """The depth of every tree; requires that `problem` found nothing."""
        starts = np.cumsum(self.counts) - self.counts
        first = np.repeat(starts, self.counts)
        depth = np.zeros(len(first), dtype=np.int64)
        level, here = 0, starts[~self.leaf[starts]]
        while here.size:
            level += 1
            below = np.concatenate([self.left[here] + first[here], self.right[here] + first[here]])
            depth[below] = level
            here = below[~self.leaf[below]]
        return np.maximum.reduceat(depth, starts)


@examine.register
def _(estimator: BaseDecisionTree) -> None:
    check_attributes(estimator)
    if "tree_" in vars(estimator):
        need(isinstance(estimator.tree_, Tree), "tree_ is not a tree")
        asked, taken = width(estimator), estimator.tree_.n_features
        need(asked == taken, f"n_features_in_ is {asked}, but its tree uses {taken}")


@examine.register
def _(estimator: BaseGradientBoosting) -> None:
    check_attributes(estimator)
    if "estimators_" not in vars(estimator):
        return
    trees = estimator.estimators_
    need(isinstance(trees, np.ndarray) and trees.ndim == 2 and trees.size, "estimators_ is not a matrix of trees")
    for tree in trees.flat:
        need(
            isinstance(tree, BaseDecisionTree) and isinstance(tree.tree_, Tree),
            "estimators_ contains an object that is not a tree",
        )
        need(width(tree) == width(trees[0, 0]), "its trees use different numbers of features")


@examine.register
def _(estimator: BaseHistGradientBoosting) -> None:
    check_attributes(estimator)
    if "_predictors" not in vars(estimator):
        return
    n_features, trees = width(estimator), [tree for iteration in estimator._predictors for tree in iteration]
    need(trees, "it has no trees")
    for number, tree in enumerate(trees):
        need(isinstance(tree, TreePredictor), "_predictors contains an object that is not a tree")
        nodes, sets = tree.nodes, tree.raw_left_cat_bitsets
        need(nodes.dtype == PREDICTOR_RECORD_DTYPE and nodes.ndim == 1 and nodes.size, f"tree {number} has no nodes")
        need(sets.ndim == 2 and sets.shape[1] == BITSET, f"the categories of tree {number} have the shape {sets.shape}")
    counts = np.array([len(tree.nodes) for tree in trees])
    nodes = np.concatenate([tree.nodes for tree in trees])
    by_category, leaf = nodes["is_categorical"] != 0, nodes["is_leaf"] != 0
    threshold = np.where(by_category, 0, nodes["num_threshold"])
    left, right, feature = (nodes[name].astype(np.int64) for name in ("left", "right", "feature_idx"))
    problem = Nodes(counts, leaf, left, right, feature, threshold, np.full(len(nodes), n_features)).problem()
    need(problem is None, f"tree {problem[0]}: {problem[1]}" if problem else "")
    known = np.flatnonzero(estimator._bin_mapper.is_categorical_)
    asked = by_category & ~leaf
    need(np.isin(feature[asked], known).all(), "a node splits on categories of a feature that has none")
    need(len(estimator._bin_mapper.is_categorical_) >= n_features, "_bin_mapper has fewer features")
    sets_of = np.repeat([len(tree.raw_left_cat_bitsets) for tree in trees], counts)
    need((nodes["bitset_idx"] < sets_of)[asked].all(), "a node refers to a set of categories that does not exist")
    if estimator._preprocessor is not None:
        check_columns(estimator._preprocessor, n_features)


def check_columns(preprocessor: Any, n_features: int) -> None:
    """The encoder of categories for histogram gradient boosting must return every feature."""
    need(isinstance(preprocessor, ColumnTransformer) and width(preprocessor) == n_features, "_preprocessor is altered")
    (_, first, some), (_, second, others), *_ = preprocessor.transformers_
    need(isinstance(first, OrdinalEncoder) and isinstance(second, FunctionTransformer), "_preprocessor is altered")
    marks = np.asarray(some), np.asarray(others)
    need(all(each.dtype == bool and each.shape == (n_features,) for each in marks), "_preprocessor is altered")
    need((marks[0] ^ marks[1]).all(), "_preprocessor loses a feature")


@singledispatch
def ask(part: Any) -> None:
    """Predict one row with an estimator whose output shape cannot be checked otherwise; its parts are checked."""


@ask.register
def _(estimator: BaseGradientBoosting) -> None:
    if "estimators_" in vars(estimator):
        # compiled code adds to these numbers
        start = estimator._raw_predict_init(np.zeros((1, width(estimator.estimators_[0, 0]))))
        found, needed = start.shape, (1, estimator.estimators_.shape[1])
        need(found == needed, f"init_ returns the shape {found[1:]} per row, but {needed[1]} values are required")


def check_space(tree: Any) -> None:
    """A k-d tree or ball tree: its nodes must bisect the rows, as in scikit-learn."""
    data, rows, nodes, limits, leaf_size, _, n_nodes, *_, metric, weights = tree.__getstate__()
    n_samples, n_features = data.shape
    need(data.size and leaf_size > 0, "it has no rows")
    need(isinstance(metric, DistanceMetric), "it has no metric")
    metric._validate_data(data)
    need(
        rows.shape == (n_samples,) and (np.sort(rows) == np.arange(n_samples)).all(),
        "idx_array is not a permutation of the rows",
    )
    levels = int(np.log2(max(1, (n_samples - 1) / leaf_size)) + 1)
    need(n_nodes == len(nodes) == 2**levels - 1, f"{n_samples} rows make {2**levels - 1} nodes, not {n_nodes}")
    each = 1 if isinstance(tree, (_ball_tree.BinaryTree64, _ball_tree.BinaryTree32)) else 2
    need(limits.shape == (each, n_nodes, n_features), f"node_bounds has the shape {limits.shape}")
    need(weights is None or len(weights) == n_samples, "sample_weight has another number of rows")
    start, end = np.array([0]), np.array([n_samples])
    for level in range(levels):
        here = nodes[2**level - 1 : 2 ** (level + 1) - 1]
        leaf = level == levels - 1
        same = (here["idx_start"] == start) & (here["idx_end"] == end) & ((here["is_leaf"] != 0) == leaf)
        need(same.all(), f"node {2**level - 1 + int(np.argmin(same))} contains the wrong rows")
        middle = start + (end - start) // 2
        start, end = np.stack([start, middle], axis=1).reshape(-1), np.stack([middle, end], axis=1).reshape(-1)


for _kind in NODES_OF_SPACE:
    examine.register(_kind, check_space)


@examine.register
def _(estimator: NeighborsBase) -> None:
    check_attributes(estimator)
    if "_fit_method" not in vars(estimator):
        return
    rows, tree = estimator._fit_X, estimator._tree
    need(rows.ndim == 2 and rows.shape[1] == width(estimator), "_fit_X has another number of features")
    need(estimator.n_samples_fit_ == rows.shape[0] > 0, f"n_samples_fit_ is {estimator.n_samples_fit_}")
    if estimator._fit_method != "brute":
        need(isinstance(tree, NODES_OF_SPACE), "_tree is not a tree")
        need(tree.__getstate__()[0].shape == rows.shape, "_tree has another number of rows")
    if "classes_" in vars(estimator) and not estimator.outputs_2d_:
        need(estimator._y.shape == rows.shape[:1], "_y has another number of rows")
        within(estimator._y, len(estimator.classes_), "_y")


@examine.register
def _(estimator: BaseLibSVM) -> None:
    check_attributes(estimator)
    if "support_" not in vars(estimator):
        return
    need(estimator._impl == type(estimator)._impl, f"_impl is {estimator._impl}")
    need(estimator.kernel in KERNELS, f"kernel is {estimator.kernel!r}, which is not checked")
    vectors, counts = estimator.support_vectors_, estimator._n_support
    need(issparse(vectors) == bool(estimator._sparse), "support_vectors_ contradicts _sparse")
    need(vectors.ndim == 2 and vectors.shape[1] == width(estimator), "support_vectors_ has another number of features")
    n_vectors, classify = vectors.shape[0], estimator._impl in ("c_svc", "nu_svc")
    n_classes = len(counts)
    need(counts.ndim == 1 and (counts >= 0).all(), "_n_support is below 0")
    if classify:
        need(n_classes == len(estimator.classes_), "_n_support has another number of classes")
        need(counts.sum() == n_vectors, f"_n_support adds up to {counts.sum()} vectors, but there are {n_vectors}")
    else:
        need(n_classes == 2, "_n_support is that of a classifier")
    need(estimator.support_.shape == (n_vectors,), "support_ has another number of vectors")
    within(estimator.support_, estimator.shape_fit_[0], "support_")
    coefficients = estimator._dual_coef_
    need(coefficients.shape == (n_classes - 1, n_vectors), f"_dual_coef_ has the shape {coefficients.shape}")
    need(coefficients.data.size == n_vectors * (n_classes - 1) if issparse(coefficients) else True, "_dual_coef_ gaps")
    pairs = n_classes * (n_classes - 1) // 2
    need(estimator._intercept_.shape == (pairs,), f"_intercept_ has the shape {estimator._intercept_.shape}")
    sizes = {estimator._probA.size, estimator._probB.size}
    need(sizes == {pairs if estimator._effective_probability else 0}, "_probA and _probB contradict probability")


@examine.register
def _(encoder: OneHotEncoder) -> None:
    check_attributes(encoder)
    if "categories_" not in vars(encoder):
        return
    n_features = len(encoder.categories_)
    given = vars(encoder).get("_default_to_infrequent_mappings") or [None] * n_features
    dropped = encoder._drop_idx_after_grouping
    dropped = [None] * n_features if dropped is None else list(dropped)
    need(len(encoder._n_features_outs) == len(given) == len(dropped) == n_features, "its features differ in number")
    if encoder._infrequent_enabled:
        few = [each is None for each in encoder._infrequent_indices]
        need(few == [each is None for each in given], "_infrequent_indices contradict its mappings")
    for names, codes, drop, made in zip(encoder.categories_, given, dropped, encoder._n_features_outs, strict=True):
        names = np.asarray(names)
        if names.dtype.kind not in "OUS":
            known = names[~np.isnan(names)] if names.dtype.kind == "f" else names
            need((known[:-1] < known[1:]).all(), "categories_ are not sorted")
        if codes is not None:
            need(len(codes) == len(names), "a mapping has other categories")
            within(codes, len(names), "_default_to_infrequent_mappings")
        n_codes = len(names) if codes is None else int(np.max(codes, initial=-1)) + 1
        if drop is not None:
            within(drop, n_codes, "drop_idx_")
        need(made == n_codes - (drop is not None), f"{n_codes} categories do not make {made} columns")


def check_vocabulary(vectorizer: Any) -> None:
    """The column of every word."""
    check_attributes(vectorizer)
    words = vars(vectorizer).get("vocabulary_")
    if words:
        columns = np.sort(np.asarray(list(words.values())))
        need(columns.dtype.kind == "i" and (columns == np.arange(len(words))).all(), "vocabulary_ skips a column")


def check_hashing(hasher: Any) -> None:
    """The number of columns that hashes are mapped to."""
    check_attributes(hasher)
    need(hasher.n_features >= 1, f"n_features is {hasher.n_features}")


for _kind in (CountVectorizer, DictVectorizer):
    examine.register(_kind, check_vocabulary)
for _kind in (FeatureHasher, HashingVectorizer):
    examine.register(_kind, check_hashing)


@examine.register
def _(estimator: _BaseKMeans) -> None:
    check_attributes(estimator)
    if "cluster_centers_" in vars(estimator):
        centers = estimator.cluster_centers_
        need(centers.ndim == 2 and centers.size, "cluster_centers_ is empty")
        need(centers.shape[1] == width(estimator), "cluster_centers_ has another number of features")
