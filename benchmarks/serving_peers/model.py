"""What FastAPI and Flask share: the request's schema, and rows → data frame → pipeline → answer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import skops.io
from pydantic import BaseModel, Field, create_model

SCHEMA = json.loads(Path("models/service/schema.json").read_text(encoding="utf-8"))
NAMES = [field["name"] for field in SCHEMA["fields"]]
FILE = Path("models/model.skops")
TRUSTED = skops.io.get_untrusted_types(file=FILE)
MODEL = skops.io.load(FILE, trusted=TRUSTED)
CLASSES = MODEL.classes_.tolist()

Row = create_model("Row", **{name.replace(" ", "_"): (float, Field(alias=name)) for name in NAMES})


class Request(BaseModel):
    rows: list[Row]


class Prediction(BaseModel):
    prediction: str
    probabilities: dict[str, float]


class Answer(BaseModel):
    predictions: list[Prediction]


def predict(request: Request) -> Answer:
    X = pd.DataFrame([row.model_dump(by_alias=True) for row in request.rows])
    probabilities = MODEL.predict_proba(X)
    return Answer(
        predictions=[
            Prediction(prediction=CLASSES[best], probabilities=dict(zip(CLASSES, row, strict=True)))
            for best, row in zip(probabilities.argmax(axis=1), probabilities.tolist(), strict=True)
        ]
    )
