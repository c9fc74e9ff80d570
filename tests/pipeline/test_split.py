from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer

from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.pipeline.split import assign, check_classes


def settings(key: list[str] | None = None, **split: object) -> Settings:
    return Settings.model_validate(
        {
            "data": {"source": "data/raw/x.csv", "task": "classification", "target": "diagnosis", "key": key or []},
            "validate": {},
            "split": split,
            "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "tuning": None,
            "evaluate": {},
        }
    )


@pytest.fixture(scope="module")
def cancer() -> pa.Table:
    frame = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "diagnosis"})
    frame["diagnosis"] = np.where(frame["diagnosis"] == 0, "malignant", "benign")
    frame.insert(0, "id", [f"patient {number}" for number in range(len(frame))])
    return pa.Table.from_pylist(frame.to_dict("records"))


def rows(table: pa.Table, mask: np.ndarray, *names: str) -> set[tuple[object, ...]]:
    return {tuple(row.values()) for row in table.filter(pa.array(mask)).select(names or table.column_names).to_pylist()}


@pytest.mark.parametrize("key", [[], ["id"]])
@pytest.mark.parametrize("seed", range(5))
def test_a_row_keeps_its_side_when_data_grow(cancer: pa.Table, key: list[str], seed: int) -> None:
    split = settings(key, seed=seed)
    before, after = cancer.slice(0, 300), pa.concat_tables([cancer.slice(300), cancer.slice(0, 300)])
    old, new = assign(before, split), assign(after, split)
    assert rows(before, old.test, "id") <= rows(after, new.test, "id")
    assert rows(before, old.train, "id") <= rows(after, new.train, "id")


def test_a_test_row_never_becomes_a_training_row_when_copies_of_it_arrive(cancer: pa.Table) -> None:
    split = settings(["id"])
    old = assign(cancer, split)
    twins = cancer.set_column(0, "id", pa.array([f"twin {number}" for number in range(len(cancer))]))
    both = pa.concat_tables([cancer, twins])
    new = assign(both, split)
    assert rows(cancer, old.test, "id") <= rows(both, new.test, "id")
    assert not rows(cancer, old.test, "id") & rows(both, new.train, "id")


@pytest.mark.parametrize("key", [[], ["id"]])
def test_exact_copies_never_straddle_the_split(cancer: pa.Table, key: list[str]) -> None:
    twins = cancer.set_column(0, "id", pa.array([f"twin {number}" for number in range(len(cancer))]))
    both = pa.concat_tables([cancer, twins])
    both = both if key else both.drop_columns(["id"])
    features = [name for name in both.column_names if name != "id"]
    sides = assign(both, settings(key))
    assert sides.train.any()
    assert sides.test.any()
    assert not rows(both, sides.train, *features) & rows(both, sides.test, *features)


def test_the_type_of_a_number_and_the_order_of_columns_do_not_matter(cancer: pa.Table) -> None:
    whole = pa.table({"number": pa.array(range(1000)), "diagnosis": ["a", "b"] * 500})
    floats = whole.set_column(0, "number", whole["number"].cast(pa.float64())).select(["diagnosis", "number"])
    assert (assign(whole, settings()).test == assign(floats, settings()).test).all()


def test_the_share_of_test_rows_is_the_one_asked_for() -> None:
    table = pa.table({"x": pa.array(np.arange(100_000.0)), "diagnosis": ["a", "b"] * 50_000})
    for size in (0.1, 0.25, 0.5):
        assert assign(table, settings(test_size=size)).test.mean() == pytest.approx(size, abs=0.005)


def test_another_seed_deals_other_rows_to_the_test_side(cancer: pa.Table) -> None:
    assert (assign(cancer, settings(seed=1)).test != assign(cancer, settings(seed=2)).test).any()


def test_rows_of_a_group_stay_together(cancer: pa.Table) -> None:
    groups = pa.array([f"clinic {number % 40}" for number in range(len(cancer))])
    table = cancer.append_column("clinic", groups)
    sides = assign(table, settings(method="group", group="clinic"))
    assert rows(table, sides.train, "clinic")
    assert not rows(table, sides.train, "clinic") & rows(table, sides.test, "clinic")


def test_rows_from_the_cutoff_on_are_test_rows(cancer: pa.Table) -> None:
    days = np.datetime64("2024-01-01", "us") + np.arange(len(cancer)) * np.timedelta64(1, "D")
    table = cancer.append_column("seen", pa.array(days))
    sides = assign(table, settings(method="time", time="seen", cutoff="2025-01-01"))
    assert sides.test.sum() == len(cancer) - 366
    assert max(rows(table, sides.train, "seen")) < min(rows(table, sides.test, "seen"))


def test_a_missing_cutoff_is_answered_with_one_that_fits(cancer: pa.Table) -> None:
    table = cancer.append_column("year", pa.array(np.repeat(np.arange(2000, 2020), 30)[: len(cancer)]))
    with pytest.raises(UserError, match=r"needs split\.cutoff\n  try: cutoff: '2014' \(test_size 0\.25\)"):
        assign(table, settings(method="time", time="year"))


def test_a_cutoff_of_another_kind_than_its_column_is_reported(cancer: pa.Table) -> None:
    table = cancer.append_column("year", pa.array(range(len(cancer))))
    with pytest.raises(UserError, match="must be a number, as 'year' is, got 'yesterday'"):
        assign(table, settings(method="time", time="year", cutoff="yesterday"))


def test_a_missing_group_is_reported_with_its_rows(cancer: pa.Table) -> None:
    groups = pa.array([None if number in (3, 7) else "a" for number in range(len(cancer))])
    with pytest.raises(UserError, match=r"'clinic' determines the split, but is missing in 2 rows: 4, 8"):
        assign(cancer.append_column("clinic", groups), settings(method="group", group="clinic"))


def test_a_class_on_one_side_only_is_reported_with_a_seed_that_helps() -> None:
    table = pa.table({"x": pa.array(np.arange(40.0)), "diagnosis": ["rare"] * 2 + ["common"] * 38})
    for seed in range(20):
        chosen = settings(seed=seed)
        sides = assign(table, chosen)
        if sides.test[:2].sum() != 1:
            with pytest.raises(UserError, match=r"class 'rare' has no (test|training) row\n  try: split.seed: \d+"):
                check_classes(table, sides, chosen)
            break
    else:
        pytest.fail("no seed left a side without the rare class")


def test_a_table_of_nothing_but_copies_of_test_rows_is_reported() -> None:
    table = pa.table({"id": pa.array(range(1000)), "x": pa.array([1.0, 2.0] * 500), "diagnosis": ["a", "b"] * 500})
    with pytest.raises(UserError, match="every row is a test row or an exact copy of one"):
        assign(table, settings(["id"]))
