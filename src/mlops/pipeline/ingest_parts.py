"""`ingest` of a partitioned source: each partition is converted, checked, cleaned and written on its own.

The kinds of columns are decided once, from the types that all files have in common, and for texts from the first
partition. What a partition says about its columns is then added up for the catalogue.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops.core import cluster, paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, counted
from mlops.core.settings import PARAMS, Kind, Settings
from mlops.data import added, cleaning, kinds, limits, partitions, parts, sources, tables
from mlops.data.identity import is_large, row_hash
from mlops.data.partitions import Chunk, Partitions
from mlops.data.tables import Step
from mlops.pipeline import ingest as whole

Array = np.ndarray[Any, Any]

# Classes after which no further one is counted: `ingest` refuses that many
MOST_CLASSES = 1001


class Facts(NamedTuple):
    """What a partition says about itself.

    Attributes
    ----------
    rows : int
    sha256 : str
        Of its file.
    types : dict of str to DataType
    missing : dict of str to int
    distinct : dict of str to ndarray of uint64
        Hashes of the categories.
    labels : Array
        Some distinct values of the target: classes, or the smallest and largest number.
    without_target : list of str
        Places of its first rows without a target.
    large : set of str
        Columns of whole numbers beyond 2^53.
    steps : list of Step
    """

    rows: int
    sha256: str
    types: dict[str, pa.DataType]
    missing: dict[str, int]
    distinct: dict[str, Array]
    labels: pa.Array
    without_target: list[str]
    large: set[str]
    steps: list[Step]


def ingest(settings: Settings) -> dict[str, Any]:
    """Write the partitions of the table; gives the catalogue.

    Raises
    ------
    UserError
        As `mlops.pipeline.ingest`, or where `params.yaml` asks for what needs the whole table.
    """
    refuse_whole_table(settings)
    data = settings.data
    source = partitions.found(data)
    settings_module.check_columns(settings, source.columns)
    chosen = decided(source, settings)
    with parts.writing(paths.TABLE) as (folder,):
        work = partial(one, source._replace(chunks=[]), chosen, settings, folder)
        facts = list(cluster.each(work, source.chunks, "partition"))
        _check(facts, source, settings)
        types = {name: pa.unify_schemas(_schemas(facts, name), promote_options="permissive")[0].type for name in chosen}
        odd = [number for number, each in enumerate(facts) if any(each.types[name] != types[name] for name in types)]
        again = list(cluster.each(partial(recast, types, folder), odd, "partition"))
    for number, sha256 in zip(odd, again, strict=True):
        facts[number] = facts[number]._replace(sha256=sha256)
    return catalogue(facts, chosen, types, settings)


def refuse_whole_table(settings: Settings) -> None:
    """Refuse keys that compare rows of different partitions, or add rows that have none."""
    data, clean = settings.data, settings.data.clean
    asked = {
        "data.labels": (data.labels, "join them before the table is partitioned"),
        "data.more": (data.more, "add the rows to the folder as another file"),
        "data.recent": (data.recent, "split.method: time"),
        "data.clean.duplicates": (clean.duplicates, "remove them before the table is partitioned"),
        "data.clean.outliers": (clean.outliers, "data.clean.ranges, with limits of your own"),
    }
    for key, (value, hint) in asked.items():
        if value:
            raise UserError(f"{PARAMS}: {key} needs the whole table in memory, and {data.source} is partitioned", hint)


def decided(source: Partitions, settings: Settings) -> dict[str, Kind]:
    """The kind of each column: declared, or that of its type, or for texts that of the first partition."""
    data = settings.data
    if not source.chunks:
        raise UserError(f"{data.source} has 0 rows; at least {whole.MIN_ROWS} are required", "a larger table")
    found: dict[str, Kind] = {}
    undecided = [field for field in source.schema if field.name not in data.types and field.name not in data.private]
    texts = [field for field in undecided if kinds.is_text(_plain(field.type))]
    first = partitions.read(source.chunks[0], pa.schema(texts), data) if texts else pa.table({})
    origin = sources.Origin([], {}, typed=True)
    for field in source.schema:
        if field.name in data.private:
            found[field.name] = "categorical"
            continue
        values = first[field.name] if field.name in first.column_names else pa.chunked_array([], field.type)
        found[field.name], _ = whole.typed(field.name, values, data.types.get(field.name), origin)
    return found


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def one(source: Partitions, chosen: dict[str, Kind], settings: Settings, folder: Path, chunk: Chunk) -> Facts:
    """Convert, clean and write a partition."""
    data = settings.data
    raw = partitions.read(chunk, source.schema, data)
    columns = dict(zip(raw.column_names, raw.columns, strict=True))
    del raw
    origin = sources.Origin([], {chunk.name: chunk.first + chunk.rows}, typed=True, first=chunk.first)
    for name, kind in chosen.items():
        _, columns[name] = whole.typed_or_private(name, columns[name], origin, kind, data)
    table, places, steps = cleaning.cleaned(pa.table(columns), settings, origin.place, source.large)
    columns.clear()

    def place(row: int) -> str:
        return origin.place(int(places[row]))

    for name in chosen:
        whole.check_finite(name, table[name], place)
    target = table[data.target]
    absent = pc.indices_nonzero(pc.is_null(target))
    path = folder / parts.file_name(chunk.number)
    tables.write(table, path)
    return Facts(
        rows=table.num_rows,
        sha256=_sha256(path),
        types={name: table[name].type for name in chosen},
        missing={name: table[name].null_count for name in chosen},
        distinct={name: _categories(table[name]) for name, kind in chosen.items() if kind == "categorical"},
        labels=_labels(target, settings),
        without_target=[place(row) for row in absent[:5].to_pylist()],
        large={name for name in chosen if pa.types.is_integer(table[name].type) and is_large(table[name])},
        steps=steps,
    )


def _categories(values: pa.ChunkedArray) -> Array:
    distinct = pa.chunked_array([values.drop_null().unique()], values.type)
    return np.unique(row_hash(pa.table({"value": distinct}), ["value"]))


def _labels(target: pa.ChunkedArray, settings: Settings) -> pa.Array:
    known = target.drop_null()
    if settings.data.task == "regression" and len(known):
        return pa.array(list(dict.fromkeys(pc.min_max(known).as_py().values())), target.type)
    return known.unique()[:MOST_CLASSES]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recast(types: dict[str, pa.DataType], folder: Path, number: int) -> str:
    """Write a partition again, in the types of all: a correction made fractions of whole numbers in another."""
    path = folder / parts.file_name(number)
    table = pq.ParquetFile(path).read()
    fields = [pa.field(field.name, types.get(field.name, field.type)) for field in table.schema]
    tables.write(table.cast(pa.schema(fields)), path)
    return _sha256(path)


def _schemas(facts: list[Facts], name: str) -> list[pa.Schema]:
    return [pa.schema([(name, kind)]) for kind in dict.fromkeys(each.types[name] for each in facts)]


def _check(facts: list[Facts], source: Partitions, settings: Settings) -> None:
    """Check what only all partitions together show."""
    rows, shown = sum(each.rows for each in facts), sources.describe(settings.data)
    if rows < whole.MIN_ROWS:
        raise UserError(
            f"{counted(rows, 'row')} of {shown} left; at least {whole.MIN_ROWS} are required",
            "a larger table, or less strict rules of data.clean",
        )
    unseen = set().union(*(each.large for each in facts)) - source.large
    if unseen and limits.corrections(settings.data) and not settings.data.key:
        raise UserError(
            f"column {min(unseen)!r} holds whole numbers beyond 2^53, which the statistics of its files do not show",
            f"data.key, or data.types: {{{min(unseen)}: categorical}}",
        )
    absent = sum(each.missing[settings.data.target] for each in facts)
    if absent:
        places = [place for each in facts for place in each.without_target]
        raise whole.missing_target(settings, absent, places[:5])
    labels = pa.chunked_array([each.labels for each in facts if len(each.labels)]).unique()
    whole.check_labels(labels, settings)


def catalogue(
    facts: list[Facts], chosen: dict[str, Kind], types: dict[str, pa.DataType], settings: Settings
) -> dict[str, Any]:
    """The catalogue entry of all partitions."""
    steps: list[Step] = []
    for each in facts:
        steps = added.summed(steps, each.steps)
    columns = [
        tables.Column(
            name=name,
            kind=kind,
            type=str(types[name]),
            unit=settings.data.units.get(name),
            missing=sum(each.missing[name] for each in facts),
            distinct=_union(facts, name) if kind == "categorical" else None,
        ).model_dump()
        for name, kind in chosen.items()
    ]
    whole_hash = hashlib.sha256("".join(f"{each.sha256}\n" for each in facts).encode()).hexdigest()
    return {
        "source": sources.describe(settings.data),
        "rows": sum(each.rows for each in facts),
        "sha256": whole_hash,
        "columns": columns,
        "cleaning": [step.model_dump() for step in steps],
    }


def _union(facts: list[Facts], name: str) -> int:
    known = np.array([], np.uint64)
    for each in facts:
        known = np.union1d(known, each.distinct[name])
    return len(known)
