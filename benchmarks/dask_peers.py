"""``python dask_peers.py Dask|Polars|DuckDB ingest|split|score``: the bare minimum of these steps, for `dask`.

`ingest` reads and writes all files, `split` divides their rows by a hash of all values, `score` adds the probability of
a logistic regression of the numbers, with made-up weights.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

IN, TABLE, OUT = "data/raw/growth", "build/peer/table", "build/peer"
NUMBERS = [f"measure {n}" for n in range(1, 11)] + [f"count {n}" for n in range(1, 5)]


def with_dask(step: str) -> None:
    import dask.dataframe as dd
    import numpy as np
    import pandas as pd
    from distributed import Client

    def scored(rows: pd.DataFrame) -> pd.DataFrame:
        score = rows[NUMBERS].fillna(0).to_numpy(dtype=float) @ np.full(len(NUMBERS), 0.1)
        return rows.assign(probability=1 / (1 + np.exp(-score)))

    def side(rows: pd.DataFrame, test: bool) -> pd.DataFrame:
        hashed = pd.util.hash_pandas_object(rows, index=False) % 4 == 0
        return rows[hashed == test]

    with Client(os.environ["DASK_SCHEDULER_ADDRESS"]):
        rows = dd.read_parquet(IN if step != "split" else TABLE)
        if step == "ingest":
            rows.to_parquet(TABLE, write_index=False, compression="zstd")
        elif step == "split":
            for name in ("train", "test"):
                part = rows.map_partitions(side, name == "test", meta=rows._meta)
                part.to_parquet(f"{OUT}/{name}", write_index=False, compression="zstd")
        else:
            rows.map_partitions(scored).to_parquet(f"{OUT}/scored", write_index=False, compression="zstd")


def with_polars(step: str) -> None:
    import polars as pl

    rows = pl.scan_parquet(f"{IN}/*.parquet" if step != "split" else f"{TABLE}/*.parquet")
    Path(TABLE).mkdir(parents=True, exist_ok=True)
    if step == "ingest":
        rows.sink_parquet(f"{TABLE}/0.parquet", compression="zstd")
    elif step == "split":
        hashed = pl.struct(pl.all()).hash() % 4 == 0
        rows.filter(hashed).sink_parquet(f"{OUT}/test.parquet", compression="zstd")
        rows.filter(~hashed).sink_parquet(f"{OUT}/train.parquet", compression="zstd")
    else:
        score = sum((pl.col(name).cast(pl.Float64).fill_null(0) * 0.1 for name in NUMBERS), pl.lit(0.0))
        found = rows.with_columns((1 / (1 + (-score).exp())).alias("probability"))
        found.sink_parquet(f"{OUT}/scored.parquet", compression="zstd")


def with_duckdb(step: str) -> None:
    import duckdb

    Path(TABLE).mkdir(parents=True, exist_ok=True)
    given = f"'{IN}/*.parquet'" if step != "split" else f"'{TABLE}/*.parquet'"
    options = "(format parquet, compression zstd)"
    if step == "ingest":
        duckdb.sql(f"copy (from {given}) to '{TABLE}/0.parquet' {options}")
    elif step == "split":
        for name, test in (("test", "="), ("train", "<>")):
            query = f"from {given} as rows where hash(rows) % 4 {test} 0"
            duckdb.sql(f"copy ({query}) to '{OUT}/{name}.parquet' {options}")
    else:
        score = " + ".join(f"""coalesce("{name}", 0) * 0.1""" for name in NUMBERS)
        query = f"select *, 1 / (1 + exp(-({score}))) as probability from {given}"  # noqa: S608
        duckdb.sql(f"copy ({query}) to '{OUT}/scored.parquet' {options}")


if __name__ == "__main__":
    who, step = sys.argv[1:]
    if step == "ingest":
        shutil.rmtree(OUT, ignore_errors=True)
    {"Dask": with_dask, "Polars": with_polars, "DuckDB": with_duckdb}[who](step)
