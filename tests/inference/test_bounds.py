"""Each check of a fitted array has a model here that only this check refuses; `test_modelfile` has the attacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import BallTree, KDTree, KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import SVC, SVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlops.inference import bounds

rng = np.random.default_rng(0)
X = np.column_stack([rng.normal(size=(200, 2)), rng.integers(0, 5, 200)])
y = np.digitize(X[:, 0] + X[:, 2], [1.5, 3.0])


def grown() -> Any:
    return DecisionTreeClassifier(max_depth=3).fit(X, y)


def boosted() -> Any:
    return GradientBoostingClassifier(n_estimators=2).fit(X, y)


def by_histogram() -> Any:
    return HistGradientBoostingClassifier(max_iter=2, categorical_features=[2]).fit(X, y)


def nearest() -> Any:
    return KNeighborsClassifier(algorithm="kd_tree").fit(X, y)


def machine() -> Any:
    return SVC().fit(X, y)


def one_hot() -> Any:
    return OneHotEncoder(max_categories=3, drop="first", handle_unknown="infrequent_if_exist").fit(X[:, 2:])


def test_what_scikit_learn_has_fitted_passes_and_what_is_not_fitted_yet() -> None:
    for model in [
        grown(),
        DecisionTreeRegressor(max_leaf_nodes=5).fit(X, y),
        DecisionTreeClassifier(ccp_alpha=0.01).fit(X, y),
        DecisionTreeClassifier().fit(X, np.zeros(200)),
        RandomForestClassifier(3).fit(X, y),
        ExtraTreesRegressor(3).fit(X, np.column_stack([y, y])),
        boosted(),
        GradientBoostingClassifier(n_estimators=2, init="zero").fit(X, y),
        GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()).fit(X, y),
        by_histogram(),
        HistGradientBoostingClassifier(max_iter=2).fit(np.where(X > 1, np.nan, X), y),
        nearest(),
        KNeighborsClassifier(algorithm="ball_tree", leaf_size=1).fit(X, y),
        KNeighborsClassifier().fit(sp.csr_matrix(X), y),
        RadiusNeighborsClassifier(algorithm="brute").fit(X, y),
        KDTree(X, leaf_size=3),
        BallTree(X[:1]),
        machine(),
        SVC().fit(sp.csr_matrix(X), y),
        SVR().fit(X, y),
        OneClassSVM().fit(X),
        one_hot(),
        OneHotEncoder(drop="if_binary").fit(np.array([["a", "x"], ["b", None]], dtype=object)),
        OneHotEncoder().fit([[1.0], [np.nan]]),
        CountVectorizer().fit(["some words"]),
        HashingVectorizer(),
        KMeans(2).fit(X),
        *(sp.csr_matrix(X).asformat(name) for name in ("csc", "csr", "coo")),
        *(kind() for kind in (DecisionTreeClassifier, GradientBoostingClassifier, HistGradientBoostingClassifier)),
        *(kind() for kind in (KNeighborsClassifier, SVC, OneHotEncoder, CountVectorizer, KMeans)),
    ]:
        bounds.check(model)


def reset(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Set an attribute, on a way of names and numbers, to what a function makes of it."""

    def edit(model: Any) -> None:
        *way, last = name.split(".")
        for step in way:
            model = model[int(step)] if step.isdigit() else getattr(model, step)
        if last.isdigit():
            model[int(last)] = change(model[int(last)])
        elif isinstance(model, KDTree | BallTree):
            state = list(model.__getstate__())
            place = STATE.index(last)
            state[place] = change(state[place])
            model.__setstate__(tuple(state))
        else:
            setattr(model, last, change(getattr(model, last, None)))

    return edit


STATE = ["data", "rows", "nodes", "limits", "leaf_size", "levels", "n_nodes", "", "", "", "", "metric", "weights"]


def with_field(array: Any, name: str, at: Any, value: Any) -> Any:
    array = array.copy()
    array[name][at] = value
    return array


def with_value(array: Any, at: Any, value: Any) -> Any:
    array = array.copy()
    array[at] = value
    return array


def nodes(name: str, at: Any, value: Any) -> Callable[[Any], None]:
    """Alter the nodes of a tree of histogram gradient boosting."""
    return reset("_predictors.0.0.nodes", lambda array: with_field(array, name, at, value))


def split_by_category(model: Any) -> Any:
    """The nodes that ask for a category."""
    found = [tree.nodes for iteration in model._predictors for tree in iteration]
    return next(each for each in found if each["is_categorical"].any())


def ask_beyond(model: Any) -> None:
    array = split_by_category(model)
    array["bitset_idx"][array["is_categorical"] != 0] = 99


def make(model: Any) -> Callable[[], Any]:
    return lambda: model


COLUMNS = ColumnTransformer(
    [
        ("a", OneHotEncoder(), np.array([True, False, False])),
        ("b", FunctionTransformer(), np.array([False, True, True])),
    ]
)
ALTERED: dict[str, tuple[Callable[[], Any], Callable[[Any], None], str]] = {
    # all
    "method": (grown, reset("predict", lambda _: None), "predict is a method"),
    "method of boosting": (boosted, reset("predict", lambda _: None), "predict is a method"),
    "method of histograms": (by_histogram, reset("predict", lambda _: None), "predict is a method"),
    "method of neighbours": (nearest, reset("predict", lambda _: None), "predict is a method"),
    "method of a support vector machine": (machine, reset("predict", lambda _: None), "predict is a method"),
    "method of an encoder": (one_hot, reset("transform", lambda _: None), "transform is a method"),
    "method of a vectoriser": (CountVectorizer, reset("transform", lambda _: None), "transform is a method"),
    "method of hashing": (HashingVectorizer, reset("transform", lambda _: None), "transform is a method"),
    "method of another": (LogisticRegression, reset("predict", lambda _: None), "predict is a method"),
    "threads": (LogisticRegression, reset("n_jobs", lambda _: 257), "n_jobs is 257"),
    "threads below": (LogisticRegression, reset("n_jobs", lambda _: -257), "n_jobs is -257"),
    # sparse matrices
    "coo row": (make(sp.coo_matrix(X)), reset("row", lambda a: a + 1), "row contains 200, but the range is 0 to 199"),
    "coo column": (make(sp.coo_matrix(X)), reset("col", lambda a: a - 1), "col contains -1, but the range is 0 to 2"),
    "coo length": (make(sp.coo_matrix(X)), reset("data", lambda a: a[1:]), "row, col and data differ in length"),
    "format": (make(sp.dia_matrix(np.eye(3))), reset("offsets", lambda a: a), "in the format dia is not checked"),
    "lines": (make(sp.csr_matrix(X)), reset("indptr", lambda a: a[:-1]), "indptr is not that of 200 lines"),
    "start": (make(sp.csr_matrix(X)), reset("indptr", lambda a: with_value(a, 0, 1)), "not that of 200 lines"),
    "back": (make(sp.csr_matrix(X)), reset("indptr", lambda a: with_value(a, 1, 99)), "indptr decreases"),
    "data": (make(sp.csr_matrix(X)), reset("data", lambda a: a[:-1]), "indptr goes beyond the data"),
    "index": (
        make(sp.csc_matrix(X)),
        reset("indices", lambda a: a + 1),
        "indices contains 200, but the range is 0 to 199",
    ),
    "index of another kind": (make(sp.csc_matrix(X)), reset("indices", lambda a: a * 1.0), "does not contain integers"),
    # trees
    "no tree": (grown, reset("tree_", lambda _: KDTree(X)), "tree_ is not a tree"),
    "features": (grown, reset("n_features_in_", lambda _: 2), "n_features_in_ is 2, but its tree uses 3"),
    "a truth": (grown, reset("n_features_in_", lambda _: True), "n_features_in_ is not an integer"),
    "boosting without trees": (boosted, reset("estimators_", lambda a: a[:0]), "estimators_ is not a matrix of trees"),
    "boosting in a row": (boosted, reset("estimators_", lambda a: a[0]), "estimators_ is not a matrix of trees"),
    "boosting with another": (
        boosted,
        reset("estimators_", lambda a: with_value(a, (1, 0), LogisticRegression())),
        "estimators_ contains an object that is not a tree",
    ),
    "boosting with a width of its own": (
        boosted,
        reset("estimators_", lambda a: with_value(a, (1, 0), DecisionTreeRegressor().fit(X[:, :2], y))),
        "its trees use different numbers of features",
    ),
    "init": (
        boosted,
        reset("init_.class_prior_", lambda a: a[:2]),
        r"init_ returns the shape \(2,\) per row, but 3 values are",
    ),
    # histogram gradient boosting
    "no iterations": (by_histogram, reset("_predictors", lambda _: []), "it has no trees"),
    "another predictor": (
        by_histogram,
        reset("_predictors.0.0", lambda _: KDTree(X)),
        "contains an object that is not a tree",
    ),
    "no nodes": (by_histogram, reset("_predictors.0.1.nodes", lambda a: a[:0]), "tree 1 has no nodes"),
    "other nodes": (by_histogram, reset("_predictors.0.1.nodes", lambda a: a["left"]), "tree 1 has no nodes"),
    "nodes in a square": (by_histogram, reset("_predictors.0.1.nodes", lambda a: a[None]), "tree 1 has no nodes"),
    "sets": (by_histogram, reset("_predictors.0.0.raw_left_cat_bitsets", lambda _: np.zeros((9, 7))), "have the shape"),
    "right child": (by_histogram, nodes("right", 0, 99), "tree 0: the right child of node 0 is 99, of"),
    "category": (
        by_histogram,
        nodes("is_categorical", slice(None), 1),
        "splits on categories of a feature that has none",
    ),
    "fewer categories": (
        by_histogram,
        reset("_bin_mapper.is_categorical_", lambda a: a[:2]),
        "_bin_mapper has fewer features",
    ),
    "set": (by_histogram, ask_beyond, "refers to a set of categories that does not exist"),
    "preprocessor": (by_histogram, reset("_preprocessor", lambda _: OneHotEncoder()), "_preprocessor is altered"),
    "preprocessor of others": (
        by_histogram,
        reset("_preprocessor.n_features_in_", lambda _: 2),
        "_preprocessor is altered",
    ),
    "preprocessor of another kind": (
        by_histogram,
        reset("_preprocessor", lambda _: COLUMNS.fit(X)),
        "_preprocessor is altered",
    ),
    "preprocessor by name": (
        by_histogram,
        reset("_preprocessor.transformers_.0", lambda each: (*each[:2], [2])),
        "_preprocessor is altered",
    ),
    "preprocessor that loses": (
        by_histogram,
        reset("_preprocessor.transformers_.1", lambda each: (*each[:2], np.zeros(3, dtype=bool))),
        "_preprocessor loses a feature",
    ),
    # trees of neighbours
    "leaf size": (make(KDTree(X)), reset("leaf_size", lambda _: 0), "it has no rows"),
    "metric": (make(KDTree(X)), reset("metric", lambda _: None), "it has no metric"),
    "metric of others": (
        make(BallTree(X, metric="seuclidean", V=[1.0, 1.0, 1.0])),
        reset("metric", lambda _: BallTree(X[:, :2], metric="seuclidean", V=[1.0, 1.0]).__getstate__()[11]),
        "SEuclidean dist",
    ),
    "rows twice": (
        make(KDTree(X)),
        reset("rows", lambda a: with_value(a, 0, a[1])),
        "idx_array is not a permutation of the rows",
    ),
    "fewer rows": (make(KDTree(X)), reset("rows", lambda a: a[1:]), "idx_array is not a permutation of the rows"),
    "node count": (make(KDTree(X)), reset("n_nodes", lambda _: 15), "200 rows make 7 nodes, not 15"),
    "nodes": (make(KDTree(X)), reset("nodes", lambda a: a[:3]), "200 rows make 7 nodes, not 7"),
    "limits": (make(BallTree(X)), reset("limits", lambda a: a[:, :3].copy()), r"node_bounds has the shape \(1, 3, 3\)"),
    "weights": (make(KDTree(X)), reset("weights", lambda _: np.ones(9)), "sample_weight has another number of rows"),
    "node": (
        make(KDTree(X)),
        reset("nodes", lambda a: with_field(a, "idx_end", 2, 99)),
        "node 2 contains the wrong rows",
    ),
    "leaf": (
        make(KDTree(X)),
        reset("nodes", lambda a: with_field(a, "is_leaf", 6, 0)),
        "node 6 contains the wrong rows",
    ),
    # neighbours
    "rows of another width": (nearest, reset("_fit_X", lambda a: a[:, :2]), "_fit_X has another number of features"),
    "number of rows": (nearest, reset("n_samples_fit_", lambda _: 999), "n_samples_fit_ is 999"),
    "no space": (nearest, reset("_tree", lambda _: None), "_tree is not a tree"),
    "other space": (nearest, reset("_tree", lambda _: KDTree(X[1:])), "_tree has another number of rows"),
    "classes of others": (nearest, reset("_y", lambda a: a[1:]), "_y has another number of rows"),
    "class": (nearest, reset("_y", lambda a: a + 1), "_y contains 3, but the range is 0 to 2"),
    # support vector machines
    "kind": (machine, reset("_impl", lambda _: "nu_svr"), "_impl is nu_svr"),
    "kernel": (machine, reset("kernel", lambda _: np.add), "kernel is <ufunc 'add'>, which is not checked"),
    "sparse": (machine, reset("_sparse", lambda _: True), "support_vectors_ contradicts _sparse"),
    "width": (
        machine,
        reset("support_vectors_", lambda a: a[:, :2]),
        "support_vectors_ has another number of features",
    ),
    "below": (machine, reset("_n_support", lambda a: a - a[0] - 1), "_n_support is below 0"),
    "classes": (machine, reset("classes_", lambda a: a[:2]), "_n_support has another number of classes"),
    "sum": (machine, reset("_n_support", lambda a: a + 1), "_n_support adds up to"),
    "regression": (
        lambda: SVR().fit(X, y),
        reset("_n_support", lambda a: np.append(a, a)),
        "_n_support is that of a classifier",
    ),
    "support": (machine, reset("support_", lambda a: a[1:]), "support_ has another number of vectors"),
    "support beyond": (machine, reset("support_", lambda a: a + 200), "support_ contains"),
    "coefficients": (machine, reset("_dual_coef_", lambda a: a[:1]), r"_dual_coef_ has the shape \(1, "),
    "coefficients with gaps": (
        lambda: SVC().fit(sp.csr_matrix(X), y),
        reset("_dual_coef_", lambda a: sp.csr_matrix(a.shape)),
        "_dual_coef_ gaps",
    ),
    "intercepts": (machine, reset("_intercept_", lambda a: a[:1]), r"_intercept_ has the shape \(1,\)"),
    "probabilities": (machine, reset("_probA", lambda _: np.zeros(3)), "_probA and _probB contradict probability"),
    # encoders and vectorisers
    "features of an encoder": (one_hot, reset("_n_features_outs", lambda a: a * 2), "its features differ in number"),
    "rare": (one_hot, reset("_infrequent_indices", lambda _: [None]), "contradict its mappings"),
    "order": (one_hot, reset("categories_.0", lambda a: a[::-1]), "categories_ are not sorted"),
    "mapping of others": (
        one_hot,
        reset("categories_.0", lambda a: a[1:]),
        "a mapping has other categories",
    ),
    "mapping": (
        one_hot,
        reset("_default_to_infrequent_mappings.0", lambda a: a - 1),
        "infrequent_mappings contains -1",
    ),
    "dropped": (
        one_hot,
        reset("_drop_idx_after_grouping", lambda a: a - 1),
        "drop_idx_ contains -1, but the range is 0 to 2",
    ),
    "columns": (one_hot, reset("_n_features_outs", lambda _: [3]), "3 categories do not make 3 columns"),
    "words": (
        lambda: CountVectorizer().fit(["some words"]),
        reset("vocabulary_", lambda _: {"some": 0, "words": 2}),
        "vocabulary_ skips a column",
    ),
    "hashes": (HashingVectorizer, reset("n_features", lambda _: 0), "n_features is 0"),
    # clusters
    "no centres": (lambda: KMeans(2).fit(X), reset("cluster_centers_", lambda a: a[:0]), "cluster_centers_ is empty"),
    "centres": (
        lambda: KMeans(2).fit(X),
        reset("cluster_centers_", lambda a: a[:, :2]),
        "has another number of features",
    ),
    "method of clusters": (lambda: KMeans(2), reset("predict", lambda _: None), "predict is a method"),
    "threads of clusters": (lambda: KMeans(2).fit(X), reset("_n_threads", lambda _: 0), "_n_threads is 0"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_array_is_named(name: str) -> None:
    model, alter, said = ALTERED[name]
    altered = model()
    if name != "format":
        bounds.check(altered)
    alter(altered)
    with pytest.raises(bounds.AlteredError, match=said):
        bounds.check({"model": [altered, None]})


def test_the_place_of_what_is_altered_is_named() -> None:
    forest = RandomForestClassifier(3).fit(X, y)
    forest.estimators_[1].n_features_in_ = 7
    with pytest.raises(
        bounds.AlteredError, match=r"^DecisionTreeClassifier at model\['a'\]\[0\].estimators_\[1\]: n_f"
    ):
        bounds.check({"a": (forest,)})
