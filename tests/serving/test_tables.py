"""Tables with columns of every kind, missing values, and classes that are no words, through the same service."""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from serving.served import Row, Served, fuzz, identify, serving

KNOWN = ["north", "south", "east", "west"]
WORDS = ["late", "broken", "kind", "quick", "never again", "perfect", 'so "good"', "größer: 年齢"]

NO_TIMES = ["24:00", "11:60", "11:38:36Z", "11:38 PM", "noon", "", " 11:38", "11:38:36.1234567", 41916, True]
NO_DATES = [
    *(
        1614859200,
        1614859200.5,
        True,
        "1614859200",
        "-1614859200",
        "",
        "yesterday",
        "4.3.2021",
        "2021-02-30",
        "2021-13-01",
    ),
    *(
        "9999-12-31T23:59:59-10:00",
        "0001-01-01T00:00:00+10:00",
        "10000-01-01",
        "2021-03-04T25:00",
        "2021-03-04T12:00+99:00",
    ),
]


def table() -> list[Row]:
    """Visits to a shop: each kind of column, whole and with gaps, and a target that follows from them."""
    random.seed(0)
    rows = []
    for number in range(600):
        amount, region = random.uniform(1, 100), random.choice(KNOWN)
        day = f"20{random.randint(10, 25)}-0{random.randint(1, 9)}-1{random.randint(0, 9)}"
        rows.append(
            {
                "visit": number,
                "amount": round(amount, 2),
                "weight": "" if number % 7 == 0 else random.randint(1, 30),
                "member": random.choice(["true", "false"]),
                "newsletter": "" if number % 5 == 0 else random.choice(["true", "false"]),
                "opened": f"{day} 1{number % 10}:00:00",
                "at": f"{number % 24:02}:{number % 60:02}:{number * 7 % 60:02}",
                "left": "" if number % 4 == 0 else f"{number % 24}:30",
                "returned": "" if number % 3 else f"2025-01-{number % 28 + 1:02}",
                "region": region,
                'the "size"': "" if number % 11 == 0 else random.choice("SML"),
                "city": f"city {number % 97}",
                "remark": random.choice(WORDS) + " " + random.choice(WORDS),
                "stars": min(5, 1 + int(amount / 25) + (region == "south")),
                "again": "true" if amount > 50 else "false",
            }
        )
    return rows


def run(project: Project, change: Callable[[Any], None]) -> Project:
    """The pipeline on that table, as far as a release needs it."""
    rows = table()
    path = project.folder / "data/raw/visits.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    def edit(params: Any) -> None:
        params["data"] = {"source": "data/raw/visits.csv", "task": "classification", "key": ["visit"], "features": []}
        params["validate"]["suite"] = None
        params["split"] = {"method": "random", "test_size": 0.25}
        params["model"] = {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}}
        params["tuning"] = None
        params["evaluate"]["slices"] = []
        change(params)

    project.edit_params(edit)
    (project.folder / "dvc.lock").unlink()
    project.run("dvc", "repro", "evaluate")
    return identify(project)


def recorded(service: Served) -> tuple[list[Row], pd.DataFrame]:
    """The test rows as JSON has them, and what evaluation recorded for them."""
    names = [field["name"] for field in service.contract["fields"]]
    rows = pd.read_parquet(service.project.folder / "data/prepared/test.parquet")[names]
    for name in rows.select_dtypes(["datetime", "datetimetz"]):
        rows[name] = rows[name].map(lambda moment: None if pd.isna(moment) else moment.isoformat())
    for name in {"at", "left"} & {*rows}:
        rows[name] = rows[name].map(lambda time: None if time is None else time.isoformat())
    whole = rows.astype(object).where(rows.notna(), None)
    return whole.to_dict(orient="records"), pd.read_parquet(service.project.folder / "reports/predictions.parquet")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        folder = tmp_path_factory.mktemp(name) / "a project"
        folder.mkdir()
        return Project(folder)

    return make


@pytest.fixture(scope="module")
def visits(folders: Callable[[str], Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Will they come again? Every kind of column, text among them, so that scikit-learn runs; true and false.

    The table of predictions holds each visit as the team wrote it.
    """

    def change(params: Any) -> None:
        params["data"].update(target="again", positive=True, drop=["stars"])
        params["data"]["types"] = {"remark": "text", "city": "categorical"}

    project = run(folders("visits"), change)
    raw, made = "data/raw/visits.csv", "build/predictions.sqlite"
    project.run(sys.executable, "-m", "mlops.serving.precompute", raw, made, "--key", "visit")
    with serving(project, tmp_path_factory.mktemp("bentoml"), PREDICTIONS=str(project.folder / made)) as served:
        yield served


def test_a_row_of_every_kind_with_its_key_is_answered_by_the_table_until_a_value_differs(visits: Served) -> None:
    rows = {str(row["visit"]): row for row in table()}
    as_sent = {"true": True, "false": False, "": None}
    for key in ("0", "7", "33", "599"):
        kinds = {field["name"]: field["kind"] for field in visits.contract["fields"]}
        row = {
            name: as_sent.get(value, value) if kinds[name] != "numeric" else value or None
            for name, value in rows[key].items()
            if name in kinds
        }
        (alone,) = visits.predict({"key": key}).json()["predictions"]
        assert alone["precomputed"]
        assert visits.predict({**row, "key": key}).json()["predictions"] == [alone]
        for name, value in {
            "remark": "another",
            "amount": 50.123,
            "opened": "2001-01-01",
            "at": "23:59:58",
            "weight": 3.5,
        }.items():
            (found,) = visits.predict({**row, name: value, "key": key}).json()["predictions"]
            assert "precomputed" not in found, name
            assert visits.predict({**row, name: value}).json()["predictions"] == [found]


def test_a_table_of_every_kind_gets_the_recorded_predictions(visits: Served) -> None:
    contract = visits.contract
    kinds = {field["name"]: (field["kind"], field["nullable"]) for field in contract["fields"]}
    assert kinds == {
        "amount": ("numeric", False),
        "weight": ("numeric", True),
        "member": ("boolean", False),
        "newsletter": ("boolean", True),
        "at": ("time", False),
        "left": ("time", True),
        "opened": ("date", False),
        "returned": ("date", True),
        "region": ("categorical", False),
        'the "size"': ("categorical", True),
        "city": ("categorical", False),
        "remark": ("text", False),
    }
    assert contract["runtime"] == "scikit-learn"
    rows, expected = recorded(visits)
    answer = visits.predict(*rows)
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert [each["prediction"] for each in predictions] == expected["predicted"].tolist()
    assert {type(each["prediction"]) for each in predictions} == {bool}
    assert predictions[0]["probabilities"].keys() == {"false", "true"}
    found = [each["probabilities"]["true"] for each in predictions]
    np.testing.assert_allclose(found, expected.filter(like="robability").iloc[:, -1], rtol=1e-9)
    counted = {dict(labels)["prediction"]: count for labels, count in visits.metrics("model_rows_total").items()}
    assert counted.keys() == {"true", "false"}


def test_a_value_may_be_missing_where_the_table_had_gaps_and_nowhere_else(visits: Served) -> None:
    for field in visits.contract["fields"]:
        answer = visits.predict({**visits.example, field["name"]: None})
        if field["nullable"]:
            assert answer.status_code == 200, answer.text
        else:
            (problem,) = answer.json()["detail"]
            assert problem["field"] == field["name"]
            assert problem["problem"].startswith("is null, but the training data had no missing values")


def test_a_closed_list_refuses_what_is_not_on_it_and_an_open_one_takes_it(visits: Served) -> None:
    problem = visits.problem({**visits.example, "region": "up"})
    assert problem["field"] == "region"
    assert all(name in problem["problem"] for name in KNOWN)
    assert visits.problem({**visits.example, 'the "size"': ""})["field"] == 'the "size"'
    assert visits.predict({**visits.example, "city": "city 98"}).status_code == 200
    assert visits.problem({**visits.example, "city": "x" * 20_000})["field"] == "city"
    assert visits.problem({**visits.example, "city": 7})["field"] == "city"


@pytest.mark.parametrize("value", ["x", 1, "1", 1.0, "true", {}])
def test_a_boolean_is_true_or_false(visits: Served, value: Any) -> None:
    assert visits.problem({**visits.example, "member": value})["field"] == "member"


def test_a_date_is_a_moment_in_any_time_zone_or_a_day(visits: Served) -> None:
    def predicted(opened: str) -> Any:
        answer = visits.predict({**visits.example, "opened": opened})
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    noon = predicted("2021-03-04T12:00:00")
    assert predicted("2021-03-04T12:00:00Z") == noon
    assert predicted("2021-03-04T13:00:00+01:00") == noon
    assert predicted("2021-03-04 07:00-05:00") == noon
    assert predicted("2021-03-04T11:00:00") != noon
    assert predicted("2021-03-04") == predicted("2021-03-04T00:00:00.000000Z")


@pytest.mark.parametrize("value", NO_DATES)
def test_what_is_no_date_is_refused(visits: Served, value: Any) -> None:
    problem = visits.problem({**visits.example, "opened": value})
    assert problem["field"] == "opened"
    assert "Value error" not in problem["problem"]


def test_a_time_of_day_is_taken_with_and_without_seconds(visits: Served) -> None:
    def predicted(at: str) -> Any:
        answer = visits.predict({**visits.example, "at": at})
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    assert predicted("09:05") == predicted("9:05:00") == predicted("9:05:00.0") != predicted("21:05")


@pytest.mark.parametrize("value", NO_TIMES, ids=str)
def test_what_is_no_time_of_day_is_refused(visits: Served, value: Any) -> None:
    problem = visits.problem({**visits.example, "at": value})
    assert problem["field"] == "at"
    if isinstance(value, str):
        assert problem["problem"] == "should be a time of day such as 11:38 or 11:38:36"


def test_texts_of_any_letters_are_read_and_a_field_that_comes_twice_is_still_found(visits: Served) -> None:
    for remark in ('"', '\\"', "年齢 🙈 \u0000", '"the ""size""": ', "a" * 10_000):
        assert visits.predict({**visits.example, "remark": remark}).status_code == 200
    assert visits.send(f'{{"rows": [{_json(visits.example)}]}}').status_code == 200
    hidden = _json({**visits.example, "remark": "A"}).replace('"A"', '"\\u0022\\u0022"')
    assert visits.send(f'{{"rows": [{hidden}]}}').status_code == 200
    twice = hidden.replace("{", '{"remark": "", ', 1)
    (problem,) = visits.send(f'{{"rows": [{twice}]}}').json()["detail"]
    assert (problem["field"], problem["problem"]) == ("remark", "appears more than once")


def test_nothing_that_a_machine_thinks_of_breaks_it(visits: Served) -> None:
    fuzz(visits)


def _json(row: Row) -> str:

    return json.dumps(row, ensure_ascii=False)


@pytest.fixture(scope="module")
def stars(folders: Callable[[str], Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """How many stars? Five classes that are whole numbers, in ONNX."""

    def change(params: Any) -> None:
        params["data"].update(target="stars", drop=["again", "remark"])

    with serving(run(folders("stars"), change), tmp_path_factory.mktemp("bentoml")) as served:
        yield served


@pytest.mark.e2e
def test_classes_that_are_numbers_stay_numbers(stars: Served) -> None:
    assert stars.contract["runtime"] == "onnx"
    rows, expected = recorded(stars)
    predictions = stars.predict(*rows).json()["predictions"]
    assert [each["prediction"] for each in predictions] == expected["predicted"].tolist()
    assert {type(each["prediction"]) for each in predictions} == {int}
    assert all(each["probabilities"].keys() == {"1", "2", "3", "4", "5"} for each in predictions)
    assert sum(predictions[0]["probabilities"].values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def amounts(folders: Callable[[str], Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """How much do they spend? A regression."""

    def change(params: Any) -> None:
        params["data"].update(task="regression", target="amount", drop=["again", "remark"])
        params["model"] = {"estimator": "sklearn.linear_model.Ridge", "params": {}}

    with serving(run(folders("amounts"), change), tmp_path_factory.mktemp("bentoml")) as served:
        yield served


@pytest.mark.e2e
def test_a_regression_answers_with_numbers_alone(amounts: Served) -> None:
    rows, expected = recorded(amounts)
    predictions = amounts.predict(*rows).json()["predictions"]
    assert all(each.keys() == {"prediction"} for each in predictions)
    np.testing.assert_allclose([each["prediction"] for each in predictions], expected["predicted"], rtol=1e-5)
    assert amounts.metrics("model_rows_total") == {(("prediction", ""),): len(rows)}
