"""Labels from another table: joined by key, with conflicts, late and missing ones counted; and every mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import sources, tables
from mlops.pipeline import ingest, split

ROWS = 40
VISITS = "id,seen,x\n" + "".join(f"{number:03},2024-0{number // 10 + 1}-15,{number}\n" for number in range(ROWS))
GOOD = [(f"{number:03}", "ill" if number % 2 else "well", f"2024-0{number // 10 + 2}-01") for number in range(ROWS)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PSEUDONYM_KEY", "a key of more than sixteen characters")
    sources.RAW.mkdir(parents=True)


def params(labels: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {
        "data": {
            "source": "data/raw/visits.csv",
            "task": "classification",
            "target": "y",
            "types": {"id": "categorical"},
            "labels": {"source": "data/raw/labels.csv", "on": ["id"], "target": "outcome", **labels},
            "clean": {"functions": [], "missing_target": "drop", **data.pop("clean", {})},
            **data,
        },
        "validate": {},
        "split": {},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }


def write(given: list[tuple[str, str, str]], header: str = "id,outcome,known") -> None:
    Path("data/raw/visits.csv").write_text(VISITS, encoding="utf-8")
    lines = [header, *(",".join(row) for row in given)]
    Path("data/raw/labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def joined(given: list[tuple[str, str, str]], **labels: Any) -> tuple[dict[str, str], dict[str, int]]:
    """Target by id, and what each step counted."""
    write(given)
    data = labels.pop("data", {})
    table, catalogue = ingest.read_and_prepare(Settings.model_validate(params(labels, **data)))
    found = dict(zip(table["id"].to_pylist(), table["y"].to_pylist(), strict=True))
    return found, {step["step"]: step["rows"] for step in catalogue["cleaning"]}


def message(given: list[tuple[str, str, str]], **labels: Any) -> str:
    with pytest.raises(UserError) as error:
        joined(given, **labels)
    return str(error.value)


def test_each_row_gets_the_label_with_its_key_in_whatever_order() -> None:
    found, steps = joined(GOOD[::-1])
    assert found == {name: label for name, label, _ in GOOD}
    assert not any(steps.values())


def test_what_does_not_fit_is_counted() -> None:
    given = [*GOOD[2:], ("999", "ill", "2024-02-01"), ("", "ill", "2024-02-01"), ("005", "", "2024-02-01"), GOOD[7]]
    found, steps = joined(given)
    assert len(found) == ROWS - 2
    assert steps == {
        "labels without a value or key": 2,
        "labels without a row": 1,
        "rows with conflicting labels": 0,
        "rows without a label": 2,
        "no target (y)": 2,
    }


def test_rows_without_a_label_are_refused_by_default() -> None:
    said = message(GOOD[1:], data={"clean": {"missing_target": "refuse"}})
    assert "the target 'y' is missing in 1 row: row 1 of data/raw/visits.csv" in said
    assert "missing_target: drop" in said


CONFLICTING = [*GOOD, ("003", "well", "2024-01-01")]


def test_two_different_labels_are_refused_with_key_file_and_rows() -> None:
    said = message(CONFLICTING)
    assert "1 key has different labels: id '003' has 'ill' in row 4 of data/raw/labels.csv" in said
    assert "and 'well' in row 41 of data/raw/labels.csv" in said
    assert "try: conflict: last, first or drop" in said


@pytest.mark.parametrize(
    ("conflict", "time", "label"),
    [
        ("first", None, "ill"),
        ("last", None, "well"),
        ("first", "known", "well"),
        ("last", "known", "ill"),
        ("drop", None, None),
    ],
)
def test_a_conflict_is_decided_by_time_or_else_by_the_order(conflict: str, time: str | None, label: str | None) -> None:
    found, steps = joined(CONFLICTING, conflict=conflict, time=time)
    assert found.get("003") == label
    assert steps["rows with conflicting labels"] == 1


def test_a_label_that_was_not_known_yet_does_not_count() -> None:
    found, steps = joined(GOOD, time="known", as_of="2024-03-15")
    assert sorted(found) == [f"{number:03}" for number in range(20)]
    assert (steps["labels after 2024-03-15"], steps["rows without a label"]) == (20, 20)


def test_a_key_of_several_columns_and_a_private_one_are_joined() -> None:
    write(GOOD)
    Path("data/raw/labels.csv").write_text(
        "id,x,outcome\n" + "".join(f"{name},{int(name)},{label}\n" for name, label, _ in GOOD)
    )
    labels = {"source": "data/raw/labels.csv", "on": ["id", "x"], "target": "outcome"}
    table, _ = ingest.read_and_prepare(Settings.model_validate(params(labels, private={"id": "pseudonymise"})))
    assert table["y"].to_pylist() == [label for _, label, _ in GOOD]
    assert "003" not in table["id"].to_pylist()


def test_typed_labels_are_joined_to_typed_rows() -> None:
    Path("data/raw").mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": pa.array(range(ROWS), pa.int32()), "x": [1.5, 2.5] * 20}), "data/raw/visits.parquet")
    pq.write_table(
        pa.table({"id": [float(n) for n in range(ROWS)], "outcome": [True, False] * 20}), "data/raw/labels.parquet"
    )
    settings = params({"source": "data/raw/labels.parquet"}, source="data/raw/visits.parquet", types={})
    table, _ = ingest.read_and_prepare(Settings.model_validate(settings))
    assert table["y"].to_pylist() == [True, False] * 20


def test_the_key_and_the_time_of_a_label_are_no_features_and_late_ones_teach_nothing() -> None:
    write([(name, label, "2024-09-01" if name == "004" else time) for name, label, time in GOOD])
    settings = params({"time": "known"}) | {"split": {"method": "time", "time": "seen", "cutoff": "2024-04-10"}}
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(settings, file)
    ingest.main()
    split.main()
    train = tables.read(paths.TRAIN)["id"].to_pylist()
    assert train == [f"{number:03}" for number in range(30) if number != 4]
    (step,) = json.loads(paths.SPLIT.read_text(encoding="utf-8"))["cleaning"]
    assert step == {"step": "label after split.cutoff", "rows": 1, "effect": "training rows dropped"}
    columns = tables.feature_columns(Settings.model_validate(settings), tables.read_catalogue())
    assert [column.name for column in columns] == ["x"]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no file": (
        {"source": "data/raw/label.csv"},
        "data.labels.source: there is no file data/raw/label.csv; did you mean 'data/raw/labels.csv'?",
    ),
    "no key": ({"on": []}, "data.labels: on is missing"),
    "no key here": ({"on": ["idd"]}, "data.labels.on: the table has no column 'idd'; did you mean 'id'?"),
    "no key there": ({"on": ["x"]}, "data.labels.on: data/raw/labels.csv has no column 'x'"),
    "no label": (
        {"target": "outcom"},
        "data.labels.target: data/raw/labels.csv has no column 'outcom'; did you mean 'outcome'?",
    ),
    "no time": (
        {"time": "knwon"},
        "data.labels.time: data/raw/labels.csv has no column 'knwon'; did you mean 'known'?",
    ),
    "no date": ({"time": "known", "as_of": "soon"}, "data.labels.as_of must be a date (ISO 8601), got 'soon'"),
    "two targets": ({"data": {"target": "x"}}, "the table has a column 'x' itself"),
}


@pytest.mark.parametrize(("labels", "said"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_reported_with_its_key(labels: dict[str, Any], said: str) -> None:
    assert said in message(GOOD, **dict(labels))


def test_a_label_without_its_time_is_reported_with_its_row() -> None:
    said = message([("000", "ill", ""), *GOOD[1:]], time="known")
    assert "'known' is missing in row 1 of data/raw/labels.csv, which has a label" in said


def test_as_of_without_a_time_is_refused() -> None:
    with pytest.raises(ValueError, match="as_of needs time"):
        Settings.model_validate(params({"as_of": "2024-01-01"}))


def test_the_labels_may_come_from_a_key_that_the_table_declares() -> None:
    found, _ = joined(GOOD, on=[], data={"key": ["id"]})
    assert len(found) == ROWS
