"""A table to grow: 14 numbers, 3 categories, a boolean, a date and a target, with missing values.

``python -m benchmarks.synthetic ROWS FILE`` writes it as Parquet or CSV by the file's ending, a chunk at a time;
``python -m benchmarks.synthetic ROWS FILE TIMES`` repeats its columns under other names, for a wide table;
``python -m benchmarks.synthetic --bytes FILE`` says what a Parquet file takes in memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

CHUNK = 500_000
NAMES = {
    "region": ["north", "east", "south", "west", "centre", "islands", "abroad", "unknown"],
    "channel": ["shop", "web", "telephone", "partner"],
    "plan": ["basic", "standard", "premium"],
}


def chunk(rows: int, seed: int) -> pa.Table:
    """The rows of one chunk; the target follows from some columns, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(14, rows))
    columns: dict[str, pa.Array] = {}
    for number, values in enumerate(numbers):
        if number < 10:
            missing = rng.random(rows) < 0.02 if number < 3 else None
            columns[f"measure {number + 1}"] = pa.array(values.round(6), mask=missing)
        else:
            columns[f"count {number - 9}"] = pa.array(np.exp(values + 2).astype(np.int64))
    codes = {name: rng.integers(0, len(labels), rows) for name, labels in NAMES.items()}
    for name, labels in NAMES.items():
        columns[name] = pa.array(np.array(labels, dtype=object)[codes[name]], pa.string())
    member = rng.random(rows) < 0.3
    columns["member"] = pa.array(member)
    seconds = rng.integers(0, 3 * 365 * 86_400, rows)
    columns["signed up"] = pa.array(np.datetime64("2022-01-01", "s") + seconds.astype("timedelta64[s]"))
    score = numbers[0] + numbers[1] * numbers[2] + 0.5 * codes["plan"] + member + rng.logistic(size=rows) - 1
    columns["left"] = pa.array(np.where(score > 0, "yes", "no"), pa.string())
    return pa.table(columns)


def repeated(table: pa.Table, times: int) -> pa.Table:
    """The columns, and `times` - 1 copies of all but the target."""
    copies = {f"{name} {n}": table[name] for n in range(2, times + 1) for name in table.column_names if name != "left"}
    return pa.table({**{name: table[name] for name in table.column_names}, **copies})


def write(rows: int, path: Path, times: int = 1) -> None:
    """Write the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = repeated(chunk(1, 0), times)
    make = pyarrow.csv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
    with make(path, first.schema) as writer:
        for number, start in enumerate(range(0, rows, CHUNK)):
            writer.write_table(repeated(chunk(min(CHUNK, rows - start), number), times))


def in_memory(path: Path) -> int:
    """Bytes of a Parquet file as an Arrow table."""
    return int(pq.read_table(path).nbytes)


if __name__ == "__main__":
    if sys.argv[1] == "--bytes":
        print(in_memory(Path(sys.argv[2])))
    else:
        write(int(sys.argv[1].replace("_", "")), Path(sys.argv[2]), *map(int, sys.argv[3:]))
