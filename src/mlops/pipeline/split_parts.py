"""`split` of a partitioned table: each partition is divided on its own, by the same hashes as a whole table.

Only copies are looked for across partitions: where a key, a group or a time decides, a copy of a test row may be in
another one. So the hashes of all test rows, 8 bytes each, are collected before training rows are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops.core import cluster, paths
from mlops.core.errors import UserError, counted
from mlops.core.files import write_json
from mlops.core.settings import Settings
from mlops.data import parts, tables
from mlops.data.identity import Hashes
from mlops.pipeline import split as whole

COPIES = paths.PREPARED / ".copies.npy.partial"


class Divided(NamedTuple):
    """Rows of a partition on each side, copies of test rows, and rows of each class on both sides and in all."""

    train: int
    test: int
    copies: int
    classes: dict[Any, tuple[int, int, int]]


def split(settings: Settings) -> str:
    """Write the partitions of the training and of the test rows; gives the line of the log."""
    files = parts.files(paths.TABLE)
    if settings.split.method == "time" and settings.split.cutoff is None:
        column = str(settings.split.time)  # which is refused, with the cutoff that all rows suggest
        whole.is_late(pa.table({column: parts.Parts(paths.TABLE)[column]}), settings)
    large = set().union(*(parts.large(parts.metadata(file)) for file in files))
    with parts.writing(paths.TRAIN, paths.TEST) as sides, copied(files, settings, large) as copies:
        work = partial(divide, settings, large, copies, sides)
        found = list(cluster.each(work, files, "partition"))
        train, test, removed = (sum(getattr(each, name) for each in found) for name in ("train", "test", "copies"))
        whole.check_sides(train, test)
        if settings.data.task == "classification":
            check_classes(found, settings)
    tables.write(tables.read(files[0]).slice(0, 0), paths.RECENT)
    write_json({"train": train, "test": test, "copies": removed, "cleaning": []}, paths.SPLIT)
    details = f", {removed:,} copies of test rows removed" if removed else ""
    details += f", {counted(len(files), 'partition')}"
    return f"{train:,} training rows, {test:,} test rows ({settings.split.method}){details}"


@contextmanager
def copied(files: list[Path], settings: Settings, large: set[str]) -> Iterator[Path | None]:
    """Yield the sorted hashes of all test rows as a file; None where a copy is always on the same side."""
    corrected = tables.IDENTITY in pq.read_schema(files[0]).names
    if not (settings.data.key or settings.split.group or settings.split.method == "time" or corrected):
        yield None
        return
    try:
        work = partial(test_hashes, settings, large)
        found = list(cluster.each(work, files, "partition"))
        hashes = np.concatenate(found)
        del found
        hashes.sort()
        with COPIES.open("wb") as file:
            np.save(file, hashes)
        del hashes
        yield COPIES
    finally:
        COPIES.unlink(missing_ok=True)


def test_hashes(settings: Settings, large: set[str], file: Path) -> Hashes:
    """The hashes of a partition's test rows."""
    _, content, test = _read(settings, large, file)
    return np.unique(content[test])


def _read(settings: Settings, large: set[str], file: Path) -> tuple[pa.Table, Hashes, whole.Mask]:
    table = tables.read(file)
    content = whole.content_hash(table, settings, large)
    try:
        return table, content, whole.on_test_side(table, settings, content, tables.identity(file), large)
    except UserError as error:
        raise UserError(f"{paths.TABLE / file.name}: {error}") from None


def divide(settings: Settings, large: set[str], copies: Path | None, sides: list[Path], file: Path) -> Divided:
    """Write the training and the test rows of a partition."""
    table, content, test = _read(settings, large, file)
    train = ~test
    if copies is not None:
        known = np.load(copies, mmap_mode="r")
        place = np.minimum(np.searchsorted(known, content), max(len(known) - 1, 0))
        train &= known[place] != content if len(known) else True
    for folder, rows in zip(sides, (train, test), strict=True):
        tables.write(table, folder / file.name, rows)
    classes: dict[Any, tuple[int, int, int]] = {}
    if settings.data.task == "classification":
        target = table[settings.data.target]
        sides_of = [_counts(target.filter(pa.array(rows))) for rows in (test, train)] + [_counts(target)]
        classes = {label: tuple(each.get(label, 0) for each in sides_of) for label in sides_of[2]}  # type: ignore[misc]
    return Divided(int(train.sum()), int(test.sum()), int((~train & ~test).sum()), classes)


def _counts(values: pa.ChunkedArray) -> dict[Any, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(values).to_pylist()}


def check_classes(found: list[Divided], settings: Settings) -> None:
    """Check that every class is on both sides, as of a whole table."""
    labels = list(dict.fromkeys(label for each in found for label in each.classes))
    sums = np.array([[each.classes.get(label, (0, 0, 0)) for label in labels] for each in found]).sum(axis=0)
    in_test, in_train, of_each = sums.T
    whole.check_shares(labels, in_test, in_train, of_each, settings, lambda: "another split.seed or split.test_size")
