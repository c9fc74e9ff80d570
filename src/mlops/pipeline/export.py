"""Stage `export`: make what is served of the model: a compiled form where it predicts the same, and its contract.

Out comes a folder with an ONNX file, or the model as it is where it does not convert or predicts otherwise; beside it
the fields that it takes, as the table has them. `reports/export.json` says which it became, and the difference found.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import paths, room
from mlops.core.errors import UserError, run
from mlops.core.files import write_json
from mlops.data import features as on_tables
from mlops.data import limits, tables
from mlops.data import project as projects
from mlops.data.project import Project
from mlops.data.tables import Column
from mlops.inference import contract as contracts
from mlops.inference import runtime
from mlops.inference.computed import MODULE
from mlops.inference.contract import Computed, Contract, Correction, Field
from mlops.model import metrics, modelfile
from mlops.model.conformance import is_own
from mlops.model.metrics import Array, Predictions
from mlops.pipeline import export_own
from mlops.pipeline.export_equality import TOLERANCE, check_alone, distance
from mlops.pipeline.export_onnx import UnconvertibleError, convert

# A closed list of values is part of the contract up to this length
MOST_VALUES = 50
# What double precision costs lies far below, what single precision costs lies above, on any machine
DOUBLE = 1e-9
# Rows whose values come from different test rows, so that a form is also asked for what lies between them
MOST_MIXED = 1_000
# Columns, and rows in the form that a model takes, that are in memory at once
COLUMNS_READ, ROWS_ASKED = 20, 10_000


def main() -> str:
    project = projects.open()
    settings = project.settings
    model = modelfile.load(settings)
    seen = set(columns_seen(model))
    taken = [column for column in project.columns if column.name in seen]
    features = tuple(feature for feature in project.features if feature.name in seen)
    needed = {name for feature in features for name in feature.columns}
    direct = {column.name for column in taken}
    columns = [column for column in project.source.columns if column.name in direct | needed]
    # one column at a time, since only a row of it is kept
    clean = limits.corrections(settings.data)
    fields = [
        describe(column, values_of(column), train, clean.get(column.name)).model_copy(
            update={"only_for_features": column.name not in direct}
        )
        for column, train in each(paths.TRAIN, columns)
    ]
    nullable = {field.name for field in fields if field.nullable}
    asked, whole = with_features(Project(settings, project.source, features), columns, nullable)
    expected = metrics.predict_table(model, whole, taken)
    check_alone(model, whole, taken, expected)
    contract = Contract(
        task=settings.data.task,
        target=settings.data.target,
        unit=settings.data.units.get(settings.data.target),
        classes=None if settings.data.task == "regression" else np.asarray(model.classes_).tolist(),
        positive=settings.data.positive,
        threshold=settings.model.threshold,
        probabilities=expected.probabilities is not None,
        runtime="onnx",
        missing_values=settings.data.missing_values,
        fields=fields,
        features=[
            Computed(name=each.name, kind=each.kind, unit=each.unit, columns=list(each.columns)) for each in features
        ],
    )
    if features:
        contract = with_code(contract, [MODULE])
    needed_by_model = {name for module in modelfile.own_modules() for name in room.distributions(module)}
    contract = contract.model_copy(update={"model_packages": sorted(needed_by_model)})

    def differs(content: bytes, contract: Contract) -> float:
        served = runtime.loaded(content, contract)
        return distance(expected, answers(served, asked, columns))

    content, contract, found = compiled(model, contract, differs)
    write(content, contract)
    write_json({**found, "rows": asked.num_rows, "bytes": len(content)}, paths.EXPORTED)
    outcome = found["why"] or f"predictions differ by less than {found['difference_below']:g}"
    return f"{contract.runtime}, {outcome} → {paths.SERVICE / contract.file}"


def with_code(contract: Contract, modules: Iterable[str]) -> Contract:
    """The contract with files of `src/project/` that the service runs, and what they import."""
    code, packages = dict(contract.code), set(contract.packages)
    for module in modules:
        code |= room.hashes(module)
        packages |= set(room.distributions(module))
    return contract.model_copy(update={"code": dict(sorted(code.items())), "packages": sorted(packages)})


def with_features(project: Project, columns: list[Column], nullable: Set[str]) -> tuple[pa.Table, pa.Table]:
    """The rows to ask about, as a client sends them and with the features.

    Of rows that do not exist as they are, those for which a feature cannot be computed are left out: the service
    refuses them.
    """
    test = tables.read(paths.TEST, [column.name for column in columns])
    project.append(test)
    asked = probes(test, columns, nullable)
    whole, problems = on_tables.appended(asked, project.features, project.source)
    kept = pa.array([row not in problems for row in range(asked.num_rows)])
    return asked.filter(kept), whole.filter(kept)


def each(path: Path, columns: list[Column]) -> Iterator[tuple[Column, pa.ChunkedArray]]:
    """The columns of a table, of which no more than a block is in memory."""
    for start in range(0, len(columns), COLUMNS_READ):
        block = columns[start : start + COLUMNS_READ]
        table = tables.read(path, [column.name for column in block])
        yield from ((column, table[column.name]) for column in block)


def values_of(column: Column) -> list[str] | None:
    """All values of a categorical column, in the whole table, where they are few."""
    if column.kind != "categorical" or not 0 < (column.distinct or 0) <= MOST_VALUES:
        return None
    return sorted(pc.unique(tables.read(paths.TABLE, [column.name])[0].drop_null()).to_pylist())


def columns_seen(model: Any) -> list[str]:
    """Columns that the preprocessing uses."""
    pipeline = getattr(model, "estimator_", model)  # inside a FixedThresholdClassifier
    used = [names for _, _, names in pipeline["preprocessing"].transformers_ if not isinstance(names, slice)]
    return [name for names in used for name in ([names] if isinstance(names, str) else names)]


def describe(
    column: Column, values: list[str] | None, train: pa.ChunkedArray, clean: Correction | None = None
) -> Field:
    """What the service asks of a column.

    Parameters
    ----------
    values : list of str or None
        Those that are allowed.
    train : ChunkedArray
        Those of the training rows, of which one at least is known.
    clean : Correction, optional
        What the service does to a value, as `data.clean` did.
    """
    low: Any = None
    high: Any = None
    example: Any = None
    known = train.drop_null()
    if column.kind == "numeric":
        known = known.filter(pc.is_finite(known))
        low, high = (None if found is None else float(found) for found in pc.min_max(known).as_py().values())
        middle = pc.quantile(known, 0.5)[0].as_py()
        example = 0.0 if middle is None else float(f"{middle:.4g}")
    elif column.kind in ("date", "time"):
        low, high = (value.as_py().isoformat() for value in pc.min_max(known).values())
        middle = pc.quantile(known.cast(pa.int64()), 0.5, interpolation="lower")[0].as_py()
        example = pa.scalar(middle, known.type).as_py().isoformat()
    elif column.kind == "boolean":
        example = pc.mode(known)[0]["mode"].as_py()
    elif values:
        counts = pc.value_counts(known).to_pylist()
        example = min(counts, key=lambda each: (-each["counts"], each["values"]))["values"]
    else:
        example = "a text"
    return Field(
        name=column.name,
        kind=column.kind,
        unit=column.unit,
        nullable=column.missing > 0 or (clean is not None and clean.outside == "missing"),
        values=values,
        low=low,
        high=high,
        example=example,
        clean=clean,
    )


def probes(test: pa.Table, columns: list[Column], nullable: Set[str]) -> pa.Table:
    """The test rows, mixtures of them, one without any value, and one with words that nobody has seen."""
    rng = np.random.default_rng(0)
    mixed, empty, strange = {}, {}, {}
    for column in columns:
        values = test[column.name]
        mixed[column.name] = values.take(pa.array(rng.permutation(test.num_rows)[:MOST_MIXED]))
        known = values.drop_null()
        first = known[0].as_py() if len(known) else None
        word = "a word that nobody has seen" if column.kind in ("categorical", "text") else first
        empty[column.name] = pa.array([None if column.name in nullable else first], values.type)
        strange[column.name] = pa.array([word], values.type)
    return pa.concat_tables([test, *(pa.table(rows, schema=test.schema) for rows in (mixed, empty, strange))])


def compiled(
    model: Any, contract: Contract, differs: Callable[[bytes, Contract], float]
) -> tuple[bytes, Contract, dict[str, Any]]:
    """The first form that predicts the same: ONNX in double precision, in single precision, the model itself.

    Parameters
    ----------
    differs : callable
        How far the predictions of a file are from those of `model`.

    Returns
    -------
    bytes, Contract, dict
        The file, its contract, and what `reports/export.json` says.

    Raises
    ------
    UserError
        Where the model itself predicts otherwise as soon as it is read from its file.
    """
    why = ""
    for double in (True, False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content, changed = convert(model, contract, double=double)
            difference = differs(content, changed)
        except export_own.SinglePrecisionError:
            continue
        except (UnconvertibleError, export_own.GraphError) as error:
            why = f"it does not convert: {error}"
            break
        except (ImportError, MemoryError, OSError, UserError):
            raise  # of this machine, or of Ctrl-C while a library is loaded; another run would give another model
        except Exception as error:  # converters and the runtime raise anything on what they do not know
            # their texts hold paths and addresses, which are another machine's
            why = why or failure(error, model)
            continue
        if difference <= TOLERANCE:
            return content, changed, told(changed, "double" if double else "single", difference)
        why = "as ONNX it predicts otherwise"
    content = paths.MODEL.read_bytes()
    changed = contract.model_copy(update={"runtime": "scikit-learn", "trusted": modelfile.types(content)})
    changed = with_code(changed, modelfile.own_modules())
    difference = differs(content, changed)
    if difference > TOLERANCE:
        raise UserError(f"{paths.MODEL} predicts otherwise when it is served: {name_of(model)} is not deterministic")
    return content, changed, told(changed, "double", difference, why)


def name_of(model: Any) -> str:
    """The names of the steps that learn and of the estimator."""
    parts = getattr(model, "estimator_", model).steps[1:]
    return " → ".join(type(part).__name__ for _, part in parts)


def failure(error: Exception, model: Any) -> str:
    """Why a model has no compiled form, where its converter or ONNX Runtime raised an error."""
    estimator = getattr(model, "estimator_", model)["estimator"]
    name, kind = type(estimator).__name__, type(error).__name__
    if export_own.makes_graph(estimator):
        return f"the graph of {name}.{export_own.METHOD} does not run: ONNX Runtime raises {kind}"
    lacking = f"{name} has no method {export_own.METHOD}, and " if is_own(type(estimator).__module__) else ""
    return f"it does not convert: {lacking}skl2onnx raises {kind}" + ("" if lacking else f" for {name}")


def told(contract: Contract, precision: str, difference: float, why: str | None = None) -> dict[str, Any]:
    """What `reports/export.json` says of the form that was chosen; no digit of it is another one elsewhere."""
    below = DOUBLE if difference <= DOUBLE else TOLERANCE
    return {
        "runtime": contract.runtime,
        "precision": precision,
        "difference_below": below,
        "tolerance": TOLERANCE,
        "why": why,
    }


def answers(served: runtime.Model, table: pa.Table, columns: list[Column]) -> Predictions:
    """What the served model says of a table, a block of rows at a time."""
    found = []
    for start in range(0, table.num_rows, ROWS_ASKED):
        X = tables.features(table.slice(start, ROWS_ASKED), columns)
        found.append(served(as_columns(X, columns)))
    predicted, probabilities = zip(*found, strict=True)
    return Predictions(np.concatenate(predicted), None if probabilities[0] is None else np.concatenate(probabilities))


def as_columns(X: Any, columns: list[Column]) -> dict[str, Array]:
    """The features as `inference` takes them."""
    found: dict[str, Array] = {column.name: X[column.name].to_numpy() for column in columns}
    for name, values in found.items():
        if values.dtype == object:  # pandas marks a missing text with NaN
            found[name] = np.where(X[name].isna(), np.array(None), values)
    return found


def write(content: bytes, contract: Contract, folder: Path = paths.SERVICE) -> None:
    """Write the folder, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / contract.file).write_bytes(content)
        write_json(contract.model_dump(exclude_defaults=True), partial / contracts.SCHEMA)
        write_json({"rows": [contract.example]}, partial / contracts.EXAMPLE)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    run("export", main)
