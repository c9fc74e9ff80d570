"""Batch scoring into a table from which the service answers by key: `make score … OUT=predictions.sqlite KEY=customer`.

For each key it holds the row as a client would send it, the team's features, and the answer. It is bound to the model
that made it, and ends to be used after some hours. Rows that cannot be scored are left out.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.files import atomic
from mlops.data.kinds import is_text
from mlops.inference import provenance, runtime
from mlops.inference.contract import Contract, Field
from mlops.inference.corrections import correct
from mlops.inference.runtime import Answer, Array, Encoded, Model
from mlops.serving import precomputed
from mlops.serving.batches import Checked, checked, only
from mlops.serving.codec import Encoder
from mlops.serving.files import Source, check_place, opened
from mlops.serving.results import finite_rows
from mlops.serving.score import Tally, matched, named, predicted, refuse_none, run, shown

HOURS = 36.0  # a run each day may be half a day late
Line = tuple[str, bytes, bytes | None, bytes]


class Predictions(msgspec.Struct):
    predictions: list[msgspec.Raw]


def precompute(given: Path, wanted: Path, key: str, hours: float) -> Tally:
    """Score a file into a table.

    Parameters
    ----------
    key : str
        Column with the keys.
    hours : float
        How long the table may be used.

    Raises
    ------
    UserError
        Where a file cannot be read or written, a column is missing, a key is missing or comes twice, or no row could
        be scored.
    """
    release = provenance.read()
    provenance.check(release, paths.SERVICE)
    contract, model = runtime.load()
    precomputed.check(contract)
    check_place(wanted)
    source = opened(given, contract)
    check_key(key, matched(source.schema, contract, given, []), source.schema, given)
    tally, now = Tally(), time.time()
    try:
        with atomic(wanted) as partial, closing(sqlite3.connect(partial, isolation_level=None)) as table:
            # nothing reads the file before it is whole
            table.executescript(
                f"PRAGMA application_id = {precomputed.APPLICATION}; PRAGMA user_version = {precomputed.FORMAT};"
                f"PRAGMA journal_mode = OFF; {precomputed.TABLES} BEGIN;"
            )
            encode = Encoder(contract, release.version, release.model_md5)
            with shown() as tell:
                for lines in scored(source.batches(tell), source, contract, model, encode, key, now, tally):
                    table.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?)", lines)
            refuse_none(tally, given)
            index(table, given, key)
            about = precomputed.About(
                release.version,
                release.commit,
                release.model_md5,
                release.service_md5,
                precomputed.fields_of(contract),
                tally.rows - tally.unscored,
                now,
                now + 3600 * hours,
            )
            table.execute("INSERT INTO about VALUES (?)", (msgspec.json.encode(about),))
            table.execute("COMMIT")
    except sqlite3.Error as error:
        raise UserError(f"{wanted} cannot be written: {error}", "check the space on its disk and in $TMPDIR") from None
    return tally


def check_key(key: str, others: list[str], schema: pa.Schema, path: Path) -> None:
    """Check that a column can hold the keys: one of texts or integers, which is no field of the model."""
    if key not in others:
        which = "a field of the model" if key in schema.names else f"not a column of {path}"
        raise UserError(f"KEY={key} is {which}", f"one of the other columns: {', '.join(others) or 'there is none'}")
    found = schema.field(key).type
    found = found.value_type if pa.types.is_dictionary(found) else found
    if not (is_text(found) or pa.types.is_integer(found)):
        raise UserError(f"{path}: column {key!r} holds {found}; a key is a text or an integer")


def index(table: sqlite3.Connection, path: Path, key: str) -> None:
    """Sort the keys, each of which must be there once."""
    try:
        table.execute("CREATE UNIQUE INDEX by_key ON predictions (key)")
    except sqlite3.IntegrityError:
        twice = "SELECT key FROM predictions GROUP BY key HAVING count(*) > 1 LIMIT 1"
        (found,) = table.execute(twice).fetchone()
        raise UserError(
            f"{path}: column {key!r} has the key {found!r} more than once", "keep one row of each"
        ) from None


def scored(
    batches: Iterator[pa.RecordBatch],
    source: Source,
    contract: Contract,
    model: Model,
    encode: Encoder,
    key: str,
    now: float,
    tally: Tally,
) -> Iterator[list[Line]]:
    """The lines of the table, batch by batch."""
    # clients send values as they were measured
    as_sent = contract.model_copy(
        update={"fields": [each.model_copy(update={"clean": None}) for each in contract.fields]}
    )
    for batch in batches:
        keys = keys_of(batch, key, tally.rows)
        read = checked(batch, as_sent, source.blanks)
        columns = dict(read.columns)
        correct(columns, contract)
        answer, rows = predicted(model, Checked(columns, read.fits.copy(), dict(read.problems)))
        if answer is not None:
            finite = np.broadcast_to(finite_rows(answer), len(answer.predicted))
            places = np.flatnonzero(rows.fits)
            why = ("prediction", "the model makes no finite number of it")
            rows.problems.update({int(row): [why] for row in places[~finite]})
            kept = np.zeros(batch.num_rows, dtype=bool)
            kept[places[finite]] = True
            fields = {name: only(values, kept[read.fits]) for name, values in read.columns.items()}
            yield list(
                zip(
                    [keys[row] for row in places[finite]],
                    lines_of(fields, contract.fields),
                    features_of(some(answer, finite)),
                    answers_of(some(answer, finite), encode, now),
                    strict=True,
                )
            )
        tally.add(batch.num_rows, rows.problems)


def keys_of(batch: pa.RecordBatch, name: str, before: int) -> list[str]:
    """The keys of a batch, as text."""
    keys = batch.column(batch.schema.get_field_index(name)).cast(pa.string())
    wrong = pc.fill_null(
        pc.or_(pc.equal(pc.utf8_length(keys), 0), pc.greater(pc.utf8_length(keys), precomputed.MOST_KEY)), True
    )
    if pc.any(wrong).as_py():
        row = before + pc.index(wrong, True).as_py() + 1
        raise UserError(f"row {row:,}: column {name!r} has no key of 1 to {precomputed.MOST_KEY} letters")
    return list(keys.to_pylist())


def some(answer: Answer, which: Array) -> Answer:
    """The answer for some of the rows."""
    return Answer(
        answer.predicted[which],
        None if answer.probabilities is None else answer.probabilities[which],
        answer.computed and {name: values[which] for name, values in answer.computed.items()},
    )


def lines_of(columns: dict[str, Any], fields: Sequence[Field]) -> list[bytes]:
    """Each row as a client would send it."""
    values = [in_json(columns[field.name], field.kind) for field in fields]
    names = [field.name for field in fields]
    return [msgspec.json.encode(dict(zip(names, line, strict=True))) for line in zip(*values, strict=True)]


def in_json(values: Any, kind: str) -> list[Any]:
    """A column as JSON has it; None where missing."""
    if isinstance(values, Encoded):
        names = [*values.names, None]  # the last one for the place -1
        return [names[place] for place in values.places.tolist()]
    if kind == "date":
        return [None if each is None else each.isoformat() for each in values.astype("datetime64[us]").tolist()]
    if kind == "time":
        return [None if each != each else clock(each) for each in values.tolist()]
    if kind == "boolean":
        return [None if each != each else bool(each) for each in values.tolist()]
    return [None if each != each else each for each in values.tolist()]


def clock(seconds: float) -> str:
    """Seconds since midnight as a time of day."""
    return (datetime.min + timedelta(seconds=seconds)).time().isoformat()


def features_of(answer: Answer) -> list[bytes | None]:
    """The team's features of each row."""
    if not answer.computed:
        return [None] * len(answer.predicted)
    columns = [values.tolist() for values in answer.computed.values()]
    return [msgspec.json.encode(dict(zip(answer.computed, line, strict=True))) for line in zip(*columns, strict=True)]


def answers_of(answer: Answer, encode: Encoder, now: float) -> list[bytes]:
    """Each prediction as the service answers it, and when it was made."""
    made = msgspec.json.decode(encode(answer, ""), type=Predictions).predictions
    end = b',"precomputed":"%b"}' % precomputed.moment(now).encode()
    return [bytes(each)[:-1] + end for each in made]


def hours(argument: str) -> float:
    """A number of hours above 0."""
    found = float(argument)
    if not 0 < found < 1e6:
        raise ValueError
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        "make score",
        usage="make score IN=rows.parquet OUT=predictions.sqlite KEY=column [HOURS=36]",
        description="Predict each row of a file into a table from which the service answers by key.",
    )
    parser.add_argument("given", metavar="IN", type=named, help="a .parquet, .csv or .csv.gz with the model's columns")
    parser.add_argument("wanted", metavar="OUT", type=named, help="the table, as .sqlite")
    parser.add_argument("--key", metavar="KEY", required=True, help="the column with the keys")
    parser.add_argument("--hours", metavar="HOURS", type=hours, default=HOURS, help="how long the table may be used")
    arguments = parser.parse_args()
    if arguments.wanted.suffix != ".sqlite":
        parser.error(f"{arguments.wanted}: the name of a table of predictions ends in .sqlite")
    run(
        lambda: precompute(arguments.given, arguments.wanted, arguments.key, arguments.hours),
        arguments.wanted,
        "key",
        "and the table has no key for them",
    )


if __name__ == "__main__":
    main()
