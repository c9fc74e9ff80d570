from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.data import tables


def test_a_sample_of_rows_keeps_their_order_and_is_the_same_each_time() -> None:
    table = pa.table({"x": list(range(1_000))})
    sample = tables.some(table, 100)["x"].to_pylist()
    assert len(set(sample)) == 100
    assert sample == sorted(sample)
    assert min(sample) < 100
    assert max(sample) >= 900
    assert tables.some(table, 100)["x"].to_pylist() == sample


def test_few_rows_are_all_in_the_sample() -> None:
    table = pa.table({"x": [1, 2, 3]})
    assert tables.some(table, 3) is table


def test_chosen_rows_are_written_in_groups_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 100)
    table = pa.table({"x": list(range(250))})
    chosen = np.arange(250) % 3 == 0
    tables.write(table, tmp_path / "some.parquet", chosen)
    file = pq.ParquetFile(tmp_path / "some.parquet")
    assert file.read()["x"].to_pylist() == list(range(0, 250, 3))
    assert file.num_row_groups == 3
    tables.write(table.slice(0, 0), tmp_path / "empty.parquet")
    assert pq.ParquetFile(tmp_path / "empty.parquet").read().schema == table.schema
