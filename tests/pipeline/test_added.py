"""Rows of `data.more` and `data.recent`: what becomes of them, and that they move no row of the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.pipeline import ingest, split, validate

COUNT = 200


def source(first: int = 0, count: int = COUNT) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": [f"row {number}" for number in numbers],
            "size": [float(number) for number in numbers],
            "town": ["Bern" if number % 3 else "Chur" for number in numbers],
            "y": ["ill" if number % 2 else "well" for number in numbers],
        }
    )


def production(first: int, count: int = 40) -> pa.Table:
    """As from a log: without the key."""
    return source(first, count).drop(["id"])


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("t.csv", source())


def put(name: str, table: pa.Table) -> str:
    path = Path("data/raw", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".csv"):
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return str(path)


def run(monkeypatch: pytest.MonkeyPatch, method: str = "random", **data: Any) -> dict[str, pa.Table]:
    """The tables that `ingest` and `split` write."""
    settings = Settings.model_validate(
        {
            "data": {"source": "data/raw/t.csv", "task": "classification", "target": "y", **data},
            "validate": {},
            "split": {"method": method, "seed": 1},
            "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "tuning": None,
            "evaluate": {},
        }
    )
    monkeypatch.setattr(ingest.settings_module, "load", lambda: settings)
    ingest.main()
    split.main()
    return {path.stem: tables.read(path) for path in (paths.TABLE, paths.TRAIN, paths.TEST, paths.RECENT)}


def sizes(table: pa.Table) -> set[float]:
    return set(table["size"].to_pylist())


@pytest.mark.parametrize("key", [[], ["id"]])
def test_added_rows_are_trained_on_or_set_aside_and_no_other_row_moves(
    monkeypatch: pytest.MonkeyPatch, key: list[str]
) -> None:
    more, recent = put("new/a.parquet", production(1000)), put("new/b.parquet", production(2000))
    dropped = {"key": key, "drop": [] if key else ["id"]}
    before = run(monkeypatch, **dropped)
    assert before["recent"].num_rows == 0
    after = run(monkeypatch, **dropped, more=[more], recent=[recent])
    assert after["test"].equals(before["test"])
    assert sizes(after["train"]) == sizes(before["train"]) | sizes(production(1000))
    assert sizes(after["recent"]) == sizes(production(2000))


def test_an_earlier_recent_window_may_become_training_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [put(f"new/{first}.parquet", production(first)) for first in (1000, 2000, 3000)]
    found = run(monkeypatch, drop=["id"], more=files[:2], recent=files[2:])
    assert sizes(production(1000)) | sizes(production(2000)) <= sizes(found["train"])
    assert sizes(found["recent"]) == sizes(production(3000))


def test_copies_of_test_rows_and_of_recent_rows_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run(monkeypatch, drop=["id"])
    copies = pa.concat_tables([production(0, COUNT), production(2000, 20)])
    after = run(
        monkeypatch,
        drop=["id"],
        more=[put("new/a.parquet", copies)],
        recent=[put("new/b.parquet", pa.concat_tables([production(2000), production(0, COUNT // 2)]))],
    )
    assert after["test"].equals(before["test"])
    assert not sizes(after["train"]) & (sizes(after["test"]) | sizes(after["recent"]))
    assert not sizes(after["recent"]) & sizes(after["test"])
    # a row of the source that is seen again is one of the newest
    assert {size for size in sizes(before["train"]) if size < COUNT // 2} <= sizes(after["recent"])


def test_cleaning_does_not_replace_a_test_row_by_a_later_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = {"duplicates": {"subset": ["size"], "keep": "last"}}
    before = run(monkeypatch, drop=["id"], clean=clean)
    after = run(monkeypatch, drop=["id"], clean=clean, more=[put("new/a.parquet", production(0, COUNT))])
    assert after["test"].equals(before["test"])


def test_added_rows_are_cleaned_and_the_steps_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = {"ranges": {"size": {"high": 1019, "outside": "drop"}}}
    found = run(monkeypatch, drop=["id"], clean=clean, more=[put("new/a.parquet", production(1000))])
    assert found["table"].num_rows == COUNT + 20
    catalogue = tables.read_catalogue()
    assert catalogue.more == 20
    (step,) = [each for each in catalogue.cleaning if each.rows]
    assert (step.rows, step.effect) == (20, "rows dropped")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda table: table.drop(["town"]), "new/a.parquet has no column 'town'"),
        (lambda table: table.append_column("age", pa.array(range(40))), "new/a.parquet has a column 'age'"),
        (lambda table: table.set_column(0, "size", pa.array(["tall"] * 40)), "row 1 of data/raw/new/a.parquet"),
        (lambda table: table.set_column(2, "y", pa.array([None] * 40, pa.string())), "row 1 of data/raw/new/a.parquet"),
    ],
    ids=["column gone", "column more", "other kind", "no target"],
)
def test_a_file_that_does_not_fit_the_source_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: Any, problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        run(monkeypatch, drop=["id"], more=[put("new/a.parquet", change(production(1000)))])


def test_a_missing_file_and_one_that_the_source_includes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"gone\.parquet is missing"):
        run(monkeypatch, drop=["id"], more=["data/raw/gone.parquet"])
    with pytest.raises(UserError, match=r"includes data/raw/t.csv, which is one of data.more"):
        run(monkeypatch, source="data/raw/*.csv", drop=["id"], more=["data/raw/t.csv"])


@pytest.mark.parametrize("name", ["t.csv", "../t.csv", "/data/raw/t.csv", "data/raw/../t.csv"])
def test_only_files_below_data_raw_may_be_added(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(ValueError, match="must be a file below data/raw"):
        run(monkeypatch, more=[name])


def test_a_file_cannot_be_trained_on_and_be_the_recent_window(monkeypatch: pytest.MonkeyPatch) -> None:
    name = put("new/a.parquet", production(1000))
    with pytest.raises(ValueError, match=r"is in data\.more, too"):
        run(monkeypatch, more=[name], recent=[name])


def test_the_key_is_expected_of_the_source_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, key=["id"], more=[put("new/a.parquet", production(1000))])
    monkeypatch.setattr(validate.settings_module, "load", ingest.settings_module.load)
    assert validate.main().startswith("2 of 2 expectations pass")


def test_added_training_rows_do_not_count_in_the_warning_about_shares(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], [put("new/a.parquet", production(1000, 4000))]):
        run(monkeypatch, method="stratified", drop=["id"], more=more)
        assert "of the rows of class" not in capsys.readouterr().err
