"""What is served predicts what was trained: every kind of column, of target and of estimator."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project, copied

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.data.tables import Column
from mlops.inference import explained, runtime
from mlops.inference.contract import Contract
from mlops.model import explaining, metrics, modelfile
from mlops.model.estimators import make_model
from mlops.pipeline import export, export_explanation
from mlops.serving import codec

N, TRAINED = 400, 300
CLASSIFIERS = {
    "sklearn.linear_model.LogisticRegression": {},
    "sklearn.tree.DecisionTreeClassifier": {},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 10},
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 10},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 10},
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 10},
    "sklearn.ensemble.AdaBoostClassifier": {"n_estimators": 5},
    "sklearn.neural_network.MLPClassifier": {"max_iter": 10},
    "sklearn.naive_bayes.GaussianNB": {},
    "sklearn.calibration.CalibratedClassifierCV": {},
    "sklearn.linear_model.SGDClassifier": {"loss": "log_loss"},
}
REGRESSORS = {
    "sklearn.linear_model.Ridge": {},
    "sklearn.linear_model.PoissonRegressor": {},
    "sklearn.tree.DecisionTreeRegressor": {},
    "sklearn.ensemble.RandomForestRegressor": {"n_estimators": 10},
    "sklearn.ensemble.GradientBoostingRegressor": {"n_estimators": 10},
    "sklearn.ensemble.HistGradientBoostingRegressor": {"max_iter": 10},
    "sklearn.ensemble.HistGradientBoostingRegressor ": {"max_iter": 10, "loss": "poisson"},
    "sklearn.neural_network.MLPRegressor": {"max_iter": 10},
    "sklearn.svm.SVR": {},
}
FALL_BACK = {
    "sklearn.svm.LinearSVC": "it does not convert: a classifier without probabilities",
    "sklearn.dummy.DummyClassifier": "it does not convert: skl2onnx raises MissingShapeCalculator for DummyClassifier",
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": "its predictions as ONNX differ",
    "lightgbm.LGBMClassifier": "it does not convert: skl2onnx raises MissingShapeCalculator for LGBMClassifier",
}


def explained_by(estimator: str) -> str | None:
    """The method that explains an estimator exactly."""
    kind = estimator.strip().split(".")
    if kind[1] in ("linear_model", "discriminant_analysis"):
        return "linear"
    return "trees" if kind[1] == "tree" or (kind[1] == "ensemble" and "AdaBoost" not in kind[2]) else None


def made() -> tuple[dict[str, tuple[str, pa.Array]], np.ndarray[Any, Any]]:
    """Columns with their kinds, as tables have them, and a number that follows from the first."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=N)
    start = datetime.datetime(2020, 1, 1)

    def gaps(values: Any) -> list[Any]:
        return [None if rng.random() < 0.1 else value for value in values]

    days = rng.integers(0, 20_000, N)
    columns = {
        'the "size", it\'s größe': ("numeric", pa.array(gaps(size.tolist()))),
        "count": ("numeric", pa.array(rng.integers(0, 9, N))),
        "always one": ("numeric", pa.array(np.ones(N))),
        "large": ("numeric", pa.array(1e9 + 1e3 * size)),
        "喫煙": ("boolean", pa.array(gaps((rng.random(N) < 0.5).tolist()))),
        "joined": ("date", pa.array(gaps(start + datetime.timedelta(hours=int(day)) for day in days))),
        "called": ("time", pa.array(gaps((start + datetime.timedelta(seconds=int(day) * 7)).time() for day in days))),
        "town": ("categorical", pa.array(gaps(rng.choice(["Ä", "B", "rare", "once"], N, p=[0.6, 0.38, 0.01, 0.01])))),
        "never missing": ("categorical", pa.array(rng.choice(["A", "B'", "rare"], N, p=[0.6, 0.395, 0.005]))),
        "many": ("categorical", pa.array([f"v{number}" for number in rng.integers(0, 120, N)])),
        "same": ("categorical", pa.array(["same"] * N)),
    }
    return columns, size + rng.normal(0, 0.3, N)


COLUMNS, NUMBER = made()
TARGETS = {
    "text": np.where(NUMBER > 0, "já", "nein"),
    "number": np.where(NUMBER > 0, 3, -1),
    "truth": NUMBER > 0,
    "three": np.array(["a", "b", "ç"])[np.digitize(NUMBER, [-0.5, 0.5])],
}


def of_example(contract: Contract) -> dict[str, Any]:
    """The contract's example as the service reads it."""
    decode = codec.Decoder(contract)
    return decode.columns(*decode(json.dumps({"rows": [contract.example]}).encode()))


def exported(
    estimator: str,
    params: dict[str, Any],
    y: Any,
    columns: dict[str, tuple[str, pa.Array]] = COLUMNS,
    **model: Any,
) -> tuple[float, dict[str, Any], Contract, bytes]:
    """Train, export as the stage does, and compare on all rows: the largest difference, the message, and the form."""
    regression = y.dtype.kind == "f"
    task = "regression" if regression else "classification"
    data = {"source": "data/raw/x.csv", "task": task, "target": "y", "positive": model.pop("positive", None)}
    named = {"estimator": estimator.strip(), "params": params, **model}
    settings = Settings.model_validate(
        {"data": data, "validate": {}, "split": {}, "model": named, "tuning": None, "evaluate": {}}
    )
    table = pa.table({name: values for name, (_, values) in columns.items()})
    train, test = table.slice(0, TRAINED), table.slice(TRAINED)
    described = [
        Column(
            name=name,
            kind=kind,
            type="",
            unit=None,
            missing=values.null_count,
            distinct=len(values.unique()) if kind == "categorical" else None,
        )
        for name, (kind, values) in columns.items()
        if train[name].null_count < TRAINED
    ]
    model_ = make_model(settings, described).fit(tables.features(train, described), y[:TRAINED])
    import skops.io

    paths.MODEL.parent.mkdir(exist_ok=True)
    paths.MODEL.write_bytes(modelfile.canonical(skops.io.dumps(model_)))
    pq.write_table(table, paths.TABLE)
    fields = [export.describe(column, export.values_of(column), train[column.name]) for column in described]
    nullable = {field.name for field in fields if field.nullable}
    probes = export.probes(test.select([column.name for column in described]), described, nullable)
    expected = metrics.predict_table(model_, probes, described)
    contract = Contract(
        task=task,
        target="y",
        classes=None if regression else model_.classes_.tolist(),
        positive=settings.data.positive,
        threshold=settings.model.threshold,
        probabilities=expected.probabilities is not None,
        runtime="onnx",
        fields=fields,
    )

    def differs(content: bytes, contract: Contract) -> float:
        return export.distance(expected, export.answers(runtime.loaded(content, contract), probes, described))

    content, contract, found = export.compiled(model_, contract, differs)
    contract = Contract.model_validate_json(contract.model_dump_json())
    served = runtime.loaded(content, contract)
    whole = export.distance(metrics.predict_table(model_, table, described), export.answers(served, table, described))
    assert len(served(of_example(contract)).predicted) == 1
    return whole, found, explained_as_well(model_, contract, content, table, described), content


def explained_as_well(
    model: Any, contract: Contract, content: bytes, table: pa.Table, described: list[Column]
) -> Contract:
    """What is exported explains the model's own score, unless it gives a reason; the contract with what it says."""
    X = tables.features(table, described)
    columns = export.as_columns(X, described)
    about, files = export_explanation.made(
        model, contract, X.iloc[:TRAINED], {name: values[:TRAINED] for name, values in columns.items()}
    )
    contract = contract.model_copy(update={"explanation": about})
    export.write(content, contract, files)
    assert bool(about.why) == (about.method is None) == (not files)
    if about.method is None:
        return contract
    answer = runtime.loaded(content, contract)(columns)
    pipeline = getattr(model, "estimator_", model)
    scores = explaining.raw_scores(pipeline, X)
    if about.unit == "log of the value":
        scores = np.log(scores)
    elif about.of is not None and contract.classes and about.of == contract.classes[0]:
        scores = 1 - scores if about.unit == "probability" else -scores
    elif about.of is None and contract.classes:
        chosen = [contract.classes.index(label) for label in answer.predicted.tolist()]
        scores = scores[np.arange(N), chosen]
    found = explained.load(contract)(columns, answer)
    assert found.contributions.shape == (N, len(contract.inputs))
    np.testing.assert_allclose(found.score, scores.reshape(-1), rtol=1e-7, atol=1e-7)
    return contract


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.PREPARED.mkdir(parents=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["text", "three"])
@pytest.mark.parametrize(("estimator", "params"), CLASSIFIERS.items())
def test_a_classifier_predicts_the_same_as_onnx_also_where_values_are_missing_or_new(
    estimator: str, params: dict[str, Any], target: str
) -> None:
    difference, found, contract, _ = exported(estimator, params, TARGETS[target])
    assert contract.explanation.method == explained_by(estimator)
    assert found["runtime"] == contract.runtime == "onnx"
    assert found["why"] is None
    assert difference <= found["difference_below"] <= export.TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "params"), REGRESSORS.items())
def test_a_regressor_predicts_the_same_as_onnx(estimator: str, params: dict[str, Any]) -> None:
    difference, found, contract, _ = exported(estimator, params, np.exp(NUMBER))
    assert contract.explanation.method == explained_by(estimator)
    assert (contract.runtime, found["why"]) == ("onnx", None)
    assert difference <= found["difference_below"] <= export.TOLERANCE


NUMBERS = ["count", "large"]
CODES = ["never missing", "many"]
STEPS: dict[str, list[dict[str, Any]]] = {
    "components": [{"transformer": "sklearn.decomposition.PCA", "params": {"n_components": 4, "whiten": True}}],
    "components of a product": [{"transformer": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 4}}],
    "independent components": [{"transformer": "sklearn.decomposition.FastICA", "params": {"n_components": 4}}],
    "scaling": [
        {"transformer": "sklearn.preprocessing.MinMaxScaler", "params": {"clip": True}},
        {"transformer": "sklearn.preprocessing.RobustScaler"},
        {"transformer": "sklearn.preprocessing.MaxAbsScaler"},
        {"transformer": "sklearn.preprocessing.StandardScaler", "params": {"with_mean": False}},
    ],
    "selection": [
        {"transformer": "sklearn.feature_selection.SelectKBest", "params": {"k": 9}},
        {
            "transformer": "sklearn.feature_selection.RFE",
            "params": {"estimator": "sklearn.linear_model.LogisticRegression", "n_features_to_select": 4},
        },
    ],
    "polynomials": [
        {"transformer": "sklearn.preprocessing.PolynomialFeatures", "columns": NUMBERS, "params": {"degree": 3}},
        {"transformer": "sklearn.preprocessing.StandardScaler", "columns": NUMBERS},
    ],
    "bins": [
        {
            "transformer": "sklearn.impute.SimpleImputer",
            "columns": ["喫煙", "count"],
            "params": {"add_indicator": True},
        },
        {
            "transformer": "sklearn.preprocessing.KBinsDiscretizer",
            "columns": ["喫煙", "count"],
            "params": {"quantile_method": "averaged_inverted_cdf"},
        },
    ],
    "target encoding": [{"transformer": "sklearn.preprocessing.TargetEncoder", "columns": CODES}],
    "one column for each category": [
        {"transformer": "sklearn.preprocessing.OneHotEncoder", "columns": CODES, "params": {"handle_unknown": "ignore"}}
    ],
    "a function": [
        {
            "transformer": "sklearn.preprocessing.FunctionTransformer",
            "columns": ["count"],
            "params": {"func": "numpy.log1p"},
        }
    ],
    "what skl2onnx converts": [{"transformer": "sklearn.preprocessing.Normalizer"}],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ["linear_model.LogisticRegression", "ensemble.RandomForestClassifier"])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_steps_that_learn_predict_the_same_as_onnx(steps: list[dict[str, Any]], estimator: str) -> None:
    target = "three" if "target" in str(steps).lower() else "text"
    params = {"n_estimators": 5} if "Forest" in estimator else {}
    difference, found, contract, _ = exported(f"sklearn.{estimator}", params, TARGETS[target], steps=steps)
    assert (contract.runtime, found["why"]) == ("onnx", None)
    assert difference <= found["difference_below"] <= export.TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("step", "why"),
    [
        (
            {"transformer": "sklearn.preprocessing.SplineTransformer", "columns": ["count"]},
            "it does not convert: the step splinetransformer, SplineTransformer, of columns",
        ),
        (
            {"transformer": "sklearn.cluster.FeatureAgglomeration"},
            "for FeatureAgglomeration → LogisticRegression",
        ),
    ],
)
def test_a_step_that_does_not_convert_is_served_by_scikit_learn(step: dict[str, Any], why: str) -> None:
    difference, found, contract, _ = exported(
        "sklearn.linear_model.LogisticRegression", {}, TARGETS["text"], steps=[step]
    )
    assert (contract.runtime, difference) == ("scikit-learn", 0)
    assert found["why"].endswith(why)


@pytest.mark.parametrize("target", ["number", "truth"])
@pytest.mark.parametrize("estimator", ["linear_model.LogisticRegression", "ensemble.HistGradientBoostingClassifier"])
def test_labels_keep_their_type(estimator: str, target: str) -> None:
    _, _, contract, content = exported(f"sklearn.{estimator}", {}, TARGETS[target])
    answer = runtime.loaded(content, contract)(of_example(contract))
    first = json.loads(codec.Encoder(contract, "1.0.0", "0" * 32)(answer, "id"))["predictions"][0]
    assert first["prediction"] in [-1, 3] if target == "number" else [False, True]
    assert answer.predicted.dtype == TARGETS[target].dtype


@pytest.mark.parametrize("positive", ["já", "nein"])
def test_rows_on_the_threshold_fall_on_the_same_side(positive: str) -> None:
    """Ten trees say 0.3 of many rows, and a sum of rounded shares would not."""
    forest = "sklearn.ensemble.RandomForestClassifier"
    difference, found, contract, _ = exported(
        forest, {"n_estimators": 10}, TARGETS["text"], positive=positive, threshold=0.3
    )
    assert (contract.runtime, contract.threshold, found["why"]) == ("onnx", 0.3, None)
    assert difference <= export.DOUBLE


@pytest.mark.parametrize(("estimator", "why"), FALL_BACK.items())
def test_what_does_not_convert_is_served_by_scikit_learn_and_a_sentence_says_why(estimator: str, why: str) -> None:
    difference, found, contract, _ = exported(estimator, {}, TARGETS["text"])
    assert (contract.runtime, found["why"], difference) == ("scikit-learn", why, 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ["sklearn.svm.SVC", "sklearn.svm.NuSVC"])
def test_labels_that_do_not_follow_from_probabilities_are_served_by_scikit_learn(estimator: str) -> None:
    _, found, contract, _ = exported(estimator, {"probability": True}, TARGETS["three"])
    why = "it does not convert: its labels are not those of the highest probability"
    assert (contract.runtime, found["why"]) == ("scikit-learn", why)
    # with a threshold they follow
    _, found, contract, _ = exported(estimator, {"probability": True}, TARGETS["text"], positive="nein", threshold=0.4)
    assert (contract.runtime, found["why"]) == ("onnx", None)


def test_the_probes_include_rows_between_the_test_rows() -> None:
    test = pa.table({"x": list(range(50)), "y": [str(number) for number in range(50)]})
    columns = [
        Column(name=name, kind=kind, type="", unit=None, missing=0, distinct=50)
        for name, kind in (("x", "numeric"), ("y", "categorical"))
    ]
    probes = export.probes(test, columns, set()).to_pylist()
    assert probes[:50] == test.to_pylist()
    mixed = probes[50:-2]
    assert sum(row not in probes[:50] for row in mixed) > 40
    assert {row["x"] for row in mixed} == set(range(50))
    assert probes == export.probes(test, columns, set()).to_pylist()


def test_a_column_of_text_is_served_by_scikit_learn() -> None:
    columns = {**COLUMNS, "said": ("text", pa.array([f"gut {n % 7} naïve" for n in range(N)]))}
    logistic = "sklearn.linear_model.LogisticRegression"
    difference, found, _, _ = exported(logistic, {}, TARGETS["text"], columns)
    assert (found["why"], difference) == ("it does not convert: a column of text (said)", 0)


@pytest.mark.parametrize("kept", COLUMNS)
def test_a_table_of_one_column_converts(kept: str) -> None:
    for estimator in ("sklearn.linear_model.LogisticRegression", "sklearn.ensemble.HistGradientBoostingClassifier"):
        difference, found, _, _ = exported(estimator, {}, TARGETS["text"], {kept: COLUMNS[kept]})
        assert (found["runtime"], found["precision"]) == ("onnx", "double")
        assert difference <= export.TOLERANCE


def test_a_column_without_values_among_the_training_rows_is_no_field() -> None:
    late = pa.array([None] * TRAINED + [1.0] * (N - TRAINED))
    _, found, contract, _ = exported(
        "sklearn.linear_model.LogisticRegression", {}, TARGETS["text"], {**COLUMNS, "late": ("numeric", late)}
    )
    assert found["runtime"] == "onnx"
    assert "late" not in contract.example


def test_a_field_says_what_the_column_holds() -> None:
    _, _, contract, _ = exported("sklearn.linear_model.LogisticRegression", {}, TARGETS["text"])
    fields = {field.name: field for field in contract.fields}
    assert fields["never missing"].values == ["A", "B'", "rare"]
    assert fields["many"].values is None
    assert fields["town"].nullable
    assert not fields["never missing"].nullable
    assert (fields["count"].low, fields["count"].high) == (0, 8)
    assert fields["joined"].low.startswith("2020-01-")
    assert fields["always one"].example == 1


def test_an_infinite_value_is_no_end_of_a_range() -> None:
    column = Column(name="x", kind="numeric", type="", unit=None, missing=0, distinct=None)
    field = export.describe(column, None, pa.chunked_array([[1.0, float("inf"), 3.0]]))
    assert (field.low, field.high, field.example) == (1, 3, 2)
    assert export.describe(column, None, pa.chunked_array([[float("inf")]])).low is None


def test_the_recorded_difference_is_the_same_on_a_machine_that_rounds_differently() -> None:
    recorded = {}
    for difference in (0.0, 1e-16, 9.99e-13, 1.01e-12, 5e-8, 9.99e-7, 1.01e-6):
        contract = Contract(task="regression", target="y", probabilities=False, runtime="onnx", fields=[])
        recorded[difference] = export.summary(contract, "double", difference)["difference_below"]
    assert list(recorded.values()) == [export.DOUBLE] * 4 + [export.TOLERANCE] * 3


def test_a_model_that_says_something_else_each_time_is_refused() -> None:
    contract = Contract(task="regression", target="y", probabilities=False, runtime="onnx", fields=[])
    model = make_model(
        Settings.model_validate(
            {
                "data": {"source": "x.csv", "task": "regression", "target": "y"},
                "validate": {},
                "split": {},
                "model": {"estimator": "sklearn.dummy.DummyRegressor"},
                "tuning": None,
                "evaluate": {},
            }
        ),
        [],
    )
    import skops.io

    paths.MODEL.parent.mkdir()
    paths.MODEL.write_bytes(skops.io.dumps(model))
    with pytest.raises(UserError, match="DummyRegressor is not deterministic"):
        export.compiled(model, contract, lambda _content, _contract: 0.5)


def test_the_stage_writes_the_same_bytes_in_another_process_and_nothing_of_this_machine(
    done: Project, tmp_path: Path
) -> None:
    project = copied(done, tmp_path)
    folders = (project.folder / paths.SERVICE, project.folder / paths.PORTABLE)
    outputs = [*(file for folder in folders for file in sorted(folder.iterdir())), project.folder / paths.EXPORTED]
    before = [path.read_bytes() for path in outputs]
    for seed in ("1", "2"):
        shutil.rmtree(project.folder / paths.SERVICE)
        project.stage("export", PYTHONHASHSEED=seed, OMP_NUM_THREADS=seed)
        assert [path.read_bytes() for path in outputs] == before
    found = json.loads(before[-1])
    assert (found["runtime"], found["precision"], found["difference_below"]) == ("onnx", "double", export.DOUBLE)
    written = project.folder / paths.SERVICE / "model.onnx"
    onnx.checker.check_model(written, full_check=True)
    domains = [each.domain for each in onnx.load(written).opset_import]
    assert domains == sorted(set(domains))  # a set's order showed itself in one run of sixty


def test_of_many_test_rows_a_sample_is_compared(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = copied(done, tmp_path)
    monkeypatch.chdir(project.folder)
    before = json.loads(paths.EXPORTED.read_text())
    monkeypatch.setattr(export, "MOST_COMPARED", 50)
    export.main()
    # 50 test rows, as many mixtures of them, one row with missing values and one with unseen categories
    assert json.loads(paths.EXPORTED.read_text()) == {**before, "rows": 102}
