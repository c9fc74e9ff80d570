"""A released model, its contract, and `predict`. It needs NumPy and ONNX Runtime only.

`make wheel` ships this file as the `__init__.py` of the package, beside the files that it reads.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from mlops.inference import portable
from mlops.inference.portable import Predictions
from mlops.inference.portable_rows import InvalidRowsError, Problem, Rows

__all__ = ["InvalidRowsError", "Predictions", "Problem", "contract", "predict", "release"]

FOLDER = Path(__file__).parent


def predict(rows: Rows) -> Predictions:
    """Predict rows.

    Parameters
    ----------
    rows : mapping or sequence of mappings
        Columns by name, such as a data frame or a dict of lists; or rows, such as a list of dicts. A missing value is
        None, NaN or NaT.

    Returns
    -------
    Predictions
        `predicted` has a class or number for each row; `probabilities` a column for each of `contract()["classes"]`.

    Raises
    ------
    InvalidRowsError
        Names the rows and fields that do not fit.

    Examples
    --------
    >>> row = {field["name"]: field["example"] for field in contract()["fields"]}
    >>> predict([row]).predicted
    """
    return _model().predict(rows)


def contract() -> dict[str, Any]:
    """What a row contains, with kinds, limits and an example of each field, and the classes."""
    return _model().contract


@functools.cache
def release() -> dict[str, Any]:
    """Origin of the model: version, commit, hashes, data and metrics."""
    found: dict[str, Any] = json.loads((FOLDER / "release.json").read_text(encoding="utf-8"))
    return found


@functools.cache
def _model() -> portable.Model:
    return portable.load(FOLDER)
