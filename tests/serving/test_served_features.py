"""A model with features of the team: clients send raw fields, and the service and batch scoring compute the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project, copied
from serving.served import Served, identify, serving

FEATURES = """
import numpy as np
from mlops import feature
from project.shared.sizes import halved

@feature("sold", kind="numeric")
def month(sold):
    return sold.astype("datetime64[M]").astype(int) % 12 + 1.0

@feature("size", "weight")
def density(size, weight):
    return weight / halved(size)

@feature("town", "used", kind="categorical")
def offer(town, used):
    names = {"Kiel": "north", "Ulm": "south", None: "nowhere"}
    return np.array([None if np.isnan(u) else names[t] + " " + str(int(u)) for t, u in zip(town, used)], dtype=object)

@feature("size", kind="boolean")
def large(size):
    return size > 1.5
"""
MODELS = {
    "onnx": {"estimator": "sklearn.linear_model.LogisticRegression"},
    "scikit-learn": {"estimator": "sklearn.neighbors.NearestCentroid"},
}


def table() -> pa.Table:
    rng = np.random.default_rng(0)
    n = 600
    size, weight, used = rng.uniform(1, 2, n), rng.uniform(1, 2, n), rng.random(n) < 0.5
    sold = np.datetime64("2024-01-01", "us") + rng.integers(0, 700, n) * np.timedelta64(86_400_000_000, "us")
    town = np.array(["Kiel", "Ulm"], dtype=object)[rng.integers(0, 2, n)]
    y = np.where((weight / size > 1.0) ^ (town == "Kiel") & used, "dear", "cheap")
    return pa.table(
        {
            "size": size,
            "weight": weight,
            "used": pa.array(used, mask=rng.random(n) < 0.1),
            "sold": pa.array(sold),
            "town": pa.array(town, mask=rng.random(n) < 0.1),
            "price": y,
        }
    )


@pytest.fixture(scope="module", params=["onnx", pytest.param("scikit-learn", marks=pytest.mark.e2e)])
def sold(request: pytest.FixtureRequest, done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with another table, whose model is released; `sold` determines the split, so only features take it."""
    project = copied(done, tmp_path_factory.mktemp("sold"))
    (project.folder / "src/project/features.py").write_text(FEATURES, encoding="utf-8")
    (project.folder / "src/project/shared/sizes.py").write_text("def halved(x):\n    return x / 2\n", encoding="utf-8")
    pq.write_table(table(), project.folder / "data/raw/sold.parquet")

    def change(params: Any) -> None:
        params["data"] = {"source": "data/raw/sold.parquet", "task": "classification", "target": "price"}
        params["validate"]["suite"] = None
        params["split"] = {"method": "time", "time": "sold", "cutoff": "2025-06-01"}
        params["model"] = MODELS[request.param]
        params["evaluate"]["slices"] = ["density", "offer", "large"]

    project.edit_params(change)
    project.run("dvc", "repro", "evaluate", "profile")
    return identify(project)


@pytest.fixture(scope="module")
def running(sold: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(sold, tmp_path_factory.mktemp("bentoml")) as served:
        yield served


def sent(project: Project) -> list[dict[str, Any]]:
    """The test rows as a client has them."""
    frame = pd.read_parquet(project.folder / "data/prepared/test.parquet").drop(columns="price")
    return list(json.loads(frame.to_json(orient="records", date_format="iso")))


def test_the_contract_lists_features_and_the_raw_fields_that_they_or_the_model_need(running: Served) -> None:
    contract = running.contract
    fields = {field["name"]: field.get("only_for_features", False) for field in contract["fields"]}
    assert fields == {"size": False, "weight": False, "used": False, "sold": True, "town": False}
    found = [(each["name"], each.get("kind"), each["columns"]) for each in contract["features"]]
    assert found == [
        ("month", "numeric", ["sold"]),
        ("density", "numeric", ["size", "weight"]),
        ("offer", "categorical", ["town", "used"]),
        ("large", "boolean", ["size"]),
    ]
    assert list(contract["code"]) == ["__init__.py", "features.py", "shared/__init__.py", "shared/sizes.py"]


def test_features_have_importance_slices_and_a_place_in_the_profile(running: Served) -> None:
    evaluation = json.loads(running.project.read("reports/evaluation.json"))
    names = {each["column"] for each in evaluation["importance"]}
    assert {"month", "density", "offer", "large"} <= names
    assert {each["column"] for each in evaluation["slices"]} == {"density", "offer", "large"}
    assert "north 1" in {each["slice"] for each in evaluation["slices"]}
    page = running.project.read("reports/profile.html")
    assert all(f">{name}<" in page for name in ("month", "density", "offer", "large"))


def test_raw_fields_get_the_predictions_that_evaluation_has_recorded(running: Served) -> None:
    recorded = pd.read_parquet(running.project.folder / "reports/predictions.parquet")
    rows = sent(running.project)
    answer = running.predict(*rows)
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert [each["prediction"] for each in predictions] == list(recorded["predicted"])
    if "probability of dear" in recorded:
        found = [each["probabilities"]["dear"] for each in predictions]
        np.testing.assert_allclose(found, recorded["probability of dear"], atol=1e-9)
    for row, together in list(zip(rows, predictions, strict=True))[:5]:
        assert running.predict(row).json()["predictions"] == [together]
    assert running.problem({**rows[0], "density": 1.0})["problem"].startswith("is not a field of this model")


def test_a_value_for_which_a_feature_has_none_is_refused_with_row_and_feature(running: Served) -> None:
    good = sent(running.project)[0]
    answer = running.predict(good, {**good, "size": 0.0}, {**good, "size": 0.0, "weight": 0.0})
    assert answer.status_code == 422
    assert answer.json()["detail"] == [
        {"row": 1, "field": "density", "problem": f"is infinite; computed from size = 0, weight = {good['weight']:g}"},
        {"row": 2, "field": "density", "problem": "is missing; computed from size = 0, weight = 0"},
    ]
    assert running.works()
    assert "Traceback" not in running.log.read_text()


def test_batch_scoring_computes_them_too_and_a_row_that_has_none_costs_itself_only(
    running: Served, tmp_path: Path
) -> None:
    project = running.project
    given = pq.read_table(project.folder / "data/prepared/test.parquet")
    size = given["size"].to_pylist()
    size[3], size[5] = 0.0, float("nan")
    pq.write_table(given.set_column(0, "size", pa.array(size)), tmp_path / "in.parquet")
    out = project.run(
        sys.executable, "-m", "mlops.serving.score", str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")
    ).stdout
    assert "row 4: density: is infinite; computed from size = 0" in out
    scored = pq.read_table(tmp_path / "out.parquet")
    recorded = pd.read_parquet(project.folder / "reports/predictions.parquet")["predicted"].tolist()
    wrong = scored["problem"].to_pylist()
    assert [row for row, problem in enumerate(wrong) if problem] == [3, 5]
    expected = [None if row in (3, 5) else label for row, label in enumerate(recorded)]
    assert scored["prediction"].to_pylist() == expected


def test_other_code_than_the_model_was_trained_with_is_not_served(sold: Project, tmp_path: Path) -> None:
    path = sold.folder / "src/project/shared/sizes.py"
    whole = path.read_text(encoding="utf-8")
    path.write_text("def halved(x):\n    return x / 3\n", encoding="utf-8")
    try:
        done = sold.run(sys.executable, "-c", "from mlops.inference import runtime; runtime.load()", check=False)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert done.returncode == 1
    assert "src/project/shared/sizes.py is not the file that the model was trained with" in done.stdout
