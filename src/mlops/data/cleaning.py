"""`data.clean` and `src/project/cleaning.py` on a typed table: which rows are left out, which values are corrected.

Rows may be left out by anything. A value is changed only by a rule that the service applies, too; so a function of the
team says which rows to keep, and can change none. Each step is counted for the catalogue and the comment.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Set
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import hooks
from mlops.core.errors import UserError
from mlops.core.hooks import RowFilter
from mlops.core.settings import PARAMS, Data, Settings
from mlops.core.yamlfile import closest
from mlops.data.limits import Mask, corrections, floats, outside
from mlops.data.tables import IDENTITY, Step
from mlops.inference.contract import Correction
from mlops.inference.corrections import beyond, corrected, misscaled

MODULE = "cleaning"
PLACE = hooks.ROOM / f"{MODULE}.py"
DROPPED = "rows dropped"
FOREIGN = "left out: the table has none of its columns"


class Cleaned(NamedTuple):
    """A cleaned table.

    Attributes
    ----------
    table : pyarrow.Table
    rows : ndarray of shape (n_kept,)
        Their places in the table that came in.
    steps : list of Step
        What each step did, in order.
    """

    table: pa.Table
    rows: np.ndarray[Any, Any]
    steps: list[Step]


def clean(table: pa.Table, settings: Settings, place: Callable[[int], str]) -> Cleaned:
    """Clean a typed table.

    Parameters
    ----------
    place : callable
        Says where a row of `table` stands in the source.

    Raises
    ------
    UserError
        Where a rule does not fit its column, a function does not say which rows to keep, or no row is left.
    """
    state = cleaned(table, settings, place)
    if not state.table.num_rows:
        raise UserError(f"{PARAMS}: data.clean: no row is left", _largest(state.steps))
    return state


def cleaned(table: pa.Table, settings: Settings, place: Callable[[int], str], large: Set[str] = frozenset()) -> Cleaned:
    """The same for a part of a table, of which no row may be left.

    Parameters
    ----------
    large : set of str
        Columns with a whole number beyond 2^53 in another part.
    """
    data = settings.data
    check(table, data)
    state = Cleaned(table, np.arange(table.num_rows), [])
    if data.clean.missing_target == "drop":
        state = _without(state, _mask(pc.is_null(table[data.target])), f"no target ({data.target})")
    rules = corrections(data)
    if rules and not data.key:
        # a correction must not move a row to the other side of the split
        state = state._replace(table=_identified(state.table, data, large))
    for name, rule in rules.items():
        state = _correct(state, name, rule, place)
    for name, limits in data.clean.ranges.items():
        if limits.outside == "drop":
            wrong = beyond(floats(state.table[name]), limits.low, limits.high)
            state = _without(state, wrong, f"{name} {outside(limits.low, limits.high)}")
    for row_filter in row_filters(data).values():
        step = f"{row_filter.name} ({PLACE.name})"
        if data.clean.functions is None and not {*row_filter.columns} & {*state.table.column_names}:
            state.steps.append(Step(step=step, rows=0, effect=FOREIGN))
        else:
            state = _without(state, ~kept(row_filter, state.table), step)
    if data.clean.duplicates:
        state = _deduplicate(state, data, place)
    return state


def check(table: pa.Table, data: Data) -> None:
    """Rules are about numbers, and change nothing that a client does not send."""
    clean_ = data.clean
    for key, names in (("rescale", clean_.rescale), ("ranges", clean_.ranges), ("outliers", clean_.outliers)):
        for name in names:
            found = table[name].type
            if not (pa.types.is_integer(found) or pa.types.is_floating(found)):
                hint = f"data.types: {{{name}: numeric}}, or a function in {PLACE}"
                raise UserError(f"{PARAMS}: data.clean.{key}: {name!r} holds {found}, not numbers", hint)
    for name in corrections(data):
        if name == data.target:
            hint = "outside: drop, or correct the values in the source"
            raise UserError(f"{PARAMS}: data.clean: {name!r} is the target, whose values are not corrected", hint)
        if name in data.key:
            raise UserError(f"{PARAMS}: data.clean: {name!r} is a key, whose values are not corrected", "outside: drop")


def row_filters(data: Data) -> dict[str, RowFilter]:
    """The functions of `src/project/cleaning.py` that `params.yaml` does not leave out."""
    found = {} if data.clean.functions == [] else hooks.load(MODULE, RowFilter)
    for name in data.clean.functions or []:
        if name not in found:
            raise UserError(f"{PARAMS}: data.clean.functions: {PLACE} has no {name!r}{closest(name, list(found))}")
    return found if data.clean.functions is None else {name: found[name] for name in data.clean.functions}


def kept(row_filter: RowFilter, table: pa.Table) -> Mask:
    """Which rows a function keeps.

    Raises
    ------
    UserError
        Where it needs another column, raises, changes a value, or does not give True or False for each row.
    """
    import pandas as pd

    where = f"{PLACE}: {row_filter.name}"
    for name in row_filter.columns:
        if name not in table.column_names or name == IDENTITY:
            hint = "correct the name; or, if the function is of another table, leave it out of data.clean.functions"
            raise UserError(f"{where}: the table has no column {name!r}{closest(name, table.column_names)}", hint)
    given = [table[name].to_pandas() for name in row_filter.columns]
    copies = [values.copy() for values in given]
    try:
        found = row_filter.function(*copies)
    except Exception as error:  # the team's code may raise anything
        where = hooks.place(error, MODULE)
        raise UserError(f"{where}: {row_filter.name} raises {type(error).__name__}: {error}") from None
    elsewhere = "data.clean.rescale or data.clean.ranges, or a feature: the service applies them, too"
    changed = next((n for n, a, b in zip(row_filter.columns, given, copies, strict=True) if not a.equals(b)), None)
    if changed is not None:
        raise UserError(f"{where} changes values of {changed!r}, which the service would not do", elsewhere)
    if isinstance(found, pd.Series) and sorted(found.index) == list(range(table.num_rows)):
        found = found.sort_index()  # it may have sorted the rows
    mask = np.asarray(found)
    if mask.dtype != bool:
        shown = "a table" if isinstance(found, pd.DataFrame) else f"values of type {mask.dtype}"
        raise UserError(f"{where} must return True or False for each row, and returns {shown}", elsewhere)
    if mask.shape != (table.num_rows,):
        hint = "one value for each row: True for those to keep"
        raise UserError(f"{where} returns {mask.size:,} values for {table.num_rows:,} rows", hint)
    return mask


def _correct(state: Cleaned, name: str, rule: Correction, place: Callable[[int], str]) -> Cleaned:
    values = state.table[name]
    before = floats(values)
    steps = list(state.steps)
    scaled = before
    if rule.factor is not None:
        limit = f"above {rule.above:g}" if rule.above is not None else f"below {rule.below:g}"
        wrong = misscaled(before, rule)
        scaled = np.where(wrong, before * rule.factor, before)
        effect = f"values multiplied by {rule.factor:g}, in the service too"
        steps.append(Step(step=f"{name} {limit}", rows=int(wrong.sum()), effect=effect))
    after = corrected(before, rule)
    # so that a value that has been corrected is not corrected again
    again = np.flatnonzero(misscaled(after, rule)) if rule.factor is not None else np.array([])
    if len(again):
        row = int(again[0])
        found = f"{before[row]:g} becomes {after[row]:g}, which is still {limit}"
        where = place(int(state.rows[row]))
        raise UserError(
            f"{PARAMS}: data.clean.rescale: {name!r}: {where}: {found}", f"data.clean.ranges: {{{name}: …}} as well"
        )
    if rule.outside:
        wrong = beyond(scaled, rule.low, rule.high)
        effect = "values clipped" if rule.outside == "clip" else "values made missing"
        step = f"{name} {outside(rule.low, rule.high)}"
        steps.append(Step(step=step, rows=int(wrong.sum()), effect=f"{effect}, in the service too"))
    changed = (before != after) & ~(np.isnan(before) & np.isnan(after))
    if not changed.any():
        return state._replace(steps=steps)
    made = pa.array(after, from_pandas=True)  # NaN is missing
    if pa.types.is_integer(values.type) and (np.isnan(after[changed]) | (after[changed] % 1 == 0)).all():
        made = pc.if_else(pa.array(changed), made, None).cast(values.type)
        values = pc.if_else(pa.array(changed), made, values.combine_chunks())
    else:
        values = made
    place_of = state.table.column_names.index(name)
    table = state.table.set_column(place_of, name, pa.chunked_array([values]))
    return state._replace(table=table, steps=steps)


def _deduplicate(state: Cleaned, data: Data, place: Callable[[int], str]) -> Cleaned:
    from mlops.data.identity import row_hash

    duplicates = data.clean.duplicates
    assert duplicates is not None  # noqa: S101
    names = duplicates.subset or [name for name in state.table.column_names if name != IDENTITY]
    hashes = row_hash(state.table, names)
    order = hashes if duplicates.keep != "last" else hashes[::-1]
    _, first, inverse = np.unique(order, return_index=True, return_inverse=True)
    extra = np.ones(len(hashes), dtype=bool)
    extra[first if duplicates.keep != "last" else len(hashes) - 1 - first] = False
    about = ", ".join(duplicates.subset) or "the whole row"
    if duplicates.keep == "refuse" and extra.any():
        row = int(np.flatnonzero(extra)[0])
        earlier = place(int(state.rows[first[inverse[row]]]))
        values = "" if not duplicates.subset else f" ({_values(state.table, duplicates.subset, row)})"
        raise UserError(
            f"{place(int(state.rows[row]))} is a duplicate of {earlier} by {about}{values}; {extra.sum():,} in all",
            "data.clean.duplicates.keep: first or last, or correct the source",
        )
    return _without(state, extra, f"duplicate by {about}, keeping the {duplicates.keep}")


def _without(state: Cleaned, wrong: Mask, step: str) -> Cleaned:
    steps = [*state.steps, Step(step=step, rows=int(wrong.sum()), effect=DROPPED)]
    if not wrong.any():
        return state._replace(steps=steps)
    return Cleaned(state.table.filter(pa.array(~wrong)), state.rows[~wrong], steps)


def _identified(table: pa.Table, data: Data, large: Set[str]) -> pa.Table:
    from mlops.data.identity import row_hash

    names = [name for name in table.column_names if name not in data.private]
    return table.append_column(IDENTITY, pa.array(row_hash(table, names, large)))


def _mask(values: pa.ChunkedArray) -> Mask:
    return np.asarray(values.to_numpy())


def _values(table: pa.Table, names: list[str], row: int) -> str:
    return ", ".join(f"{name}: {reprlib.repr(table[name][row].as_py())}" for name in names)


def _largest(steps: list[Step]) -> str:
    worst = max(steps, key=lambda step: step.rows)
    return f"another rule: '{worst.step}' took {worst.rows:,} rows"
