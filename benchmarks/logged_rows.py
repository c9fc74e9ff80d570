"""``python -m benchmarks.logged_rows ROWS`` in a scratch clone: the log of a month, and labels of its rows.

The lines are those that the service writes, of the test rows over and over; they go into sealed segments of 16 MB.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlops.core import paths
from mlops.core.lock import outputs, read_lock
from mlops.data import tables
from mlops.inference import contract as contracts
from mlops.inference.contract import probability_column

DAYS, BATCH, SEGMENT = 28, 20, 16_000_000
FIRST = np.datetime64("2026-01-01T00:00:00", "us")


def write(rows: int, log: Path, all_labels: Path, some_labels: Path) -> None:
    """Write the log of so many rows, and the labels of all and of a tenth of them."""
    log.mkdir(parents=True, exist_ok=True)
    model = outputs(read_lock())[str(paths.MODEL)]["md5"]
    test, known = tables.read(paths.TEST), tables.read(paths.PREDICTIONS)
    ends = [tail(*each).encode() for each in zip(features(test), answers(known), strict=True)]
    truth = test["left"].to_pylist()
    rng = np.random.default_rng(0)
    moments = FIRST + (np.arange(rows) * (DAYS * 86_400e6 / rows)).astype("timedelta64[us]")
    chosen = rng.integers(0, len(ends), rows)
    segment: list[bytes] = []
    size = 0
    with all_labels.open("w", encoding="utf-8") as file, some_labels.open("w", encoding="utf-8") as some:
        for each in (file, some):
            each.write("request_id,row,left,known_at\n")
        for number, (moment, row) in enumerate(zip(moments, chosen, strict=True)):
            head = (
                f'{{"time":"{moment}Z","request_id":"request-{number // BATCH}","row":{number % BATCH},'
                f'"version":"1.0.0","model":"{model}",'
            )
            segment.append(head.encode() + ends[row])
            size += len(segment[-1])
            label = f"request-{number // BATCH},{number % BATCH},{truth[row]},{moment}Z\n"
            file.write(label)
            if number % 10 == 0:
                some.write(label)
            if size > SEGMENT or number == rows - 1:
                name = f"{str(moment)[:19].replace('-', '').replace(':', '')}Z-{number:012x}.jsonl.gz"
                (log / name).write_bytes(gzip.compress(b"".join(segment), compresslevel=1))
                segment, size = [], 0


def features(test: pa.Table) -> list[dict[str, object]]:
    names = [field.name for field in contracts.read().fields]
    rows = test.select(names).to_pylist()
    return [
        {name: value if isinstance(value, int | float | str | None) else str(value) for name, value in row.items()}
        for row in rows
    ]


def answers(known: pa.Table) -> list[dict[str, object]]:
    labels = contracts.read().classes or []
    probabilities = [known[probability_column(label)].to_pylist() for label in labels]
    return [
        {"prediction": predicted, "probabilities": dict(zip(labels, likely, strict=True))}
        for predicted, *likely in zip(known["predicted"].to_pylist(), *probabilities, strict=True)
    ]


def tail(row: dict[str, object], answer: dict[str, object]) -> str:
    """What follows the model in a line."""
    return json.dumps({"features": row, **answer}, separators=(",", ":"))[1:] + "\n"


if __name__ == "__main__":
    write(int(sys.argv[1]), Path("log"), Path("labels_all.csv"), Path("labels_tenth.csv"))
