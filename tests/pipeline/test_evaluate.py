from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from sklearn import metrics as sk

from mlops.data import tables
from mlops.model import curves, slices
from mlops.model.metrics import Classes, Predictions
from mlops.pipeline import evaluate, export, ingest, split, train, tune


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> dict[str, Any]:
    """Ingest, split, train, export and evaluate in a folder; returns the evaluation."""
    monkeypatch.chdir(folder)
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for section, content in sections.items():
        params[section] = content
    params["validate"] = {}
    YAML().dump(params, folder / "params.yaml")
    for stage in (ingest, split, tune, train, export, evaluate):
        stage.main()
    evaluation: dict[str, Any] = json.loads((folder / "reports/evaluation.json").read_text())
    return evaluation


def test_the_metrics_are_those_of_the_test_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = run(tmp_path, monkeypatch)
    test = pq.read_table(tmp_path / "data/prepared/test.parquet")
    predictions = pq.read_table(tmp_path / "reports/predictions.parquet").to_pandas()
    assert predictions["actual"].tolist() == test["diagnosis"].to_pylist()
    truth = predictions["actual"] == "malignant"
    found = {name: each["value"] for name, each in evaluation["metrics"].items()}
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, predictions["probability of malignant"]), abs=1e-6)
    assert found["recall"] == pytest.approx(sk.recall_score(truth, predictions["predicted"] == "malignant"), abs=1e-6)
    for each in evaluation["metrics"].values():
        assert each["low"] <= each["value"] <= each["high"]
    assert evaluation["metrics"]["roc_auc"]["dummy"] == 0.5
    assert evaluation["rows"] == {"train": 426, "train_scored": 426, "test": 143}
    summary = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert summary["recall"] == found["recall"]
    assert summary["model_bytes"] == (tmp_path / "models/model.skops").stat().st_size


def test_slices_hold_all_test_rows_once_and_are_judged_on_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = run(tmp_path, monkeypatch)
    slices = [each for each in evaluation["slices"] if each["column"] == "mean radius"]
    assert sum(each["rows"] for each in slices) == 143
    edges = np.quantile(pq.read_table(tmp_path / "data/prepared/train.parquet")["mean radius"], [0.25, 0.5, 0.75])
    radius = pq.read_table(tmp_path / "data/prepared/test.parquet")["mean radius"].to_numpy()
    predictions = pq.read_table(tmp_path / "reports/predictions.parquet").to_pandas()
    largest = radius >= edges[2]
    last = slices[-1]
    assert last["slice"].startswith("≥")
    assert last["rows"] == largest.sum()
    accuracy = (predictions["actual"] == predictions["predicted"])[largest].mean()
    assert last["metrics"]["accuracy"]["value"] == pytest.approx(accuracy, abs=1e-6)


def test_a_forest_that_learns_by_heart_shows_an_overfitting_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = run(
        tmp_path,
        monkeypatch,
        data={"source": "sklearn:diabetes", "task": "regression", "target": "progression", "features": []},
        split={"method": "random"},
        model={"estimator": "sklearn.ensemble.RandomForestRegressor", "params": {"n_estimators": 20}},
        evaluate={"slices": ["bmi"]},
    )
    summary = json.loads((tmp_path / "reports/metrics.json").read_text())
    rmse = evaluation["metrics"]["rmse"]
    assert summary["overfitting_gap"] == pytest.approx(rmse["value"] - rmse["train"], abs=1e-5)
    assert summary["overfitting_gap"] > 20
    assert summary["worst_slice"] == max(each["metrics"]["rmse"]["value"] for each in evaluation["slices"])
    drawn = YAML(typ="safe").load(tmp_path / "reports/dvc.yaml")["plots"]
    assert [next(iter(plot)) for plot in drawn] == ["Permutation importance", "Residuals", "Mean absolute SHAP value"]
    assert (evaluation["explanation"]["method"], evaluation["explanation"]["unit"]) == ("trees", "value")


def test_of_many_training_rows_a_sample_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = run(tmp_path, monkeypatch)
    monkeypatch.setattr(evaluate, "MOST_TRAINING_ROWS", 200)
    evaluate.main()
    some = json.loads((tmp_path / "reports/evaluation.json").read_text())
    assert some["metrics"]["log_loss"]["train"] != every["metrics"]["log_loss"]["train"]
    assert some["metrics"]["log_loss"]["train"] == pytest.approx(every["metrics"]["log_loss"]["train"], abs=0.03)
    assert (some["rows"].pop("train_scored"), every["rows"].pop("train_scored")) == (200, some["rows"]["train"])
    for evaluation in (some, every):
        for each in evaluation["metrics"].values():
            del each["train"]
    assert some == every


def test_the_column_that_decides_is_the_most_important_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=600), rng.normal(size=600)
    (tmp_path / "data/raw").mkdir(parents=True)
    table = pa.table({"noise": noise, "x": x, "y": 3 * x + 0.1 * noise})
    pq.write_table(table, tmp_path / "data/raw/t.parquet")
    evaluation = run(
        tmp_path,
        monkeypatch,
        data={"source": "data/raw/t.parquet", "task": "regression", "target": "y", "features": []},
        split={},
        model={"estimator": "sklearn.linear_model.LinearRegression"},
        evaluate={},
    )
    assert [each["column"] for each in evaluation["importance"]] == ["x", "noise"]
    assert evaluation["importance"][0]["importance"] > 1
    # contributions are exact: three times the distance from the training rows' mean
    train, test = (
        pq.read_table(tmp_path / f"data/prepared/{side}.parquet")["x"].to_numpy() for side in ("train", "test")
    )
    explanation = evaluation["explanation"]
    first, second = explanation["columns"]
    assert (explanation["method"], explanation["unit"], explanation["rows"]) == ("linear", "value", len(test))
    assert (first["column"], second["column"]) == ("x", "noise")
    distances = 3 * np.abs(test - train.mean())
    assert first["mean"] == pytest.approx(distances.mean(), abs=1e-5)
    half = 1.96 * distances.std(ddof=1) / np.sqrt(len(test))
    assert [first["low"], first["high"]] == pytest.approx([first["mean"] - half, first["mean"] + half], abs=1e-4)
    # the mean prediction rises by three for each unit of x, and its interval is as wide as the other column's part
    depends = evaluation["dependence"][0]
    ends = depends["points"][0], depends["points"][-1]
    assert [end["at"] for end in ends] == pytest.approx(
        np.quantile(table_of(tmp_path, depends["rows"]), [0.05, 0.95]), abs=1e-5
    )
    assert (ends[1]["mean"] - ends[0]["mean"]) / (ends[1]["at"] - ends[0]["at"]) == pytest.approx(3, abs=1e-4)
    assert ends[0]["high"] - ends[0]["low"] < 0.1


def table_of(folder: Path, rows: int) -> Any:
    """The column x of the test rows that partial dependence is averaged over."""
    return tables.some(pq.read_table(folder / "data/prepared/test.parquet"), rows)["x"].to_numpy()


def test_what_has_no_exact_explanation_says_why_and_has_partial_dependence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"estimator": "sklearn.naive_bayes.GaussianNB", "params": {}}
    evaluation = run(tmp_path, monkeypatch, model=model)
    assert evaluation["explanation"]["why"].startswith("the model is a GaussianNB; exact explanations exist for")
    depends = evaluation["dependence"]
    assert len(depends) == 6
    assert [each["column"] for each in depends] == [each["column"] for each in evaluation["importance"][:6]]
    for each in depends:
        assert (each["of"], each["rows"], len(each["points"])) == ("malignant", 143, 11)
        found = [(point["low"], point["mean"], point["high"]) for point in each["points"]]
        assert all(0 <= low < mean < high <= 1 for low, mean, high in found), found


def test_a_threshold_moves_the_decision_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}}
    plain = run(tmp_path, monkeypatch, model=model)
    careful = run(tmp_path, monkeypatch, model={**model, "threshold": 0.05})
    assert careful["metrics"]["recall"]["value"] > plain["metrics"]["recall"]["value"]
    assert careful["metrics"]["roc_auc"] == plain["metrics"]["roc_auc"]
    message = next(row for row in plain["thresholds"] if row["threshold"] == 0.05)
    assert message["recall"] == careful["metrics"]["recall"]["value"]
    assert message["precision"] == careful["metrics"]["precision"]["value"]


@pytest.mark.parametrize("values", [["a", "b", None, "b"], [True, False, None, False]])
def test_a_categorical_slice_names_its_missing_rows(values: list[Any]) -> None:
    column = pa.chunked_array([values])
    found = dict(slices.slice_rows("c", column, column))
    assert found["missing"].tolist() == [2]
    assert sorted(row for rows in found.values() for row in rows) == [0, 1, 2, 3]


def test_a_date_is_sliced_at_the_quartiles_of_the_training_rows() -> None:
    days = pa.chunked_array([np.datetime64("2024-01-01", "us") + np.arange(101) * np.timedelta64(1, "D")])
    found = dict(slices.slice_rows("day", days, days))
    assert list(found) == [
        "< 2024-01-26",
        "2024-01-26 to 2024-02-20",
        "2024-02-20 to 2024-03-16",
        "≥ 2024-03-16",
    ]
    assert [len(rows) for rows in found.values()] == [25, 25, 25, 26]


def test_many_categories_are_judged_as_the_most_frequent_and_the_others() -> None:
    column = pa.chunked_array([[f"c{number}" for number in range(100) for _ in range(1 + (number < 20))]])
    found = dict(slices.slice_rows("c", column, column))
    assert len(found) == slices.MOST_CATEGORIES + 1
    assert len(found["other"]) == 80


def test_curves_of_three_classes_have_a_column_each() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"])
    y = labels[rng.integers(0, 3, 300)]
    probabilities = rng.dirichlet(np.ones(3), 300)
    predictions = Predictions(labels[probabilities.argmax(axis=1)], probabilities)
    found = curves.classification_curves(y, predictions, Classes.of(labels, None))
    assert list(found["roc"][0]) == ["false_positive_rate", "a", "b", "c"]
    assert found["roc"][0]["a"] <= found["roc"][-1]["a"] == 1
    assert found["precision_recall"][-1]["b"] == pytest.approx((y == "b").mean(), abs=0.02)


def test_a_well_calibrated_model_has_a_small_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    labels = np.array(["no", "yes"])
    y = labels[(rng.random(20_000) < probability).astype(int)]
    classes = Classes.of(labels, "yes")

    def error(p: Any) -> float:
        predictions = Predictions(labels[(p > 0.5).astype(int)], np.column_stack([1 - p, p]))
        return curves.calibration_error(curves.calibration(y, predictions, classes))

    assert error(probability) < 0.02
    assert error(probability**3) > 0.1
