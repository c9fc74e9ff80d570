"""The work of the pipeline on the default table as one plain script in one process: what the overhead is measured by.

Reading, expectations, fit and tracking are written with the libraries alone, as one would by hand. Split and
evaluation are the pipeline's own functions, so that the metrics must come out equal and the difference is overhead:
processes, files between them, hashes.
"""

from __future__ import annotations

import json
from pathlib import Path

import great_expectations as gx
import mlflow
import mlflow.sklearn
import pandas as pd
import pyarrow as pa
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops.core import settings as settings_module
from mlops.data import tables
from mlops.model import curves, metrics, modelfile
from mlops.model.bootstrap import bootstrap
from mlops.pipeline import evaluate, profile, split

settings = settings_module.load()

bunch = load_breast_cancer(as_frame=True)
frame = bunch.data.assign(diagnosis=bunch.target_names[bunch.target])
frame.to_parquet("plain.parquet")

context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
suite = json.loads(Path(settings.validate_.suite).read_text(encoding="utf-8"))
asset = context.data_sources.add_pandas("plain").add_dataframe_asset("table")
batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
assert batch.validate(gx.ExpectationSuite(suite["name"], suite["expectations"])).success

schema = pa.schema([(name, pa.string() if name == "diagnosis" else pa.float64()) for name in frame])
table = pa.Table.from_pandas(frame, schema, preserve_index=False)
sides = split.deal(table, settings)
train, test = table.filter(pa.array(sides.train)), table.filter(pa.array(sides.test))
X_train, X_test = (part.to_pandas().drop(columns="diagnosis") for part in (train, test))
y_train, y_test = (tables.target(part, settings) for part in (train, test))

columns = [
    tables.Column(name=name, kind=kind, type=str(table[name].type), unit=None, missing=0, distinct=None)
    for name in frame
    for kind in ["categorical" if name == "diagnosis" else "numeric"]
]
catalogue = tables.Catalogue(source="plain", rows=len(frame), sha256="", columns=columns)
page = profile.render(profile.profile(train, catalogue, settings))
Path("profile.html").write_text(page, encoding="utf-8")

model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=1000))
model.fit(X_train, y_train)

classes = metrics.Classes.of(model.classes_, settings.data.positive)
predictions = metrics.predict(model, X_test)
asked = settings.evaluate.model_dump(include={"confidence", "resamples", "seed"})
drawn = curves.classification_curves(y_test, predictions, classes)
importance = evaluate.permutation_importance(model, X_test, y_test, classes)
curves.write({**drawn, "importance": importance})
estimates = bootstrap(y_test, predictions, classes, **asked)
evaluation = {
    "metrics": {name: evaluate.as_numbers(estimate) for name, estimate in estimates.items()},
    "train": metrics.score(y_train, metrics.predict(model, X_train), classes),
    "dummy": evaluate.score_dummy(train, y_test, settings, classes),
    "slices": evaluate.evaluate_slices(train, test, y_test, predictions, settings, classes, asked),
    "importance": importance,
    "calibration_error": curves.calibration_error(drawn["calibration"]),
    "thresholds": drawn["thresholds"],
    "latency": modelfile.measure_latency(model, X_test),
}
Path("evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
values = {name: each["value"] for name, each in evaluation["metrics"].items()}
Path("plain.json").write_text(json.dumps(values), encoding="utf-8")
pd.DataFrame(predictions.probabilities, columns=classes.labels).to_parquet("predictions.parquet")

mlflow.set_tracking_uri("sqlite:///plain.db")
mlflow.set_experiment("plain")
with mlflow.start_run():
    mlflow.log_params(settings.model.params)
    mlflow.log_metrics(values)
    mlflow.log_artifact("evaluation.json")
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=mlflow.models.infer_signature(X_test, model.predict(X_test)),
        skops_trusted_types=["numpy.dtype"],
        # without these MLflow would load the model in a process of its own to find them
        pip_requirements=["pandas", "scikit-learn", "skops"],
    )
