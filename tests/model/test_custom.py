"""Metrics that a project adds: scikit-learn is the oracle, resample by resample; and each mistake has its words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Write
from sklearn import metrics as sk
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from mlops.core.errors import UserError
from mlops.core.settings import Evaluate
from mlops.model import bootstrap as bootstraps
from mlops.model import checks, metrics, resampling
from mlops.model.bootstrap import bootstrap, resample_counts
from mlops.model.metrics import Classes, Predictions, predict
from mlops.model.resampling import Custom

EXACT = 1e-10


def cancer() -> tuple[Any, Predictions, Classes]:
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    labels = np.where(y == 0, "malignant", "benign")
    model = LogisticRegression(max_iter=5000).fit(X.iloc[:300, :4], labels[:300])
    return labels[300:], predict(model, X.iloc[300:, :4]), Classes.of(model.classes_, "malignant")


def iris() -> tuple[Any, Predictions, Classes]:
    X, y = load_iris(return_X_y=True, as_frame=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    model = RandomForestClassifier(20, max_depth=2, random_state=0).fit(X.iloc[::2, :2], labels[::2])
    return labels[1::2], predict(model, X.iloc[1::2, :2]), Classes.of(model.classes_, None)


def diabetes() -> tuple[Any, Predictions, None]:
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    model = LinearRegression().fit(X.iloc[:300], y[:300])
    return y[300:].to_numpy(), predict(model, X.iloc[300:]), None


@pytest.fixture
def write(team: Write) -> Callable[[str], None]:
    """Write the team's `metrics.py`."""
    return lambda text: team(metrics=f"import numpy as np\nfrom mlops import metric\n{text}")


@pytest.fixture(autouse=True)
def _no_metric(write: Callable[[str], None]) -> None:
    """A test's own metrics are all that there are."""
    write("")


def declared(
    y: Any, predictions: Predictions, classes: Classes | None, evaluate: dict[str, Any], **columns: Any
) -> Custom:
    """The metrics that a section `evaluate` asks for, checked on these rows."""
    found, _ = resampling.declared(Evaluate.model_validate(evaluate), classes)
    return checks.check(found.on(pa.table({"row": np.arange(len(y)), **columns})), y, predictions, classes)


def by_path(path: str, **params: Any) -> dict[str, Any]:
    return {"metrics": [{"metric": f"sklearn.metrics.{path}", "params": params}]}


BINARY: dict[str, tuple[dict[str, Any], Callable[..., float]]] = {
    "fbeta_score": ({"beta": 2}, lambda y, p, s, w: sk.fbeta_score(y, p, beta=2, sample_weight=w)),
    "matthews_corrcoef": ({}, lambda y, p, s, w: sk.matthews_corrcoef(y, p, sample_weight=w)),
    "cohen_kappa_score": ({}, lambda y, p, s, w: sk.cohen_kappa_score(y, p, sample_weight=w)),
    "hamming_loss": ({}, lambda y, p, s, w: sk.hamming_loss(y, p, sample_weight=w)),
    "roc_auc_score": ({"max_fpr": 0.2}, lambda y, p, s, w: sk.roc_auc_score(y, s, max_fpr=0.2, sample_weight=w)),
    "d2_log_loss_score": ({}, lambda y, p, s, w: sk.d2_log_loss_score(y, s, sample_weight=w)),
    "d2_brier_score": ({}, lambda y, p, s, w: sk.d2_brier_score(y, s, sample_weight=w)),
}


@pytest.mark.parametrize("name", BINARY)
def test_a_metric_of_scikit_learn_has_its_value_on_every_resample(name: str) -> None:
    y, predictions, classes = cancer()
    params, reference = BINARY[name]
    custom = declared(y, predictions, classes, by_path(name, **params))
    assert predictions.probabilities is not None
    truth, said = y == "malignant", predictions.predicted == "malignant"
    score = predictions.probabilities[:, classes.positive]
    weigh, limits = custom.weigher(y, predictions, classes, 20)
    assert limits == {name: 20}
    counts = next(iter(resample_counts(len(y), 20, 0)))[:20]
    expected = [reference(truth.astype(int), said.astype(int), score, each) for each in counts]
    np.testing.assert_allclose(weigh(counts, 0)[name], expected, rtol=EXACT)
    estimate = bootstrap(y, predictions, classes, custom, resamples=200)[name]
    assert estimate.value == pytest.approx(reference(truth.astype(int), said.astype(int), score, None), rel=EXACT)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high
    assert custom.greater_is_better(name) is (name != "hamming_loss")


@pytest.mark.parametrize(
    ("path", "params", "reference"),
    [
        ("fbeta_score", {"beta": 2, "average": "macro"}, lambda y, p, s: sk.fbeta_score(y, p, beta=2, average="macro")),
        ("cohen_kappa_score", {"weights": "linear"}, lambda y, p, s: sk.cohen_kappa_score(y, p, weights="linear")),
        ("top_k_accuracy_score", {"k": 2}, lambda y, p, s: sk.top_k_accuracy_score(y, s, k=2)),
        ("roc_auc_score", {"multi_class": "ovo"}, lambda y, p, s: sk.roc_auc_score(y, s, multi_class="ovo")),
    ],
)
def test_a_metric_of_many_classes_is_scikit_learn_s(path: str, params: Any, reference: Any) -> None:
    y, predictions, classes = iris()
    custom = declared(y, predictions, classes, by_path(path, **params))
    value = metrics.score(y, predictions, classes, custom)[path]
    assert value == pytest.approx(reference(y, predictions.predicted, predictions.probabilities), rel=EXACT)


@pytest.mark.parametrize("path", ["max_error", "median_absolute_error", "mean_absolute_percentage_error"])
def test_a_metric_of_a_regression_is_scikit_learn_s_on_repeated_rows(path: str) -> None:
    y, predictions, classes = diabetes()
    custom = declared(y, predictions, classes, by_path(path))
    weigh, _ = custom.weigher(y, predictions, classes, 20)
    counts = next(iter(resample_counts(len(y), 20, 0)))[:20]
    rows = [np.repeat(np.arange(len(y)), each.astype(int)) for each in counts]
    expected = [getattr(sk, path)(y[each], predictions.predicted[each]) for each in rows]
    np.testing.assert_allclose(weigh(counts, 0)[path], expected, rtol=EXACT)
    assert custom.greater_is_better(path) is False


def test_costs_are_the_mean_price_of_a_row_and_less_is_better() -> None:
    y, predictions, classes = cancer()
    custom = declared(y, predictions, classes, {"metrics": [], "costs": {"false_negative": 10, "false_positive": 1}})
    (_, fp), (fn, _) = sk.confusion_matrix(y == "malignant", predictions.predicted == "malignant")
    assert metrics.score(y, predictions, classes, custom)["cost"] == pytest.approx((10 * fn + fp) / len(y))
    assert custom.greater_is_better("cost") is False
    weigh, _ = custom.weigher(y, predictions, classes, 1000)
    counts = next(iter(resample_counts(len(y), 1000, 0)))
    wrong = np.select([(y == "malignant") & (predictions.predicted != y), predictions.predicted != y], [10, 1], 0)
    np.testing.assert_allclose(weigh(counts, 0)["cost"], counts @ wrong / len(y))


def test_a_cost_may_be_the_amount_of_the_row() -> None:
    y, predictions, classes = cancer()
    amount = np.random.default_rng(0).random(len(y)) * 1000
    costs = {"metrics": [], "costs": {"false_negative": "amount", "false_positive": 5}}
    custom = declared(y, predictions, classes, costs, amount=amount)
    missed = (y == "malignant") & (predictions.predicted != y)
    alarms = (y != "malignant") & (predictions.predicted != y)
    expected = (amount[missed].sum() + 5 * alarms.sum()) / len(y)
    assert metrics.score(y, predictions, classes, custom)["cost"] == pytest.approx(expected)
    some = np.arange(len(y))[::3]
    part = Predictions(predictions.predicted[some], None)
    expected = (amount[some][missed[some]].sum() + 5 * alarms[some].sum()) / len(some)
    assert metrics.score(y[some], part, classes, custom.at(some))["cost"] == pytest.approx(expected)


def test_the_most_specific_cost_counts_for_a_pair_of_classes() -> None:
    y, predictions, classes = iris()
    costs = [
        {"cost": 1},
        {"predicted": "setosa", "cost": 2},
        {"actual": "virginica", "cost": 3},
        {"actual": "virginica", "predicted": "versicolor", "cost": 7},
        {"actual": "setosa", "predicted": "setosa", "cost": -1},
    ]
    custom = declared(y, predictions, classes, {"metrics": [], "costs": costs})
    names = ["setosa", "versicolor", "virginica"]
    prices = np.array([[-1, 1, 1], [2, 0, 1], [3, 7, 0]])
    counts = sk.confusion_matrix(y, predictions.predicted, labels=names)
    assert metrics.score(y, predictions, classes, custom)["cost"] == pytest.approx((counts * prices).sum() / len(y))


def test_a_list_of_costs_means_the_same_for_two_classes_whichever_is_positive() -> None:
    y, predictions, _ = cancer()
    costs = [{"actual": "malignant", "predicted": "benign", "cost": 10}, {"cost": 1}]
    found = []
    for positive in ("malignant", "benign"):
        classes = Classes.of(np.array(["benign", "malignant"]), positive)
        custom = declared(y, predictions, classes, {"metrics": [], "costs": costs})
        found.append(metrics.score(y, predictions, classes, custom)["cost"])
    missed = ((y == "malignant") & (predictions.predicted == "benign")).sum()
    alarms = ((y == "benign") & (predictions.predicted == "malignant")).sum()
    assert found == [pytest.approx((10 * missed + alarms) / len(y))] * 2


def test_a_function_of_the_team_may_see_other_columns_and_is_exact_by_row(write: Callable[[str], None]) -> None:
    write(
        '@metric(greater_is_better=False, columns=["mean area"], per_row=True, unit="€")\n'
        "def missed_area(y_true, y_pred, area):\n    return np.where((y_true == 1) & (y_pred == 0), area, 0.0)\n"
        '@metric(greater_is_better=False, columns=["mean area"])\n'
        "def slow(y_true, y_pred, *, area):\n    return np.where((y_true == 1) & (y_pred == 0), area, 0.0).mean()\n"
    )
    y, predictions, classes = cancer()
    area = np.random.default_rng(0).random(len(y))
    custom = declared(y, predictions, classes, {}, **{"mean area": area})
    assert [metric.mode for metric in custom.metrics] == ["per row", "one by one"]
    assert custom.details("missed_area") == {"unit": "€"}
    weigh, _ = custom.weigher(y, predictions, classes, 50)
    counts = next(iter(resample_counts(len(y), 50, 0)))[:50]
    found = weigh(counts, 0)
    missed = np.where((y == "malignant") & (predictions.predicted == "benign"), area, 0)
    np.testing.assert_allclose(found["missed_area"], counts @ missed / len(y))
    np.testing.assert_allclose(found["slow"], found["missed_area"], rtol=EXACT)


def test_a_weight_that_does_not_count_rows_is_not_used(write: Callable[[str], None]) -> None:
    write(
        "@metric(greater_is_better=True)\n"
        "def share(y_true, y_pred, sample_weight=None):\n    return (y_true == y_pred).mean()\n"
    )
    y, predictions, classes = cancer()
    custom = declared(y, predictions, classes, {})
    assert custom.metrics[0].mode == "one by one"
    weigh, _ = custom.weigher(y, predictions, classes, 10)
    counts = next(iter(resample_counts(len(y), 10, 0)))[:10]
    np.testing.assert_allclose(weigh(counts, 0)["share"], counts @ (y == predictions.predicted) / len(y), rtol=EXACT)


def test_resamples_without_a_class_do_not_count(write: Callable[[str], None]) -> None:
    write(
        "@metric(greater_is_better=True)\n"
        "def strict(y_true, y_pred):\n"
        "    if len(set(y_true)) < 2:\n        raise ValueError('one class')\n"
        "    return float((y_true == y_pred).mean())\n"
    )
    y = np.array(["benign"] * 6 + ["malignant"])
    predictions = Predictions(y.copy(), None)
    classes = Classes.of(np.array(["benign", "malignant"]), "malignant")
    custom = declared(y, predictions, classes, {})
    weigh, _ = custom.weigher(y, predictions, classes, 50)
    counts = next(iter(resample_counts(len(y), 50, 0)))[:50]
    np.testing.assert_array_equal(np.isnan(weigh(counts, 0)["strict"]), (counts[:, 6] == 0) | (counts[:, 6] == 7))
    assert bootstrap(y, predictions, classes, custom, resamples=200)["strict"].low == 1.0


def test_slow_metrics_get_fewer_resamples_the_same_number_in_every_run(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        "@metric(greater_is_better=False)\ndef worst(y_true, y_pred):\n    return float(abs(y_true - y_pred).max())\n"
    )
    y, predictions, classes = diabetes()
    custom = declared(y, predictions, classes, {})
    (metric,) = custom.metrics
    assert resampling.allowed(metric, 1000, len(y)) == 1000
    assert resampling.allowed(metric, 1000, 1_000_000) == resampling.FEWEST
    monkeypatch.setattr(resampling, "SECONDS", 0.15)
    monkeypatch.setattr(bootstraps, "CHUNK", 10 * len(y))
    expected = int(0.15 / (resampling.PER_CALL + resampling.PER_ROW * len(y)))
    estimates = bootstrap(y, predictions, classes, custom, resamples=1000)
    assert 100 < expected < 1000
    assert estimates["worst"].resamples == expected
    assert estimates["rmse"].resamples == 0
    drawn = np.concatenate(list(resample_counts(len(y), 1000, 0)))[:expected]
    errors = abs(y - predictions.predicted)
    values = [errors[each > 0].max() for each in drawn]
    assert estimates["worst"].low == pytest.approx(np.percentile(values, 2.5))
    # a part of the rows gets its share of the time
    assert custom.at(np.arange(len(y) // 2)).weigher(y[: len(y) // 2], predictions, None, 1)[1] == {"worst": 1}
    half = custom.at(np.arange(len(y) // 2))
    assert half.share == pytest.approx(0.5, abs=0.01)


def test_names_restrict_the_team_s_metrics_and_the_others_are_named(write: Callable[[str], None]) -> None:
    write(
        "@metric(greater_is_better=True)\ndef one(y_true, y_pred): return 1.0\n"
        "@metric(greater_is_better=True)\ndef two(y_true, y_pred): return 2.0\n"
        "@metric(greater_is_better=True, task='regression')\ndef three(y_true, y_pred): return 3.0\n"
    )
    classes = Classes.of(np.array(["a", "b"]), "b")
    found, left_out = resampling.declared(Evaluate(), classes)
    assert found.names == ["one", "two"]
    assert left_out == {"three": "it is for regression tasks, this one is binary"}
    found, left_out = resampling.declared(Evaluate(metrics=["two"]), classes)
    assert found.names == ["two"]
    assert set(left_out) == {"one", "three"}
    assert resampling.declared(Evaluate(metrics=[]), classes) == (Custom(), {})
    path = {"metric": "sklearn.metrics.f1_score", "name": "by_path"}
    found, _ = resampling.declared(Evaluate.model_validate({"metrics": [path]}), classes)
    assert found.names == ["one", "two", "by_path"]


FUNCTION = "@metric(greater_is_better=True{})\ndef mine({}):\n    return {}\n"
CODE_MISTAKES = {
    "direction": ("@metric()\ndef mine(y_true, y_pred): return 1.0\n", ["line 3", "greater value is better", "True"]),
    "bare": ("@metric\ndef mine(y_true, y_pred): return 1.0\n", ["line 3", "greater value is better"]),
    "needs": (FUNCTION.format(", needs='score'", "y_true, y_pred", "1.0"), ["needs must be one of", "'score'"]),
    "task": (FUNCTION.format(", task='two'", "y_true, y_pred", "1.0"), ["task must be one of", "'binary'"]),
    "columns": (FUNCTION.format(", columns='amount'", "y_true, y_pred", "1.0"), ["list of names", "'amount'"]),
    "signature": (FUNCTION.format("", "y_true", "1.0"), ["takes (y_true)", "def mine(y_true, y_pred)"]),
    "argument": (
        FUNCTION.format(", columns=['mean area']", "y_true, y_pred", "1.0"),
        ["takes (y_true, y_pred)", "def mine(y_true, y_pred, mean_area)"],
    ),
    "extra": (FUNCTION.format("", "y_true, y_pred, beta", "1.0"), ["takes (y_true, y_pred, beta)"]),
    "both": (
        FUNCTION.format(", per_row=True", "y_true, y_pred, sample_weight", "y_true"),
        ["takes no sample_weight"],
    ),
    "column": (
        FUNCTION.format(", columns=['are']", "y_true, y_pred, a", "1.0"),
        ["no column 'are'", "did you mean 'area'?"],
    ),
    "vector": (FUNCTION.format("", "y_true, y_pred", "y_true == y_pred"), ["array of shape (269,)", "finite number"]),
    "scalar": (FUNCTION.format(", per_row=True", "y_true, y_pred", "1.0"), ["one for each row", "per_row"]),
    "nan": (FUNCTION.format("", "y_true, y_pred", "float('nan')"), ["returns nan", "finite number"]),
    "complex": (FUNCTION.format("", "y_true, y_pred", "1j"), ["complex number"]),
    "nothing": (FUNCTION.format("", "y_true, y_pred", "None"), ["returns nothing"]),
    "text": (FUNCTION.format("", "y_true, y_pred", "'good'"), ["returns a str"]),
    "row": (
        FUNCTION.format(", per_row=True, columns=['gap']", "y_true, y_pred, gap", "gap"),
        ["nan in test row 4, where gap = nan", "gap is missing in 1"],
    ),
    "raises": (FUNCTION.format("", "y_true, y_pred", "1 / 0"), ["metrics.py, line 5", "ZeroDivisionError"]),
    "changes": (FUNCTION.format("", "y_true, y_pred", "y_true.sort()"), ["read-only", "y_true.copy()"]),
    "random": (FUNCTION.format("", "y_true, y_pred", "np.random.random()"), ["not deterministic"]),
    "order": (FUNCTION.format("", "y_true, y_pred", "float(y_true @ np.arange(len(y_true)))"), ["order of the rows"]),
    "built-in": ("@metric(greater_is_better=True)\ndef recall(y_true, y_pred): return 1.0\n", ["'recall' is taken"]),
    "reserved": ("@metric(greater_is_better=True)\ndef model_bytes(y, p): return 1.0\n", ["'model_bytes' is taken"]),
    "bound": ("@metric(greater_is_better=True)\ndef recall_low(y, p): return 1.0\n", ["MLflow"]),
    "import": ("import nowhere_at_all\n", ["metrics.py, line 3", "nowhere_at_all"]),
    "syntax": ("def mine(:\n", ["metrics.py", "line 3"]),
}


@pytest.mark.parametrize("mistake", CODE_MISTAKES)
def test_a_mistake_in_the_team_s_metric_is_named_with_its_line(mistake: str, write: Callable[[str], None]) -> None:
    code, words = CODE_MISTAKES[mistake]
    write(code)
    y, predictions, classes = cancer()
    gap = np.where(np.arange(len(y)) == 3, np.nan, 1.0)
    with pytest.raises(UserError) as caught:
        declared(y, predictions, classes, {}, area=np.ones(len(y)), gap=gap)
    assert "src/project/metrics.py" in str(caught.value)
    for part in words:
        assert part in str(caught.value)


PATH_MISTAKES: dict[str, tuple[Any, list[str]]] = {
    "module": ({"metric": "sklearn.metric.f1_score"}, ["evaluate.metrics[0]", "cannot be imported"]),
    "function": ({"metric": "sklearn.metrics.fbeta_scor"}, ["has no 'fbeta_scor'", "did you mean 'fbeta_score'?"]),
    "class": ({"metric": "sklearn.metrics.RocCurveDisplay"}, ["is not a function"]),
    "param": (
        {"metric": "sklearn.metrics.fbeta_score", "params": {"betta": 2}},
        ["no parameter 'betta'", "did you mean 'beta'?"],
    ),
    "weight": (
        {"metric": "sklearn.metrics.f1_score", "params": {"sample_weight": [1]}},
        ["no parameter 'sample_weight'"],
    ),
    "direction": ({"metric": "sklearn.metrics.class_likelihood_ratios"}, ["greater_is_better: true"]),
    "opposite": ({"metric": "sklearn.metrics.hamming_loss", "greater_is_better": True}, ["a smaller", "the opposite"]),
    "matrix": (
        {"metric": "sklearn.metrics.confusion_matrix", "greater_is_better": True},
        ["array of shape (2, 2)", "finite number"],
    ),
    "one": ({"metric": "math.sqrt", "greater_is_better": True}, ["it takes (x)"]),
    "label": (
        {"metric": "sklearn.metrics.f1_score", "name": "f", "params": {"pos_label": "malignant"}},
        ["(f)", "no pos_label: metrics see malignant as 1"],
    ),
    "name": ("f2", ["src/project/metrics.py has no metric 'f2'"]),
    "dotted": ("sklearn.metrics.f1_score", ["{metric: sklearn.metrics.f1_score}"]),
}


@pytest.mark.parametrize("mistake", PATH_MISTAKES)
def test_a_mistake_in_the_path_of_a_metric_is_named_with_its_key(mistake: str) -> None:
    entry, words = PATH_MISTAKES[mistake]
    y, predictions, classes = cancer()
    with pytest.raises(UserError) as caught:
        declared(y, predictions, classes, {"metrics": [entry]})
    assert str(caught.value).startswith("params.yaml: evaluate.metrics")
    for part in words:
        assert part in str(caught.value)


def test_two_metrics_of_a_name_and_too_many_of_them_are_refused() -> None:
    y, predictions, classes = cancer()
    entry = {"metric": "sklearn.metrics.fbeta_score", "params": {"beta": 2}}
    with pytest.raises(UserError, match="'fbeta_score' is taken by another metric"):
        declared(y, predictions, classes, {"metrics": [entry, entry]})
    many = [{**entry, "name": f"number_{number}"} for number in range(21)]
    with pytest.raises(UserError, match="21 metrics, at most 20"):
        declared(y, predictions, classes, {"metrics": many})


def test_a_metric_of_many_classes_without_an_average_says_what_to_choose() -> None:
    y, predictions, classes = iris()
    with pytest.raises(UserError, match=r"(?s)multiclass.*params: \{average: macro\}"):
        declared(y, predictions, classes, by_path("f1_score"))


def test_a_metric_of_probabilities_needs_a_model_that_gives_them() -> None:
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    model = LinearSVC().fit(X, y)
    predictions = predict(model, X)
    classes = Classes.of(model.classes_, None)
    with pytest.raises(UserError, match="d2_brier_score needs probabilities, which the model does not give"):
        declared(y.to_numpy(), predictions, classes, by_path("d2_brier_score"))


COST_MISTAKES: dict[str, tuple[Any, Any, list[str]]] = {
    "regression": (diabetes, {"false_negative": 1}, ["data.task is regression"]),
    "classes": (iris, {"false_negative": 1}, ["need two classes, the table has 3", "actual: setosa"]),
    "label": (iris, [{"actual": "setossa", "cost": 1}], ["[0].actual", "did you mean 'setosa'?"]),
    "twice": (iris, [{"actual": "setosa", "cost": 1}, {"actual": "setosa", "cost": 2}], ["[1]", "same classes"]),
    "column": (cancer, {"false_negative": "amuont"}, ["no column 'amuont'", "did you mean 'amount'?"]),
    "text": (cancer, {"false_negative": "word"}, ["the column 'word' is not numeric"]),
    "missing": (cancer, {"false_negative": "gap"}, ["nan in test row", "gap is missing in"]),
}


@pytest.mark.parametrize("mistake", COST_MISTAKES)
def test_a_mistake_in_the_costs_is_named(mistake: str) -> None:
    table, costs, words = COST_MISTAKES[mistake]
    y, predictions, classes = table()
    n = len(y)
    columns = {"amount": np.ones(n), "word": ["a"] * n, "gap": np.full(n, np.nan)}
    with pytest.raises(UserError) as caught:
        declared(y, predictions, classes, {"metrics": [], "costs": costs}, **columns)
    assert str(caught.value).startswith("params.yaml: evaluate.costs")
    for part in words:
        assert part in str(caught.value)
