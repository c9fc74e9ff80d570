"""Compare predictions: of a compiled model with the original, and of a row alone with the row in a batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core.errors import UserError
from mlops.data.tables import Column
from mlops.model import metrics
from mlops.model.conformance import is_own, place
from mlops.model.metrics import Predictions

# For probabilities, or in standard deviations of predicted numbers: the error of single precision
TOLERANCE = 1e-5
# Test rows that are predicted one by one
ROWS_ALONE = 20


def check_alone(model: Any, table: pa.Table, columns: list[Column], expected: Predictions) -> None:
    """Check that a row gets the same prediction alone and in a batch, because clients may send single rows.

    Raises
    ------
    UserError
        With the row.
    """
    for row in range(min(table.num_rows, ROWS_ALONE)):
        found = metrics.predict_table(model, table.slice(row, 1), columns)
        probabilities = None if expected.probabilities is None else expected.probabilities[row : row + 1]
        in_batch = Predictions(expected.predicted[row : row + 1], probabilities)
        if distance(in_batch, found, unit=spread(expected)) > TOLERANCE:
            kind = type(getattr(model, "estimator_", model)["estimator"])
            name = place(kind) if is_own(kind.__module__) else kind.__name__
            alone, batch = (
                side.predicted if side.probabilities is None else side.probabilities for side in (found, in_batch)
            )
            raise UserError(
                f"{name} predicts a row differently alone and in a batch: test row {row + 1} "
                f"gets {alone[0]} alone, and {batch[0]} in a batch of {table.num_rows:,} rows",
                "predict each row on its own; what is learned from other rows belongs in fit",
            )


def spread(expected: Predictions) -> float:
    """Standard deviation of predicted numbers; 1 for constant numbers and for labels."""
    numbers = expected.predicted.dtype.kind == "f"
    return float(np.std(expected.predicted)) or 1.0 if numbers else 1.0


def distance(expected: Predictions, found: Predictions, unit: float | None = None) -> float:
    """The largest difference of a probability, or of a number in standard deviations; infinite if labels differ."""
    unit = spread(expected) if unit is None else unit
    if expected.probabilities is not None and found.probabilities is not None:
        ours, theirs, unit = found.probabilities, expected.probabilities, 1.0
        same_labels = bool((expected.predicted == found.predicted).all())
    elif expected.predicted.dtype.kind == "f":
        ours, theirs = found.predicted, expected.predicted
        same_labels = True
    else:
        return 0.0 if (expected.predicted == found.predicted).all() else math.inf
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    difference = float(np.max(np.abs(ours - theirs), where=~same, initial=0.0)) / unit
    return difference if same_labels and not math.isnan(difference) else math.inf
