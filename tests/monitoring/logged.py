"""A log for tests, of a model that says who is ill: its contract and settings, lines, and files of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from mlops.core.settings import Settings
from mlops.inference.contract import Computed, Contract, Field
from mlops.model.metrics import Classes

MODEL = "a" * 32
CONTRACT = Contract(
    task="classification",
    target="ill",
    classes=["no", "yes"],
    positive="yes",
    probabilities=True,
    runtime="onnx",
    fields=[Field(name="size", kind="numeric", nullable=True), Field(name="town", kind="text", nullable=True)],
    features=[Computed(name="double", kind="numeric", columns=["size"])],
)
CLASSES = Classes(np.array(["no", "yes"], dtype=object), 1)
SETTINGS = Settings.model_validate(
    {
        "data": {"source": "data/raw/x.csv", "task": "classification", "target": "ill"},
        "validate": {},
        "split": {"method": "random", "test_size": 0.25},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }
)


def line(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "time": f"2026-01-01T00:00:{number % 60:02}.5Z",
        "request_id": f"id-{number}",
        "row": 0,
        "version": "1.0.0",
        "model": MODEL,
        "features": {"size": float(number), "town": f"town {number}"},
        "computed": {"double": 2.0 * number},
        "prediction": "yes",
        "probabilities": {"no": 0.25, "yes": 0.75},
    } | changes


def name(number: int) -> str:
    return f"20260101T0000{number:02}Z-{number:012x}"


def segment(folder: Path, number: int, *lines: Any, sealed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines)
    path = folder / f"{name(number)}.jsonl{'.gz' if sealed else ''}"
    path.write_bytes(gzip.compress(content) if sealed else content)
    return path
