"""Each check of a fitted transformer has one here that only this check refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import FeatureAgglomeration
from sklearn.decomposition import NMF, DictionaryLearning, LatentDirichletAllocation
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer
from test_bounds import reset, with_value

from mlops.inference import bounds

X = np.abs(np.random.default_rng(0).normal(size=(60, 4)))


def spline() -> Any:
    return SplineTransformer(n_knots=4).fit(X)


def powers() -> Any:
    return PolynomialFeatures(degree=3).fit(X)


def merged() -> Any:
    return FeatureAgglomeration().fit(X)


def of_spline(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    return reset(f"bsplines_.1.{name}", change)


ALTERED: dict[str, tuple[Callable[[], Any], Callable[[Any], None], str]] = {
    "degree": (spline, of_spline("k", lambda _: -1), r"BSpline at model.bsplines_\[1\]: k is -1"),
    "degree of another kind": (spline, of_spline("k", lambda _: 3.0), "k is 3.0"),
    "degree beyond": (spline, of_spline("k", lambda _: 99), "10 knots are too few for degree 99"),
    "single precision": (spline, of_spline("_t", lambda a: a.astype(np.float32)), "t is no array of float64"),
    "coefficients": (spline, of_spline("_c", lambda a: a.astype(int)), "c is no array of float64"),
    "order": (spline, of_spline("_t", lambda a: a[::-1].copy()), "t are no knots in order"),
    "infinite": (spline, of_spline("_t", lambda a: with_value(a, -1, np.inf)), "t are no knots in order"),
    "one knot": (spline, of_spline("_t", np.ones_like), "t has no knots between the ends"),
    "fewer rows": (spline, of_spline("_c", lambda a: a[:2]), "c has fewer than 6 rows"),
    "terms": (powers, reset("n_output_features_", lambda _: 10**12), "n_output_features_ is 1000000000000, but the te"),
    "all terms": (powers, reset("_n_out_full", lambda _: 10**12), "_n_out_full is 1000000000000, but the terms are 35"),
    "degree of powers": (powers, reset("_max_degree", lambda _: 90), "n_output_features_ is 35, but the terms are"),
    "groups": (merged, reset("labels_", lambda a: a + 10**9), "labels_ contains 1000000000, but the range is 0 to 3"),
    "groups of others": (merged, reset("labels_", lambda a: a[:2]), "labels_ are those of other features"),
    "iterations": (NMF, reset("max_iter", lambda _: 10**9), "max_iter is 1000000000"),
    "iterations of topics": (
        LatentDirichletAllocation,
        reset("max_doc_update_iter", lambda _: 10**9),
        "max_doc_update_iter is 1000000000",
    ),
    "iterations of a dictionary": (
        DictionaryLearning,
        reset("transform_max_iter", lambda _: 0),
        "transform_max_iter is 0",
    ),
    "method": (powers, reset("transform", lambda _: None), "transform is a method"),
    "method of groups": (merged, reset("transform", lambda _: None), "transform is a method"),
    "method of topics": (NMF, reset("transform", lambda _: None), "transform is a method"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_array_of_a_transformer_is_named(name: str) -> None:
    model, alter, said = ALTERED[name]
    altered = model()
    bounds.check(altered)
    alter(altered)
    with pytest.raises(bounds.AlteredError, match=said):
        bounds.check(altered)


@pytest.mark.parametrize(
    "transformer",
    [
        SplineTransformer(degree=1, extrapolation="periodic"),
        SplineTransformer(knots="quantile", sparse_output=True),
        PolynomialFeatures((2, 3), interaction_only=True, include_bias=False),
        FeatureAgglomeration(n_clusters=3),
        NMF(2),
        PolynomialFeatures(),
    ],
    ids=lambda each: str(each),
)
def test_what_scikit_learn_has_fitted_passes(transformer: Any) -> None:
    bounds.check(transformer)
    bounds.check(transformer.fit(X))
