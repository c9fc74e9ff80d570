"""The stage `train`, on tables that some estimators do not bear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from mlops.core import settings
from mlops.model import modelfile
from mlops.pipeline import evaluate, export, ingest, split, train, tune


def test_a_column_that_only_newer_rows_fill_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boosted trees of scikit-learn end in an error where a column has no value at all."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=200)
    frame = pd.DataFrame({"day": days, "size": rng.normal(size=200).round(3)})
    frame["new"] = np.where(days >= "2024-06-01", 1.5, np.nan)
    frame["price"] = (3 * frame["size"] + rng.normal(0, 0.1, 200)).round(3)
    (tmp_path / "data/raw").mkdir(parents=True)
    frame.to_csv("data/raw/prices.csv", index=False)
    params = YAML(typ="safe").load(ROOT / "params.yaml") | {
        "data": {"source": "data/raw/prices.csv", "task": "regression", "target": "price", "features": []},
        "validate": {},
        "split": {"method": "time", "time": "day", "cutoff": "2024-06-01"},
        "model": {"estimator": "sklearn.ensemble.HistGradientBoostingRegressor"},
        "evaluate": {},
    }
    YAML().dump(params, tmp_path / "params.yaml")
    for stage in (ingest, split, tune):
        stage.main()
    assert "× 1 columns" in train.main()
    assert modelfile.load(settings.load())[0].feature_names_in_.tolist() == ["size"]
    export.main()
    assert "rmse" in evaluate.main()
