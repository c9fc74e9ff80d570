"""Labelled rows of the prediction log as a table that the pipeline can train on, and what is wrong or odd about them.

The rows hold what clients sent. So they are validated like any data before they become a file, and rows that a single
source dominates are reported to the reviewer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core.errors import UserError, counted
from mlops.core.report import shortened
from mlops.core.settings import Retrain, Settings
from mlops.data import added, expectations, kinds, tables
from mlops.data.identity import row_hash
from mlops.inference.contract import Contract
from mlops.monitoring.matched import Labelled
from mlops.monitoring.proposal import Example, Problem
from mlops.pipeline import ingest, validate

Array = np.ndarray[Any, Any]

MOST_PROBLEMS, MOST_EXAMPLES = 20, 5
# Shares of the rows from which a reviewer is warned of: those of one request, and copies of one row
MUCH_OF_ONE_REQUEST, MUCH_OF_ONE_ROW = 0.1, 0.05


@dataclass(frozen=True)
class Batch:
    """New labelled rows, in the order in which they were predicted.

    Attributes
    ----------
    table : pyarrow.Table of shape (n_samples, n_fields + 1)
        The fields as they were received, and the target.
    time, request_id, row : ndarray of shape (n_samples,)
    """

    table: pa.Table
    time: Array
    request_id: Array
    row: Array

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Array) -> Batch:
        """Some of the rows."""
        return Batch(self.table.take(pa.array(rows)), self.time[rows], self.request_id[rows], self.row[rows])


def build(
    labelled: Labelled, contract: Contract, catalogue: tables.Catalogue, settings: Settings
) -> tuple[Batch, list[Problem]]:
    """The labelled rows as a table with the types of the prepared one.

    Values that do not fit their column are missing in the table, and listed.

    Raises
    ------
    UserError
        If the log leaves out a field that the model is trained on.
    """
    log = settings.monitor.log
    gone = [field.name for field in contract.fields if field.name in {*log.leave_out, *log.pseudonymise}]
    if gone:
        raise UserError(
            f"params.yaml: monitor.log: the log does not hold {gone[0]!r} as it was received, which training needs",
            "remove it from leave_out and pseudonymise, or monitor.retrain.when: never",
        )
    order = np.lexsort((labelled.row, labelled.request_id.astype(str), labelled.time))
    batch = Batch(pa.table({}), labelled.time[order], labelled.request_id[order], labelled.row[order])
    columns: dict[str, Any] = {}
    problems: list[Problem] = []
    given = {field.name: labelled.columns[field.name][order] for field in contract.fields}
    for name, values in (given | {contract.target: labelled.y[order]}).items():
        column = catalogue[name]
        raw = pa.chunked_array([pa.array(values, from_pandas=True)])
        try:
            typed = kinds.convert(raw, column.kind)
        except kinds.MisfitError as misfit:
            problems.append(problem(batch, name, f"cannot be read as {column.kind}", [misfit.row], [misfit.value], 1))
            typed = pa.chunked_array([pa.nulls(len(order), pa.string())])
        columns[name] = typed
    return replace(batch, table=pa.table(columns)), problems


def problem(
    batch: Batch, column: str, what: str, rows: Iterable[int], values: Iterable[Any] | None = None, count: int = 0
) -> Problem:
    """What is wrong with a column, with the first of its rows by request id and row number."""
    rows = [int(row) for row in rows]
    shown = list(values) if values is not None else [batch.table[column][row].as_py() for row in rows[:MOST_EXAMPLES]]
    examples = [
        Example(request_id=shortened(batch.request_id[row]), row=int(batch.row[row]), value=shortened(_shown(value)))
        for row, value in zip(rows[:MOST_EXAMPLES], shown, strict=False)
    ]
    return Problem(column=shortened(column), what=shortened(what), rows=count or len(rows), examples=examples)


def check(
    batch: Batch, contract: Contract, catalogue: tables.Catalogue, settings: Settings
) -> tuple[list[Problem], list[Problem]]:
    """What keeps the rows from being trained on, and what a reviewer is warned of.

    By the contract of the service, by cleaning, and by the suite of expectations.
    """
    found: list[Problem] = []
    for field in contract.fields:
        values = batch.table[field.name]
        missing = np.flatnonzero(values.is_null().to_numpy())
        if len(missing) and not field.nullable:
            found.append(problem(batch, field.name, "is missing, which it never is in the training rows", missing))
        if field.values is not None:
            known = values.is_null().to_numpy() | np.isin(
                values.to_numpy().astype(object), np.array(field.values, dtype=object)
            )
            if not known.all():
                what = "holds a category that the training rows do not have"
                found.append(problem(batch, field.name, what, np.flatnonzero(~known)))
    if contract.classes is not None:
        labels = batch.table[contract.target].to_pylist()
        foreign = [row for row, label in enumerate(labels) if label not in contract.classes]
        if foreign:
            found.append(problem(batch, contract.target, "holds a class that the model does not know", foreign))
    return (found, []) if found else expected(batch, catalogue, settings)


def expected(batch: Batch, catalogue: tables.Catalogue, settings: Settings) -> tuple[list[Problem], list[Problem]]:
    """Expectations about single rows that the batch breaks, once it is typed and cleaned as `ingest` does.

    Expectations about a whole table, such as its number of rows, are left to the pipeline.

    Returns
    -------
    critical, others : list of Problem
    """
    if settings.validate_.suite is None:
        return [], []
    types = {column.name: column.kind for column in catalogue.columns}

    def typed(name: str, values: Any, origin: Any, kind: Any) -> Any:
        return ingest.typed_or_private(name, values, origin, kind, settings.data)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.parquet"
        tables.write(batch.table, path)
        read = added.read([str(path)], types, settings, typed)
    rules = expectations.read(settings.validate_.suite, settings.data.dropped)
    results = validate.evaluate(read.table, rules)
    critical: list[Problem] = []
    others: list[Problem] = []
    for failure in validate.describe_failures(read.table, rules, results):
        if failure["rows"] is None and not failure["error"]:
            continue
        column = ", ".join(failure["columns"]) or "the table"
        rows = [int(read.rows[each["row"] - 1]) for each in failure["examples"]]
        values = [", ".join(map(_shown, each["values"].values())) for each in failure["examples"]]
        what = f"cannot be checked: {failure['error']}" if failure["error"] else f"breaks: {failure['expected']}"
        severe = failure["severity"] == "critical" or failure["error"]
        (critical if severe else others).append(problem(batch, column, what, rows, values, failure["rows"] or 0))
    return critical, others


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def divide(batch: Batch, options: Retrain, training: int) -> tuple[Batch, Batch]:
    """Rows to train on, and the recent window, which is the newest ones.

    Rows of one moment stay together. Of the others, the newest are used, as many as `most_new_share` allows.

    Parameters
    ----------
    training : int
        Number of training rows on main.
    """
    count = len(batch)
    start = batch.time[count - max(1, round(options.recent_share * count))]
    recent = batch.time >= start
    most = int(options.most_new_share / (1 - options.most_new_share) * training)
    train = np.flatnonzero(~recent)[-most:] if most else np.zeros(0, dtype=np.int64)
    return batch.take(train), batch.take(np.flatnonzero(recent))


def oddities(batch: Batch, corrected: int) -> list[str]:
    """What a reviewer should know of the origin of the rows; a single source may want to move the model."""
    notes = []
    rows = len(batch)
    ids, counts = np.unique(batch.request_id.astype(str), return_counts=True)
    if counts.max(initial=0) > max(1, MUCH_OF_ONE_REQUEST * rows):
        largest = int(counts.argmax())
        notes.append(f"{counts[largest] / rows:.0%} of the rows come from one request: {ids[largest]}")
    target = batch.table.column_names[-1]
    content = row_hash(batch.table, batch.table.column_names[:-1])
    _, first, which, times = np.unique(content, return_index=True, return_inverse=True, return_counts=True)
    if times.max(initial=0) > max(1, MUCH_OF_ONE_ROW * rows):
        many = int(times.argmax())
        row = int(first[many])
        example = f"request {batch.request_id[row]}, row {batch.row[row]}"
        notes.append(f"{times[many] / rows:.0%} of the rows are copies of a single one: {example}")
    repeated = rows - len(times)
    if repeated > MUCH_OF_ONE_REQUEST * rows:
        notes.append(f"{repeated / rows:.0%} of the rows repeat the values of another row")
    _, labels = np.unique(np.asarray(batch.table[target].to_pylist()).astype(str), return_inverse=True)
    pairs = np.unique(np.column_stack([which, labels]), axis=0)
    contradictory = int((np.bincount(pairs[:, 0]) > 1).sum()) if len(pairs) else 0
    if contradictory:
        notes.append(f"{counted(contradictory, 'set of equal rows has', 'sets of equal rows have')} different labels")
    if corrected:
        notes.append(f"{counted(corrected, 'label was', 'labels were')} corrected later; the last one counts")
    return [shortened(note) for note in notes]
