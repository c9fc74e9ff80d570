"""Recorded rows through two models, as their services would predict them: what changes, for which rows, at what cost.

The rows come in parts, so memory does not grow with the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlops.core.errors import UserError
from mlops.core.logoptions import LogOptions
from mlops.inference.contract import Contract, label_name
from mlops.inference.runtime import Answer, Model
from mlops.monitoring.recorded import Columns, Line, Log, Reader
from mlops.monitoring.replay_costs import Pricing
from mlops.monitoring.replay_slices import Slices
from mlops.monitoring.replay_tally import Half, Tally
from mlops.serving.batches import Checked
from mlops.serving.results import finite_rows
from mlops.serving.score import predicted

Array = np.ndarray[Any, Any]


class Side(NamedTuple):
    """A model, as its service runs it.

    Attributes
    ----------
    md5 : str
        Of the reviewed model, as in the log.
    own_code : function
        Gives a context in which `project` is the code that the model was trained with.
    """

    md5: str
    contract: Contract
    model: Model
    own_code: Callable[[], AbstractContextManager[None]]


@dataclass
class Replay:
    """What came out.

    Attributes
    ----------
    unfit : dict of str to Counter
        For 'main' and 'change': reasons for which rows were left out.
    ignored : dict of str to Counter
        The same for rows of which a column was left out.
    """

    log: Log
    tally: Tally
    slices: Slices
    pricing: Pricing
    unfit: dict[str, Counter[str]]
    ignored: dict[str, Counter[str]]


def replay(
    log: Log,
    main: Side,
    change: Side,
    options: list[LogOptions],
    slices: Slices,
    pricing: Pricing,
    edges: Array | None = None,
) -> Replay:
    """Predict all rows of a log with both models.

    Parameters
    ----------
    options : list of LogOptions
        With which the log was written: columns that it does not hold as they were received cannot be replayed.
    edges : ndarray, optional
        For a regression: a prediction that moves from one side of an edge to the other is a decision that changes.

    Raises
    ------
    UserError
        If a model takes such a column.
    """
    for side in (main, change):
        check(side.contract, options)
    fields = [*main.contract.fields, *change.contract.fields]
    readers = [Reader(side.contract, fields) for side in (main, change)]
    tally = Tally(
        main.md5,
        names(main.contract),
        names(change.contract),
        change.contract,
        np.array([]) if edges is None else edges,
    )
    failed: list[Counter[str]] = [Counter(), Counter()]
    for chunk, columns in read(log, readers):
        answers = [answer(side, each, why) for side, each, why in zip((main, change), columns, failed, strict=True)]
        both = tally.add(chunk, columns, answers)
        if len(both.places):
            slices.add(chunk, columns, both)
            pricing.add(chunk, columns, both)
    unfit = {name: reader.refused + why for name, reader, why in zip(("main", "change"), readers, failed, strict=True)}
    ignored = {name: reader.ignored for name, reader in zip(("main", "change"), readers, strict=True)}
    return Replay(log, tally, slices, pricing, unfit, ignored)


def read(log: Log, readers: list[Reader]) -> Iterator[tuple[list[Line], list[Columns]]]:
    """The parts of a log as columns for each model, which are read once where both models take the same."""
    one, other = readers
    shared = one.form == other.form
    if shared:
        other.refused, other.ignored = one.refused, one.ignored
    for chunk in log:
        first = one(chunk)
        yield chunk, [first, Columns(first.columns, first.fits) if shared else other(chunk)]


def answer(side: Side, columns: Columns, failed: Counter[str]) -> Half:
    """The predictions of a model for the rows that fit, and which rows these are."""
    if not columns.fits.any():
        return Half(None, columns.fits)
    with side.own_code():
        found, rows = predicted(side.model, Checked(dict(columns.columns), columns.fits.copy(), {}))
    for problems in rows.problems.values():
        failed[f"{problems[0][0]} cannot be computed"] += 1
    finite = finite_rows(found)
    if found is None or finite.all():
        return Half(found, rows.fits)
    failed["the model makes no finite number of it"] += int((~finite).sum())
    fits = rows.fits.copy()
    fits[np.flatnonzero(fits)[~finite]] = False
    probabilities = None if found.probabilities is None else found.probabilities[finite]
    computed = {name: values[finite] for name, values in (found.computed or {}).items()}
    return Half(Answer(found.predicted[finite], probabilities, computed), fits)


def check(contract: Contract, options: list[LogOptions]) -> None:
    """Check that the log holds the columns of a model as they were received."""
    for option in options:
        for key in ("leave_out", "pseudonymise"):
            hidden = [field.name for field in contract.fields if field.name in getattr(option, key)]
            if hidden:
                raise UserError(
                    f"the rows cannot be replayed: the model takes {hidden[0]!r}, which monitor.log.{key} keeps out of "
                    "the log",
                    "a log in which that column is as it was received, or a model without it",
                )


def names(contract: Contract) -> list[str] | None:
    """Names of the classes; None for a regression."""
    return None if contract.classes is None else [label_name(label) for label in contract.classes]
