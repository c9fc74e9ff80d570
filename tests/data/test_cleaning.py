"""What cleaning leaves out and corrects, what it counts, and every way in which a rule does not fit its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.hooks import RowFilter
from mlops.core.settings import Settings
from mlops.data import cleaning, limits, sources, tables
from mlops.inference.contract import Contract, Correction, Field
from mlops.inference.corrections import corrected
from mlops.pipeline import ingest, split
from mlops.serving import batches, rows
from mlops.serving.codec import Decoder

ROWS = 40
AGES = [*range(20, 58), -4, 430]
HEIGHTS = [1.5 + number / 100 for number in range(38)] + [180.0, 165.0]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources.RAW.mkdir(parents=True)


def params(clean: dict[str, Any], **data: Any) -> dict[str, Any]:
    data = {
        "source": "data/raw/t.csv",
        "task": "classification",
        "target": "y",
        "clean": {"functions": [], **clean},
    } | data
    return {
        "data": data,
        "validate": {},
        "split": {},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }


def frame(**columns: Any) -> pd.DataFrame:
    found = {"age": AGES, "height": HEIGHTS, "town": ["a", "b"] * 20, "y": ["no", "yes", "no", "yes"] * 10}
    return pd.DataFrame({**found, **columns})


def cleaned(clean: dict[str, Any], given: pd.DataFrame | None = None, **data: Any) -> tuple[pa.Table, dict[str, int]]:
    """The table that `ingest` makes, and the rows that each step took."""
    (frame() if given is None else given).to_csv("data/raw/t.csv", index=False)
    settings = Settings.model_validate(params(clean, **data))
    table, catalogue = ingest.read_and_prepare(settings)
    return table, {step["step"]: step["rows"] for step in catalogue["cleaning"]}


def written(clean: dict[str, Any]) -> Settings:
    """The settings of a table that is on disk."""
    frame().to_csv("data/raw/t.csv", index=False)
    return Settings.model_validate(params(clean))


def message(clean: dict[str, Any], given: pd.DataFrame | None = None, **data: Any) -> str:
    with pytest.raises(UserError) as error:
        cleaned(clean, given, **data)
    return str(error.value)


# rows without a target


def test_rows_without_a_target_are_refused_with_the_setting_that_drops_them() -> None:
    without = frame(y=[None, "yes", "no", None] * 10)
    said = message({}, without)
    assert "missing in 20 rows: row 1 of data/raw/t.csv, row 4 of data/raw/t.csv" in said
    assert "try: data.clean: {missing_target: drop}" in said


def test_rows_without_a_target_are_dropped_and_counted_where_the_setting_says_so() -> None:
    table, steps = cleaned({"missing_target": "drop"}, frame(y=[None, "yes", "no", "yes"] * 10))
    assert (table.num_rows, steps) == (30, {"no target (y)": 10})
    assert table["y"].null_count == 0


# values


def test_values_in_another_unit_are_converted_before_they_are_held_against_limits() -> None:
    clean = {
        "rescale": {"height": {"above": 3, "factor": 0.01}},
        "ranges": {"height": {"low": 1.55, "high": 1.7, "outside": "clip"}},
    }
    table, steps = cleaned(clean)
    assert table["height"].to_pylist()[-2:] == [pytest.approx(1.7), pytest.approx(1.65)]
    assert steps == {"height above 3": 2, "height outside 1.55 to 1.7": 23}


def test_a_value_outside_limits_costs_its_row_or_itself_as_the_rule_says() -> None:
    by_rule = {
        outside: cleaned({"ranges": {"age": {"low": 0, "high": 120, "outside": outside}}})
        for outside in ("drop", "clip", "missing")
    }
    assert {outside: table["age"].to_pylist()[38:] for outside, (table, _) in by_rule.items()} == {
        "drop": [],
        "clip": [0, 120],
        "missing": [None, None],
    }
    assert {table["age"].type for table, _ in by_rule.values()} == {pa.int64()}  # whole numbers stay whole
    assert all(steps == {"age outside 0 to 120": 2} for _, steps in by_rule.values())


def test_an_infinite_value_is_not_refused_where_a_rule_takes_care_of_it() -> None:
    infinite = frame(height=[np.inf, *HEIGHTS[1:]])
    assert "infinite" in message({}, infinite)
    table, _ = cleaned({"ranges": {"height": {"high": 3, "outside": "missing"}}}, infinite)
    assert table["height"].null_count == 3


def test_large_whole_numbers_that_no_rule_is_about_keep_each_digit() -> None:
    large = 2**60 + 1
    table, _ = cleaned({"ranges": {"age": {"low": 0, "outside": "missing"}}}, frame(age=[large, -1] * 20))
    assert table["age"].to_pylist()[:2] == [large, None]


# duplicates


@pytest.mark.parametrize(("keep", "ages"), [("first", [20, 21]), ("last", [-4, 430])])
def test_of_rows_with_the_same_key_the_first_or_last_stays(keep: str, ages: list[int]) -> None:
    given = frame(town=["a", "b"] * 20, z=1)
    given.loc[2:37, "town"] = [f"t{number}" for number in range(36)]
    table, steps = cleaned({"duplicates": {"subset": ["town"], "keep": keep}}, given)
    of_town = dict(zip(table["town"].to_pylist(), table["age"].to_pylist(), strict=True))
    assert [of_town["a"], of_town["b"]] == ages
    assert steps == {f"duplicate by town, keeping the {keep}": 2}


def test_whole_rows_that_appear_twice_are_dropped_only_where_asked() -> None:
    twice = pd.concat([frame(), frame().head(5)])
    assert cleaned({}, twice)[0].num_rows == 45
    table, steps = cleaned({"duplicates": {}}, twice)
    assert (table.num_rows, steps) == (40, {"duplicate by the whole row, keeping the first": 5})


def test_duplicates_may_be_refused_with_both_rows() -> None:
    twice = pd.concat([frame(), frame().head(1)])
    said = message({"duplicates": {"subset": ["age"], "keep": "refuse"}}, twice)
    assert said.startswith(
        "row 41 of data/raw/t.csv is a duplicate of row 1 of data/raw/t.csv by age (age: 20); 1 in all"
    )


# outliers


def test_outliers_are_dropped_from_the_training_rows_alone_and_by_their_quartiles_alone() -> None:
    rng = np.random.default_rng(0)
    given = pd.DataFrame({"x": [*rng.normal(size=380).tolist(), *[50.0] * 20], "z": rng.normal(size=400)})
    given["y"] = ["no", "yes"] * 200
    given.to_csv("data/raw/t.csv", index=False)
    kept = {}
    for name, clean in {"all": {}, "without": {"outliers": {"x": 3}}}.items():
        with Path("params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(params(clean), file)
        ingest.main()
        split.main()
        kept[name] = [tables.read(path)["x"].to_numpy() for path in (paths.TRAIN, paths.TEST)]
    (train, test), (train_without, test_without) = kept["all"], kept["without"]
    dropped = int((train == 50).sum())
    assert dropped > 10
    assert (test == 50).any()  # the model will meet such rows, so it is judged by them
    np.testing.assert_array_equal(test, test_without)
    np.testing.assert_array_equal(train[train != 50], train_without)
    (step,) = json.loads(paths.SPLIT.read_text(encoding="utf-8"))["cleaning"]
    assert (step["rows"], step["effect"]) == (dropped, "training rows dropped")


def test_outliers_of_a_column_with_mostly_one_value_are_not_guessed() -> None:
    settings = Settings.model_validate(params({"outliers": {"x": 1.5}}))
    table = pa.table({"x": [0.0] * 30 + [5.0] * 3})
    with pytest.raises(UserError, match="half of the training rows have the same value of 'x', 0"):
        limits.outliers(table, np.ones(33, dtype=bool), settings.data)


# the split


def test_a_correction_moves_no_row_to_the_other_side_of_the_split() -> None:
    def sides(clean: dict[str, Any]) -> dict[str, set[str]]:
        frame(name=[f"n{number}" for number in range(ROWS)]).to_csv("data/raw/t.csv", index=False)
        with Path("params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(params(clean), file)
        ingest.main()
        split.main()
        return {str(path): {*tables.read(path)["name"].to_pylist()} for path in (paths.TRAIN, paths.TEST)}

    before = sides({})
    assert (
        sides({"ranges": {"height": {"low": 1.7, "outside": "clip"}, "age": {"low": 30, "outside": "missing"}}})
        == before
    )
    assert tables.IDENTITY in pq.read_schema(paths.TABLE).names
    assert tables.IDENTITY not in tables.read(paths.TABLE).column_names
    assert tables.IDENTITY not in tables.read_catalogue().names


# functions


def kept(function: Callable[..., Any], *columns: str) -> Any:
    table = pa.table({"age": [1.0, None, 3.0, 4.0], "town": ["a", "b", None, "a"]})
    return cleaning.kept(RowFilter("mine", function, columns), table).tolist()


def test_a_function_says_which_rows_are_kept() -> None:
    assert kept(lambda age: age > 2, "age") == [False, False, True, True]
    assert kept(lambda age, town: age.isna() | town.isna(), "age", "town") == [False, True, True, False]
    assert kept(lambda town: ~town.duplicated(), "town") == [True, True, True, False]


def test_a_function_may_sort_the_rows_to_find_its_answer() -> None:
    assert kept(lambda age: age.sort_values(ascending=False) > 3, "age") == [False, False, False, True]


def changes(age: Any) -> Any:
    age.fillna(0, inplace=True)
    return age > 0


def fails(age: Any) -> Any:
    return age.nothing


MISTAKES = {
    "changes values": (changes, "mine changes values of 'age', which the service would not do"),
    "returns values": (
        lambda age: age.clip(0, 2),
        "must return True or False for each row, and returns values of type float64",
    ),
    "returns a table": (lambda age: pd.DataFrame({"age": age}), "returns a table"),
    "returns fewer rows": (lambda age: (age > 0)[age > 2], "returns 2 values for 4 rows"),
    "returns nothing": (lambda age: None, "returns values of type object"),
    "says neither": (lambda age: age.astype("Float64") > 2, "must return True or False"),
    "raises": (fails, "mine raises AttributeError"),
}


@pytest.mark.parametrize(("function", "said"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_of_a_function_is_reported_with_the_function(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(UserError, match=r"src/project/cleaning\.py") as error:
        kept(function, "age")
    assert said in str(error.value)


def test_a_function_of_another_table_is_left_out_and_that_is_reported() -> None:
    table, catalogue = ingest.read_and_prepare(written({"functions": None}))
    assert table.num_rows == ROWS
    effect = "left out: the table has none of its columns"
    assert catalogue["cleaning"] == [{"step": "plausible_area (cleaning.py)", "rows": 0, "effect": effect}]


def test_a_function_that_is_asked_for_needs_its_columns() -> None:
    assert "plausible_area: the table has no column 'mean area'" in message({"functions": ["plausible_area"]})


def test_a_column_that_a_function_misspells_is_reported_with_the_closest() -> None:
    with pytest.raises(UserError) as error:
        kept(lambda agee: agee > 0, "agee")
    assert "mine: the table has no column 'agee'; did you mean 'age'?" in str(error.value)
    assert "leave it out of data.clean.functions" in str(error.value)


def test_the_shipped_function_keeps_the_default_table_and_drops_what_is_impossible() -> None:
    settings = Settings.model_validate(
        params({"functions": ["plausible_area"]}, source="sklearn:breast_cancer", target="diagnosis")
    )
    table, catalogue = ingest.read_and_prepare(settings)
    assert (table.num_rows, catalogue["cleaning"][0]["rows"]) == (569, 0)
    (found,) = cleaning.row_filters(settings.data).values()
    impossible = pa.table({"mean area": [500.0, 0.0, 500.0], "worst area": [600.0, 10.0, 400.0]})
    assert cleaning.kept(found, impossible).tolist() == [True, False, False]


# mistakes in the settings


WRONG = {
    "unknown column": (
        {"ranges": {"agee": {"low": 0, "outside": "drop"}}},
        "data.clean.ranges: the table has no column 'agee'; did you mean 'age'?",
    ),
    "text": (
        {"ranges": {"town": {"low": 0, "outside": "drop"}}},
        "data.clean.ranges: 'town' holds string, not numbers",
    ),
    "outliers of text": ({"outliers": {"town": 3}}, "data.clean.outliers: 'town' holds string"),
    "unknown subset": (
        {"duplicates": {"subset": ["twon"]}},
        "data.clean.duplicates.subset: the table has no column 'twon'; did you mean 'town'?",
    ),
    "unknown function": ({"functions": ["plausible_aera"]}, "did you mean 'plausible_area'?"),
    "nothing left": (
        {"ranges": {"age": {"high": -10, "outside": "drop"}}},
        "no row is left\n  try: another rule: 'age above -10' took 40 rows",
    ),
    "few left": (
        {"ranges": {"age": {"high": 22, "outside": "drop"}}},
        "4 rows of data/raw/t.csv left after data.clean",
    ),
    "not far enough": (
        {"rescale": {"age": {"above": 100, "factor": 0.5}}},
        "row 40 of data/raw/t.csv: 430 becomes 215, which is still above 100",
    ),
}


@pytest.mark.parametrize(("clean", "said"), WRONG.values(), ids=list(WRONG))
def test_a_rule_that_does_not_fit_is_reported(clean: dict[str, Any], said: str) -> None:
    assert said in message(clean)


def test_the_target_and_keys_are_not_corrected() -> None:
    rule = {"ranges": {"age": {"low": 0, "outside": "clip"}}}
    assert "'age' is the target, whose values are not corrected" in message(rule, target="age", task="regression")
    assert "'age' is a key, whose values are not corrected" in message(rule, key=["age"])


def test_a_regression_may_drop_rows_by_their_target() -> None:
    rule = {"ranges": {"age": {"low": 0, "high": 120, "outside": "drop"}}}
    assert cleaned(rule, target="age", task="regression")[0].num_rows == 38


INVALID = {
    "no limit": ({"ranges": {"age": {"outside": "drop"}}}, "needs low, high or both"),
    "turned round": ({"ranges": {"age": {"low": 9, "high": 1, "outside": "drop"}}}, "low must not be above high"),
    "two units": ({"rescale": {"age": {"above": 3, "below": 1, "factor": 0.1}}}, "needs either above or below"),
    "wrong way": ({"rescale": {"age": {"above": 3, "factor": 100}}}, "factor must be < 1 for values above a limit"),
    "wrong way up": ({"rescale": {"age": {"below": 3, "factor": 0.1}}}, "factor must be > 1 for values below a limit"),
}


@pytest.mark.parametrize(("clean", "said"), INVALID.values(), ids=list(INVALID))
def test_a_rule_that_contradicts_itself_is_refused(clean: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.model_validate(params(clean))


# the same in the service and in batch scoring


RULE = Correction(above=3, factor=0.01, low=0.5, high=2.3, outside="clip")


def contract(**field: Any) -> Contract:
    fields = [
        Field(name="height", kind="numeric", **{"nullable": True, "clean": RULE, **field}),
        Field(name="town", kind="categorical", nullable=True),
    ]
    return Contract(task="regression", target="y", probabilities=False, runtime="onnx", fields=fields)


def test_the_service_and_batch_scoring_correct_as_training_does() -> None:
    sent = [1.8, 180.0, 0.1, 5000.0, None]
    expected = [1.8, 1.8, 0.5, 2.3, np.nan]
    decode = Decoder(contract())
    body = json.dumps({"rows": [{"height": value, "town": "a"} for value in sent]}).encode()
    np.testing.assert_allclose(decode.columns(*decode(body))["height"], expected)
    batch = pa.record_batch({"height": pa.array(sent), "town": ["a"] * 5})
    np.testing.assert_allclose(batches.checked(batch, contract()).columns["height"], expected)
    text = pa.record_batch({"height": ["1.8", "180", "0.1", "5000", ""], "town": ["a"] * 5})
    np.testing.assert_allclose(batches.checked(text, contract(), [""]).columns["height"], expected)
    np.testing.assert_allclose(corrected(np.array([1.8, 180, 0.1, 5000, np.nan]), RULE), expected)


def test_a_client_may_read_what_the_service_does_to_a_value() -> None:
    described = json.dumps(rows.request_type(contract(unit="m")).json_schema())
    assert "m, values above 3 are multiplied by 0.01, values below 0.5 or above 2.3 are clipped" in described
