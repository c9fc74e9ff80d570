"""Stage `split`: split the rows into training and test rows.

A row's side depends only on a hash of its key (or of its content if no key is declared), so that a test row never
becomes a training row when new rows arrive. Training rows with an exact copy among the test rows are removed, so that
the model is not trained on any test row.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Set
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, counted, run
from mlops.core.files import write_json
from mlops.core.settings import Settings
from mlops.data import limits, tables
from mlops.data.identity import Hashes, row_hash
from mlops.data.tables import Catalogue, Step

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Counts = np.ndarray[Any, np.dtype[np.int64]]

# `stratified` warns if the share of a class among the test rows differs from test_size by more than this
IMBALANCE = 0.05
# how many seeds are tried for a more even split
SEEDS = 100


class Sides(NamedTuple):
    """Masks of the training and test rows; a row in neither is a copy of a test row, or one of the recent window."""

    train: Mask
    test: Mask


def main() -> str:
    settings = settings_module.load()
    catalogue = tables.read_catalogue()
    settings_module.check_columns(settings, catalogue.names, prepared=True)
    if paths.TABLE.is_dir():
        from mlops.pipeline import split_parts

        return split_parts.split(settings)
    table = tables.read(paths.TABLE)
    sides, recent, copies = with_added(table, settings, catalogue, tables.identity(paths.TABLE))
    sides, steps = without_late_labels(table, sides, settings)
    train, found = limits.outliers(table, sides.train, settings.data)
    sides, steps = sides._replace(train=train), [*steps, *found]
    if settings.data.task == "classification":
        check_classes(table, sides, settings, added=catalogue.more + catalogue.recent)
    tables.write(table, paths.TRAIN, sides.train)
    tables.write(table, paths.TEST, sides.test)
    tables.write(table, paths.RECENT, recent)
    counts = {"train": int(sides.train.sum()), "test": int(sides.test.sum()), "copies": copies}
    if catalogue.recent:
        counts["recent"] = int(recent.sum())
    write_json(counts | {"cleaning": [step.model_dump() for step in steps]}, paths.SPLIT)
    removed = f", {copies:,} copies of test rows removed" if copies else ""
    removed += "".join(f", {step.rows:,} {step.effect} ({step.step})" for step in steps if step.rows)
    shown = f", {recent.sum():,} recent rows" if catalogue.recent else ""
    return (
        f"{sides.train.sum():,} training rows, {sides.test.sum():,} test rows{shown} ({settings.split.method}){removed}"
    )


def with_added(
    table: pa.Table, settings: Settings, catalogue: Catalogue, identity: Hashes | None
) -> tuple[Sides, Mask, int]:
    """The sides of all rows, those of the recent window, and the number of copies.

    Rows of `data.more` are training rows and leave the test rows as they are. A copy of a test row or of one in the
    recent window is not trained on; one of the recent window that is a copy of a test row is in neither.
    """
    known = table.num_rows - catalogue.more - catalogue.recent
    sides = assign(table.slice(0, known), settings, None if identity is None else identity[:known])
    recent = np.zeros(table.num_rows, dtype=bool)
    if known == table.num_rows:
        return sides, recent, known - int(sides.train.sum() + sides.test.sum())
    # added rows have no key, and no time or group of the split
    names = [name for name in table.column_names if name == settings.data.target or name not in settings.hidden]
    content = pd.Series(row_hash(table, names))
    place = np.arange(table.num_rows)
    test = np.concatenate([sides.test, recent[known:]])
    of_test = content.isin(content[test]).to_numpy() & (place >= known)
    recent = (place >= known + catalogue.more) & ~of_test
    train = (place >= known) & (place < known + catalogue.more) & ~of_test
    train[:known] = sides.train
    train &= ~content.isin(content[recent]).to_numpy()
    return Sides(train, test), recent, table.num_rows - int(train.sum() + test.sum() + recent.sum())


def without_late_labels(table: pa.Table, sides: Sides, settings: Settings) -> tuple[Sides, list[Step]]:
    """Remove training rows whose label became known after the cutoff: it was not available at that time."""
    labels = settings.data.labels
    if labels is None or labels.time is None or settings.split.method != "time":
        return sides, []
    if not pa.types.is_timestamp(table[str(settings.split.time)].type):
        return sides, []
    cutoff = pd.Timestamp(str(settings.split.cutoff)).to_pydatetime()
    after = pc.greater_equal(table[labels.time], pa.scalar(cutoff, pa.timestamp("us")))
    late = np.asarray(pc.fill_null(after, False).to_numpy())  # missing in rows of data.more
    late = late & sides.train
    step = Step(step="label after split.cutoff", rows=int(late.sum()), effect="training rows dropped")
    return sides._replace(train=sides.train & ~late), [step]


def assign(table: pa.Table, settings: Settings, identity: Hashes | None = None) -> Sides:
    """Assign each row to the training or test rows.

    Parameters
    ----------
    table : pyarrow.Table of shape (n_samples, n_columns)
        A prepared table.
    identity : ndarray of shape (n_samples,), optional
        Identifies rows if no key is declared; a hash of their content by default.

    Returns
    -------
    Sides
        Two boolean arrays of shape (n_samples,).

    Raises
    ------
    UserError
        If a key, group or time is missing, or a side would be empty.
    """
    content = content_hash(table, settings)
    test = on_test_side(table, settings, content, identity)
    train = ~test & ~pd.Series(content).isin(content[test]).to_numpy()  # by hash: no sorting of millions
    check_sides(int(train.sum()), int(test.sum()))
    return Sides(train, test)


def content_hash(table: pa.Table, settings: Settings, large: Set[str] = frozenset()) -> Hashes:
    """What two copies of a row have in common."""
    apart = {*settings.data.key, *settings.data.private}
    return row_hash(table, [name for name in table.column_names if name not in apart], large)


def on_test_side(
    table: pa.Table, settings: Settings, content: Hashes, identity: Hashes | None, large: Set[str] = frozenset()
) -> Mask:
    """Which rows are test rows; each depends on no other row."""
    split = settings.split
    if split.method == "time":
        return is_late(table, settings)
    names = [split.group] if split.group else settings.data.key
    for name in names:
        _refuse_missing(table, name)
    identifiers = row_hash(table, names, large) if names else content if identity is None else identity
    return share(identifiers, split.seed) < split.test_size


def check_sides(train: int, test: int) -> None:
    """Refuse a split in which a side has no row."""
    if not test:
        raise UserError("the split has no test rows", "a larger split.test_size, or another split.seed")
    if not train:
        raise UserError(
            "the split has no training rows: every row is a test row or an exact copy of one",
            "a smaller split.test_size; or no data.key, so that copies stay on one side",
        )


def share(hashes: Hashes, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A number in [0, 1) for each hash, uniform and different for each seed."""
    salt = np.frombuffer(hashlib.sha256(str(seed).encode()).digest()[:8], np.uint64)
    return (pd.util.hash_array(hashes ^ salt) >> np.uint64(11)) / 2.0**53


def is_late(table: pa.Table, settings: Settings) -> Mask:
    """Rows at or after the cutoff."""
    split = settings.split
    column = str(split.time)
    values = table[column]
    is_date = pa.types.is_timestamp(values.type)
    if not is_date and pa.types.is_string(values.type):
        raise UserError(f"params.yaml: split.time: {column!r} holds text, not dates", f"data.types: {{{column}: date}}")
    if pa.types.is_time(values.type):
        raise UserError(f"params.yaml: split.time: {column!r} holds times of day, not dates", "a column of dates")
    _refuse_missing(table, column)
    if split.cutoff is None:
        # a cutoff that followed the data would turn test rows into training rows as new ones arrive
        at = pc.quantile(values.cast(pa.int64()) if is_date else values, 1 - split.test_size, interpolation="nearest")[
            0
        ]
        shown = at.cast(pa.timestamp("us")).as_py().isoformat() if is_date else at.as_py()
        raise UserError(
            "params.yaml: method time needs split.cutoff",
            f"cutoff: '{shown}' (test_size {split.test_size:g})",
        )
    try:
        cutoff = pd.Timestamp(split.cutoff).to_pydatetime() if is_date else float(split.cutoff)
        late = pc.greater_equal(values, pa.scalar(cutoff, values.type if is_date else pa.float64()))
    except (ValueError, pa.ArrowInvalid):
        kind = "a date (ISO 8601)" if is_date else "a number"
        raise UserError(f"params.yaml: split.cutoff must be {kind}, as {column!r} is, got {split.cutoff!r}") from None
    return np.asarray(late.to_numpy())


def _refuse_missing(table: pa.Table, name: str) -> None:
    missing = pc.indices_nonzero(pc.is_null(table[name]))
    if len(missing):
        rows = ", ".join(str(row + 1) for row in missing[:5].to_pylist())
        raise UserError(
            f"column {name!r} determines the split, but is missing in {counted(len(missing), 'row')}: {rows}",
            "fill it, or remove those rows from the source",
        )


def check_classes(table: pa.Table, sides: Sides, settings: Settings, added: int = 0) -> None:
    """Check that every class is on both sides; `stratified` also warns if a share differs from `test_size`.

    Parameters
    ----------
    added : int
        How many of the last rows are not the source's, and have no part in these shares.
    """
    known = table.num_rows - added
    codes = table[settings.data.target].combine_chunks().dictionary_encode()
    classes, code = codes.dictionary.to_pylist(), codes.indices.to_numpy()
    in_test, in_train = (np.bincount(code[side], minlength=len(classes)) for side in (sides.test, sides.train))
    of_each = np.bincount(code[:known], minlength=len(classes))
    check_shares(classes, in_test, in_train, of_each, settings, lambda: _hint(table.slice(0, known), settings))


def check_shares(
    classes: list[Any], in_test: Counts, in_train: Counts, of_each: Counts, settings: Settings, hint: Callable[[], str]
) -> None:
    """The same from the number of rows of each class: on both sides, and in the source."""
    for label, tested, learned in zip(classes, in_test, in_train, strict=True):
        if not tested or not learned:
            side = "test" if not tested else "training"
            raise UserError(f"class {label!r} has no {side} row", f"{hint()}, or more rows of that class")
    shares = in_test / np.maximum(1, of_each)
    worst = int(np.abs(shares - settings.split.test_size).argmax())
    if settings.split.method == "stratified" and abs(shares[worst] - settings.split.test_size) > IMBALANCE:
        print(
            f"warning: {shares[worst]:.1%} of the rows of class {classes[worst]!r} are test rows, not "
            f"{settings.split.test_size:.1%}\n  try: {hint()}",
            file=sys.stderr,
        )


def _hint(table: pa.Table, settings: Settings) -> str:
    """What makes the split more even."""
    if settings.split.method not in ("random", "stratified"):
        return "another split.cutoff or split.test_size"
    return f"split.seed: {best_seed(table, settings)} (the most even split of the first {SEEDS} seeds)"


def best_seed(table: pa.Table, settings: Settings) -> int:
    """The seed below `SEEDS` that gives the most even class shares."""
    code = table[settings.data.target].combine_chunks().dictionary_encode().indices.to_numpy()
    names = settings.data.key or [name for name in table.column_names if name not in settings.data.private]
    hashes = row_hash(table, names)

    def imbalance(seed: int) -> float:
        test = share(hashes, seed) < settings.split.test_size
        shares = np.bincount(code[test], minlength=code.max() + 1) / np.bincount(code)
        return float(np.abs(shares - settings.split.test_size).max())

    return min(range(SEEDS), key=imbalance)


if __name__ == "__main__":
    run("split", main)
