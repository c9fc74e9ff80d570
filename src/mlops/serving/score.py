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
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress

from mlops.core import cluster, paths
from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.files import atomic
from mlops.data import parts
from mlops.inference import explained, provenance, runtime
from mlops.inference.computed import FeatureError
from mlops.inference.contract import Contract
from mlops.inference.explained import Explain, Explained
from mlops.inference.explanation import UnexplainedError
from mlops.inference.runtime import Answer, Array
from mlops.serving.batches import Checked, accepts, checked, only
from mlops.serving.files import Tell, check_place, opened
from mlops.serving.results import (
    PREDICTION,
    PROBLEM,
    VERSION,
    explanation_names,
    probability_names,
    result,
    result_schema,
    writing,
)

MOST_TOLD = 5


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

        def put(batch: pa.RecordBatch, rows: Checked, answer: Answer | None, numbers: list[Array]) -> None:
            write(result(batch, rows, answer, numbers, kept, schema))
            tally.add(batch.num_rows, rows.problems)

        # while a batch is predicted, the next one is read and the last one written
        batches = ((batch, checked(batch, contract, source.blanks)) for batch in source.batches(tell))
        coming, going = reader.submit(next, batches, None), writer.submit(lambda: None)
        while (read := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            batch, rows = read
            answer, rows = predicted(model, rows)
            numbers = numbers_of(answer, None if answer is None or reasons is None else reasons(rows.columns, answer))
            going.result()
            going = writer.submit(put, batch, rows, answer, numbers)
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


def run(work: Callable[[], Tally], wanted: Path, what: str, where: str) -> None:
    """Run a command, and print how many rows it scored and which it could not.

    Parameters
    ----------
    what : str
        What was scored: a row, a key.
    where : str
        What became of the other rows.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing half-written is left
    start = time.perf_counter()
    with errors_in_words():
        tally = work()
        seconds = time.perf_counter() - start
        print(f"scored {counted(tally.rows - tally.unscored, what)} → {wanted} ({seconds:.1f} s)")
        if tally.unscored:
            print(f"{counted(tally.unscored, 'row')} could not be scored, {where}:{tally}")


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
    run(
        lambda: score(arguments.given, arguments.wanted, arguments.explain),
        arguments.wanted,
        "row",
        f"see column {PROBLEM!r}",
    )


if __name__ == "__main__":
    main()
