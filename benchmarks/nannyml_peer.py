"""``python nannyml_peer.py FOLDER NUMBER METRIC …`` in NannyML's environment: its estimates as JSON."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"

import nannyml
import pandas as pd

folder, number, metrics = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
warnings.simplefilter("ignore")
found = []
for each in range(number):
    reference, production = (pd.read_csv(folder / f"{each}-{part}.csv") for part in ("reference", "production"))
    estimator = nannyml.CBPE(
        metrics=metrics,
        y_true="y",
        y_pred="predicted",
        y_pred_proba="p",
        problem_type="classification_binary",
        chunk_number=1,
    )
    estimator.fit(reference)
    table = estimator.estimate(production).filter(period="analysis").to_df()
    found.append({name: float(table[(name, "value")].iloc[-1]) for name in metrics})
print(json.dumps(found))
