"""The table of `growth` from a file to metrics as one writes it in a script, with pandas and scikit-learn alone."""

from __future__ import annotations

import pandas as pd
from sklearn import metrics
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

X = pd.read_parquet("data/raw/growth.parquet")
y = X.pop("left") == "yes"
X["signed up"] = X["signed up"].astype("int64")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
encoded = make_column_transformer((encoder, ["region", "channel", "plan"]), remainder="passthrough")
model = make_pipeline(encoded, HistGradientBoostingClassifier(random_state=0)).fit(X_train, y_train)
for rows, truth in ((X_test, y_test), (X_train, y_train)):
    found = model.predict_proba(rows)[:, 1]
    said = found >= 0.5
    for score in (metrics.roc_auc_score, metrics.average_precision_score, metrics.log_loss, metrics.brier_score_loss):
        print(score.__name__, score(truth, found))
    for score in (
        metrics.accuracy_score,
        metrics.balanced_accuracy_score,
        metrics.precision_score,
        metrics.recall_score,
        metrics.f1_score,
    ):
        print(score.__name__, score(truth, said))
