from __future__ import annotations

import pyarrow as pa

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
