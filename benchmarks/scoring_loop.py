"""Batch scoring as one would write it in a page, and rows to score: for `scoring`, in a project whose pipeline has run.

``write ROWS FILE`` writes rows like those of the table; ``loop IN OUT`` reads, predicts and writes them a batch at a
time, and leaves in `limit.json` how many rows a second the model alone predicts.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mlops.inference import contract, runtime

BATCH, CHUNK = 16_384, 500_000


def write(rows: int, path: Path) -> None:
    """Numbers around the example of each column, with as many digits as the table has."""
    fields = contract.read().fields
    make = pyarrow.csv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
    with make(path, pa.schema([(field.name, pa.float64()) for field in fields])) as writer:
        for start in range(0, rows, CHUNK):
            noise = np.random.default_rng(start).lognormal(sigma=0.2, size=(len(fields), min(CHUNK, rows - start)))
            columns = [(values * field.example).round(4) for field, values in zip(fields, noise, strict=True)]
            writer.write_table(pa.table(columns, [field.name for field in fields]))


def loop(path: Path, out: Path) -> None:
    """The limit: nothing is checked, and nothing but predictions is written."""
    known, model = runtime.load()
    names = [field.name for field in known.fields]
    if path.suffix == ".csv":
        batches = pyarrow.csv.open_csv(path)
    else:
        batches = pq.ParquetFile(path).iter_batches(BATCH, columns=names)
    make = pyarrow.csv.CSVWriter if out.suffix == ".csv" else pq.ParquetWriter
    writer, rows, alone = None, 0, 0.0
    for batch in batches:
        start = time.perf_counter()
        columns = {name: batch.column(name).to_numpy() for name in names}
        answer = model(columns)
        alone += time.perf_counter() - start
        rows += batch.num_rows
        table = pa.table([answer.predicted, *answer.probabilities.T], ["prediction", *map(str, known.classes)])
        writer = writer or make(out, table.schema)
        writer.write_table(table)
    writer.close()
    Path("limit.json").write_text(json.dumps(rows / alone), encoding="utf-8")


if __name__ == "__main__":
    what, first, second = sys.argv[1:]
    if what == "write":
        write(int(first), Path(second))
    else:
        loop(Path(first), Path(second))
