"""Plays production in a project that has run: a log as the service writes it, and labels that come later.

Run in the project's folder, as by ``python production.py FOLDER none``. Each row is a test row that is larger or
smaller as a whole, so that its columns keep their order.
"""

from __future__ import annotations

import gzip
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from mlops.core import paths
from mlops.core.files import md5
from mlops.core.logoptions import LogOptions
from mlops.data import tables
from mlops.inference import runtime
from mlops.serving import codec
from mlops.serving.log_writer import Entry, Lines

TARGET = "diagnosis"
OTHER = {"malignant": "benign", "benign": "malignant"}


def main(folder: Path, change: str, days: int = 30) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    contract, model = runtime.load()
    decode, model_md5 = codec.Decoder(contract), md5(paths.MODEL)
    encode, lines = codec.Encoder(contract, "1.0.0", model_md5), Lines(LogOptions(), "1.0.0", model_md5, b"")
    table, rng = tables.read(paths.TEST).to_pylist(), np.random.default_rng(1)
    labels = []
    for day in range(days):
        written = []
        for hour in range(3):
            request = f"day{day}-{hour}"
            chosen = [table[row] for row in rng.integers(len(table), size=20)]
            scales = 1 + 0.03 * rng.normal(size=len(chosen))
            rows = [
                {field.name: row[field.name] * scale for field in contract.fields}
                for row, scale in zip(chosen, scales, strict=True)
            ]
            if change == "unit" and day >= days // 3:
                rows = [row | {"worst radius": row["worst radius"] / 10} for row in rows]
            body = json.dumps({"rows": rows}).encode()
            numbers, others = decode(body)
            answer = model(decode.columns(numbers, others))
            moment = datetime(2026, 1, 1, hour, tzinfo=UTC) + timedelta(days=day)
            response = encode(answer, request)
            computed = {name: np.asarray(values).tolist() for name, values in (answer.computed or {}).items()}
            written += lines(Entry(moment.timestamp(), request, len(rows), body, response, computed))
            for number, row in enumerate(chosen):
                label = row[TARGET]
                if change == "concept" and day >= days // 3 and rng.random() < 0.3:
                    label = OTHER[label]
                labels.append((request, number, label, (moment + timedelta(hours=12)).isoformat()))
        name = f"{datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y%m%dT%H%M%SZ}-{day:012x}.jsonl.gz"
        (folder / name).write_bytes(gzip.compress(b"".join(written)))
    columns = dict(zip(("request_id", "row", TARGET, "known_at"), zip(*labels, strict=True), strict=True))
    pyarrow.csv.write_csv(pa.table({key: list(values) for key, values in columns.items()}), folder / "labels.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
