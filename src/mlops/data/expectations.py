"""Read, check or draft a Great Expectations suite, a JSON file that people review.

`make expectations` drafts a suite for a person to edit. Certain facts (columns, classes, a minimum number of rows) are
critical; likely ones (ranges, names, missing values) are warnings.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Set as AbstractSet
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, run
from mlops.core.files import atomic
from mlops.core.settings import Query, Settings
from mlops.core.yamlfile import closest
from mlops.data import parts, tables

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before anything imports Great Expectations

FOLDER = Path("data/expectations")
# Categorical columns with more values than this get no set of allowed values.
MOST_NAMES = 20
WHOLE_TABLE = ("expect_column_to_exist", "expect_table_column")
BETWEEN = "column_values_to_be_between"
# GX reads "2026-01-31" as a date without time, which pandas cannot compare with the table's timestamps.
BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Rule(NamedTuple):
    """An expectation of Great Expectations, its location in the file, and its columns."""

    where: str
    columns: list[str]
    expectation: Any


def read(path: str | Path, gone: AbstractSet[str] = frozenset()) -> list[Rule]:
    """Read a suite; Great Expectations builds and checks every expectation.

    Parameters
    ----------
    gone : set of str
        Columns that `params.yaml` drops; expectations about them are ignored.

    Raises
    ------
    UserError
        Names the file and lists every invalid expectation, with the closest valid type or argument.
    """
    path = Path(path)
    suite = _parse(path)
    rules, problems = [], []
    for number, entry in enumerate(suite["expectations"], start=1):
        kind = entry.get("type") if isinstance(entry, dict) else None
        where = f"{path}: expectation {number}" + (f" ({kind})" if kind else "")
        try:
            rules.append(Rule(where, columns(entry), build(_without(entry, gone))))
        except ValueError as error:
            problems += [f"{where}: {line}" for line in str(error).splitlines()]
    if problems:
        raise UserError("\n".join(problems))
    return [rule for rule in rules if not gone & set(rule.columns)]


def _parse(path: Path) -> dict[str, Any]:
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = sorted(str(file) for file in FOLDER.glob("*.json"))
        raise UserError(
            f"params.yaml: validate.suite: there is no file {path}{closest(str(path), there)}",
            "`make expectations` drafts it from the table",
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}") from None
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise UserError(
            f"{path} is not a suite: it must contain a list of expectations", "`make expectations` drafts one"
        )
    known = ["name", "expectations", "meta", "notes", "id"]
    for key in suite:
        if key not in known:
            raise UserError(f"{path}: unknown key {key!r}{closest(key, known)}")
    return suite


def columns(entry: Any) -> list[str]:
    """Columns of an entry of a suite; none if it concerns the whole table."""
    kwargs = entry.get("kwargs") if isinstance(entry, dict) else None
    if not isinstance(kwargs, dict) or str(entry.get("type")).startswith(WHOLE_TABLE):
        return []
    named = [kwargs.get(key) for key in ("column", "column_A", "column_B")]
    listed = kwargs.get("column_list")
    return [name for name in [*named, *(listed if isinstance(listed, list) else [])] if isinstance(name, str)]


def _without(entry: Any, gone: AbstractSet[str]) -> Any:
    """The entry without `gone` in its list of the table's columns."""
    if gone and str(entry.get("type")).startswith("expect_table_columns_to_match"):
        kwargs = {
            key: [name for name in value if name not in gone] if isinstance(value, list) else value
            for key, value in entry["kwargs"].items()
        }
        return entry | {"kwargs": kwargs}
    return entry


def build(entry: Any) -> Any:
    """Build one expectation from its entry in a suite.

    Parameters
    ----------
    entry : dict
        ``{"type": …, "kwargs": {…}, "severity": …, "meta": {…}}``

    Raises
    ------
    ValueError
        One line per mistake.
    """
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.exceptions import ExpectationNotFoundError, InvalidExpectationConfigurationError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    if not isinstance(entry, dict):
        raise ValueError(f"must be an object with type and kwargs, got {json.dumps(entry)[:80]}")
    keys = ["type", "kwargs", "severity", "meta", "notes", "description", "id"]
    unknown = [key for key in entry if key not in keys]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}{closest(unknown[0], keys)}")
    kind, kwargs = entry.get("type"), entry.get("kwargs", {})
    if not isinstance(kind, str) or not isinstance(kwargs, dict):
        raise ValueError("needs a type (a name) and kwargs (an object)")
    bounds = {
        key: f"{value}T00:00:00"
        for key, value in kwargs.items()
        if key in ("min_value", "max_value") and isinstance(value, str) and BARE_DATE.fullmatch(value)
    }
    try:
        arguments = list(get_expectation_impl(kind).__fields__)
        return ExpectationConfiguration(**{**entry, "kwargs": kwargs | bounds}).to_domain_obj()
    except ExpectationNotFoundError:
        types = sorted(list_registered_expectation_implementations())
        raise ValueError(f"unknown type{closest(kind, types)}") from None
    except InvalidExpectationConfigurationError as error:
        raise ValueError(str(error)) from None
    except ValidationError as error:
        # a value that matches no type of a union is reported once per type and once more; the first report is enough
        problems = {str(problem["loc"][0]): problem for problem in reversed(error.errors())}
        whole = problems.pop("__root__", None)
        problems = problems or {"": whole}
        raise ValueError(
            "\n".join(_describe(*item, kwargs, arguments) for item in reversed(problems.items()))
        ) from None


def _describe(name: str, problem: Any, kwargs: dict[str, Any], arguments: list[str]) -> str:
    if problem["type"] == "value_error.extra":
        return f"unknown argument {name!r}{closest(name, arguments)}"
    if problem["type"] == "value_error.missing":
        return f"needs the argument {name!r}"
    if name not in kwargs:
        return str(problem["msg"])
    return f"{name}: {problem['msg']}, got {json.dumps(kwargs[name], ensure_ascii=False)[:80]}"


def main() -> str:
    settings = settings_module.load()
    path = Path(settings.validate_.suite or FOLDER / f"{name(settings)}.json")
    if path.exists():
        raise UserError(
            f"{path} exists and may contain manual edits",
            f"edit it, or `rm {path}`, draft it again and compare with `git diff`",
        )
    catalogue = tables.read_catalogue()
    # of partitions, one column at a time
    table = parts.Parts(paths.TABLE) if paths.TABLE.is_dir() else tables.read(paths.TABLE)
    entries = draft(table, catalogue, settings)
    write(path, entries)
    step = "" if settings.validate_.suite else f", then set validate.suite: {path} in params.yaml"
    return f"{len(entries)} expectations → {path}: edit limits and severities{step}"


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write a suite."""
    with atomic(path) as partial:
        partial.write_text(text(path.stem, entries), encoding="utf-8")


def text(stem: str, entries: list[dict[str, Any]]) -> str:
    """The text of a suite, with one expectation per line, so that a review shows a change as one line."""
    lines = ",\n".join(f"    {json.dumps(entry, ensure_ascii=False, allow_nan=False)}" for entry in entries)
    return f'{{\n  "name": {json.dumps(stem, ensure_ascii=False)},\n  "expectations": [\n{lines}\n  ]\n}}\n'


def name(settings: Settings) -> str:
    """The name of a suite for the source."""
    source = settings.data.source
    last = "" if isinstance(source, Query) else re.split(r"[/:]", source.split("?")[0].rstrip("/"))[-1].split(".")[0]
    return re.sub(r"\W+", "_", last).strip("_") or "table"


def draft(table: pa.Table, catalogue: tables.Catalogue, settings: Settings) -> list[dict[str, Any]]:
    """Draft expectations from one table.

    Parameters
    ----------
    table : pyarrow.Table of shape (n_samples, n_columns)
        A prepared table.
    catalogue : Catalogue
        The catalogue of this table.

    Returns
    -------
    list of dict
        Entries of a suite. The key is excluded, because `validate` always checks it.
    """
    rows, target = table.num_rows, settings.data.target
    entries = [
        expect("table_columns_to_match_set", "critical", column_set=table.column_names),
        expect(
            "table_row_count_to_be_between",
            "critical",
            f"{rows:,} rows",
            min_value=_rounded(rows / 2, rows / 2, ROUND_FLOOR),
        ),
    ]
    for column in (column for column in catalogue.columns if column.name not in settings.data.key):
        name, values = column.name, table[column.name]
        severity = "critical" if name == target else "warning"
        missing = pc.sum(pc.is_null(values, nan_is_null=True)).as_py()
        mostly = int(100 * (1 - missing / rows)) / 100 - 0.05
        if not missing:
            entries.append(expect("column_values_to_not_be_null", severity, column=name))
        elif mostly > 0:
            seen = f"{missing:,} of {rows:,} missing"
            entries.append(expect("column_values_to_not_be_null", severity, seen, column=name, mostly=round(mostly, 2)))
        if missing == rows:
            continue
        few_names = column.distinct is not None and column.distinct <= MOST_NAMES and name not in settings.data.private
        if few_names or (name == target and settings.data.task == "classification"):
            names = sorted(pc.unique(values.drop_null()).to_pylist())
            entries.append(expect("column_values_to_be_in_set", severity, column=name, value_set=names))
        elif column.kind == "numeric":
            low, high = pc.min_max(values.filter(pc.is_finite(values))).as_py().values()
            least, most = _widened(low, high)
            seen = f"{low:g} to {high:g}"
            entries.append(expect(BETWEEN, "warning", seen, column=name, min_value=least, max_value=most))
        elif column.kind == "date":
            # no last date, because every delivery moves it
            first = pc.min(values).as_py()
            seen, year = f"from {first:%Y-%m-%d} on", f"{first.year:04}-01-01T00:00:00"
            entries.append(expect(BETWEEN, "warning", seen, column=name, min_value=year))
        elif column.kind == "time":
            # in seconds since midnight, because Great Expectations has no limits that are times
            low, high = pc.min_max(values).as_py().values()
            seen = f"{low:%H:%M:%S} to {high:%H:%M:%S}, in seconds since midnight"
            least, most = 3600 * low.hour, 3600 * (high.hour + 1)
            entries.append(expect(BETWEEN, "warning", seen, column=name, min_value=least, max_value=most))
    return entries


def expect(kind: str, severity: str, observed: str = "", /, **kwargs: Any) -> dict[str, Any]:
    """An entry of a suite, as Great Expectations writes it but without empty fields."""
    meta = {"meta": {"observed": observed}} if observed else {}
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity, **meta}


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range extended by half its width on both sides; a range that starts near zero starts at zero."""
    margin = (high - low) / 2 or abs(low) / 2 or 1
    least = 0 if 0 <= low <= high - low else _rounded(low - margin, margin, ROUND_FLOOR)
    most = 0 if low - high <= high <= 0 else _rounded(high + margin, margin, ROUND_CEILING)
    return least, most


def _rounded(number: float, scale: float, direction: str) -> float:
    """Round to the decimals of two digits of `scale`; an integer if possible."""
    step = Decimal(1).scaleb(Decimal(scale).adjusted() - 1)
    rounded = (Decimal(number) / step).to_integral_value(direction) * step
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)


if __name__ == "__main__":
    run("draft", main)
