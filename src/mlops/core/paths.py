"""Paths of the files that the pipeline reads and writes, defined once."""

from __future__ import annotations

from pathlib import Path

LOCK = Path("dvc.lock")

PREPARED = Path("data/prepared")
TABLE, TRAIN, TEST, RECENT = (PREPARED / f"{name}.parquet" for name in ("table", "train", "test", "recent"))
CATALOGUE = PREPARED / "catalogue.json"
SPLIT = PREPARED / "split.json"

MODEL = Path("models/model.skops")
SERVICE = Path("models/service")
PORTABLE = Path("models/portable")
CARD = Path("models/CARD.md")
RELEASE = Path("models/release.json")

VALIDATION = Path("reports/validation.json")
TRIALS = Path("reports/tuning.json")
EXPORTED = Path("reports/export.json")
METRICS = Path("reports/metrics.json")
EVALUATION = Path("reports/evaluation.json")
PREDICTIONS = Path("reports/predictions.parquet")
PROFILE = Path("reports/profile.html")
TRACKED = Path("reports/track.json")
JOURNAL = Path("reports/journal")
FAILURE = JOURNAL / "failure.txt"
