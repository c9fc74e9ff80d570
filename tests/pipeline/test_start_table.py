"""`make start` looks at a table, and what it writes is what a data scientist would, with the reason beside it."""

from __future__ import annotations

import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from sklearn import datasets

from mlops.core import started
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.pipeline.start import reading, writing
from mlops.pipeline.start.__main__ import main, placed
from mlops.pipeline.start.recipe import Plan, plan

RNG = np.random.default_rng(0)
N = 400

Look = Callable[..., Plan]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def look(folder: Path) -> Look:
    """A function that writes a table as a file and decides about it."""

    def decide(table: pd.DataFrame, target: str, name: str = "table.csv", task: str | None = None, **how: Any) -> Plan:
        path = folder / name
        if name.endswith(".parquet"):
            table.to_parquet(path, index=False)
        else:
            table.to_csv(path, index=False, **how)
        return plan(f"data/raw/{name}", reading.read(f"data/raw/{name}", target, path), target, task)

    return decide


def houses(rows: int = N, seed: int = 0) -> pd.DataFrame:
    """Houses with a price."""
    rng = np.random.default_rng(seed)
    area, rooms = rng.normal(100, 20, rows).round(2), rng.integers(1, 7, rows)
    price = 3000 * area + 20_000 * rooms + rng.normal(0, 20_000, rows)
    return pd.DataFrame({"area": area, "rooms": rooms, "price": price.round()})


@pytest.mark.parametrize(
    ("name", "target", "task", "positive"),
    [
        ("breast_cancer", "diagnosis", "classification", "malignant"),
        ("iris", "species", "classification", None),
        ("wine", "cultivar", "classification", None),
        ("diabetes", "progression", "regression", None),
    ],
)
def test_a_table_of_scikit_learn_is_described_as_its_authors_would(
    folder: Path, name: str, target: str, task: str, positive: str | None
) -> None:
    source = f"sklearn:{name}"
    found = plan(source, reading.read(source, target), target)
    data, method = found.params["data"], found.params["split"]["method"]
    assert (data["task"], data.get("positive")) == (task, positive)
    assert method == ("stratified" if task == "classification" else "random")
    assert "drop" not in data
    assert "linear" in found.params["model"]["estimator"]
    assert Settings.model_validate(YAML(typ="safe").load(writing.params(found))) == found.settings


def test_digits_are_classes_and_amounts_are_numbers(look: Look) -> None:
    bunch = datasets.load_digits(as_frame=True)
    digits = bunch.frame.rename(columns={"target": "digit"}).iloc[:600]
    found = look(digits, "digit")
    assert found.params["data"]["task"] == "classification"
    # the corners of these pictures are never drawn on
    assert "the same value" in found.reasons["data.drop"]
    linnerud = datasets.load_linnerud(as_frame=True)
    bodies = linnerud.data.assign(Weight=linnerud.target["Weight"])
    assert look(bodies, "Weight", "bodies.csv").params["data"]["task"] == "regression"


def test_whole_numbers_are_taken_as_the_user_says(look: Look) -> None:
    table = houses().assign(stars=lambda rows: rows["rooms"].clip(1, 5)).drop(columns="rooms")
    guessed = look(table, "stars")
    assert guessed.params["data"]["task"] == "classification"
    assert "TASK=regression" in guessed.reasons["data.task"]
    assert look(table, "stars", task="regression").params["data"]["task"] == "regression"


def test_a_key_is_found_and_what_numbers_or_names_rows_is_left_out(look: Look) -> None:
    table = houses().assign(house_id=[f"H{n:05}" for n in RNG.permutation(N)], rownames=range(N))
    found = look(table, "price")
    assert found.params["data"]["key"] == ["house_id"]
    assert found.params["data"]["drop"] == ["rownames"]
    assert "row numbers" in found.reasons["data.drop"]


def test_without_a_key_copies_are_left_out_unless_equal_rows_are_natural(look: Look) -> None:
    table = pd.concat([houses(), houses().iloc[:15]])
    found = look(table, "price")
    assert found.params["data"]["clean"]["duplicates"] == {"keep": "first"}
    assert "15 rows are exact copies" in found.reasons["data.clean.duplicates"]
    natural = pd.DataFrame({"sex": RNG.choice(["f", "m"], N), "class": RNG.choice(["1st", "2nd", "3rd"], N)})
    found = look(natural.assign(survived=RNG.integers(0, 2, N)), "survived")
    assert "duplicates" not in found.params["data"]["clean"]
    assert "two rows may well be equal" in found.reasons["data.clean.functions"]


def test_a_column_that_gives_the_target_away_is_left_out_with_the_evidence(look: Look) -> None:
    table = houses().assign(log_price=lambda rows: np.log(rows["price"]))
    found = look(table, "price")
    assert found.params["data"]["drop"] == ["log_price"]
    assert "of price follows from it alone" in found.reasons["data.drop"]
    assert "log_price" in writing.params(found)
    outcome = RNG.choice(["died", "left"], N)
    table = houses().drop(columns="price").assign(outcome=outcome, fate=np.where(outcome == "died", "grave", "home"))
    assert look(table, "outcome").params["data"]["drop"] == ["fate"]


@pytest.mark.parametrize("noise", [130, 300])
def test_a_column_that_may_give_it_away_stays_and_is_marked_for_a_check(look: Look, noise: int) -> None:
    table = houses().assign(
        tax=lambda rows: (rows["price"] / 100 + np.random.default_rng(1).normal(0, noise, N)).round(1)
    )
    found = look(table, "price")
    assert "drop" not in found.params["data"]
    assert "CHECK" in writing.params(found)


def test_rows_without_a_target_are_left_out_and_counted(look: Look) -> None:
    table = houses()
    table.loc[:49, "price"] = np.nan
    found = look(table, "price")
    assert found.params["data"]["clean"]["missing_target"] == "drop"
    assert "50 rows" in found.reasons["data.clean.missing_target"]
    assert found.table.num_rows == N - 50


def test_words_and_numbers_that_mean_missing_are_found(look: Look) -> None:
    table = houses().astype({"rooms": object})
    table.loc[[3, 5], "rooms"] = "?"
    table["age"] = RNG.integers(0, 90, N)
    table.loc[[1, 2, 8], "age"] = -999
    found = look(table, "price")
    assert found.params["data"]["missing_values"] == ["?"]
    assert found.params["data"]["clean"]["ranges"] == {"age": {"low": 0, "outside": "missing"}}
    assert found.table["rooms"].null_count == 2
    assert found.table["age"].null_count == 3


def test_dates_split_by_time_and_birthdays_do_not(look: Look) -> None:
    days = pd.date_range("2024-01-01", periods=N)
    found = look(houses().assign(sold_on=days.strftime("%Y-%m-%d")), "price")
    split = found.params["split"]
    assert (split["method"], split["time"], split["cutoff"][:7]) == ("time", "sold_on", "2024-10")
    found = look(houses().assign(birth_date=days.strftime("%Y-%m-%d")), "price")
    assert found.params["split"]["method"] == "random"


def test_dates_and_times_of_day_in_any_form_get_their_type(look: Look) -> None:
    days = pd.date_range("2024-01-25", periods=N)
    table = houses().assign(sold=days.strftime("%d.%m.%Y"), at=[f"{n % 24}:{n % 60:02}" for n in range(N)])
    found = look(table, "price")
    assert found.params["data"]["types"] == {"sold": "date"}
    assert found.params["split"]["time"] == "sold"
    assert found.catalogue["at"].kind == "time"


def test_rows_of_one_patient_stay_on_one_side(look: Look) -> None:
    found = look(houses().assign(patient=RNG.integers(0, 60, N)), "price")
    assert (found.params["split"]["method"], found.params["split"]["group"]) == ("group", "patient")
    assert "on one side" in found.reasons["split.method"]


def test_a_split_that_leaves_a_class_out_is_not_chosen_and_the_reason_says_so(look: Look) -> None:
    days = pd.date_range("2024-01-01", periods=N)
    table = houses().drop(columns="price").assign(sold_on=days.strftime("%Y-%m-%d"), late=np.arange(N) >= N - 20)
    found = look(table, "late")
    assert found.params["split"]["method"] == "stratified"
    assert "method time fails" in found.reasons["split.method"]


def test_the_rare_class_is_the_one_to_find(look: Look) -> None:
    found = look(houses(1000).drop(columns="price").assign(kind=["common"] * 960 + ["odd"] * 40), "kind")
    assert found.params["data"]["positive"] == "odd"
    assert "4.0%" in found.reasons["data.positive"]


def test_texts_get_a_linear_model_and_a_wide_table_too(look: Look) -> None:
    words = ["good", "bad", "slow", "warm", "loud", "cheap"]
    reviews = [" ".join(RNG.choice(words, 8)) + f" {n}" for n in range(N)]
    labels = np.where([text.count("good") > text.count("bad") for text in reviews], "yes", "no")
    found = look(pd.DataFrame({"review": reviews, "happy": labels}), "happy")
    assert found.catalogue["review"].kind == "text"
    assert found.params["model"]["estimator"].endswith("LogisticRegression")
    wide = pd.DataFrame(RNG.normal(size=(N, 400)), columns=[f"gene{n}" for n in range(400)])
    found = look(wide.assign(y=wide["gene0"] + RNG.normal(size=N)), "y")
    assert found.params["model"]["estimator"].endswith("Ridge")


def test_the_estimator_is_the_one_that_cross_validates_better(look: Look) -> None:
    x = RNG.normal(size=(1500, 2))
    found = look(pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": np.sign(x[:, 0] * x[:, 1]) + 0.1 * x[:, 0]}), "y")
    assert "HistGradientBoosting" in found.params["model"]["estimator"]
    assert "cross-validated RMSE" in found.reasons["model.estimator"]


def test_slices_are_people_first_and_large_enough(look: Look) -> None:
    table = houses().assign(sex=RNG.choice(["f", "m"], N), heating=RNG.choice(["gas", "oil"], N), rare="x")
    table.loc[0, "rare"] = "y"
    assert look(table, "price").params["evaluate"]["slices"] == ["sex", "heating"]


def test_codes_are_names(look: Look) -> None:
    found = look(houses().assign(zip=RNG.integers(10_000, 10_050, N)), "price")
    assert found.params["data"]["types"] == {"zip": "categorical"}


def test_semicolons_encodings_and_parquet_are_read(look: Look) -> None:
    table = houses().assign(city=RNG.choice(["Köln", "Zürich"], N))
    found = look(table, "price", sep=";", encoding="cp1252")
    assert (found.params["data"]["delimiter"], found.params["data"]["encoding"]) == (";", "cp1252")
    assert "Köln" in found.table["city"].to_pylist()
    assert look(table, "price", "table.parquet").table.num_rows == N


def test_a_query_of_sqlite_is_a_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(folder / "houses.db") as database:
        houses().assign(house_id=range(1000, 1000 + N)).to_sql("houses", database, index=False)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder / 'houses.db'}")
    source, path = placed("SELECT * FROM houses\n ORDER BY house_id")
    assert path is None
    found = plan(source, reading.read(source, "price"), "price")
    assert found.params["data"]["source"] == {"sql": "SELECT * FROM houses ORDER BY house_id"}
    assert found.params["data"]["key"] == ["house_id"]


def test_a_name_that_yaml_could_read_as_something_else_stays_what_it_is(look: Look) -> None:
    table = houses().assign(**{"# no: [x]": RNG.integers(0, 60, N).astype(str), "yes": RNG.choice(["on", "off"], N)})
    found = look(table.rename(columns={"price": "null"}), "null")
    assert Settings.model_validate(YAML(typ="safe").load(writing.params(found))) == found.settings


BAD = {
    "no such column": (houses(), "prize", "no column 'prize'; did you mean 'price'"),
    "constant": (houses().assign(y=1), "y", "is 1 in every row"),
    "all missing": (houses().assign(y=np.nan), "y", "missing in every row"),
    "free text": (houses().assign(y=[f"the {n}th one said so" for n in range(N)]), "y", "free text"),
    "two rows": (houses(2), "price", "2 rows"),
    "no rows": (houses(0), "price", "no rows"),
    "no features": (houses()[["price"]], "price", "no other to learn from"),
    "only a key": (houses()[["price"]].assign(id=range(N)), "price", "no column is left"),
    "a date": (houses().assign(y=pd.date_range("2024-01-01", periods=N)), "y", "dates"),
    "decimal commas": (houses().assign(x=[f"{n},5" for n in range(N)]), "price", "decimal commas"),
    "a class of one row": (houses().assign(y=["a"] * (N - 1) + ["b"]), "y", "class 'b' has no"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_table_ends_in_a_sentence_and_writes_nothing(folder: Path, case: str) -> None:
    table, target, says = BAD[case]
    path = folder / "in.csv"
    table.to_csv(path, index=False, sep=";" if case == "decimal commas" else ",")
    with pytest.raises(UserError, match=says.replace("?", r"\?")):
        main(str(path), target, "")
    assert sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()) == ["in.csv"]


def test_a_file_that_is_missing_empty_or_no_text_is_named(folder: Path) -> None:
    (folder / "houses.csv").touch()
    with pytest.raises(UserError, match=r"no file house\.csv; did you mean 'houses\.csv'"):
        main("house.csv", "price", "")
    with pytest.raises(UserError, match="is empty"):
        main("houses.csv", "price", "")
    (folder / "houses.csv").write_bytes(b"a,b\n\x81\x00,1\n")
    with pytest.raises(UserError, match="neither in UTF-8 nor"):
        main("houses.csv", "b", "")
    with pytest.raises(UserError, match="TABLE is not set"):
        main("", "", "")
    assert not (folder / "params.yaml").exists()


def test_in_a_terminal_it_asks_for_what_is_left_out(folder: Path) -> None:
    houses().to_csv(folder / "houses.csv", index=False)
    ours, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("TABLE", "TARGET", "TASK")}
    asked = subprocess.Popen(
        [sys.executable, "-P", "-m", "mlops.pipeline.start"],
        cwd=folder,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.write(ours, b"houses.csv\nprice\n")
    assert asked.wait(300) == 0
    said = os.read(ours, 100_000).decode()
    assert "Columns: area, rooms, price" in said
    assert "target: price" in (folder / "params.yaml").read_text()


def test_it_can_be_run_again_and_never_writes_over_an_edit(folder: Path) -> None:
    houses().to_csv(folder / "houses.csv", index=False)
    main("houses.csv", "price", "")
    names = ["params.yaml", "docs/canvas.md", "data/expectations/houses.json", "data/raw/houses.csv"]
    first = {name: (folder / name).read_bytes() for name in names}
    main("houses.csv", "price", "")
    assert {name: (folder / name).read_bytes() for name in names} == first
    for name in names[:3]:
        (folder / name).write_bytes(first[name] + b"\n")
        with pytest.raises(UserError, match=rf"{name} was edited.*\n  try: .*rm {name}"):
            main("houses.csv", "area", "")
        (folder / name).write_bytes(first[name])
    houses(seed=1).to_csv(folder / "houses.csv", index=False)
    with pytest.raises(UserError, match=r"data/raw/houses\.csv exists and differs"):
        main("houses.csv", "price", "")
    assert {name: (folder / name).read_bytes() for name in names} == first


def test_a_readme_is_the_project_s_unless_somebody_wrote_one(folder: Path) -> None:
    houses().to_csv(folder / "houses.csv", index=False)
    readme = folder / "README.md"
    main("houses.csv", "price", "")
    assert "predicts `price`, a number, from data/raw/houses.csv" in readme.read_text(encoding="utf-8")
    main("houses.csv", "area", "")
    assert "predicts `area`" in readme.read_text(encoding="utf-8")
    readme.write_text("# Our houses\n", encoding="utf-8")
    main("houses.csv", "price", "")
    assert readme.read_text(encoding="utf-8") == "# Our houses\n"


def test_the_template_knows_its_own_files() -> None:
    """`python -m mlops.core.started` records them after a change."""
    record = YAML(typ="safe").load(ROOT / started.RECORD)
    names = (started.PARAMS, started.GATE, started.CANVAS, started.README, "data/expectations/breast_cancer.json")
    assert record == {name: started.hashed(ROOT / name) for name in names}
