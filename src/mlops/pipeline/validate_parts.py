"""`validate` of a partitioned table: what is about single rows is checked by partition, and added up.

Uniqueness is decided by hashes, 8 bytes a row, and confirmed on the rows whose hashes are equal. What is about a whole
column, such as its mean, takes that column into memory, or is refused with the memory that this would take.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core import cluster
from mlops.data import parts, tables
from mlops.data.expectations import Rule
from mlops.data.identity import Hashes, row_hash
from mlops.data.parts import Parts
from mlops.pipeline import validate as whole

UNIQUE = ("expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique")
# about rows, but compared with other rows
COMPARED = (
    "expect_column_value_z_scores_to_be_less_than",
    "expect_column_values_to_be_decreasing",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_not_be_outliers",
)


class Outcome(NamedTuple):
    """What `mlops.pipeline.validate` reads of a result of Great Expectations."""

    success: bool
    result: dict[str, Any]
    exception_info: dict[str, Any]


def evaluate(table: Parts, rules: list[Rule]) -> list[Any]:
    """The result of each rule, in order."""
    found: dict[int, Any] = {}
    about = {number: _about(rule, table) for number, rule in enumerate(rules)}

    def chosen(kind: str) -> list[int]:
        return [number for number in about if about[number] == kind]

    by_row = chosen("rows")
    if by_row:
        work = partial(one, [rules[number] for number in by_row])
        of_parts = list(cluster.each(work, table.files, "partition"))
        for place, number in enumerate(by_row):
            mostly = getattr(rules[number].expectation, "mostly", 1.0)
            found[number] = together([each[place] for each in of_parts], table.rows, mostly)
    for number in chosen("unique"):
        found[number] = unique(table, rules[number])
    for number in chosen("column"):
        names = list(whole.columns_of(rules[number], table.column_names))
        hint = "an expectation about single rows, or a machine with more memory"
        parts.require(table, names, f"{rules[number].where}: {', '.join(names)}", hint)
        columns = pa.table({name: table[name] for name in names})
        (found[number],) = whole.evaluate(columns, [rules[number]])
    for number in chosen("table"):
        outline = pa.table({name: pa.nulls(table.num_rows) for name in table.column_names})
        (found[number],) = whole.evaluate(outline, [rules[number]])
    return [found[number] for number in range(len(rules))]


def _about(rule: Rule, table: Parts) -> str:
    """What a rule has to see: single rows, a column that is to be unique, whole columns, or only their names."""
    from great_expectations.expectations import expectation as kinds

    names = whole.columns_of(rule, table.column_names)
    if not names or any(name not in table.column_names for name in names):
        return "table"
    kind = rule.expectation.expectation_type
    if kind in UNIQUE and not rule.expectation.configuration.kwargs.get("row_condition"):
        return "unique"
    by_row = (kinds.ColumnMapExpectation, kinds.ColumnPairMapExpectation, kinds.MulticolumnMapExpectation)
    return "rows" if isinstance(rule.expectation, by_row) and kind not in (*UNIQUE, *COMPARED) else "column"


def one(rules: list[Rule], file: Path) -> list[Outcome]:
    """The outcome of each rule for a partition."""
    found = [_plain(each) for each in whole.evaluate(tables.read(file), rules, "SUMMARY")]
    gc.collect()  # Great Expectations leaves columns in cycles, and stages collect these rarely
    return found


def _plain(result: Any) -> Outcome:
    return Outcome(bool(result.success), dict(result.result), dict(result.exception_info or {}))


def together(found: list[Outcome], rows: list[int], mostly: float) -> Outcome:
    """The outcome for the whole table."""
    broken = next((each for each in found if whole.problem(each.exception_info)), None)
    if broken is not None:
        return broken
    if not all("element_count" in each.result for each in found):  # about the type of a column
        return next((each for each in found if not each.success), found[0])
    counts = {
        key: sum(each.result.get(key) or 0 for each in found)
        for key in ("element_count", "missing_count", "unexpected_count")
    }
    places, first = [], 0
    for each, count in zip(found, rows, strict=True):
        places += [first + row for row in sorted(each.result.get("partial_unexpected_index_list") or [])]
        first += count
    judged = counts["element_count"] - counts["missing_count"]
    success = judged == 0 or (judged - counts["unexpected_count"]) / judged >= mostly
    return Outcome(success, {**counts, "partial_unexpected_index_list": places[: whole.EXAMPLES]}, {})


def unique(table: Parts, rule: Rule) -> Any:
    """The outcome of a rule that a column, or several together, hold no value twice."""
    names = list(whole.columns_of(rule, table.column_names))
    large = set().union(*(parts.large(parts.metadata(file)) for file in table.files))
    hashes = np.concatenate(list(cluster.each(partial(_hashes, names, large), table.files, "partition")))
    rising = np.sort(hashes)
    twice = np.unique(rising[1:][rising[1:] == rising[:-1]])
    del rising
    if not len(twice):
        return Outcome(True, {}, {})
    places = np.flatnonzero(np.isin(hashes, twice))
    outcome = _plain(whole.evaluate(_rows(table, places, names), [rule], "SUMMARY")[0])
    result = dict(outcome.result)
    listed: Iterable[int] = result.get("partial_unexpected_index_list") or []
    result["partial_unexpected_index_list"] = [int(places[row]) for row in listed]
    mostly = getattr(rule.expectation, "mostly", 1.0)
    enough = (table.num_rows - result.get("unexpected_count", 0)) / table.num_rows >= mostly
    return outcome._replace(success=outcome.success or enough, result=result)


def _rows(table: Parts, places: np.ndarray[Any, Any], names: list[str]) -> pa.Table:
    return table.take(pa.array(places)).select(names)


def _hashes(names: list[str], large: set[str], file: Path) -> Hashes:
    return row_hash(tables.read(file, names), names, large)
