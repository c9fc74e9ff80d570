"""Each example from end to end by a real `dvc repro`, held against the same lesson done by hand."""

from __future__ import annotations

import gzip
import json
import runpy
import shutil
import sys
from collections import Counter
from typing import Any

import jsonschema
import lightgbm
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML
from sklearn import metrics as sk
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops.core.report import read
from mlops.core.settings import Settings, load
from mlops.model.estimators import check_estimator

NAMES = ("breast-cancer", "diabetes", "federated", "iris", "lightgbm", "linear", "messy", "reviews")
# run by tests/services/test_keras_example.py, which installs its packages
ELSEWHERE = ("keras",)
EVERY = tuple(sorted((*NAMES, *ELSEWHERE)))
# what an example has beside what the project has: the app that the other hospitals run
BESIDE = {"federated": {"federation"}}
UP_TO_DATE = "Data and pipelines are up to date."
# What the field's introductions reach in six decimals, as the metric files have them
EXACT = 1e-6


class Example(Project):
    """A scratch copy of the project in which an example has run."""

    def __init__(self, project: Project, name: str) -> None:
        self.folder = project.folder
        shutil.copytree(ROOT / "examples" / name, self.folder, dirs_exist_ok=True)
        self.output = self.run("dvc", "repro").stdout
        assert "warning" not in self.output.lower(), self.output
        assert UP_TO_DATE in self.run("dvc", "repro").stdout

    @property
    def metrics(self) -> dict[str, float]:
        metrics: dict[str, float] = json.loads(self.read("reports/metrics.json"))
        return metrics

    @property
    def evaluation(self) -> dict[str, Any]:
        evaluation: dict[str, Any] = json.loads(self.read("reports/evaluation.json"))
        return evaluation

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / name)

    def sides(self, target: str) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame, pd.Series]:
        """Training and test rows as the introductions name them: X_train, y_train, X_test, y_test."""
        train, test = (self.table(f"data/prepared/{side}.parquet") for side in ("train", "test"))
        return train.drop(columns=target), train[target], test.drop(columns=target), test[target]

    def best(self) -> dict[str, Any]:
        params: dict[str, Any] = max(json.loads(self.read("reports/tuning.json")), key=lambda trial: trial["mean"])
        return params["params"]


@pytest.mark.quick
def test_every_example_is_run_here() -> None:
    assert tuple(sorted(path.parent.name for path in ROOT.glob("examples/*/params.yaml"))) == EVERY
    readme = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert all(f"({name}/params.yaml)" in readme for name in EVERY)


@pytest.mark.quick
@pytest.mark.parametrize("name", EVERY)
def test_an_example_is_valid_and_small_and_touches_only_params_data_and_the_team_s_code(name: str) -> None:
    folder = ROOT / "examples" / name
    assert {path.name for path in folder.iterdir()} <= {"params.yaml", "data", "src", *BESIDE.get(name, set())}
    assert {path.relative_to(folder).parts[1] for path in folder.glob("src/**/*.py")} <= {"project"}
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=params.schema.json\n"), "as it must be at the root"
    assert len(text.splitlines()) < 50
    jsonschema.validate(YAML(typ="safe").load(text), Settings.model_json_schema())
    asked = load(folder / "params.yaml")
    if not asked.model.estimator.startswith("project."):  # its class is in the example's own folder
        check_estimator(asked)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "uv.lock"]
    assert sum(sizes) < 250_000


def test_iris_reaches_the_accuracy_of_a_forest_by_hand(project: Project) -> None:
    example = Example(project, "iris")
    X_train, y_train, X_test, y_test = example.sides("species")
    by_hand = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=0)).fit(X_train, y_train)
    accuracy = sk.accuracy_score(y_test, by_hand.predict(X_test))
    assert example.metrics["accuracy"] == pytest.approx(accuracy, abs=EXACT)
    assert accuracy >= 0.9
    interval = example.evaluation["metrics"]["accuracy"]
    assert interval["low"] < accuracy <= interval["high"]


def test_diabetes_has_the_mse_and_r2_of_a_ridge_by_hand(project: Project) -> None:
    example = Example(project, "diabetes")
    assert "trial 15/15: alpha=" in example.output
    X_train, y_train, X_test, y_test = example.sides("progression")
    by_hand = make_pipeline(StandardScaler(), Ridge(**example.best())).fit(X_train, y_train)
    predicted = by_hand.predict(X_test)
    assert example.metrics["mse"] == pytest.approx(sk.mean_squared_error(y_test, predicted), abs=1e-4)
    assert example.metrics["r2"] == pytest.approx(sk.r2_score(y_test, predicted), abs=EXACT)
    assert example.metrics["r2"] > 0.4
    assert {each["column"] for each in example.evaluation["slices"]} == {"age", "sex"}


def test_breast_cancer_has_precision_recall_and_f1_of_its_threshold_by_hand(project: Project) -> None:
    example = Example(project, "breast-cancer")
    X_train, y_train, X_test, y_test = example.sides("diagnosis")
    by_hand = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, **example.best())).fit(X_train, y_train)
    malignant = by_hand.predict_proba(X_test)[:, list(by_hand.classes_).index("malignant")] >= 0.2
    truth = y_test == "malignant"
    for name, score in {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}.items():
        assert example.metrics[name] == pytest.approx(score(truth, malignant), abs=EXACT)
    assert example.metrics["recall"] > 0.95
    (at_half,) = [each for each in example.evaluation["thresholds"] if each["threshold"] == 0.5]
    assert example.metrics["recall"] >= at_half["recall"], "what the threshold was lowered for"


def test_reviews_are_distinguished_from_their_words(project: Project) -> None:
    example = Example(project, "reviews")
    assert "11 of 11 expectations pass" in example.output
    train, test = (example.table(f"data/prepared/{side}.parquet") for side in ("train", "test"))
    assert train["date"].max() < pd.Timestamp("2024-10-01") <= test["date"].min()
    accuracy = example.evaluation["metrics"]["accuracy"]
    assert accuracy["low"] > max(0.8, accuracy["dummy"] + 0.3)
    importance = [each["column"] for each in example.evaluation["importance"]]
    assert importance == ["review", "product"]
    predictions = example.table("reports/predictions.parquet")
    misread = predictions[predictions["actual"] != predictions["predicted"]]
    assert len(misread) == round((1 - accuracy["value"]) * len(test))
    assert set(misread["id"]) <= set(test["id"])


def test_the_reviews_are_many_different_and_of_three_moods() -> None:
    reviews = pd.read_csv(ROOT / "examples/reviews/data/raw/reviews.csv")
    assert len(reviews) >= 240
    assert reviews["review"].is_unique
    assert min(Counter(reviews["mood"]).values()) >= 80
    assert (reviews["review"].str.isascii() == False).sum() > 10  # noqa: E712
    # no template: hardly any two reviews begin alike
    assert reviews["review"].str.split().str[:4].str.join(" ").duplicated().mean() < 0.05


def test_messy_comes_through_with_customers_together_and_nobody_named(project: Project) -> None:
    example = Example(project, "messy")
    raw = pd.read_csv(project.folder / "data/raw/orders.csv.gz", sep=";", dtype=str)
    assert raw.shape == (400, 1_000)
    table, train, test = (example.table(f"data/prepared/{name}.parquet") for name in ("table", "train", "test"))
    assert set(raw.columns) - set(table.columns) == {"prénom", "e-mail", "immer leer"}
    assert not set(train["客番"]) & set(test["客番"])
    assert not set(map(tuple, train.astype(str).to_numpy())) & set(map(tuple, test.astype(str).to_numpy()))
    kinds = {
        column["name"]: column["kind"] for column in json.loads(example.read("data/prepared/catalogue.json"))["columns"]
    }
    expected = {
        "größe": "numeric",
        "年齢": "numeric",
        "paiement": "categorical",
        "bestellt am": "date",
        "versichert": "boolean",
        "newsletter": "boolean",
        "code postal": "categorical",
        "Hausnummer": "categorical",
        "отзыв": "text",
    }
    assert {name: kinds[name] for name in expected} == expected

    judged = example.evaluation["metrics"]["roc_auc"]
    assert judged["low"] > 0.7 > judged["dummy"]
    decisive = [each["column"] for each in example.evaluation["importance"][:4]]
    assert set(decisive) == {"отзыв", "paiement", "größe", "年齢"}
    assert "missing" in {each["slice"] for each in example.evaluation["slices"]}
    for path in [
        "models/model.skops",
        "reports/evaluation.json",
        "reports/profile.html",
        "data/prepared/table.parquet",
    ]:
        content = (example.folder / path).read_bytes()
        for private in ("Jürgen", "愛子", "@example.org"):
            assert private.encode() not in content, path


def test_the_messy_table_is_the_one_that_its_script_makes() -> None:
    folder = ROOT / "examples/messy/data/raw"
    made = runpy.run_path(str(folder / "make_table.py"))["make_table"]()
    text = gzip.decompress((folder / "orders.csv.gz").read_bytes()).decode()
    assert text == made.to_csv(sep=";", index=False, lineterminator="\n")


def test_lightgbm_is_trusted_by_name_and_as_good_as_by_hand(project: Project) -> None:
    example = Example(project, "lightgbm")
    X_train, y_train, X_test, y_test = example.sides("cultivar")
    params = YAML(typ="safe").load(example.folder / "params.yaml")["model"]
    boosted = lightgbm.LGBMClassifier(**params["params"], random_state=0)
    by_hand = boosted.fit(X_train, y_train)
    accuracy = sk.accuracy_score(y_test, by_hand.predict(X_test))
    assert accuracy >= 0.9
    assert example.metrics["accuracy"] == pytest.approx(accuracy, abs=EXACT)

    example.edit_params(lambda params: params["model"].pop("trusted"))
    failed = example.stage("train", check=False)
    assert failed.returncode == 1
    assert "".join(f"\n      - {name}" for name in params["trusted"]) in failed.stdout


def test_federated_is_reviewed_as_any_model_but_for_rules_about_training_rows(project: Project) -> None:
    shutil.copytree(ROOT / "examples/federated", project.folder, dirs_exist_ok=True)
    asked = project.read("params.yaml")
    alone = {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}}
    project.edit_params(lambda params: params["model"].update(alone))
    project.run("dvc", "repro")
    project.commit("hospital A alone")
    project.git("branch", "base")
    (project.folder / "params.yaml").write_text(asked, encoding="utf-8")
    example = Example(project, "federated")
    project.commit("all hospitals")

    found = json.loads(example.read("federation/result.json"))
    _, _, X_test, y_test = example.sides("diagnosis")
    log_odds = (X_test - found["mean"]) / found["scale"] @ found["coefficients"] + found["intercept"]
    probability = 1 / (1 + np.exp(-log_odds))
    assert example.metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(y_test == "malignant", probability), abs=EXACT)
    assert example.metrics["log_loss"] == pytest.approx(sk.log_loss(y_test == "malignant", probability), abs=EXACT)
    assert json.loads(example.read("reports/export.json"))["runtime"] == "onnx"

    project.run(sys.executable, "-P", "-m", "mlops.review", "--base", "base", check=False)
    report = read(project.folder / "build/review/report.json")
    assert report.policy is not None
    results = {f"{each.rule} {each.subject}".strip(): each for each in report.policy.results}
    assert {name for name, each in results.items() if " cannot apply: other parties hold" in each.why} == {
        "drift",
        "leakage",
        "overfitting roc_auc",
    }
    assert {name for name, each in results.items() if each.verdict == "fail"} == set()
    assert (results["no_worse log_loss"].verdict, results["lock"].verdict) == ("pass", "pass")
    (loss,) = [each for each in report.metrics if each.metric == "log_loss"]
    assert loss.difference.value is not None
    assert loss.difference.value < -0.03, "better than hospital A alone"

    # another result, which params.yaml does not name, is not trained
    (project.folder / "federation/result.json").write_text(json.dumps({**found, "intercept": 0.0}), encoding="utf-8")
    said = project.run("dvc", "repro", "--force", "--single-item", "train", check=False).stdout
    assert "federation/result.json has another hash than params.yaml: set model.params.sha256: " in said


def test_make_example_runs_in_a_clone_and_goes_on_where_it_was(project: Project) -> None:
    first = project.run(sys.executable, "examples/run.py", "linear").stdout
    assert "warning" not in first.lower(), first
    assert "sklearn.linear_model.LinearRegression predicts y" in first
    assert first.endswith("To start from it: cp -r examples/linear/. . && make\n")
    assert project.git("status", "--porcelain") == ""
    recovers_slope_and_intercept(Example.at(project.folder / "build/examples/linear"))

    (project.folder / "src/mlops/pipeline/summary.py").write_text(
        project.read("src/mlops/pipeline/summary.py") + "\n# a change\n"
    )
    project.commit("change what no stage depends on")
    again = project.run(sys.executable, "examples/run.py", "linear").stdout
    assert UP_TO_DATE in again
    assert "# a change" in project.read("build/examples/linear/src/mlops/pipeline/summary.py")


def recovers_slope_and_intercept(example: Example) -> None:
    X_train, y_train, X_test, _ = example.sides("y")
    predicted = example.table("reports/predictions.parquet")["predicted"]
    slope, intercept = np.polyfit(X_test["x"], predicted, 1)
    np.testing.assert_allclose(predicted, slope * X_test["x"] + intercept, atol=1e-9)
    np.testing.assert_allclose((slope, intercept), np.polyfit(X_train["x"], y_train, 1), atol=1e-9)
    by_hand = LinearRegression().fit(X_train, y_train)
    np.testing.assert_allclose((slope, intercept), (by_hand.coef_[0], by_hand.intercept_), atol=1e-9)
    # three standard errors, of noise with standard deviation 1
    n, spread = len(X_train), X_train["x"].std()
    assert slope == pytest.approx(3, abs=3 / (spread * np.sqrt(n)))
    assert intercept == pytest.approx(2, abs=3 / np.sqrt(n))
    assert example.metrics["r2"] > 0.99
    assert (example.folder / "reports/plots/residuals.csv").exists()


def test_an_unknown_example_is_answered_with_the_closest(project: Project) -> None:
    failed = project.run(sys.executable, "examples/run.py", "iri", check=False)
    assert failed.returncode == 1
    assert failed.stdout == (
        "error: there is no example 'iri'; did you mean 'iris'?\n  try: make example NAME=breast-cancer\n"
    )
    failed = project.run(sys.executable, "examples/run.py", "", check=False)
    assert f"known: {', '.join(EVERY)}" in failed.stdout
