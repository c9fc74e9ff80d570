"""The result of batch scoring as a table: its columns, the batches, and the file that they are written to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mlops.core.errors import UserError
from mlops.data.formats import PARQUET
from mlops.inference.contract import Contract, label_name, probability_column
from mlops.inference.provenance import Release
from mlops.inference.runtime import Answer, Array
from mlops.serving.batches import Checked

# Rows of the result that are written at once, as one row group
ROWS_WRITTEN = 1 << 18
PREDICTION, PROBLEM, VERSION = "prediction", "problem", "model_version"


def probability_names(contract: Contract) -> list[str]:
    """One column for each class, where there are probabilities."""
    labels = contract.classes or [] if contract.probabilities else []
    return [probability_column(label) for label in labels]


def explanation_names(contract: Contract) -> list[str]:
    """The base of the score, and one column for each input."""
    return ["explanation base", *(f"contribution of {each.name}" for each in contract.inputs)]


def result_schema(
    given: pa.Schema, kept: list[str], contract: Contract, release: Release, added: list[str]
) -> pa.Schema:
    """The columns of the result, with the release as metadata."""
    label = pa.float64() if contract.classes is None else pa.array(contract.classes).type
    made = [(PREDICTION, label), *((name, pa.float64()) for name in added)]
    made += [(PROBLEM, pa.string()), (VERSION, pa.string())]
    described = {
        "model.version": release.version,
        "model.commit": release.commit,
        "model.md5": release.model_md5,
        "model.service_md5": release.service_md5,
        "model.runtime": contract.runtime,
    }
    if len(added) > len(probability_names(contract)):
        described["explanation.unit"] = str(contract.explanation.unit)
        of = contract.explanation.of
        described["explanation.of"] = PREDICTION if of is None else label_name(of)
    return pa.schema([*(given.field(name) for name in kept), *(pa.field(*each) for each in made)], described)


def result(
    batch: pa.RecordBatch,
    rows: Checked,
    answer: Answer | None,
    numbers: list[Array],
    kept: list[str],
    schema: pa.Schema,
) -> pa.RecordBatch:
    """A batch of the result; adds rows without a finite prediction to the problems.

    Parameters
    ----------
    answer : Answer or None
        For the rows that fit; None where none does.
    numbers : list of ndarray
        Further columns, for the same rows.
    kept : list of str
        Columns of `batch` that are carried through.
    schema : Schema
        Of the result.
    """
    _, fits, problems = rows
    places = np.flatnonzero(fits)
    finite = np.logical_and.reduce([finite_rows(answer), *map(np.isfinite, numbers)])
    if answer is not None and not finite.all():
        problems |= {int(row): [(PREDICTION, "the model makes no finite number of it")] for row in places[~finite]}
        fits[places[~finite]] = False
        answer = Answer(answer.predicted[finite], None)
        numbers = [each[finite] for each in numbers]
    predicted: Any = answer.predicted if answer else []
    where = spread(fits) if problems else None

    def full(values: Any, name: str) -> pa.Array:
        found = pa.array(values, schema.field(name).type)
        return found if where is None else found.take(where)

    made = [full(predicted, PREDICTION)]
    for column, name in enumerate(schema.names[len(kept) + 1 : -2]):
        made.append(full(numbers[column] if numbers else [], name))
    made.append(in_words(problems, batch.num_rows))
    made.append(pa.repeat(pa.scalar(schema.metadata[b"model.version"].decode()), batch.num_rows))
    return pa.RecordBatch.from_arrays([*(batch.column(name) for name in kept), *made], schema=schema)


def finite_rows(answer: Answer | None) -> Array:
    """Where a model gave finite numbers; labels alone are none."""
    if answer is not None and answer.probabilities is not None:
        return np.asarray(np.isfinite(answer.probabilities).all(axis=1))
    if answer is not None and answer.predicted.dtype.kind == "f":
        return np.isfinite(answer.predicted)
    return np.array([True])


def spread(fits: Array) -> pa.Array:
    """For each row its place among those that fit, or null."""
    return pa.array(np.cumsum(fits) - 1, mask=~fits)


def in_words(problems: dict[int, list[tuple[str, str]]], rows: int) -> pa.Array:
    """What was wrong with each row, or null."""
    if not problems:
        return pa.nulls(rows, pa.string())
    described = {row: "; ".join(f"{field}: {problem}" for field, problem in each) for row, each in problems.items()}
    return pa.array([described.get(row) for row in range(rows)], pa.string())


@contextmanager
def writing(partial: Path, wanted: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Yield a function that writes a batch, as Parquet or CSV by the ending of `wanted`."""
    if re.search(PARQUET, wanted.name):
        held: list[pa.RecordBatch] = []
        repeated = [name for name in (PREDICTION, PROBLEM, VERSION) if schema.field(name).type == pa.string()]
        with pq.ParquetWriter(partial, schema, compression="zstd", use_dictionary=repeated) as writer:

            def write(batch: pa.RecordBatch | None) -> None:
                held.extend([] if batch is None else [batch])
                if held and (batch is None or sum(each.num_rows for each in held) >= ROWS_WRITTEN):
                    writer.write_table(pa.Table.from_batches(held))
                    held.clear()

            yield write
            write(None)
    elif re.search(r"\.csv(\.gz)?$", wanted.name):
        with (
            pa.OSFile(str(partial), "wb") as file,
            pa.CompressedOutputStream(file, "gzip") if wanted.suffix == ".gz" else file as stream,
        ):
            with _in_csv(wanted, schema):
                writer = pyarrow.csv.CSVWriter(stream, schema.remove_metadata())

            def write_rows(batch: pa.RecordBatch) -> None:
                with _in_csv(wanted, schema):
                    writer.write_batch(batch)

            with writer:
                yield write_rows
    else:
        hint = "a name that ends in .parquet, .csv or .csv.gz; in .sqlite with KEY=column"
        raise UserError(f"{wanted}: cannot tell the format from the name", hint)


@contextmanager
def _in_csv(wanted: Path, schema: pa.Schema) -> Iterator[None]:
    """Turn Arrow's refusal of a list, or of bytes that are no text, into words."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        hint = "a name that ends in .parquet, or drop that column"
        odd = [field.name for field in schema if pa.types.is_nested(field.type) or "binary" in str(field.type)]
        what = ", ".join(map(repr, odd)) or "a column"
        raise UserError(f"{wanted}: a CSV cannot hold {what}: {error}", hint) from None
