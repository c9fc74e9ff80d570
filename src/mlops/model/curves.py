"""The charts of an evaluation as DVC plots: tables of points, and the `dvc.yaml` that defines the charts.

`dvc plots show` draws them; `dvc plots diff` overlays two commits.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.core.files import atomic
from mlops.model.metrics import Array, Classes, Predictions

if TYPE_CHECKING:
    from mlops.model.resampling import Custom

PLOTS = Path("reports/plots")
# Points of a curve, and of a curve on a common grid; rows and bars of a chart. More are indistinguishable.
MOST_POINTS, GRID, MOST_ROWS, MOST_BARS = 500, 101, 5_000, 30

Rows = list[dict[str, Any]]


def classification_curves(
    y: Array, predictions: Predictions, classes: Classes, custom: Custom | None = None
) -> dict[str, Rows]:
    """Tables behind the plots of a classifier: confusion and, with probabilities, calibration and others."""
    curves: dict[str, Rows] = {
        "confusion": [
            {"actual": str(y[row]), "predicted": str(predictions.predicted[row])} for row in _kept(len(y), MOST_ROWS)
        ]
    }
    if predictions.probabilities is None:
        return curves
    curves |= {
        "calibration": calibration(y, predictions, classes),
        "roc": roc(y, predictions, classes),
        "precision_recall": precision_recall(y, predictions, classes),
    }
    if len(classes.labels) == 2:
        curves["thresholds"] = thresholds(y, predictions, classes, custom)
    return curves


def _one_against_rest(y: Array, predictions: Predictions, classes: Classes) -> dict[str, tuple[Array, Array]]:
    """Truth and probability of every class with a curve; of two classes only the positive one."""
    if predictions.probabilities is None:
        return {}
    columns = [classes.positive] if len(classes.labels) == 2 else range(len(classes.labels))
    return {str(classes.labels[i]): (y == classes.labels[i], predictions.probabilities[:, i]) for i in columns}


def roc(y: Array, predictions: Predictions, classes: Classes) -> Rows:
    """True positive rate over the false positive rate: one column per class, on a common grid if there are many."""
    from sklearn.metrics import roc_curve

    found = {name: roc_curve(*each) for name, each in _one_against_rest(y, predictions, classes).items()}
    if len(found) == 1:
        fpr, tpr, _ = next(iter(found.values()))
        return _points(false_positive_rate=fpr, true_positive_rate=tpr)
    grid = np.linspace(0, 1, GRID)
    return _points(
        false_positive_rate=grid, **{name: np.interp(grid, fpr, tpr) for name, (fpr, tpr, _) in found.items()}
    )


def precision_recall(y: Array, predictions: Predictions, classes: Classes) -> Rows:
    """Precision over recall: one column per class, on a common grid if there are many."""
    from sklearn.metrics import precision_recall_curve

    found = {name: precision_recall_curve(*each) for name, each in _one_against_rest(y, predictions, classes).items()}
    if len(found) == 1:
        precision, recall, _ = next(iter(found.values()))
        return _points(recall=recall[::-1], precision=precision[::-1])
    grid = np.linspace(0, 1, GRID)
    steps = {
        name: precision[::-1][np.searchsorted(recall[::-1], grid)] for name, (precision, recall, _) in found.items()
    }
    return _points(recall=grid, **steps)


def _points(**columns: Array) -> Rows:
    kept = _kept(len(next(iter(columns.values()))), MOST_POINTS)
    rows = zip(*(values[kept] for values in columns.values()), strict=True)
    return [dict(zip(columns, map(rounded, row), strict=True)) for row in rows]


def _kept(length: int, most: int) -> Array:
    """At most `most` evenly spaced row numbers."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))


def calibration(y: Array, predictions: Predictions, classes: Classes) -> Rows:
    """Ten bins with equal numbers of rows: the mean probability and the observed share.

    With two classes, the probability is that of the positive class; with more, that of the predicted class.
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
    """Expected calibration error: the mean distance of the bins from the diagonal (Naeini et al. 2015)."""
    distances = [abs(each["predicted_probability"] - each["observed_share"]) for each in bins]
    return rounded(np.average(distances, weights=[each["rows"] for each in bins]))


def thresholds(y: Array, predictions: Predictions, classes: Classes, custom: Custom | None = None) -> Rows:
    """What each decision threshold from 0.05 to 0.95 would mean for precision, recall and the share flagged.

    The project's own metrics of labels, such as costs, follow by name.
    """
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
                **_of_labels(y, flagged, classes, custom),
            }
        )
    return rows


def _of_labels(y: Array, flagged: Array, classes: Classes, custom: Custom | None) -> dict[str, float | None]:
    """The project's own metrics of the labels that a threshold gives."""
    if custom is None:
        return {}
    labels = np.where(flagged, classes.labels[classes.positive], classes.labels[1 - classes.positive])
    weigh, _ = custom.weigher(y, Predictions(labels, None), classes, 1)
    found = {name: values[0] for name, values in weigh(np.ones((1, len(y))), 0).items()}
    return {name: rounded(value) if np.isfinite(value) else None for name, value in found.items()}


def regression_curves(y: Array, predictions: Predictions) -> dict[str, Rows]:
    """Tables behind the plots of a regression: actual value, prediction and residual of the test rows."""
    return {
        "residuals": [
            {
                "predicted": rounded(predictions.predicted[row]),
                "actual": rounded(y[row]),
                "residual": rounded(y[row] - predictions.predicted[row]),
            }
            for row in _kept(len(y), MOST_ROWS)
        ]
    }


def rounded(value: Any) -> float:
    """Six decimals, because more would be noise in a `git diff`."""
    return round(float(value), 6)


# How DVC draws each table; its default template would smooth a curve and average its vertical parts
DRAWN: dict[str, dict[str, Any]] = {
    "roc": {"x": "false_positive_rate", "template": "simple", "title": "ROC curve"},
    "precision_recall": {"x": "recall", "template": "simple", "title": "Precision and recall"},
    "calibration": {"x": "predicted_probability", "y": "observed_share", "template": "simple", "title": "Calibration"},
    "thresholds": {
        "x": "threshold",
        "y": ["precision", "recall", "f1", "flagged_share"],
        "template": "simple",
        "title": "Decision threshold",
    },
    "confusion": {"x": "actual", "y": "predicted", "template": "confusion", "title": "Confusion matrix"},
    "residuals": {"x": "predicted", "y": "residual", "template": "scatter", "title": "Residuals"},
    "importance": {
        "x": "importance",
        "y": "column",
        "template": "bar_horizontal_sorted",
        "title": "Permutation importance",
    },
    "shap": {
        "x": "mean",
        "y": "column",
        "template": "bar_horizontal_sorted",
        "title": "Mean absolute SHAP value",
    },
}


def write(curves: dict[str, Rows]) -> None:
    """Write the tables and `reports/dvc.yaml`, which depends on the task and the available tables."""
    import pandas as pd
    from ruamel.yaml import YAML

    PLOTS.mkdir(parents=True, exist_ok=True)
    for name, rows in curves.items():
        with atomic(PLOTS / f"{name}.csv") as partial:
            pd.DataFrame(rows).to_csv(partial, index=False, lineterminator="\n")
    plots = []
    for name in sorted(curves):
        drawn = dict(DRAWN[name])
        columns = [column for column in curves[name][0] if column != drawn["x"]]
        drawn["y"] = {f"plots/{name}.csv": drawn.get("y", columns if len(columns) > 1 else columns[0])}
        plots.append({drawn["title"]: drawn})
    with atomic(PLOTS.parent / "dvc.yaml") as partial, partial.open("w", encoding="utf-8") as file:
        file.write("# written by the stage evaluate\n")
        YAML().dump({"plots": plots}, file)
