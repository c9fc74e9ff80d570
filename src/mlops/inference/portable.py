"""The portable model: a contract in plain JSON and one ONNX file that takes raw fields, for use outside the service.

It needs NumPy and ONNX Runtime only. `export` checks that it predicts as the model does, and `make wheel` ships it in a
package. The page of `make edge` does the same in a browser, and `deploy/edge/predict.c` in C.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from mlops.inference.columns import clock, parts
from mlops.inference.corrections import corrected
from mlops.inference.portable_rows import Array, InvalidRowsError, Problem, Rows, column, columns

CONTRACT, MODEL = "contract.json", "model.onnx"
NUMBERS = ("numeric", "boolean")
PARTS = {"date": ("days", "month", "weekday", "hour"), "time": ("hours", "sine", "cosine")}


class Predictions(NamedTuple):
    """Predictions for n_samples rows.

    Attributes
    ----------
    predicted : ndarray of shape (n_samples,)
        Classes, or numbers for a regression.
    probabilities : ndarray of shape (n_samples, n_classes) or None
        In the order of the contract's `classes`; None for a regression.
    """

    predicted: Array
    probabilities: Array | None


class Model:
    """A portable model that is loaded.

    Parameters
    ----------
    contract : dict
        The content of `contract.json`.
    content : bytes
        The content of `model.onnx`.
    """

    def __init__(self, contract: dict[str, Any], content: bytes) -> None:
        self.contract = contract
        options = onnxruntime.SessionOptions()
        # for one row, more threads only cost time
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def predict(self, rows: Rows) -> Predictions:
        """Predict rows.

        Parameters
        ----------
        rows : mapping or sequence of mappings
            Columns by name, such as a data frame or a dict of lists; or rows, such as a list of dicts. A missing value
            is None, NaN or NaT.

        Returns
        -------
        Predictions

        Raises
        ------
        InvalidRowsError
            Names the rows and fields that do not fit.
        """
        return self.of_columns(self.typed(rows))

    def typed(self, rows: Rows) -> dict[str, Array]:
        """The rows as arrays by field, checked and corrected: datetime64 for dates, seconds for times of day."""
        fields = self.contract["fields"]
        given = columns(rows, [field["name"] for field in fields])
        problems: list[Problem] = []
        found = {}
        for field in fields:
            found[field["name"]] = column(given[field["name"]], field, problems)
        if problems:
            raise InvalidRowsError(problems)
        for field in fields:
            if "clean" in field:
                found[field["name"]] = corrected(found[field["name"]], _correction(field["clean"]))
        return found

    def of_columns(self, given: Mapping[str, Array]) -> Predictions:
        """Predict columns as `typed` returns them."""
        answer, *features = self.session.run(None, self.inputs(given))
        if features:
            self._check_features(given, features[0])
        return self._decided(answer)

    def inputs(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of the graph for columns as `typed` returns them: `numbers` and `codes`, of those that it has."""
        found: dict[str, Array] = {}
        if self.contract["numbers"]:
            fields = self.contract["fields"]
            values = {(field["name"], part): each for field in fields for part, each in _parts(given, field)}
            numbers = [values[each["field"], each["part"]] for each in self.contract["numbers"]]
            found["numbers"] = np.column_stack(numbers).astype(np.float64, copy=False)
        if self.contract["codes"]:
            found["codes"] = np.column_stack([_codes(given[each["field"]], each) for each in self.contract["codes"]])
        return found

    def _check_features(self, given: Mapping[str, Array], values: Array) -> None:
        """A feature must have a value where all of its columns have one, as in the service."""
        problems = []
        for place, feature in enumerate(self.contract["features"]):
            found = values[:, place]
            absent = np.any([np.isnan(given[name]) for name in feature["columns"]], axis=0)
            wrong = np.isinf(found) | (np.isnan(found) & ~absent)
            if feature["kind"] == "boolean":
                wrong |= ~np.isnan(found) & (found != 0) & (found != 1)
            for row in np.flatnonzero(wrong):
                inputs = ", ".join(f"{name} = {given[name][row]:g}" for name in feature["columns"])
                problems.append(Problem(int(row), feature["name"], f"is {found[row]:g}; computed from {inputs}"))
        if problems:
            raise InvalidRowsError(problems)

    def _decided(self, found: Array) -> Predictions:
        """Classes from probabilities; the numbers themselves for a regression."""
        found = found.astype(np.float64)
        finite = np.isfinite(found.reshape(len(found), -1)).all(axis=1)
        if not finite.all():
            why = "cannot be predicted: its values are too large for the model"
            raise InvalidRowsError([Problem(int(row), self.contract["target"], why) for row in np.flatnonzero(~finite)])
        classes = self.contract.get("classes")
        if classes is None:
            return Predictions(found.reshape(-1), None)
        named = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
        threshold = self.contract.get("threshold")
        if threshold is None:
            return Predictions(named[found.argmax(axis=1)], found)
        positive = classes.index(self.contract["positive"])
        return Predictions(named[np.where(found[:, positive] >= threshold, positive, 1 - positive)], found)


def load(folder: Path) -> Model:
    """Load the portable model of a folder."""
    contract = json.loads((folder / CONTRACT).read_text(encoding="utf-8"))
    return Model(contract, (folder / MODEL).read_bytes())


def _correction(given: dict[str, Any]) -> Any:
    """A correction of the contract, with the attributes that `corrected` reads."""
    return SimpleNamespace(**dict.fromkeys(("above", "below", "factor", "low", "high", "outside")) | given)


def _parts(given: Mapping[str, Array], field: dict[str, Any]) -> Iterable[tuple[str, Array]]:
    """The numbers of a field with the names of their parts; none of a category."""
    kind, values = field["kind"], given[field["name"]]
    if kind in NUMBERS:
        return [("value", values)]
    made = parts(values) if kind == "date" else clock(values) if kind == "time" else []
    return zip(PARTS.get(kind, ()), made, strict=True)


def _codes(values: Iterable[Any], coded: dict[str, Any]) -> Array:
    """Codes of categories; the code after the last is for a missing value, the next for any other."""
    codes: dict[Any, int] = {name: code for code, name in enumerate(coded["categories"])}
    codes[None] = len(codes)
    other = len(codes)
    return np.array([codes.get(value, other) for value in values], dtype=np.int64)
