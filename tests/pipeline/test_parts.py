"""A folder of Parquet files as the table: the same rows, sides and verdicts as of one file, partition by partition."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from mlops.core import memory
from mlops.core.errors import UserError
from mlops.data import partitions, parts, tables
from mlops.model import training
from mlops.pipeline import ingest, profile, split, validate

FOLDER = Path("data/raw/events")
BIG = 2**60


def rows(count: int = 900) -> pa.Table:
    """Rows with a key, numbers, texts, gaps, whole numbers that floats cannot hold, and copies of rows."""
    rng = np.random.default_rng(0)
    amount = rng.normal(size=count).round(2)
    large = np.arange(count) % 7
    large[-1] = BIG
    table = pa.table(
        {
            "id": pa.array(range(count)),
            "amount": pa.array(amount, mask=rng.random(count) < 0.1),
            "count": pa.array(large),
            "day": pa.array(np.datetime64("2024-01-01", "s") + (np.arange(count) * 3600).astype("timedelta64[s]")),
            "place": pa.array(np.array(["north", "south", None], dtype=object)[rng.integers(0, 3, count)], pa.string()),
            "left": pa.array(np.where(amount > 0, "yes", "no")),
        }
    )
    copies = table.slice(0, count // 3).set_column(0, "id", pa.array(range(count, count + count // 3)))
    return pa.concat_tables([copies, table])


def written(table: pa.Table, files: int = 4, folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True)
    size = -(-table.num_rows // files)
    for number in range(files):
        pq.write_table(table.slice(number * size, size), folder / f"{number}.parquet", row_group_size=100)


def configure(source: str, **sections: dict[str, Any]) -> None:
    """Write `params.yaml`."""
    params: dict[str, Any] = {
        "data": {
            "source": source,
            "task": "classification",
            "target": "left",
            "key": ["id"],
            "features": [],
            "clean": {"functions": []},
        },
        "validate": {},
        "split": {"method": "stratified"},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }
    for name, changed in sections.items():
        params[name].update(changed)
    YAML().dump(params, Path("params.yaml"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without anything but its table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "ROW_GROUP", 200)
    written(rows())
    return tmp_path


def prepared() -> dict[str, Any]:
    """What `ingest` and `split` wrote: tables as they are in memory, and the rest as it is in the files."""
    made: dict[str, Any] = {
        name: pa.concat_tables([pq.ParquetFile(file).read() for file in sorted(path.glob("*"))])
        if path.is_dir()
        else pq.ParquetFile(path).read()
        for name in ("table", "train", "test", "recent")
        for path in [Path(f"data/prepared/{name}.parquet")]
    }
    catalogue = json.loads(Path("data/prepared/catalogue.json").read_text())
    made["catalogue"] = {key: value for key, value in catalogue.items() if key not in ("source", "sha256")}
    made["split"] = json.loads(Path("data/prepared/split.json").read_text())
    return made


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"data": {"key": []}},
        {"data": {"key": [], "clean": {"functions": [], "ranges": {"count": {"high": 3.5, "outside": "clip"}}}}},
        {"split": {"method": "time", "time": "day", "cutoff": "2024-01-25"}},
        {"split": {"method": "group", "group": "place"}, "data": {"drop": ["amount"], "key": []}},
        {
            "split": {"method": "group", "group": "count"},
            "data": {"clean": {"functions": [], "missing_target": "drop"}},
        },
    ],
    ids=["by key", "by content", "by content before a correction", "by time", "by group", "by a large number"],
)
def test_partitions_hold_what_one_table_holds_and_lie_on_the_same_sides(sections: dict[str, Any]) -> None:
    if sections.get("split", {}).get("group") == "place":  # a group may not be missing
        table = rows()
        for path in FOLDER.glob("*"):
            path.unlink()
        FOLDER.rmdir()
        written(table.set_column(4, "place", pa.array([f"place {n % 9}" for n in range(table.num_rows)])))
    made = []
    for source in (f"{FOLDER}/", f"{FOLDER}/*.parquet"):
        configure(source, **sections)
        ingest.main()
        split.main()
        made.append(prepared())
    ours, whole = made
    assert Path("data/prepared/table.parquet").is_file()
    assert ours["catalogue"] == whole["catalogue"]
    assert ours["split"] == whole["split"]
    for name in ("table", "train", "test", "recent"):
        assert ours[name].num_rows == whole[name].num_rows
        assert ours[name].equals(whole[name]), name
    assert not list(Path("data/prepared").glob(".*"))


def test_each_partition_has_its_own_bytes_twice() -> None:
    hashes = []
    for _ in range(2):
        configure(f"{FOLDER}/")
        ingest.main()
        split.main()
        made = [path for path in sorted(Path("data/prepared").rglob("*.parquet")) if path.is_file()]
        hashes.append([(path, path.read_bytes()) for path in made])
    assert hashes[0] == hashes[1]
    # four files of 300 rows in row groups of 100, of which two together are a partition
    assert len(parts.files(Path("data/prepared/table.parquet"))) == 8
    assert max(parts.Parts(Path("data/prepared/table.parquet")).rows) == 200


SUITE = [
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "amount"}, "severity": "warning"},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "amount", "mostly": 0.85}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "place", "value_set": ["north"]}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "day"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["day", "count"]}},
    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "amount", "min_value": 1}},
    {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "count", "type_": "int64"}},
    {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "count", "type_": "str"}},
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1200, "max_value": 1200}},
    {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["id"]}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "count", "max_value": 5}},
]


def test_expectations_give_the_same_verdict_and_the_same_rows_as_for_one_table() -> None:
    Path("data/expectations").mkdir(parents=True)
    suite = [{"severity": "warning", **each} for each in SUITE]
    Path("data/expectations/events.json").write_text(json.dumps({"expectations": suite}))
    found = []
    for source in (f"{FOLDER}/", f"{FOLDER}/*.parquet"):
        configure(source, validate={"suite": "data/expectations/events.json"})
        ingest.main()
        validate.main()
        failures = json.loads(validate.FAILURES.read_text())
        found.append((json.loads(validate.METRIC.read_text()), failures))
    ours, whole = found
    assert ours[0] == whole[0]
    assert ours[0]["failed_warning"] == 8
    for mine, theirs in zip(ours[1], whole[1], strict=True):
        assert mine == theirs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": pa.array([1])}, "have different columns: ['extra']"),
        ({"amount": pa.array(["much"])}, "does not fit data/raw/events/0.parquet: "),
        ({"amount": pa.array([np.inf])}, "column 'amount': row 1 of data/raw/events/9.parquet holds an infinite value"),
        ({"left": pa.array([None], pa.string())}, "'left' is missing in 1 row: row 1 of data/raw/events/9.parquet"),
    ],
)
def test_a_partition_that_does_not_fit_is_named(change: dict[str, pa.Array], message: str) -> None:
    odd = {name: values.slice(0, 1) for name, values in zip(rows().column_names, rows().columns, strict=True)} | change
    pq.write_table(pa.table(odd), FOLDER / "9.parquet")
    configure(f"{FOLDER}/")
    with pytest.raises(UserError) as refused:
        ingest.main()
    assert message in str(refused.value)
    assert not list(Path("data").glob("prepared/*")), "nothing is half-written"


def test_a_number_may_be_whole_in_one_file_and_a_fraction_in_another() -> None:
    table = rows()
    pq.write_table(table.set_column(2, "count", pa.array([0.5] * 1200)), FOLDER / "9.parquet")
    configure(f"{FOLDER}/", data={"key": []})
    (FOLDER / "2.parquet").unlink()
    (FOLDER / "3.parquet").unlink()
    ingest.main()
    kinds = {pq.read_schema(file).field("count").type for file in parts.files(Path("data/prepared/table.parquet"))}
    assert kinds == {pa.float64()}


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"clean": {"duplicates": {}}}, "data.clean.duplicates"),
        ({"clean": {"outliers": {"amount": 3}}}, "data.clean.outliers"),
        ({"more": ["data/raw/more.csv"]}, "data.more"),
    ],
)
def test_what_needs_the_whole_table_is_refused(data: dict[str, Any], key: str) -> None:
    configure(f"{FOLDER}/", data=data)
    with pytest.raises(UserError, match=rf"{key} needs the whole table in memory, and .* is partitioned\n  try: "):
        ingest.main()


def test_a_folder_without_partitions_or_with_hive_names_is_refused() -> None:
    Path("data/raw/none").mkdir()
    configure("data/raw/none/")
    with pytest.raises(UserError, match=r"data/raw/none/ holds no file that ends in \.parquet"):
        ingest.main()
    written(rows(), folder=FOLDER / "year=2024")
    configure(f"{FOLDER}/")
    with pytest.raises(UserError, match=r"year=2024/0\.parquet: the values of a column are in the names of folders"):
        ingest.main()


def test_what_engines_leave_beside_partitions_is_no_partition() -> None:
    (FOLDER / "_temporary").mkdir()
    (FOLDER / "_temporary/0.parquet").write_bytes(b"PAR1")
    (FOLDER / "_SUCCESS").touch()
    configure(f"{FOLDER}/")
    ingest.main()
    assert tables.read_catalogue().rows == 1200


def test_a_row_group_that_does_not_fit_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    configure(f"{FOLDER}/", data={"types": {"place": "categorical", "left": "categorical"}})
    with pytest.raises(UserError, match=r"0.parquet: row group 1 \(.* rows\) needs about 0 MiB of memory, and 0 MiB"):
        ingest.main()


def test_a_huge_file_becomes_several_partitions() -> None:
    assert list(partitions._cut([(150, 1), (60, 1), (10, 1), (500, 1), (0, 1), (5, 1)], 3)) == [[0], [1, 2], [3], [5]]


def test_training_needs_the_rows_in_memory_or_a_declared_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(f"{FOLDER}/", data={"drop": ["count"]})
    ingest.main()
    split.main()
    whole = training.read()
    assert len(whole.y) == pq.ParquetDataset("data/prepared/train.parquet").read().num_rows
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    with pytest.raises(UserError) as refused:
        training.read()
    said = str(refused.value)
    assert "data/prepared/train.parquet as one table (" in said
    assert "needs about 0 MiB of memory, and 0 MiB are free\n  try: model.training_rows: " in said
    configure(f"{FOLDER}/", data={"drop": ["count"]}, model={"training_rows": 200})
    some, again = training.read(), training.read()
    assert len(some.y) == 200
    assert some.X.equals(again.X)
    # the same rows of one file
    configure(f"{FOLDER}/*.parquet", data={"drop": ["count"]}, model={"training_rows": 200})
    ingest.main()
    split.main()
    assert training.read().X.equals(some.X)


def test_the_free_memory_is_that_of_the_smallest_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 2**20 < memory.available() < 2**45
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("4500\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 2000\nactive_file 300\nslab 7\n")
    assert memory.available() == 2800
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**30, 2**30))
    assert memory.available() < 2**30


def test_a_profile_of_many_rows_says_that_it_describes_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "MOST_ROWS", 300)
    configure(f"{FOLDER}/")
    ingest.main()
    split.main()
    assert profile.main().startswith("300 of ")
    page = Path("reports/profile.html").read_text()
    assert "use a random sample of 300 training rows" in page
