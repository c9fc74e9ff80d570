"""The default table from source to MLflow as one writes it in a script: the libraries' own functions alone.

It reads, checks, splits, fits, evaluates and records. It imports nothing of this project, so the difference to
`dvc repro` is all that the project adds: processes and the files between them, intervals, slices, the profile, the
model card and the conversion.
"""

from __future__ import annotations

import json
from pathlib import Path

import great_expectations as gx
import mlflow
import mlflow.sklearn
import numpy as np
from sklearn import metrics
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

frame, target = load_breast_cancer(as_frame=True, return_X_y=True)
frame["irregularity"] = frame["mean perimeter"] ** 2 / (4 * np.pi * frame["mean area"])
frame["diagnosis"] = np.where(target == 0, "malignant", "benign")
frame.to_parquet("plain.parquet")

context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
suite = json.loads(Path("data/expectations/breast_cancer.json").read_text(encoding="utf-8"))
asset = context.data_sources.add_pandas("plain").add_dataframe_asset("table")
batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame.drop(columns="irregularity")})
assert batch.validate(gx.ExpectationSuite(suite["name"], suite["expectations"])).success

X, y = frame.drop(columns="diagnosis"), frame["diagnosis"] == "malignant"
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=1000))
model.fit(X_train, y_train)

found = model.predict_proba(X_test)[:, 1]
said = found >= 0.5
values = {
    "roc_auc": metrics.roc_auc_score(y_test, found),
    "average_precision": metrics.average_precision_score(y_test, found),
    "accuracy": metrics.accuracy_score(y_test, said),
    "balanced_accuracy": metrics.balanced_accuracy_score(y_test, said),
    "precision": metrics.precision_score(y_test, said),
    "recall": metrics.recall_score(y_test, said),
    "f1": metrics.f1_score(y_test, said),
    "log_loss": metrics.log_loss(y_test, found),
    "brier_score": metrics.brier_score_loss(y_test, found),
    "train_roc_auc": metrics.roc_auc_score(y_train, model.predict_proba(X_train)[:, 1]),
}
assert values["roc_auc"] > 0.97, "not the same work"
importance = permutation_importance(model, X_test, y_test, scoring="roc_auc", n_repeats=5, random_state=0)
values |= {f"importance {name}": value for name, value in zip(X, importance.importances_mean, strict=True)}
Path("plain.json").write_text(json.dumps(values), encoding="utf-8")

mlflow.set_tracking_uri("sqlite:///plain.db")
mlflow.set_experiment("plain")
with mlflow.start_run():
    mlflow.log_params(model[-1].get_params())
    mlflow.log_metrics({name.replace(" ", "_"): value for name, value in values.items()})
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=mlflow.models.infer_signature(X_test, model.predict(X_test)),
        skops_trusted_types=["numpy.dtype"],
        # without these MLflow would load the model in a process of its own to find them
        pip_requirements=["pandas", "scikit-learn", "skops"],
    )
