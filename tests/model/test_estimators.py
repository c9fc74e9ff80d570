from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.data.tables import Column
from mlops.model import metrics, modelfile
from mlops.model.estimators import check_estimator, make_estimator, make_model

N = 240
KINDS = {
    "größe": "numeric",
    "count": "numeric",
    "always missing": "numeric",
    "喫煙": "boolean",
    "joined": "date",
    "never": "date",
    "town": "categorical",
    "no town": "categorical",
    # names that scikit-learn would refuse as names of steps
    "numeric": "text",
    "what__they__said": "text",
}
COLUMNS = [Column(name=name, kind=kind, type="", unit=None, missing=0, distinct=0) for name, kind in KINDS.items()]

CLASSIFIERS = {
    "sklearn.linear_model.LogisticRegression": {"class_weight": {"yes": 2.0, "no": 1.0}},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 20},
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 20},
    "sklearn.svm.LinearSVC": {},  # no predict_proba
    "sklearn.naive_bayes.GaussianNB": {},  # takes no sparse matrix
    "sklearn.neighbors.KNeighborsClassifier": {},
    "sklearn.neural_network.MLPClassifier": {
        "hidden_layer_sizes": [8, 4],
        "learning_rate_init": 0.01,
        "max_iter": 1000,
    },
    "lightgbm.LGBMClassifier": {"n_estimators": 20, "n_jobs": 1, "verbosity": -1},
}
REGRESSORS = {
    "sklearn.linear_model.LinearRegression": {},
    "sklearn.linear_model.Ridge": {},
    "sklearn.ensemble.RandomForestRegressor": {"n_estimators": 20},
    "sklearn.ensemble.HistGradientBoostingRegressor": {"max_iter": 20},
    "sklearn.neighbors.KNeighborsRegressor": {},
    "sklearn.neural_network.MLPRegressor": {"max_iter": 1000},
}
TRUSTED = {"lightgbm": ["collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"]}


def settings(estimator: str, task: str = "classification", **sections: Any) -> Settings:
    model = {"estimator": estimator, "trusted": TRUSTED.get(estimator.split(".")[0], []), **sections.pop("model", {})}
    positive = {"positive": sections.pop("positive")} if "positive" in sections else {}
    return Settings.model_validate(
        {
            "data": {"source": "data/raw/x.csv", "task": task, "target": "y", **positive},
            "validate": {},
            "split": {},
            "model": model,
            "tuning": None,
            "evaluate": {},
            **sections,
        }
    )


def make_table() -> pa.Table:
    """Every kind of column, each with gaps, and two targets that follow from the first."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=N)
    words = ["gut", "naïve", "東京", "awful", "plain", "broken", "shiny"]

    def gaps(values: Any) -> list[Any]:
        return [None if gap else value for gap, value in zip(rng.random(N) < 0.1, values, strict=True)]

    start = datetime.datetime(2020, 1, 1)
    return pa.table(
        {
            "größe": pa.array(gaps(size.tolist())),
            "count": pa.array(gaps(rng.integers(0, 9, N).tolist()), pa.int64()),
            "always missing": pa.nulls(N, pa.float64()),
            "喫煙": pa.array(gaps((rng.random(N) < 0.5).tolist())),
            "joined": pa.array(
                gaps(start + datetime.timedelta(days=int(day)) for day in rng.integers(0, 900, N)), pa.timestamp("us")
            ),
            "never": pa.nulls(N, pa.timestamp("us")),
            "town": pa.array(gaps(rng.choice(["A", "B", "C", "rare"], N, p=[0.5, 0.3, 0.19, 0.01]).tolist())),
            "no town": pa.nulls(N, pa.string()),
            "numeric": pa.array(gaps(" ".join(rng.choice(words, 4)) for _ in range(N))),
            "what__they__said": pa.array(gaps(" ".join(rng.choice(words, 4)) for _ in range(N))),
            "label": pa.array(np.where(size + rng.normal(0, 0.3, N) > 0, "yes", "no")),
            "number": pa.array(3 * size + rng.normal(0, 0.3, N)),
        }
    )


TABLE = make_table()
X = tables.features(TABLE, COLUMNS)
LABEL, NUMBER = (TABLE["label"].to_numpy().astype(str), TABLE["number"].to_numpy())


@pytest.mark.parametrize(("estimator", "params"), [*CLASSIFIERS.items(), *REGRESSORS.items()])
def test_an_estimator_learns_from_every_kind_of_column_and_comes_back_from_its_file_as_it_was(
    estimator: str, params: dict[str, Any], tmp_path: Path
) -> None:
    classify = estimator in CLASSIFIERS
    asked = settings(estimator, "classification" if classify else "regression", model={"params": params})
    y = LABEL if classify else NUMBER
    check_estimator(asked)
    # boosted trees take missing values, but no column of nothing else; `train` leaves those out
    known = [column for column in COLUMNS if "HistGradient" not in estimator or TABLE[column.name].null_count < N]
    path = tmp_path / "model.skops"
    contents = []
    for _ in range(2):
        model = make_model(asked, known).fit(X[:180], y[:180])
        modelfile.save(model, asked, path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]

    ours, theirs = metrics.predict(model, X), metrics.predict(modelfile.load(asked, path), X)
    np.testing.assert_array_equal(ours.predicted, theirs.predicted)
    assert (ours.probabilities is None) == (theirs.probabilities is None)
    if ours.probabilities is not None:
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)

    classes = metrics.Classes.of(model.classes_, "yes") if classify else None
    test = metrics.Predictions(ours.predicted[180:], None if ours.probabilities is None else ours.probabilities[180:])
    scores = metrics.score(y[180:], test, classes)
    assert all(np.isfinite(value) for value in scores.values())
    assert scores["accuracy"] > 0.6 if classify else scores["r2"] > 0.3


def test_a_row_of_nothing_but_gaps_and_of_unknown_values_is_predicted() -> None:
    model = make_model(settings("sklearn.linear_model.LogisticRegression"), COLUMNS).fit(X, LABEL)
    odd = X.iloc[:2].copy()
    odd.iloc[0] = None
    odd["town"] = [None, "Atlantis"]
    odd["numeric"] = [None, "zyx"]
    assert np.isfinite(model.predict_proba(odd)).all()


def test_the_threshold_decides_for_the_positive_class() -> None:
    logistic = "sklearn.linear_model.LogisticRegression"
    decided = {
        threshold: (
            make_model(settings(logistic, positive="no", model={"threshold": threshold}), COLUMNS)
            .fit(X, LABEL)
            .predict(X)
        )
        for threshold in (0.1, 0.5, 0.9)
    }
    plain = make_model(settings(logistic), COLUMNS).fit(X, LABEL)
    np.testing.assert_array_equal(decided[0.5], plain.predict(X))
    probability = plain.predict_proba(X)[:, list(plain.classes_).index("no")]
    np.testing.assert_array_equal(decided[0.1] == "no", probability >= 0.1)
    np.testing.assert_array_equal(decided[0.9] == "no", probability >= 0.9)


def test_a_random_state_that_was_left_open_is_fixed_and_one_that_was_set_is_kept() -> None:
    forest = "sklearn.ensemble.RandomForestClassifier"
    assert make_estimator(settings(forest), {}).random_state == 0
    assert make_estimator(settings(forest, model={"params": {"random_state": 7}}), {}).random_state == 7


def test_rare_categories_share_a_column() -> None:
    rng = np.random.default_rng(0)
    names = np.append(np.repeat(["A", "B"], 500), [f"once {number}" for number in range(9)])
    town = [column for column in COLUMNS if column.name == "town"]
    frame = tables.features(pa.table({"town": rng.permutation(names)}), town)
    model = make_model(settings("sklearn.linear_model.LogisticRegression"), town)
    model.fit(frame, np.where(rng.random(len(names)) < 0.5, "yes", "no"))
    assert model[0].transform(frame).shape == (1009, 3)


def test_trees_see_missing_values_and_the_order_of_categories_as_they_are() -> None:
    some = [column for column in COLUMNS if column.name in ("größe", "town")]
    model = make_model(settings("sklearn.ensemble.HistGradientBoostingClassifier"), some).fit(X, LABEL)
    size, town = model[0].transform(X).T
    np.testing.assert_array_equal(size, X["größe"].to_numpy())
    assert np.isnan(town[X["town"].isna()]).all()
    assert len(np.unique(town[X["town"].notna()])) == X["town"].nunique()
    new = X[:1].assign(town="nowhere")
    assert model[0].transform(new)[0, 1] == -1


@pytest.mark.parametrize(
    ("estimator", "params", "message"),
    [
        ("sklearn.linear_model.LogisticRegresion", {}, "sklearn.linear_model has no 'LogisticRegresion'; did you mean"),
        ("sklearn.linear_modle.Ridge", {}, "No module named 'sklearn.linear_modle'; did you mean 'linear_model'?"),
        ("sklern.svm.SVC", {}, "No module named 'sklern'; did you mean 'sklearn'?"),
        ("boosters.Tree", {}, "No module named 'boosters'\n  try: uv add boosters"),
        ("os.path.join", {}, "model.estimator: os.path.join does not have scikit-learn's API"),
        ("sklearn.preprocessing.StandardScaler", {}, "does not have scikit-learn's API"),
        ("sklearn.linear_model.LinearRegression", {}, "LinearRegression does not support classification (data.task)"),
        ("sklearn.cluster.KMeans", {}, "KMeans does not support classification"),
        ("sklearn.multiclass.OneVsRestClassifier", {}, "missing 1 required positional argument: 'estimator'\n  try: "),
        ("sklearn.svm.SVC", {"c": 1}, "model.params: SVC takes no parameter 'c'; did you mean 'C'?"),
        ("sklearn.svm.SVC", {"C": -1}, "model.params: The 'C' parameter of SVC must be a float in the range (0.0, inf"),
        ("sklearn.svm.SVC", {"kernel": "lienar"}, "Got 'lienar' instead."),
        ("sklearn.svm.SVC", {"random_state": "today"}, "The 'random_state' parameter of SVC must be an int"),
    ],
)
def test_a_mistake_in_the_model_is_reported_with_its_key_and_what_is_allowed(
    estimator: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        check_estimator(settings(estimator, model={"params": params}))
    assert str(error.value).startswith("params.yaml: model.")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"c": [1.0]}, "params.yaml: tuning.space.c: SVC takes no parameter 'c'; did you mean 'C'?"),
        ({"C": [1.0, -1.0]}, "params.yaml: tuning.space.C: The 'C' parameter of SVC must be a float"),
        ({"C": {"low": -1.0, "high": 1.0}}, "params.yaml: tuning.space.C: The 'C' parameter of SVC must be a float"),
        (
            {"degree": {"low": 0.5, "high": 3}},
            "params.yaml: tuning.space.degree: The 'degree' parameter of SVC",
        ),
    ],
)
def test_a_mistake_in_the_search_space_is_reported_before_anything_is_fitted(
    space: dict[str, Any], message: str
) -> None:
    asked = settings("sklearn.svm.SVC", tuning={"method": "random", "space": space})
    with pytest.raises(UserError) as error:
        check_estimator(asked)
    assert message in str(error.value)


def test_a_range_of_whole_numbers_is_checked_as_whole_numbers() -> None:
    space = {"degree": {"low": 1, "high": 3, "integer": True}}
    check_estimator(settings("sklearn.svm.SVC", tuning={"method": "random", "space": space}))
