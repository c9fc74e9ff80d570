"""The exported model, loaded and asked: the team's features, then ONNX Runtime, or scikit-learn.

What is imported follows from the model: with ONNX neither scikit-learn nor pandas nor PyArrow. The columns come as
numpy arrays; who has rows of JSON or a Parquet file makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.inference import computed, onnxfile
from mlops.inference import contract as contracts
from mlops.inference.columns import clock, parts
from mlops.inference.contract import Computed, Contract, Field

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Encoded:
    """Dictionary-encoded texts.

    Attributes
    ----------
    places : ndarray of shape (n_samples,)
        Index of every row's text in `names`; -1 if missing.
    names : list of str
    """

    places: Array
    names: list[str]

    def __len__(self) -> int:
        return len(self.places)


Columns = Mapping[str, Any]
"""By field: float64 for numeric and boolean, and for times of day as seconds since midnight (NaN where missing);
datetime64[us] for dates; for categories and texts
objects (None where missing), or `Encoded`."""


class Answer(NamedTuple):
    """Predictions for n_samples rows.

    Attributes
    ----------
    predicted : ndarray of shape (n_samples,)
        Labels, or numbers for a regression.
    probabilities : ndarray of shape (n_samples, n_classes) or None
    computed : dict of str to ndarray of shape (n_samples,), or None
        The team's features, where there are any.
    """

    predicted: Array
    probabilities: Array | None
    computed: dict[str, Array] | None = None


Model = Callable[[Columns], Answer]


def load(folder: Path = paths.SERVICE) -> tuple[Contract, Model]:
    """Read an exported model.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    contract = contracts.read(folder)
    path = folder / contract.file
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "make, or dvc checkout") from None
    return contract, loaded(content, contract)


def loaded(content: bytes, contract: Contract) -> Model:
    """The model in the bytes of a file, ready to be asked about fields.

    It raises `computed.FeatureError` where a feature cannot be computed for a row.

    Raises
    ------
    UserError
        Where the file is broken, or the team's code is not that which the model was trained with.
    """
    computed.check_code(contract)
    predict = onnx_model(content, contract) if contract.runtime == "onnx" else sklearn_model(content, contract)
    features = computed.of(contract)
    if not features:
        return predict
    kinds = {field.name: field.kind for field in contract.fields}
    needed = dict.fromkeys(name for feature in features for name in feature.columns)
    texts = [name for name in needed if kinds[name] in ("categorical", "text")]

    def predict_fields(columns: Columns) -> Answer:
        given = {**columns, **{name: _objects(columns[name]) for name in texts}} if texts else columns
        found, problems = computed.compute(features, given)
        if problems:
            raise computed.FeatureError(problems)
        return predict({**columns, **found})._replace(computed=found)

    return predict_fields


def onnx_model(content: bytes, contract: Contract) -> Model:
    """A converted model: one matrix of numbers, one of category codes, one output."""
    run = onnx_graph(content, contract, contract.file)
    decide = _decision(contract)
    return lambda columns: decide(run(columns))


def onnx_graph(content: bytes, contract: Contract, name: str) -> Callable[[Columns], Array]:
    """The only output of a graph with the inputs of a converted model.

    Parameters
    ----------
    name : str
        Of the file, for errors.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # requests run in parallel, so one request needs no further threads
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        onnxfile.check(content)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a different class for every kind of damage
        raise UserError(f"{name} is not a complete ONNX model: {error}", "dvc checkout --force") from None
    shapes = {each.name: each.shape[1] for each in session.get_inputs()}
    numeric = [each.name for each in contract.inputs if each.kind in ("numeric", "boolean")]
    dates = [each.name for each in contract.inputs if each.kind == "date"]
    times = [each.name for each in contract.inputs if each.kind == "time"]
    categorical = [(each.name, _coder(each)) for each in contract.inputs if each.codes is not None]

    def run(columns: Columns) -> Array:
        n_samples = len(columns[contract.fields[0].name])
        feed: dict[str, Array] = {}
        if "numbers" in shapes:
            given = [columns[name] for name in numeric]
            for name in dates:
                given += parts(columns[name])
            for name in times:
                given += clock(columns[name])
            # all at once: of one row and 30 fields that takes half the time of a loop
            numbers = np.concatenate(given, dtype=np.float64).reshape(len(given), n_samples)
            feed["numbers"] = np.ascontiguousarray(numbers.T)
        if "codes" in shapes:
            feed["codes"] = codes = np.empty((n_samples, shapes["codes"]), dtype=np.int64)
            for place, (name, coded) in enumerate(categorical):
                codes[:, place] = coded(columns[name])
        found: Array
        (found,) = session.run(None, feed)
        return found

    return run


def _coder(field: Field | Computed) -> Callable[[Array | Encoded], Any]:
    """Codes of categories; the code after the last is for a missing value, the next for any other."""
    codes: dict[str | None, int] = {name: code for code, name in enumerate(field.codes or [])}
    missing, other = len(codes), len(codes) + 1
    codes[None] = missing

    def coded(values: Array | Encoded) -> Any:
        if isinstance(values, Encoded):
            known = np.array([*(codes.get(name, other) for name in values.names), missing])
            return known[values.places]  # index -1 is the last position
        return [codes.get(value, other) for value in values]

    return coded


def _decision(contract: Contract) -> Callable[[Array], Answer]:
    """Labels and probabilities from the output of the graph."""
    if contract.classes is None:
        return lambda found: Answer(found.reshape(-1).astype(np.float64), None)
    # rows with the same text share one object
    classes = np.array(contract.classes, dtype=object if isinstance(contract.classes[0], str) else None)
    if contract.threshold is None:
        return lambda found: Answer(classes[found.argmax(axis=1)], found.astype(np.float64))
    threshold, positive = contract.threshold, contract.classes.index(contract.positive)  # type: ignore[arg-type]

    def by_threshold(found: Array) -> Answer:
        found = found.astype(np.float64)
        chosen = np.where(found[:, positive] >= threshold, positive, 1 - positive)
        return Answer(classes[chosen], found)

    return by_threshold


def sklearn_model(content: bytes, contract: Contract) -> Model:
    """The trained scikit-learn model."""
    model, frame = sklearn_parts(content, contract)

    def predict(columns: Columns) -> Answer:
        X = frame(columns)
        if contract.classes is None:
            return Answer(np.asarray(model.predict(X), dtype=np.float64).reshape(-1), None)
        found = np.asarray(model.predict_proba(X)) if contract.probabilities else None
        return Answer(np.asarray(model.predict(X)), found)

    return predict


def sklearn_parts(content: bytes, contract: Contract) -> tuple[Any, Callable[[Columns], Any]]:
    """The model of a skops file, and a function that makes the table it takes."""
    import pandas as pd
    import skops.io

    from mlops.inference import bounds

    try:
        model = skops.io.loads(content, trusted=contract.trusted)
        bounds.check(model)
    except Exception as error:  # a damaged file may raise any error
        raise UserError(f"{contract.file} is not a complete model file: {error}", "dvc checkout --force") from None
    names = [each.name for each in contract.inputs]
    # explicit: pandas infers another type where all are missing, which encoders take for an unknown category
    texts = dict.fromkeys((each.name for each in contract.inputs if each.kind in ("categorical", "text")), "str")

    def frame(columns: Columns) -> Any:
        return pd.DataFrame({name: _objects(columns[name]) for name in names}, copy=False).astype(texts)

    return model, frame


def _objects(values: Array | Encoded) -> Array:
    """Texts as an array of objects, which scikit-learn takes."""
    if isinstance(values, Encoded):
        return np.array([*values.names, None], dtype=object)[values.places]
    return values
