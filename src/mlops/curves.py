"""The pictures of an evaluation as DVC plots: tables of points, and the `dvc.yaml` that says how to draw them.

`dvc plots show` draws them, `dvc plots diff` lays two commits over each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlops.metrics import Array, Classes, Predictions
from mlops.stage import atomic

PLOTS = Path("reports/plots")
# Points of a curve or cloud; more cannot be told apart on a screen.
MOST_POINTS = 500

Rows = list[dict[str, Any]]


def classification_curves(y: Array, predictions: Predictions, classes: Classes) -> dict[str, Rows]:
    """Tables behind the plots of a classifier: confusion, and where there are probabilities calibration and more."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    curves: dict[str, Rows] = {
        "confusion": [
            {"actual": str(actual), "predicted": str(predicted)}
            for actual, predicted in zip(y, predictions.predicted, strict=True)
        ]
    }
    if predictions.probabilities is None:
        return curves
    curves["calibration"] = calibration(y, predictions, classes)
    roc, precision_recall = [], []
    for column, label in enumerate(classes.labels):
        if len(classes.labels) == 2 and column != classes.positive:
            continue
        truth, probability = y == label, predictions.probabilities[:, column]
        fpr, tpr, _ = roc_curve(truth, probability)
        roc += _points(label, false_positive_rate=fpr, true_positive_rate=tpr)
        precision, recall, _ = precision_recall_curve(truth, probability)
        precision_recall += _points(label, recall=recall[::-1], precision=precision[::-1])
    curves |= {"roc": roc, "precision_recall": precision_recall}
    if len(classes.labels) == 2:
        curves["thresholds"] = thresholds(y, predictions, classes)
    return curves


def _points(label: Any, **columns: Array) -> Rows:
    length = len(next(iter(columns.values())))
    kept = np.unique(np.linspace(0, length - 1, min(length, MOST_POINTS)).round().astype(int))
    rows = zip(*(values[kept] for values in columns.values()), strict=True)
    return [dict(zip(columns, map(rounded, row), strict=True)) | {"class": str(label)} for row in rows]


def calibration(y: Array, predictions: Predictions, classes: Classes) -> Rows:
    """Ten bins of equally many rows: mean probability beside the share that was right.

    With two classes the probability is that of the positive one, with more that of the class predicted.
    """
    if predictions.probabilities is None:
        return []
    if len(classes.labels) == 2:
        probability = predictions.probabilities[:, classes.positive]
        happened = y == classes.labels[classes.positive]
    else:
        probability = predictions.probabilities.max(axis=1)
        happened = y == classes.labels[predictions.probabilities.argmax(axis=1)]
    order = np.argsort(probability, kind="stable")
    return [
        {
            "predicted_probability": rounded(probability[rows].mean()),
            "observed_share": rounded(happened[rows].mean()),
            "rows": len(rows),
        }
        for rows in np.array_split(order, min(10, len(y)))
    ]


def calibration_error(bins: Rows) -> float:
    """Expected calibration error: the bins' mean distance from the diagonal (Naeini et al. 2015)."""
    distances = [abs(each["predicted_probability"] - each["observed_share"]) for each in bins]
    return rounded(np.average(distances, weights=[each["rows"] for each in bins]))


def thresholds(y: Array, predictions: Predictions, classes: Classes) -> Rows:
    """What each decision threshold from 0.05 to 0.95 would mean for precision, recall and the share flagged."""
    if predictions.probabilities is None:
        return []
    probability = predictions.probabilities[:, classes.positive]
    truth = y == classes.labels[classes.positive]
    rows = []
    for threshold in np.arange(0.05, 0.96, 0.05):
        flagged = probability >= threshold
        hits = int((flagged & truth).sum())
        precision, recall = hits / max(1, int(flagged.sum())), hits / max(1, int(truth.sum()))
        rows.append(
            {
                "threshold": rounded(threshold),
                "precision": rounded(precision),
                "recall": rounded(recall),
                "f1": rounded(2 * hits / max(1, int(flagged.sum() + truth.sum()))),
                "flagged_share": rounded(flagged.mean()),
            }
        )
    return rows


def regression_curves(y: Array, predictions: Predictions) -> dict[str, Rows]:
    """Tables behind the plots of a regression: each test row's actual value, prediction and residual."""
    kept = np.unique(np.linspace(0, len(y) - 1, min(len(y), 4 * MOST_POINTS)).round().astype(int))
    return {
        "residuals": [
            {
                "predicted": rounded(predictions.predicted[row]),
                "actual": rounded(y[row]),
                "residual": rounded(y[row] - predictions.predicted[row]),
            }
            for row in kept
        ]
    }


def rounded(value: Any) -> float:
    """Six decimals: more would be noise in a `git diff`."""
    return round(float(value), 6)


# How DVC draws each table
DRAWN: dict[str, dict[str, Any]] = {
    "roc": {"x": "false_positive_rate", "y": "true_positive_rate", "title": "ROC curve"},
    "precision_recall": {"x": "recall", "y": "precision", "title": "Precision and recall"},
    "calibration": {"x": "predicted_probability", "y": "observed_share", "title": "Calibration"},
    "thresholds": {
        "x": "threshold",
        "y": ["precision", "recall", "flagged_share"],
        "title": "Decision threshold",
    },
    "confusion": {"x": "actual", "y": "predicted", "template": "confusion", "title": "Confusion matrix"},
    "residuals": {"x": "predicted", "y": "residual", "template": "scatter", "title": "Residuals"},
    "importance": {
        "x": "importance",
        "y": "column",
        "template": "bar_horizontal",
        "title": "Permutation importance",
    },
}


def write(curves: dict[str, Rows]) -> None:
    """Write the tables, and `reports/dvc.yaml`, which depends on the task and on what the model can tell."""
    import pandas as pd
    from ruamel.yaml import YAML

    PLOTS.mkdir(parents=True, exist_ok=True)
    for name, rows in curves.items():
        with atomic(PLOTS / f"{name}.csv") as partial:
            pd.DataFrame(rows).to_csv(partial, index=False, lineterminator="\n")
    plots = []
    for name in sorted(curves):
        drawn = dict(DRAWN[name])
        drawn["y"] = {f"plots/{name}.csv": drawn["y"]}
        plots.append({drawn["title"]: drawn})
    with atomic(PLOTS.parent / "dvc.yaml") as partial, partial.open("w", encoding="utf-8") as file:
        file.write("# written by the stage evaluate\n")
        YAML().dump({"plots": plots}, file)
