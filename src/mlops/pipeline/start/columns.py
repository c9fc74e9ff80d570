"""What each column of a table is for: a key, a group, a time, a feature, or none, with the evidence for it.

Each decision is a guess from names and values. It goes into `params.yaml` with its reason, for a person to check.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.errors import counted
from mlops.core.settings import Kind
from mlops.data import tables
from mlops.data.identity import row_hash
from mlops.pipeline import profile
from mlops.pipeline import profile_figures as figures
from mlops.pipeline.profile_figures import Target, percent
from mlops.pipeline.start.reading import words

IDENTIFIES = frozenset({"id", "ids", "uuid", "guid", "identifier", "key"})
NUMBERS_ROWS = frozenset({"index", "rownames", "rownum", "rownumber", "unnamed", "row"})
# what a row may belong to, so that several rows of one are alike
ENTITIES = frozenset(
    (
        *("patient", "subject", "person", "participant", "child", "mother", "family", "household", "pupil", "student"),
        *("school", "class", "user", "customer", "client", "member", "account", "driver", "firm", "company", "store"),
        *("shop", "site", "station", "plot", "farm", "animal", "rat", "mouse", "dog", "cow", "session", "machine"),
        *(
            "passenger",
            "order",
            "product",
            "item",
            "case",
            "sample",
            "device",
            "engine",
            "unit",
            "batch",
            "author",
            "employee",
            "individual",
            "nr",
            "indiv",
            "idcode",
            "panel",
        ),
    )
)
PEOPLE = ({"name"}, {"full", "name"}, {"first", "name"}, {"last", "name"}, {"surname"}, {"email"}, {"phone"})
BIRTH = frozenset({"birth", "born", "dob", "birthday", "birthdate"})
# what divides people, and what divides places: slices to look at first
ABOUT_PEOPLE = frozenset({"sex", "gender", "race", "ethnicity", "ethnic", "age", "religion", "nationality", "language"})
SENSITIVE = ABOUT_PEOPLE | frozenset((*("region", "country", "state", "island", "city"),))
# a number that explains so much of another one is another form of it; of classes, the share of the profile suffices
GIVES_AWAY = 0.99
# a column that explains so much alone is a good one, or known too late: a person must look
SUSPICIOUS = 0.8
LEAST_GROUPS, LEAST_TIMES, LEAST_YEARS = 10, 10, 8
# rows of a group, on average, from which the split must keep them together
ROWS_OF_A_GROUP = 1.5
FEWEST_IN_SLICE, MOST_SLICES, MOST_VALUES = 30, 2, 10
# of more columns, such as pixels, none is worth a slice of its own
MOST_FEATURES = 100


class Roles(NamedTuple):
    """What the columns are for.

    Attributes
    ----------
    key : list of str
    drop : dict of str to str
        Column → why.
    time, group : str or None
        The columns that the split could follow.
    suspects : dict of str to float
        Features that explain most of the target alone, and how much.
    reasons : dict of str to str
        Key of `params.yaml` → why.
    """

    key: list[str]
    drop: dict[str, str]
    time: str | None
    group: str | None
    suspects: dict[str, float]
    reasons: dict[str, str]


def roles(table: pa.Table, kinds: dict[str, Kind], target: str, task: str) -> Roles:
    """Decide what each column is for.

    Parameters
    ----------
    table : pyarrow.Table of shape (n_samples, n_columns)
        Rows with a target, one Arrow type per kind.
    """
    names = [name for name in table.column_names if name != target]
    drop: dict[str, str] = {}
    keys: list[str] = []
    reasons: dict[str, str] = {}
    distinct = {name: pc.count_distinct(table[name]).as_py() for name in names}
    time = _time(table, names, kinds, distinct)
    for name in names:
        values, rows = table[name], table.num_rows
        filled = rows - values.null_count
        if not filled:
            drop[name] = "no value in any row"
        elif distinct[name] == 1 and filled == rows:
            drop[name] = "the same value in every row"
        elif name == time:
            continue
        elif distinct[name] == rows and _is_name(name) and kinds[name] in ("numeric", "categorical"):
            keys.append(name)
        elif kinds[name] == "numeric" and (_numbers_rows(values) or {*words(name)} & NUMBERS_ROWS):
            if distinct[name] == rows:
                drop[name] = "row numbers"
        elif kinds[name] == "categorical" and distinct[name] > max(0.9 * filled, 20):
            drop[name] = f"different in nearly every row ({distinct[name]:,} values)"
        elif {*words(name)} in PEOPLE and distinct[name] > 0.5 * filled:
            drop[name] = "the name of a person or thing"
    if keys:
        drop |= dict.fromkeys(keys[1:], f"another identifier of a row, beside {keys[0]}")
        reasons["data.key"] = "different in every row, and named as an identifier"
        keys = keys[:1]
    group = _group(table, names, kinds, distinct, {*drop, *keys, time})
    for name in names:
        if (
            _is_name(name)
            and name not in {*keys, *drop, time}
            and (name != group or time)
            and distinct[name] > MOST_VALUES
        ):
            drop[name] = "an identifier: what a row belongs to, not what it is like"
    group = None if group in drop else group
    if not keys and not group:
        reasons["data.key"] = "no column identifies a row, so its content does"
    left = [name for name in names if name not in drop and name not in keys and name not in (time, group)]
    related = relations(table, kinds, left, target, task)
    suspects = {}
    for name, share in related.items():
        if share >= (GIVES_AWAY if task == "regression" else profile.LEAKAGE):
            known = f"{percent(share)} of {target} follows from it alone"
            drop[name] = f"{known}, so it may be another form of it, or known only after it"
        elif share >= SUSPICIOUS:
            suspects[name] = share
    return Roles(keys, drop, time, group, suspects, reasons)


def _is_name(name: str) -> bool:
    found = words(name)
    return bool(IDENTIFIES & {*found}) or any(found[0] == f"{each}id" for each in ENTITIES if found)


def _numbers_rows(values: pa.ChunkedArray) -> bool:
    """Row numbers written by a program: distinct integers with few gaps."""
    if not pa.types.is_integer(values.type) or values.null_count:
        return False
    low, high = pc.min_max(values).as_py().values()
    rows = len(values)
    return bool(rows > max((high - low) / 2, 20) and pc.count_distinct(values).as_py() == rows)


def _time(table: pa.Table, names: list[str], kinds: dict[str, Kind], distinct: dict[str, int]) -> str | None:
    """The column that says when a row happened; a year only where the rows are in its order."""
    dates = [
        name
        for name in names
        if kinds[name] == "date"
        and not table[name].null_count
        and distinct[name] >= LEAST_TIMES
        and not BIRTH & {*words(name)}
    ]
    if dates:
        return dates[0]
    for name in names:
        values = table[name]
        if words(name)[-1:] == ["year"] and pa.types.is_integer(values.type) and not values.null_count:
            low, high = pc.min_max(values).as_py().values()
            years = np.asarray(values.to_numpy())
            if low > 1500 and high < 2200 and distinct[name] >= LEAST_YEARS and (np.diff(years) >= 0).all():
                return name
    return None


def _group(
    table: pa.Table, names: list[str], kinds: dict[str, Kind], distinct: dict[str, int], taken: set[str | None]
) -> str | None:
    """The column that says to whom or what a row belongs, where several rows belong to one."""
    for name in names:
        values = table[name]
        if name in taken or values.null_count or not LEAST_GROUPS <= distinct[name] <= table.num_rows / ROWS_OF_A_GROUP:
            continue
        whole = pa.types.is_integer(values.type) or kinds[name] == "categorical"
        found = {*words(name)}
        if whole and (IDENTIFIES & found or (found and found <= ENTITIES) or _is_name(name)):
            return name
    return None


def relations(table: pa.Table, kinds: dict[str, Kind], names: list[str], target: str, task: str) -> dict[str, float]:
    """How much of the target each column explains alone, as the profile measures it; the strongest first."""
    sample = tables.some(table, profile.SAMPLE)
    if task == "regression":
        goal = Target(figures.floats(sample[target]))
    else:
        classes, codes = figures.codes(sample[target])
        goal = Target(codes, [str(value) for value in classes])
    finest = min(max(sample.num_rows // 4, 1), 1000)
    found = {}
    for name in names:
        if kinds[name] != "text":
            group = figures.groups(sample[name], finest)
            found[name] = figures.explained(group, goal) or 0.0
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def copies(table: pa.Table, names: list[str]) -> int:
    """How many rows are an exact copy of an earlier row in these columns."""
    return int(table.num_rows - len(np.unique(row_hash(table, names))))


def slices(
    table: pa.Table, kinds: dict[str, Kind], features: list[str], related: dict[str, float], test_size: float
) -> tuple[list[str], str]:
    """Columns whose values are evaluated separately, and why these."""
    rows = table.num_rows * test_size
    named: list[tuple[bool, int, str]] = []
    for name in features:
        two = kinds[name] == "numeric" and pc.count_distinct(table[name]).as_py() == 2
        if kinds[name] in ("categorical", "boolean") or two:
            counts = sorted((count for _, count in figures.most_frequent(table[name], 50)[0]), reverse=True)
            if 2 <= len(counts) <= MOST_VALUES and counts[1] * test_size >= FEWEST_IN_SLICE:
                named.append((not SENSITIVE & {*words(name)}, len(counts), name))
    chosen = [name for *_, name in sorted(named)][:MOST_SLICES]
    numbers = [name for name in related if kinds[name] == "numeric" and name in features]
    if len(chosen) < MOST_SLICES and rows >= 4 * FEWEST_IN_SLICE and numbers and len(features) <= MOST_FEATURES:
        sensitive = [name for name in numbers if SENSITIVE & {*words(name)}]
        chosen.append((sensitive or numbers)[0])
    if not chosen:
        return [], f"no column has two values with {FEWEST_IN_SLICE} test rows each"
    about = [name for name in chosen if ABOUT_PEOPLE & {*words(name)}]
    why = f"{counted(len(chosen), 'column')} with at least {FEWEST_IN_SLICE} test rows in a slice"
    if about:
        why += f"; {', '.join(about)}: groups of people, which the model must serve alike"
    if any(kinds[name] == "numeric" for name in chosen):
        why += "; numbers are cut at their quartiles"
    return chosen, why


def described(names: dict[str, str], most: int = 8) -> str:
    """``a: why; b: why``, for a comment."""
    listed: dict[str, list[str]] = {}
    for name, why in names.items():
        listed.setdefault(why, []).append(name)
    parts = [f"{', '.join(each[:most])}{', …' if len(each) > most else ''}: {why}" for why, each in listed.items()]
    return "; ".join(parts)


def values_of(table: pa.Table, name: str) -> list[Any]:
    """The distinct values of a column, most frequent first."""
    return [value for value, _ in figures.most_frequent(table[name], table.num_rows)[0]]
