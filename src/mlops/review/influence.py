"""What moved between main's model and this change's: each column's share of the contributions, on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core.report import Estimate, Influence, MovedColumn, shortened
from mlops.data import tables
from mlops.data.project import Project
from mlops.model import explaining, influence
from mlops.model.explaining import Explained
from mlops.model.metrics import Array
from mlops.review.baseline import Baseline

# Columns that are shown, and the smallest change of a share that is worth a reader's time
MOST, SMALLEST = 5, 0.01


class Side(NamedTuple):
    """An explained model with the table that it takes."""

    explained: Explained
    inputs: list[str]
    X: Any


def compare(
    project: Project, model: Any, train: pa.Table, test: pa.Table, baseline: Baseline, confidence: float
) -> Influence | None:
    """How the shares of the columns differ between both models; None where there is nothing to compare.

    Parameters
    ----------
    train, test : pyarrow.Table
        Of this change, with its features; `test` only holds rows that main's model was not trained on.
    """
    theirs = baseline.project
    if theirs is None or baseline.model is None or baseline.train is None or not test.num_rows:
        return None
    here = side(project, model, train, test)
    raw = test.select([name for name in project.source.names if name in test.column_names])
    try:
        with baseline.own_code():
            there = side(theirs, baseline.model, theirs.append(baseline.train), theirs.append(raw))
            problem = next((each for each in (here, there) if isinstance(each, str)), None)
            if isinstance(here, str) or isinstance(there, str):
                whose = "this change's model" if isinstance(here, str) else "main's model"
                return Influence(rows=0, problem=shortened(f"{whose} has no exact contributions: {problem}"))
            rows = min(influence.rows_explained(each.explained, test.num_rows) for each in (here, there))
            before = influence.absolute(there.explained, there.X.iloc[:rows])
        after = influence.absolute(here.explained, here.X.iloc[:rows])
    except Exception as error:  # main's code may raise anything on a table that it does not know
        return Influence(rows=0, problem=shortened(f"main's model cannot be explained here: {type(error).__name__}"))
    found = moved(before, there.inputs, after, here.inputs, confidence)
    return Influence(rows=rows, columns=len({*there.inputs, *here.inputs}), moved=found[:MOST], count=len(found))


def side(project: Project, model: Any, train: pa.Table, test: pa.Table) -> Side | str:
    """A model that explains itself, or why it does not."""
    inputs = explaining.inputs_of(model)
    background = project.X(tables.some(train, explaining.MOST_BACKGROUND))
    found = explaining.tried(model, background, inputs, project.settings.data.positive)
    return found if isinstance(found, str) else Side(found, inputs, project.X(test))


def moved(
    before: Array, names_before: Sequence[str], after: Array, names_after: Sequence[str], confidence: float
) -> list[MovedColumn]:
    """The columns whose share differs by more than its uncertainty, largest difference first.

    The intervals are those of all columns together (Bonferroni), over the rows that both models explain.

    Parameters
    ----------
    before, after : ndarray of shape (n_samples, n_inputs)
        Absolute contributions.
    """
    names = list(dict.fromkeys([*names_after, *names_before]))
    old, new = (aligned(*each, names) for each in ((before, names_before), (after, names_after)))
    difference = new.share - old.share
    level = 1 - (1 - confidence) / len(names)
    half = influence.half_width(new.by_row - old.by_row, level)
    found = []
    for place in np.argsort(-np.abs(difference), kind="stable"):
        size, width = float(difference[place]), float(half[place])
        if abs(size) < SMALLEST or not abs(size) > width:
            continue
        found.append(
            MovedColumn(
                column=shortened(names[place]),
                before=float(old.share[place]) if names[place] in names_before else None,
                after=float(new.share[place]) if names[place] in names_after else None,
                difference=Estimate(value=size, low=size - width, high=size + width),
            )
        )
    return found


def aligned(found: Array, names: Sequence[str], wanted: Sequence[str]) -> influence.Shares:
    """The shares in the order of the wanted names; zero for those that the model does not take."""
    whole = np.zeros((len(found), len(wanted)))
    whole[:, [list(wanted).index(name) for name in names]] = found
    return influence.shares(whole)
