"""Bodies of requests, the right answers, and the model as MLflow keeps it: run in a project whose pipeline has run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import skops
from mlflow.models import infer_signature
from model import MODEL, NAMES, TRUSTED

OUT = Path(sys.argv[1])
for rows in map(int, sys.argv[2:]):
    X = pq.read_table("data/prepared/test.parquet", columns=NAMES).slice(0, rows).to_pandas()
    assert len(X) == rows
    probabilities = MODEL.predict_proba(X)
    bodies = {
        "rows": {"rows": X.to_dict(orient="records")},
        "split": {"dataframe_split": {"columns": NAMES, "data": X.to_numpy().tolist()}},
        "expected": probabilities.tolist(),
    }
    for name, body in bodies.items():
        (OUT / f"{name}-{rows}.json").write_text(json.dumps(body), encoding="utf-8")
mlflow.sklearn.save_model(
    MODEL,
    OUT / "mlflow",
    signature=infer_signature(X, probabilities),
    pyfunc_predict_fn="predict_proba",
    skops_trusted_types=TRUSTED,
    # otherwise it lists whatever this project has
    pip_requirements=[*mlflow.sklearn.get_default_pip_requirements(), f"skops=={skops.__version__}"],
)
