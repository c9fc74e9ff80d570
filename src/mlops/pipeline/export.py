"""Stage `export`: write what the service loads: the model, compiled if its predictions stay the same, and its contract.

The output is a folder with an ONNX file, or the model file if it cannot be converted or the predictions differ, and the
schema of the input fields. `reports/export.json` records the form and the largest difference. Beside it,
`models/portable` holds the form that needs neither the service nor the team's code, if there is one.
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
from mlops.data import limits, parts, tables
from mlops.data import project as projects
from mlops.data.parts import Parts
from mlops.data.project import Project
from mlops.data.tables import Column
from mlops.inference import contract as contracts
from mlops.inference import portable, runtime
from mlops.inference.computed import MODULE
from mlops.inference.contract import Computed, Contract, Correction, Field
from mlops.model import explaining, metrics, modelfile
from mlops.model.conformance import is_own
from mlops.model.metrics import Array, Predictions
from mlops.pipeline import export_explanation, export_own, export_portable
from mlops.pipeline.export_equality import TOLERANCE, check_alone, distance
from mlops.pipeline.export_onnx import UnconvertibleError, convert

# Up to this many values of a categorical column are listed in the contract
MOST_VALUES = 50
# Errors of double precision are far below this, and those of single precision above, on any machine
DOUBLE = 1e-9
# Probes with values from different test rows, which cover combinations that no test row has
MOST_MIXED = 1_000
# Test rows whose predictions are compared; an operator that converts wrongly shows on far fewer
MOST_COMPARED = 50_000
# Columns, and rows in the format of a model, that are in memory at once
COLUMNS_READ, ROWS_PREDICTED = 20, 10_000
# Rows of a partitioned table from which examples and medians come
MOST_SUMMARISED = 250_000


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
        for column, train in read_columns(paths.TRAIN, columns)
    ]
    nullable = {field.name for field in fields if field.nullable}
    raw, complete = with_features(Project(settings, project.source, features), columns, nullable)
    expected = metrics.predict_table(model, complete, taken)
    check_alone(model, complete, taken, expected)
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
            Computed(name=feature.name, kind=feature.kind, unit=feature.unit, columns=list(feature.columns))
            for feature in features
        ],
    )
    if features:
        contract = with_code(contract, [MODULE])
    needed_by_model = {name for module in modelfile.own_modules() for name in room.distributions(module)}
    contract = contract.model_copy(update={"model_packages": sorted(needed_by_model)})

    def differs(content: bytes, contract: Contract) -> float:
        served = runtime.loaded(content, contract)
        return distance(expected, answers(served, raw, columns))

    content, contract, found = compiled(model, contract, differs)
    X, first = training_rows(Project(settings, project.source, features), columns, taken)
    about, files = export_explanation.made(model, contract, X, first)
    contract = contract.model_copy(update={"explanation": about})
    write(content, contract, files)

    def differs_portable(model: portable.Model) -> float:
        return distance(expected, answers(model.of_columns, raw, columns))

    export_portable.write(*export_portable.made(content, contract, features, differs_portable))
    write_json({**found, "rows": raw.num_rows, "bytes": len(content)}, paths.EXPORTED)
    outcome = found["why"] or f"predictions differ by less than {found['difference_below']:g}"
    return f"{contract.runtime}, {outcome} → {paths.SERVICE / contract.file}"


def training_rows(project: Project, columns: list[Column], taken: list[Column]) -> tuple[Any, dict[str, Array]]:
    """Training rows with their features for explanations; and the first of them in the runtime's format."""
    some = parts.some(paths.TRAIN, explaining.MOST_BACKGROUND, [column.name for column in columns])
    complete = project.append(some)
    every = list({column.name: column for column in [*columns, *taken]}.values())
    return tables.features(complete, taken), as_columns(
        tables.features(complete.slice(0, ROWS_PREDICTED), every), every
    )


def with_code(contract: Contract, modules: Iterable[str]) -> Contract:
    """Add the files of `src/project/` that the service runs, and the packages they import, to the contract."""
    code, packages = dict(contract.code), set(contract.packages)
    for module in modules:
        code |= room.hashes(module)
        packages |= set(room.distributions(module))
    return contract.model_copy(update={"code": dict(sorted(code.items())), "packages": sorted(packages)})


def with_features(project: Project, columns: list[Column], nullable: Set[str]) -> tuple[pa.Table, pa.Table]:
    """The probe rows, as a client sends them, and with the features.

    Probes for which a feature cannot be computed are left out, because the service refuses them.
    """
    names = [column.name for column in columns]
    # `evaluate` sees every row of a partitioned table
    most = MOST_COMPARED if paths.TEST.is_dir() else None
    test = tables.read(paths.TEST, names) if most is None else parts.some(paths.TEST, most, names)
    project.append(test)  # refuses a feature without a value for any test row
    raw = probes(tables.some(test, MOST_COMPARED), columns, nullable)
    complete, problems = on_tables.appended(raw, project.features, project.source)
    kept = pa.array([row not in problems for row in range(raw.num_rows)])
    return raw.filter(kept), complete.filter(kept)


def read_columns(path: Path, columns: list[Column]) -> Iterator[tuple[Column, pa.ChunkedArray]]:
    """The columns of a table, with at most one block in memory; of partitions a sample, with the extreme values."""
    if path.is_dir():
        known = Parts(path).summary(MOST_SUMMARISED)
        yield from ((column, known[column.name]) for column in columns)
        return
    for start in range(0, len(columns), COLUMNS_READ):
        block = columns[start : start + COLUMNS_READ]
        table = tables.read(path, [column.name for column in block])
        yield from ((column, table[column.name]) for column in block)


def values_of(column: Column) -> list[str] | None:
    """All values of a categorical column in the whole table; None if there are many."""
    if column.kind != "categorical" or not 0 < (column.distinct or 0) <= MOST_VALUES:
        return None
    if paths.TABLE.is_dir():
        return sorted(Parts(paths.TABLE).distinct(column.name).drop_null().to_pylist())
    return sorted(pc.unique(tables.read(paths.TABLE, [column.name])[0].drop_null()).to_pylist())


def columns_seen(model: Any) -> list[str]:
    """Columns that the preprocessing uses."""
    pipeline = getattr(model, "estimator_", model)  # inside a FixedThresholdClassifier
    used = [names for _, _, names in pipeline["preprocessing"].transformers_ if not isinstance(names, slice)]
    return [name for names in used for name in ([names] if isinstance(names, str) else names)]


def describe(
    column: Column, values: list[str] | None, train: pa.ChunkedArray, clean: Correction | None = None
) -> Field:
    """The field of a column in the contract.

    Parameters
    ----------
    values : list of str or None
        The allowed values.
    train : ChunkedArray
        Values of the training rows; at least one is not missing.
    clean : Correction, optional
        The correction of values by `data.clean`, which the service repeats.
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
        example = min(counts, key=lambda pair: (-pair["counts"], pair["values"]))["values"]
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
    """The test rows, mixtures of them, one row with missing values, and one with unseen categories."""
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
    """The first form with the same predictions: ONNX in double or single precision, or the model itself.

    Parameters
    ----------
    differs : callable
        Returns the largest difference between the predictions of a file and of `model`.

    Returns
    -------
    bytes, Contract, dict
        The file, its contract, and the content of `reports/export.json`.

    Raises
    ------
    UserError
        If the model read from its file gives different predictions.
    """
    why = ""
    for double in (True, False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content, changed = convert(model, contract, double=double)
            try:
                difference = differs(content, changed)
            except UserError as error:  # ONNX Runtime has no such operator in this precision
                why = why or failure(error, model)
                continue
        except export_own.SinglePrecisionError:
            continue
        except (UnconvertibleError, export_own.GraphError) as error:
            why = f"it does not convert: {error}"
            break
        except (ImportError, MemoryError, OSError, UserError):
            raise  # caused by this machine, or by Ctrl-C during an import; another run might give another form
        except Exception as error:  # converters and the runtime may raise any exception
            # their messages contain paths and addresses, which depend on the machine
            why = why or failure(error, model)
            continue
        if difference <= TOLERANCE:
            return content, changed, summary(changed, "double" if double else "single", difference)
        why = "its predictions as ONNX differ"
    content = paths.MODEL.read_bytes()
    changed = contract.model_copy(update={"runtime": "scikit-learn", "trusted": modelfile.types(content)})
    changed = with_code(changed, modelfile.own_modules())
    difference = differs(content, changed)
    if difference > TOLERANCE:
        raise UserError(
            f"{paths.MODEL} gives different predictions in the service: {name_of(model)} is not deterministic"
        )
    return content, changed, summary(changed, "double", difference, why)


def name_of(model: Any) -> str:
    """The class names of the steps and the estimator."""
    parts = getattr(model, "estimator_", model).steps[1:]
    return " → ".join(type(part).__name__ for _, part in parts)


def failure(error: Exception, model: Any) -> str:
    """Why a model has no compiled form, if its converter or ONNX Runtime raised an error."""
    estimator = getattr(model, "estimator_", model)["estimator"]
    name, kind = type(estimator).__name__, type(error).__name__
    if export_own.makes_graph(estimator):
        return f"the graph of {name}.{export_own.METHOD} does not run: ONNX Runtime raises {kind}"
    reason = f"{name} has no method {export_own.METHOD}, and " if is_own(type(estimator).__module__) else ""
    return f"it does not convert: {reason}skl2onnx raises {kind}" + ("" if reason else f" for {name_of(model)}")


def summary(contract: Contract, precision: str, difference: float, why: str | None = None) -> dict[str, Any]:
    """The content of `reports/export.json` for the chosen form; it is the same on every machine."""
    below = DOUBLE if difference <= DOUBLE else TOLERANCE
    return {
        "runtime": contract.runtime,
        "precision": precision,
        "difference_below": below,
        "tolerance": TOLERANCE,
        "why": why,
    }


def answers(served: Callable[[dict[str, Array]], Any], table: pa.Table, columns: list[Column]) -> Predictions:
    """Predictions of the served model for a table, computed in blocks of rows."""
    found = []
    for start in range(0, table.num_rows, ROWS_PREDICTED):
        X = tables.features(table.slice(start, ROWS_PREDICTED), columns)
        found.append(served(as_columns(X, columns)))
    predicted, probabilities, *_ = zip(*found, strict=True)
    return Predictions(np.concatenate(predicted), None if probabilities[0] is None else np.concatenate(probabilities))


def as_columns(X: Any, columns: list[Column]) -> dict[str, Array]:
    """The features in the format of the inference runtime."""
    found: dict[str, Array] = {column.name: X[column.name].to_numpy() for column in columns}
    for name, values in found.items():
        if values.dtype == object:  # pandas marks a missing text with NaN
            found[name] = np.where(X[name].isna(), np.array(None), values)
    return found


def write(content: bytes, contract: Contract, files: dict[str, bytes], folder: Path = paths.SERVICE) -> None:
    """Write the folder atomically."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, each in {contract.file: content, **files}.items():
            (partial / name).write_bytes(each)
        write_json(contract.model_dump(exclude_defaults=True), partial / contracts.SCHEMA)
        write_json({"rows": [contract.example]}, partial / contracts.EXAMPLE)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    run("export", main)
