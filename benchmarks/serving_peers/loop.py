"""The limit: how often the model alone answers in a second, in a loop, without a server."""

from __future__ import annotations

import json
import sys
import timeit
from pathlib import Path

import pandas as pd
from model import MODEL

from mlops.inference import runtime

PREPARED, SIZES = Path(sys.argv[1]), sys.argv[2:]
_, onnx = runtime.load()
found: dict[str, list[float]] = {"ONNX Runtime": [], "scikit-learn": []}
for rows in SIZES:
    X = pd.DataFrame(json.loads((PREPARED / f"rows-{rows}.json").read_text(encoding="utf-8"))["rows"])
    columns = {name: X[name].to_numpy() for name in X}
    for name, call in (("ONNX Runtime", lambda: onnx(columns)), ("scikit-learn", lambda: MODEL.predict_proba(X))):  # noqa: B023
        number, _ = timeit.Timer(call).autorange()
        found[name].append(number / min(timeit.repeat(call, number=number, repeat=3)))
(PREPARED / "loop.json").write_text(json.dumps(found), encoding="utf-8")
