"""Batch scoring: a Parquet or CSV file of any size in, the same rows with predictions out, in constant memory.

The result has every column of the input that is no field of the model (keys, dates, the target), then `prediction`, a
`probability of …` for each class, `problem` and `model_version`; on request also `explanation base` and
`contribution of …` for each input, whose sum is the row's score. A row that cannot be scored has no prediction, and
`problem` says why. The file appears whole or not at all; Parquet carries the release in its metadata, too.

A folder of Parquet files becomes a folder of such results, one by one or on the workers of a Dask cluster.
"""

from __future__ import annotations

import argparse
import difflib
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from mlops.core import cluster, paths
from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.files import atomic
from mlops.data import parts
from mlops.data.formats import PARQUET
from mlops.inference import explained, provenance, runtime
from mlops.inference.computed import FeatureError
from mlops.inference.contract import Contract, label_name, probability_column
from mlops.inference.explained import Explain, Explained
from mlops.inference.explanation import UnexplainedError
from mlops.inference.provenance import Release
from mlops.inference.runtime import Answer, Array
from mlops.serving.batches import Checked, accepts, checked, only
from mlops.serving.files import Tell, check_place, opened

# Rows of the result that are written at once, as one row group
ROWS_WRITTEN = 1 << 18
MOST_TOLD = 5
PREDICTION, PROBLEM, VERSION = "prediction", "problem", "model_version"


class Tally:
    """How many rows there were, how many could not be scored, and what was wrong with the first of these."""

    def __init__(self) -> None:
        self.rows = self.unscored = 0
        self.first: list[str] = []

    def add(self, rows: int, problems: dict[int, list[tuple[str, str]]]) -> None:
        for row in sorted(problems)[: max(MOST_TOLD - len(self.first), 0)]:
            field, problem = problems[row][0]
            self.first.append(f"row {self.rows + row + 1:,}: {field}: {problem}")
        self.rows += rows
        self.unscored += len(problems)

    def join(self, other: Tally, name: str) -> None:
        """Add the rows of a file of a folder."""
        self.first += [f"{name}, {line}" for line in other.first[: max(MOST_TOLD - len(self.first), 0)]]
        self.rows += other.rows
        self.unscored += other.unscored

    def __str__(self) -> str:
        more = self.unscored - len(self.first)
        return "".join(f"\n  {line}" for line in self.first) + (f"\n  and {more:,} more" if more else "")


def score(given: Path, wanted: Path, explain: bool = False) -> Tally:
    """Score a file, or a folder of Parquet files.

    Parameters
    ----------
    explain : bool
        Whether to add what each input contributes to a row's score.

    Raises
    ------
    UserError
        Where a file cannot be read or written, a column is missing, or no row could be scored; or where predictions
        are to be explained and cannot be.
    """
    if given.is_dir():
        return score_folder(given, wanted, explain)
    return score_file(given, wanted, explain, refuse_none)


def refuse_none(tally: Tally, given: Path) -> None:
    """Refuse a result without any prediction."""
    if tally.rows == tally.unscored:
        why = f"none of the {tally.rows:,} rows can be scored{tally}" if tally.rows else "there are no rows"
        raise UserError(f"{given}: {why}", "check how it was written")


def score_folder(given: Path, wanted: Path, explain: bool) -> Tally:
    """Score each Parquet file of a folder; the results have the names of the files."""
    names = [path.relative_to(given) for path in sorted(given.rglob("*.parquet"))]
    names = [name for name in names if not any(part.startswith((".", "_")) for part in name.parts)]
    if not names:
        raise UserError(f"{given} holds no file that ends in .parquet", "a file, or a folder of Parquet files")
    if wanted.resolve().is_relative_to(given.resolve()) or given.resolve().is_relative_to(wanted.resolve()):
        raise UserError(f"{wanted} and {given} lie in one another", "another folder for the result")
    if wanted.exists():
        raise UserError(f"{wanted} exists", "another name for the result, or remove it")
    tally = Tally()
    with parts.writing(wanted) as (folder,):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        work = [(given / name, folder / name, explain) for name in names]
        for name, each in zip(names, cluster.each(_scored, work, "file"), strict=True):
            tally.join(each, str(name))
        refuse_none(tally, given)
    return tally


def _scored(work: tuple[Path, Path, bool]) -> Tally:
    return score_file(*work)


def score_file(
    given: Path, wanted: Path, explain: bool, check: Callable[[Tally, Path], None] = lambda *_: None
) -> Tally:
    """Score a file; where the check of the tally raises an error, nothing is written."""
    release = provenance.read()
    provenance.check(release, paths.SERVICE)
    contract, model = runtime.load()
    reasons = explainer(contract) if explain else None
    if given.resolve() == wanted.resolve():
        raise UserError(f"{wanted} would overwrite the input", "another name for the result")
    check_place(wanted)
    source = opened(given, contract)
    added = [*probability_names(contract), *(explanation_names(contract) if explain else [])]
    kept = matched(source.schema, contract, given, added)
    schema = result_schema(source.schema, kept, contract, release, added)
    tally = Tally()
    with (
        atomic(wanted) as partial,
        writing(partial, wanted, schema) as write,
        shown() as tell,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        # while a batch is predicted, the next one is read and the last one written
        batches = ((batch, checked(batch, contract, source.blanks)) for batch in source.batches(tell))
        coming, going = reader.submit(next, batches, None), writer.submit(lambda: None)
        while (read := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            batch, rows = read
            answer, rows = predicted(model, rows)
            numbers = numbers_of(answer, None if answer is None or reasons is None else reasons(rows.columns, answer))
            going.result()
            going = writer.submit(lambda *made: write(result(*made)), batch, rows, answer, numbers, kept, schema, tally)
        going.result()
        check(tally, given)
    return tally


def predicted(model: runtime.Model, rows: Checked) -> tuple[Answer | None, Checked]:
    """The answer for the rows that fit; those for which a feature cannot be computed fit no longer."""
    if not rows.fits.any():
        return None, rows
    try:
        return model(rows.columns), rows
    except FeatureError as error:
        places = np.flatnonzero(rows.fits)
        problems = rows.problems | {int(places[row]): found for row, found in error.problems.items()}
        kept = np.ones(len(places), dtype=bool)
        kept[list(error.problems)] = False
        fits = rows.fits.copy()
        fits[places[~kept]] = False
        return predicted(
            model, Checked({name: only(values, kept) for name, values in rows.columns.items()}, fits, problems)
        )


def explainer(contract: Contract) -> Explain:
    """What explains the predictions.

    Raises
    ------
    UserError
        With the reason where nothing can.
    """
    try:
        return explained.load(contract)
    except UnexplainedError as error:
        raise UserError(f"this model's predictions cannot be explained: {error}", "leave out EXPLAIN") from None


def numbers_of(answer: Answer | None, why: Explained | None) -> list[Array]:
    """The columns of numbers beside the predictions: probabilities, then base and contributions of the explanation."""
    if answer is None:
        return []
    found = [] if answer.probabilities is None else list(answer.probabilities.T)
    return found if why is None else [*found, why.base, *why.contributions.T]


def matched(schema: pa.Schema, contract: Contract, path: Path, added: list[str]) -> list[str]:
    """Check that each field has its column; gives the names of the other columns.

    Parameters
    ----------
    added : list of str
        Columns of numbers that the result adds.

    Raises
    ------
    UserError
        Names what is missing with the closest match, what has another type, or what the result has no place for.
    """
    fields = [field.name for field in contract.fields]
    kept = [name for name in schema.names if name not in fields]
    missing = [name for name in fields if name not in schema.names]
    if missing:
        near = difflib.get_close_matches(missing[0], kept, 1)
        also = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"{path} has no column {missing[0]!r}{also}, which the model needs{meant}")
    for field in contract.fields:
        found = schema.field(field.name).type
        if not accepts(field.kind, found):
            raise UserError(f"{path}: column {field.name!r} holds {found}, but the model expects {field.kind}")
    taken = [name for name in kept if name in (PREDICTION, PROBLEM, VERSION, *added)]
    if taken:
        raise UserError(f"{path} has a column {taken[0]!r}, which the result adds", "rename or drop it")
    return kept


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
    tally: Tally,
) -> pa.RecordBatch:
    """A batch of the result.

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
    tally.add(batch.num_rows, problems)
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


@contextmanager
def shown() -> Iterator[Tell]:
    """Yield a function that moves a progress bar on standard error, where a person watches."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=1.0)
        yield lambda share: progress.update(task, completed=share)


def named(argument: str) -> Path:
    """A path; make passes an empty text for a file that was not given."""
    if not argument:
        raise argparse.ArgumentTypeError("is not given")
    return Path(argument)


def main() -> None:
    parser = argparse.ArgumentParser(
        "make score",
        usage="make score IN=rows.parquet OUT=scored.parquet [EXPLAIN=yes]",
        description="Predict each row of a file. " + str(__doc__).split("\n\n", 1)[1].replace("`", ""),
        epilog="A CSV is in UTF-8, its delimiter is found by itself, its dates are as in ISO 8601.",
    )
    parser.add_argument("--explain", action="store_true", help="add what each input contributes to the score")
    parser.add_argument(
        "given",
        metavar="IN",
        type=named,
        help="a .parquet, .csv or .csv.gz with the model's columns, or a folder of Parquet files",
    )
    parser.add_argument(
        "wanted", metavar="OUT", type=named, help="the result, as .parquet, .csv or .csv.gz, or a folder"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing half-written is left
    start = time.perf_counter()
    with errors_in_words():
        tally = score(arguments.given, arguments.wanted, arguments.explain)
        seconds = time.perf_counter() - start
        print(f"scored {counted(tally.rows - tally.unscored, 'row')} → {arguments.wanted} ({seconds:.1f} s)")
        if tally.unscored:
            print(f"{counted(tally.unscored, 'row')} could not be scored, see column {PROBLEM!r}:{tally}")


if __name__ == "__main__":
    main()
