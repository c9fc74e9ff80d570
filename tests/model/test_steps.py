"""Steps that learn, between preprocessing and estimator: every scikit-learn transformer, and the mistakes with them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.preprocessing import TargetEncoder
from test_estimators import COLUMNS, LABEL, TABLE, N, X, settings

from mlops.core.errors import UserError
from mlops.core.settings import Settings, check_columns
from mlops.model import modelfile
from mlops.model.estimators import check_estimator, make_model
from mlops.model.step_checks import check_steps, filter_warnings, fit_error
from mlops.model.tuning import tune

LOGISTIC = "sklearn.linear_model.LogisticRegression"
# an estimator that takes missing values fails on a column of nothing else; `train` leaves those out
KNOWN = [column for column in COLUMNS if TABLE[column.name].null_count < N]
NUMERIC = [column for column in COLUMNS if column.name in ("größe", "count")]
TOWNS = [column for column in COLUMNS if column.name == "town"]
MANY = pd.DataFrame({"town": [f"town {number % 9}" for number in range(N)]})


def step(transformer: str, columns: list[str] | None = None, name: str | None = None, **params: Any) -> dict[str, Any]:
    return {"transformer": transformer, "params": params, "columns": columns, "name": name}


WHOLE = {
    "scaling": [step("sklearn.preprocessing.RobustScaler", quantile_range=[10, 90])],
    "extraction": [step("sklearn.decomposition.PCA", n_components=0.9)],
    "extraction from a sparse matrix": [step("sklearn.decomposition.TruncatedSVD", n_components=5)],
    "selection": [step("sklearn.feature_selection.SelectKBest", k=5)],
    "selection by a function": [
        step("sklearn.feature_selection.SelectKBest", k=5, score_func="sklearn.feature_selection.mutual_info_classif")
    ],
    "selection by a model": [
        step("sklearn.feature_selection.SelectFromModel", estimator="sklearn.linear_model.LogisticRegression")
    ],
    "elimination by a model": [
        step(
            "sklearn.feature_selection.RFE",
            estimator="sklearn.ensemble.RandomForestClassifier",
            estimator__n_estimators=3,
            n_features_to_select=5,
            step=0.5,
        )
    ],
    "two of a kind, and another": [
        step("sklearn.feature_selection.VarianceThreshold"),
        step("sklearn.decomposition.PCA", n_components=8),
        step("sklearn.decomposition.PCA", n_components=4, name="again"),
    ],
}
OF_COLUMNS = {
    "target encoding": [step("sklearn.preprocessing.TargetEncoder", ["town"])],
    "polynomials after imputing": [
        step("sklearn.impute.SimpleImputer", ["größe", "count"]),
        step("sklearn.preprocessing.PolynomialFeatures", ["größe", "count"]),
    ],
    "splines after imputing": [
        step("sklearn.impute.KNNImputer", ["größe", "count"]),
        step("sklearn.preprocessing.SplineTransformer", ["größe", "count"], n_knots=4),
    ],
    "words in pairs": [step("sklearn.feature_extraction.text.TfidfVectorizer", ["numeric"], ngram_range=[1, 2])],
    "a column, and the whole after it": [
        step(
            "sklearn.preprocessing.OrdinalEncoder",
            ["town"],
            handle_unknown="use_encoded_value",
            unknown_value=-1,
            encoded_missing_value=-1,
        ),
        step("sklearn.decomposition.PCA", n_components=6),
    ],
}


def with_steps(steps: list[dict[str, Any]], estimator: str = LOGISTIC, **sections: Any) -> Settings:
    return settings(estimator, model={"steps": steps, **sections.pop("model", {})}, **sections)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [LOGISTIC, "sklearn.tree.DecisionTreeClassifier"])
@pytest.mark.parametrize("steps", [*WHOLE.values(), *OF_COLUMNS.values()], ids=[*WHOLE, *OF_COLUMNS])
def test_a_step_learns_with_the_model_and_comes_back_from_its_file_as_it_was(
    steps: list[dict[str, Any]], estimator: str, tmp_path: Path
) -> None:
    asked = with_steps(steps, estimator)
    check_estimator(asked)
    path = tmp_path / "model.skops"
    contents = []
    for _ in range(2):
        model = make_model(asked, KNOWN).fit(X[:180], LABEL[:180])
        check_steps(asked, model, X[:180], LABEL[:180])
        modelfile.save(model, asked, path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    again = modelfile.load(asked, path)
    np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X), rtol=1e-12)
    assert model.score(X[180:], LABEL[180:]) > 0.6


def test_a_step_without_columns_takes_the_whole_matrix_after_preprocessing() -> None:
    model = make_model(with_steps([step("sklearn.decomposition.PCA", n_components=3)]), NUMERIC).fit(X, LABEL)
    prepared = make_model(settings(LOGISTIC), NUMERIC).fit(X, LABEL)[0].transform(X)
    np.testing.assert_allclose(model[:-1].transform(X), PCA(3, random_state=0).fit_transform(prepared))


def test_a_step_with_columns_takes_the_place_of_their_preprocessing() -> None:
    asked = with_steps([step("sklearn.preprocessing.TargetEncoder", ["town"])])
    columns = [column for column in COLUMNS if column.name in ("count", "town")]
    model = make_model(asked, columns)
    found = model[0].fit(X, LABEL).transform(X)
    expected = TargetEncoder(random_state=0).fit(X[["town"]], LABEL).transform(X[["town"]])
    assert found.shape == (N, 3), "the count with its indicator of missing values, and the town"
    np.testing.assert_array_equal(found[:, 2:], expected)


def test_a_step_of_a_column_of_text_takes_the_place_of_its_preprocessing() -> None:
    asked = with_steps([step("sklearn.feature_extraction.text.CountVectorizer", ["numeric"])])
    texts = [column for column in COLUMNS if column.kind == "text"]
    entries = make_model(asked, texts)[0].fit(X, LABEL).transformers_
    assert [columns for name, _, columns in entries if name != "remainder"] == ["what__they__said", "numeric"]


def test_steps_with_the_same_columns_follow_one_another() -> None:
    asked = with_steps(OF_COLUMNS["polynomials after imputing"])
    entry, _ = make_model(asked, NUMERIC)[0].fit(X, LABEL).transformers_
    assert entry[1].named_steps.keys() == {"simpleimputer", "polynomialfeatures"}
    assert entry[1].transform(X[entry[2]]).shape == (N, 6)


def test_a_random_state_that_was_left_open_is_fixed_also_inside_a_step() -> None:
    forest = "sklearn.ensemble.RandomForestClassifier"
    steps = [step("sklearn.feature_selection.RFE", estimator=forest), step("sklearn.decomposition.PCA", random_state=7)]
    model = make_model(with_steps(steps), KNOWN)
    assert model["rfe"].estimator.random_state == 0
    assert model["pca"].random_state == 7


def test_missing_values_are_imputed_where_a_step_does_not_take_them_though_the_estimator_does() -> None:
    tree = "sklearn.tree.DecisionTreeClassifier"
    assert np.isnan(make_model(settings(tree), NUMERIC)[0].fit(X, LABEL).transform(X)).any()
    model = make_model(with_steps([step("sklearn.decomposition.PCA")], tree), NUMERIC)
    assert np.isfinite(model[0].fit(X, LABEL).transform(X)).all()


def test_the_matrix_stays_sparse_only_where_every_step_takes_it() -> None:
    for transformer, sparse in (("TruncatedSVD", True), ("FastICA", False)):
        asked = with_steps([step(f"sklearn.decomposition.{transformer}")])
        assert hasattr(make_model(asked, TOWNS)[0].fit(MANY).transform(MANY), "toarray") == sparse


@pytest.mark.parametrize("method", ["grid", "bayesian"])
def test_a_step_is_tuned_with_the_estimator(method: str) -> None:
    space = {"pca__n_components": [1, 2], "C": [0.1, 1.0], "selectkbest__k": [2]}
    steps = [step("sklearn.feature_selection.SelectKBest", k=1), step("sklearn.decomposition.PCA")]
    asked = with_steps(steps, tuning={"method": method, "space": space, "trials": 4, "folds": 3})
    check_estimator(asked)
    best, trials = tune(X, LABEL, asked, NUMERIC, None)
    assert {trial["params"]["pca__n_components"] for trial in trials} == {1, 2}
    model = make_model(asked, NUMERIC, best)
    assert model["pca"].n_components == best["pca__n_components"]
    assert (model["selectkbest"].k, model["estimator"].C) == (2, best["C"])


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [step("sklearn.decomposition.PCAA")],
            ".0.transformer: sklearn.decomposition has no 'PCAA'; did you mean",
        ),
        ([step("sklearn.decompositon.PCA")], ".0.transformer: sklearn.decompositon.PCA cannot be imported: No module"),
        ([step("umap.UMAP")], "No module named 'umap'\n  try: uv add umap, if that is a package to be installed"),
        ([step("project.nowhere.Mine")], "project.nowhere.Mine cannot be imported: there is no src/project/nowhere.py"),
        ([step("sklearn.svm.SVC")], ".0.transformer: sklearn.svm.SVC is not a transformer of scikit-learn's API\n"),
        ([step("os.path.join")], "os.path.join is not a transformer of scikit-learn's API\n  try: a class with"),
        ([step("sklearn.manifold.TSNE")], "transforms only the rows that it was fitted on, and no new ones"),
        (
            [step("test_steps.Resampler")],
            "it changes the number of rows, with fit_resample\n  try: model.params",
        ),
        ([step("test_steps.Plain")], "API\n  try: class Name(TransformerMixin, BaseEstimator), both of sklearn.base"),
        ([step("sklearn.decomposition.PCA", n=3)], ".0.params: PCA takes no parameter 'n'"),
        ([step("sklearn.decomposition.PCA", n_component=3)], "'n_component'; did you mean 'n_components'?"),
        (
            [step("sklearn.decomposition.PCA", n_components=-3)],
            ".0.params: The 'n_components' parameter of PCA",
        ),
        ([step("sklearn.feature_selection.RFE")], ".0.transformer: sklearn.feature_selection.RFE cannot be created"),
        (
            [step("sklearn.feature_selection.RFE", estimator="sklearn.svm.SVCC")],
            ".0.params: sklearn.svm has no 'SVCC'; did you mean 'SVC'?",
        ),
        (
            [step("sklearn.feature_selection.RFE", estimator="sklearn.svm.SVC", estimator__c=1)],
            ".0.params: RFE takes no parameter 'estimator__c'; did you mean 'estimator__C'?",
        ),
        (
            [step("sklearn.feature_selection.RFE", estimator="sklearn.svm.SVC", estimator__C=-1)],
            ".0.params: The 'C' parameter of SVC must be a float in the range (0.0, inf",
        ),
        (
            [step("sklearn.feature_selection.SelectKBest", score_func="sklearn.feature_selection.f_clasif")],
            "sklearn.feature_selection has no 'f_clasif'; did you mean 'f_classif'?",
        ),
    ],
)
def test_a_mistake_in_a_step_is_reported_with_its_key(steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_estimator(with_steps([*steps]))
    assert str(error.value).startswith("params.yaml: model.steps.0.")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"pcaa__n_components": [3]}, "tuning.space.pcaa__n_components: there is no step 'pcaa'; did you mean 'pca'?"),
        ({"pca__n": [3]}, "tuning.space.pca__n: PCA takes no parameter 'n'"),
        ({"pca__n_components": [3, -3]}, "tuning.space.pca__n_components: The 'n_components' parameter of PCA must be"),
        ({"n_components": [3]}, "tuning.space.n_components: LogisticRegression takes no parameter 'n_components'"),
    ],
)
def test_a_mistake_in_the_space_of_a_step_is_reported(space: dict[str, Any], message: str) -> None:
    asked = with_steps([step("sklearn.decomposition.PCA")], tuning={"method": "grid", "space": space})
    with pytest.raises(UserError) as error:
        check_estimator(asked)
    assert f"params.yaml: {message}" in str(error.value)


def test_a_tuned_step_where_there_are_none_is_reported() -> None:
    with pytest.raises(UserError, match=r"tuning.space.pca__k: there is no step 'pca'; model.steps is empty"):
        check_estimator(settings(LOGISTIC, tuning={"method": "grid", "space": {"pca__k": [3]}}))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step("sklearn.decomposition.PCA")] * 2, "two steps are named pca; give one of them another name"),
        ([step("sklearn.decomposition.PCA", name="estimator")], "a step cannot be named estimator"),
        ([step("sklearn.decomposition.PCA", name="a__b")], "String should match pattern"),
        ([step("PCA")], "must be an import path such as"),
        ([step("sklearn.decomposition.PCA", [])], "List should have at least 1 item"),
        ([step("sklearn.decomposition.PCA", ["a", "a"])], "the step pca names a column twice"),
        (
            [step("sklearn.decomposition.PCA", ["a", "b"]), step("sklearn.preprocessing.Binarizer", ["a"])],
            "two steps take the column 'a', but not the same list of columns",
        ),
    ],
)
def test_steps_that_do_not_go_together_are_refused(steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_steps(steps)


def test_a_column_that_the_table_or_the_model_does_not_have_is_reported() -> None:
    asked = with_steps([step("sklearn.preprocessing.TargetEncoder", ["twon"])])
    with pytest.raises(UserError, match=r"model.steps.0.columns: the table has no column 'twon'; did you mean 'town'"):
        check_columns(asked, ["town", "y"], features=[])
    asked = with_steps([step("sklearn.preprocessing.TargetEncoder", ["y"])])
    with pytest.raises(UserError, match=r"model.steps.0.columns: the table has no column 'y'"):
        check_columns(asked, ["town", "y"], features=[])
    asked = with_steps([step("sklearn.impute.SimpleImputer", ["always missing"])])
    with pytest.raises(UserError, match=r"steps.0.columns: 'always missing' has no value in the training rows"):
        make_model(asked, KNOWN)


class Resampler(BaseEstimator):
    """As imbalanced-learn has them."""

    def fit_resample(self, X: Any, y: Any) -> Any:
        return X, y


class Plain:
    """Without scikit-learn's base classes."""

    def fit(self, X: Any, y: Any = None) -> Any:
        return self

    def transform(self, X: Any) -> Any:
        return X


class Base(TransformerMixin, BaseEstimator):
    def fit(self, X: Any, y: Any = None) -> Any:
        return self

    def transform(self, X: Any) -> Any:
        return np.asarray(X)


class Drops(Base):
    """Leaves out rows, as a cleaning step would."""

    def transform(self, X: Any) -> Any:
        return np.asarray(X)[1:]


class DropsLater(Base):
    """Leaves out rows of what it was not fitted on."""

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        return np.asarray(X)

    def transform(self, X: Any) -> Any:
        return np.asarray(X)[1:]


class Noisy(Base):
    """Gives something else each time."""

    def transform(self, X: Any) -> Any:
        return np.asarray(X) + np.random.default_rng().normal(size=X.shape)


class Guesses(Base):
    """Learns something else each time."""

    def fit(self, X: Any, y: Any = None) -> Any:
        self.shift_ = np.random.default_rng().normal()
        return self

    def transform(self, X: Any) -> Any:
        return np.asarray(X) + self.shift_


class Looks(Base):
    """Subtracts the mean of the rows that it is asked for."""

    def transform(self, X: Any) -> Any:
        return np.asarray(X) - np.asarray(X).mean(axis=0)


class Needs(Base):
    """Does not work on one row."""

    def transform(self, X: Any) -> Any:
        if len(X) < 2:
            raise ValueError("two rows are needed")
        return np.asarray(X)


@pytest.mark.parametrize("columns", [None, ["größe"]], ids=["whole", "columns"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("DropsLater", "turns 20 rows into 19, but must keep them all"),
        ("Noisy", "returns different values for the same rows each time"),
        ("Guesses", "is not deterministic: two fits on the same rows differ\n  try: a parameter random_state"),
        (
            "Looks",
            r"returns different values \(by .* standard deviations\) for a row alone than for the same row in a batch",
        ),
        ("Needs", "cannot transform a row alone: two rows are needed"),
    ],
)
def test_a_step_that_does_not_treat_each_row_on_its_own_is_refused(
    name: str, problem: str, columns: list[str] | None
) -> None:
    asked = with_steps([step(f"test_steps.{name}", columns)])
    whole = X.assign(größe=X["größe"].fillna(0))
    model = make_model(asked, NUMERIC)
    model.fit(whole, LABEL)
    with pytest.raises(UserError, match=rf"params.yaml: model.steps.0: {name.lower()} {problem}"):
        check_steps(asked, model, whole, LABEL)


@pytest.mark.parametrize(
    ("encoder", "hint"),
    [("OneHotEncoder", "{handle_unknown: ignore}"), ("OrdinalEncoder", "{handle_unknown: use_encoded_value, unkn")],
)
def test_an_encoder_that_refuses_a_new_category_is_refused_itself(encoder: str, hint: str) -> None:
    asked = with_steps([step(f"sklearn.preprocessing.{encoder}", ["town"])], "sklearn.tree.DecisionTreeClassifier")
    model = make_model(asked, TOWNS).fit(X, LABEL)
    with pytest.raises(UserError, match="refuses a category that no training row has: Found unknown cat") as error:
        check_steps(asked, model, X, LABEL)
    assert f"try: params: {hint}" in str(error.value)


def refused(steps: list[dict[str, Any]], columns: Any = KNOWN, estimator: str = LOGISTIC, **params: Any) -> str:
    """What the stage says of a model that cannot be fitted."""
    asked = with_steps(steps, estimator, model={"params": params})
    model = make_model(asked, columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filter_warnings()
        with pytest.raises(Exception) as error:  # noqa: PT011 - of scikit-learn, whatever it is
            model.fit(X, LABEL)
        return str(fit_error(asked, make_model(asked, columns), X, LABEL, error.value, "model: it"))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [step("sklearn.feature_selection.SelectKBest", k=99)],
            "selectkbest cannot be fitted: k=99 is greater than",
        ),
        (
            [step("sklearn.feature_selection.RFE", estimator="sklearn.svm.LinearSVC", n_features_to_select=99)],
            "rfe cannot be fitted: Found n_features_to_select=99 > n_features=4",
        ),
        ([step("sklearn.decomposition.PCA", n_components=99)], "pca cannot be fitted: n_components=99 must be between"),
        ([step("test_steps.Drops")], "drops turns 240 rows into 239, but must keep them all"),
        ([step("test_steps.Drops", ["größe"])], "drops turns 240 rows into 239, but must keep them all"),
        (
            [step("sklearn.decomposition.PCA", ["größe", "count"])],
            "pca cannot be fitted: Input X contains NaN.\n  try: a step sklearn.impute.SimpleImputer",
        ),
    ],
)
def test_a_step_that_cannot_be_fitted_is_named(steps: list[dict[str, Any]], message: str) -> None:
    assert refused(steps, NUMERIC).startswith(f"params.yaml: model.steps.0: {message}")


def test_a_sparse_matrix_for_an_estimator_that_takes_none_is_reported_with_the_parameter_to_set() -> None:
    said = refused([step("sklearn.preprocessing.KBinsDiscretizer")], NUMERIC, "sklearn.naive_bayes.GaussianNB")
    assert "model.steps.0: kbinsdiscretizer returns a sparse matrix, which GaussianNB does not accept" in said
    assert said.endswith("try: params: {encode: onehot-dense}")


def test_an_estimator_that_cannot_be_fitted_is_not_blamed_on_a_step() -> None:
    said = refused([step("sklearn.decomposition.PCA")], NUMERIC, solver="lbfgs", l1_ratio=1.0)
    assert said.startswith("params.yaml: model: it cannot be fitted: Solver lbfgs supports only")


def test_a_step_of_two_columns_of_text_is_refused() -> None:
    asked = with_steps([step("sklearn.feature_extraction.text.CountVectorizer", ["numeric", "what__they__said"])])
    with pytest.raises(UserError, match="CountVectorizer takes one column of text, got 2\n  try: a step for each"):
        make_model(asked, KNOWN)


def test_an_estimator_inside_an_estimator_is_an_import_path_too() -> None:
    params = {"estimator": "sklearn.tree.DecisionTreeClassifier", "estimator__max_depth": 2}
    asked = settings("sklearn.ensemble.AdaBoostClassifier", model={"params": params})
    check_estimator(asked)
    assert make_model(asked, KNOWN)["estimator"].estimator.max_depth == 2
