"""Stage `export`: make what is served of the model: a compiled form where it predicts the same, and its contract.

Out comes a folder with an ONNX file, or the model as it is where it does not convert or predicts otherwise; beside it
the fields that it takes, as the table has them. `reports/export.json` says which it became, and the difference found.
"""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops import contract as contracts
from mlops import inference, lineage, metrics, modelfile, tables
from mlops import settings as settings_module
from mlops.contract import Contract, Field
from mlops.metrics import Array, Predictions
from mlops.pipeline.export_onnx import convert
from mlops.stage import run, write_json
from mlops.tables import Column

# A closed list of values is part of the contract up to this length
MOST_VALUES = 50
# Of a probability, or in standard deviations of a predicted number: what single precision may cost, and nothing more
TOLERANCE = 1e-5


def main() -> str:
    settings = settings_module.load()
    catalogue = tables.read_catalogue()
    settings_module.check_columns(settings, catalogue.names, prepared=True)
    model = modelfile.load(settings)
    seen = set(columns_seen(model))
    columns = [column for column in tables.feature_columns(settings, catalogue) if column.name in seen]
    train, test = tables.read(tables.TRAIN), tables.read(tables.TEST)
    fields = [describe(column, tables.read(tables.TABLE, [column.name])[0], train[column.name]) for column in columns]
    X = tables.features(probes(test, columns), columns)
    expected = metrics.predict(model, X)
    contract = Contract(
        task=settings.data.task,
        target=settings.data.target,
        unit=settings.data.units.get(settings.data.target),
        classes=None if settings.data.task == "regression" else np.asarray(model.classes_).tolist(),
        positive=settings.data.positive,
        threshold=settings.model.threshold,
        probabilities=expected.probabilities is not None,
        runtime="onnx",
        fields=fields,
    )
    content, contract, found = compiled(model, contract, X, expected)
    write(content, contract)
    write_json({**found, "bytes": len(content)}, lineage.EXPORTED)
    outcome = found["why"] or f"predictions equal to {found['difference_below']:g}"
    return f"{contract.runtime}, {outcome} → {contracts.FOLDER / contract.file}"


def columns_seen(model: Any) -> list[str]:
    """Columns that the preprocessing uses."""
    pipeline = getattr(model, "estimator_", model)  # inside a FixedThresholdClassifier
    used = [names for _, _, names in pipeline["preprocessing"].transformers_ if not isinstance(names, slice)]
    return [name for names in used for name in ([names] if isinstance(names, str) else names)]


def describe(column: Column, everywhere: pa.ChunkedArray, train: pa.ChunkedArray) -> Field:
    """What the service asks of a column.

    Parameters
    ----------
    everywhere, train : ChunkedArray
        Its values in the whole table, and those of the training rows.
    """
    low: Any = None
    high: Any = None
    example: Any = None
    values = None
    known = train.drop_null()
    if column.kind == "numeric":
        low, high = (float(value.as_py()) for value in pc.min_max(known).values())
        example = float(f"{pc.quantile(known, 0.5)[0].as_py():.4g}")
    elif column.kind == "date":
        low, high = (value.as_py().isoformat() for value in pc.min_max(known).values())
        middle = pc.quantile(known.cast(pa.int64()), 0.5, interpolation="lower")[0].as_py()
        example = pa.scalar(middle, known.type).as_py().isoformat()
    elif column.kind == "boolean":
        example = pc.mode(known)[0]["mode"].as_py()
    else:
        distinct = sorted(pc.unique(everywhere.drop_null()).to_pylist()) if column.kind == "categorical" else []
        values = distinct if 0 < len(distinct) <= MOST_VALUES else None
        counts = sorted(pc.value_counts(known).to_pylist(), key=lambda each: (-each["counts"], each["values"]))
        example = counts[0]["values"] if values else "a text"
    return Field(
        name=column.name,
        kind=column.kind,
        unit=column.unit,
        nullable=everywhere.null_count > 0,
        values=values,
        low=low,
        high=high,
        example=example,
    )


def probes(test: pa.Table, columns: list[Column]) -> pa.Table:
    """The test rows, and beside them one without any value and one with words that nobody has seen."""
    kept = test.select([column.name for column in columns])
    kinds = {column.name: column.kind for column in columns}
    empty, strange = {}, {}
    for field in kept.schema:
        filler = kept[field.name].drop_null()
        known = filler[0].as_py() if len(filler) else None
        missing = any(column.missing for column in columns if column.name == field.name)
        empty[field.name] = pa.array([None if missing else known], field.type)
        strange[field.name] = pa.array(
            ["a word that nobody has seen" if kinds[field.name] in ("categorical", "text") else known], field.type
        )
    return pa.concat_tables([kept, pa.table(empty, schema=kept.schema), pa.table(strange, schema=kept.schema)])


def compiled(model: Any, contract: Contract, X: Any, expected: Predictions) -> tuple[bytes, Contract, dict[str, Any]]:
    """The first form that predicts the same: ONNX in double precision, in single precision, the model itself.

    Returns
    -------
    bytes, Contract, dict
        The file, its contract, and what `reports/export.json` says.
    """
    given = as_columns(X, contract)
    why = ""
    for double in (True, False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content, fields = convert(model, contract, double=double)
            changed = contract.model_copy(update={"fields": fields})
            answer = inference.onnx_model(content, changed)(given)
        except Exception as error:  # converters and the runtime raise anything on what they do not know
            why = why or f"it does not convert: {str(error).splitlines()[0][:200]}"
            continue
        difference = distance(expected, Predictions(*answer))
        if difference <= TOLERANCE:
            return content, changed, told(changed, "double" if double else "single", difference, len(X))
        why = f"as ONNX it predicts otherwise, by up to {difference:.1g}"
    content = modelfile.MODEL.read_bytes()
    changed = contract.model_copy(update={"runtime": "scikit-learn", "trusted": modelfile.types(content)})
    answer = inference.sklearn_model(content, changed)(given)
    return content, changed, told(changed, "double", distance(expected, Predictions(*answer)), len(X), why)


def told(contract: Contract, precision: str, difference: float, rows: int, why: str | None = None) -> dict[str, Any]:
    """What `reports/export.json` says of the form that was chosen."""
    found = {"runtime": contract.runtime, "precision": precision, "difference_below": bound(difference)}
    return {**found, "tolerance": TOLERANCE, "rows": rows, "why": why}


def bound(difference: float) -> float:
    """The next power of ten: the digits below it are another machine's."""
    return float(f"1e{math.ceil(math.log10(max(difference, 1e-12)))}")


def as_columns(X: Any, contract: Contract) -> dict[str, Array]:
    """The features as `inference` takes them."""
    return {field.name: X[field.name].to_numpy() for field in contract.fields}


def distance(expected: Predictions, found: Predictions) -> float:
    """The largest difference of a probability, or of a number in standard deviations; infinite with another label."""
    if expected.predicted.dtype.kind == "f" and expected.probabilities is None and found.predicted.dtype.kind == "f":
        spread = float(np.std(expected.predicted)) or 1.0
        return float(np.max(np.abs(expected.predicted - found.predicted))) / spread
    if (expected.predicted != found.predicted).any():
        return float("inf")
    if expected.probabilities is None or found.probabilities is None:
        return 0.0
    return float(np.max(np.abs(expected.probabilities - found.probabilities)))


def write(content: bytes, contract: Contract, folder: Path = contracts.FOLDER) -> None:
    """Write the folder, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / contract.file).write_bytes(content)
    write_json(contract.model_dump(exclude_defaults=True), partial / contracts.SCHEMA)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


if __name__ == "__main__":
    run("export", main)
