"""Stage `validate`: check the prepared table with a Great Expectations suite before training.

The outputs are a metric with counts, and a list of all failed expectations with example rows and values. A
failed critical expectation stops the pipeline; a warning is printed. `--docs` also writes Data Docs, one HTML page.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import math
import string
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, counted, run
from mlops.core.files import atomic, write_json
from mlops.core.settings import Settings
from mlops.core.yamlfile import closest
from mlops.data import expectations as suites
from mlops.data import tables
from mlops.data.expectations import Rule

REPORTS = Path("reports")
METRIC, FAILURES = REPORTS / "validation.json", REPORTS / "validation_failures.json"
DOCS = REPORTS / "data_docs/index.html"
# Rows listed for each failed expectation: in the file, and on the terminal
EXAMPLES, SHOWN_EXAMPLES, SHOWN_FAILURES = 20, 3, 25
# Characters of a text in the file
LONGEST = 200
# Data Docs load styles and scripts from the network and do not escape values: this policy blocks both
DOCS_HEAD = """<head>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
  table { border-collapse: collapse; margin: .5rem 0 1rem }
  th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top }
  .badge { background: #eee; border-radius: .2rem; padding: 0 .3rem } .text-danger { color: #b00020 }
  .fa-check-circle::before { content: "✔"; color: #1a7f37 } .fa-times::before { content: "✘" }
  .fa-exclamation-triangle::before { content: "⚠" } #navigation ul { columns: 4 12rem; padding-left: 1rem }
  footer, img, .breadcrumb, .collapse, [data-toggle=collapse], .sticky > .card:first-of-type { display: none }
</style>"""


def main(docs: bool = False) -> str:
    settings = settings_module.load()
    path = settings.validate_.suite
    if not path and not settings.data.key:
        write_results([], [])
        return "nothing to check: validate.suite in params.yaml is empty; `make expectations` drafts a suite"
    gone = settings.data.dropped
    keys, suite = key_rules(settings), suites.read(path, gone) if path else []
    rules, detail = keys + suite, "SUMMARY" if docs else "BOOLEAN_ONLY"
    if paths.TABLE.is_dir():
        from mlops.data.parts import Parts
        from mlops.pipeline import validate_parts

        if docs:
            raise UserError("Data Docs need the whole table in memory, and it is partitioned", f"read {FAILURES}")
        table: Any = Parts(paths.TABLE)
        results = validate_parts.evaluate(table, rules)
    else:
        table = tables.read(paths.TABLE)
        # rows of data.more and data.recent follow the source's, and have no key
        results = evaluate(table.slice(0, known_rows(table, settings)), keys, detail) + evaluate(table, suite, detail)
    failures = describe_failures(table, rules, results)
    if docs:
        write_docs(results, path or "params.yaml")
    write_results(rules, failures)  # before the report, which may stop the pipeline
    if failures:
        report(failures, path or "params.yaml")
    source = path or "params.yaml (no suite: `make expectations` drafts one)"
    rest = f"; failures → {FAILURES}" if failures else ""
    return f"{len(rules) - len(failures)} of {len(rules)} expectations pass, from {source}{rest}"


def known_rows(table: pa.Table, settings: Settings) -> int:
    """How many of the first rows are the source's."""
    added = 0
    if settings.data.more or settings.data.recent:
        catalogue = tables.read_catalogue()
        added = catalogue.more + catalogue.recent
    return int(table.num_rows) - added


def key_rules(settings: Settings) -> list[Rule]:
    """Expectations for `data.key`: no missing values and no duplicates."""
    key = settings.data.key
    entries = [suites.expect("column_values_to_not_be_null", "critical", column=name) for name in key]
    if len(key) == 1:
        entries.append(suites.expect("column_values_to_be_unique", "critical", column=key[0]))
    elif key:
        entries.append(suites.expect("compound_columns_to_be_unique", "critical", column_list=key))
    return [Rule("params.yaml: data.key", suites.columns(entry), suites.build(entry)) for entry in entries]


def evaluate(table: pa.Table, rules: list[Rule], result_format: str = "BOOLEAN_ONLY") -> list[Any]:
    """Check each rule with Great Expectations; a failed one lists the first rows that violate it.

    Columns are passed one at a time, because each expectation copies all columns of its batch. There is no context and
    data source, which would hash and store the columns.

    Returns
    -------
    list of ExpectationValidationResult
        In the order of `rules`.
    """
    from great_expectations.core.batch import Batch
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.validator.validator import Validator

    validator = Validator(PandasExecutionEngine())
    validator.metrics_calculator.show_progress_bars = False
    results: list[Any] = [None] * len(rules)
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, rule in enumerate(rules):
        names = columns_of(rule, table.column_names)
        unknown = [name for name in names if name not in table.column_names]
        if unknown:
            problem = f"the table has no column {unknown[0]!r}{closest(unknown[0], table.column_names)}"
            results[number] = _not_checked(rule, problem)
        else:
            groups.setdefault(names, []).append(number)
    for names, numbers in groups.items():
        validator.load_batch_list([Batch(as_pandas(table, names))])
        for detail in dict.fromkeys([result_format, "SUMMARY"]):
            for number, result in _check(validator, rules, numbers, detail):
                results[number] = result
            numbers = [number for number in numbers if not results[number].success]
            if not numbers:
                break
    return results


def _check(validator: Any, rules: list[Rule], numbers: list[int], result_format: str) -> Iterator[tuple[int, Any]]:
    """Yield the results of the rules with these numbers, in any order."""
    options = {
        "result_format": result_format,
        "partial_unexpected_count": EXAMPLES,
        "return_unexpected_index_query": False,
    }
    configurations = [rules[number].expectation.configuration for number in numbers]
    for number, configuration in zip(numbers, configurations, strict=True):
        configuration.id = str(number)
    try:
        results = validator.graph_validate(configurations, {"result_format": options})
    except Exception as error:  # Great Expectations does not catch all errors itself, such as a wrong partition object
        if len(numbers) == 1:
            yield numbers[0], _not_checked(rules[numbers[0]], str(error))
            return
        for number in numbers:
            yield from _check(validator, rules, [number], result_format)
        return
    for result in results:
        plain = json.dumps(result.to_json_dict()["result"])  # without numpy's numbers and NaN
        result.result = json.loads(plain, parse_constant=lambda _: None)
        yield int(result.expectation_config.id), result


def columns_of(rule: Rule, there: list[str]) -> tuple[str, ...]:
    """Columns that an expectation needs; none if it is about the whole table."""
    condition = rule.expectation.configuration.kwargs.get("row_condition") or ""
    text = condition if isinstance(condition, str) else json.dumps(condition, default=str, ensure_ascii=False)
    return tuple(dict.fromkeys([*rule.columns, *(name for name in there if name in text)]))


def as_pandas(table: pa.Table, names: tuple[str, ...]) -> Any:
    """Columns for Great Expectations, of shape (n_samples, len(names)); all columns, without a copy, for no names.

    Times of day are seconds since midnight. Missing values are NaN, NaT or None, for which comparisons are false.
    Integers with missing values become float64, or nullable integers if float64 would round them.
    """
    import pandas as pd

    if not names:
        return table.to_pandas(types_mapper=pd.ArrowDtype)
    columns = {name: table[name] for name in names}
    rounded = set()
    for name, values in columns.items():
        if pa.types.is_timestamp(values.type):
            # comparisons of nanoseconds are vectorised, those of other units are not; they cover 1677 to 2262
            with contextlib.suppress(pa.ArrowInvalid):
                columns[name] = values.cast(pa.timestamp("ns"))
        elif pa.types.is_time(values.type):
            columns[name] = pc.divide(values.cast(pa.int64()).cast(pa.float64()), 1e6)
        elif pa.types.is_integer(values.type) and 0 < values.null_count < len(values):
            low, high = pc.min_max(values).as_py().values()
            rounded |= {values.type} if max(-low, high) > 2**53 else set()
    return pa.table(columns).to_pandas(types_mapper=lambda kind: pd.Int64Dtype() if kind in rounded else None)


def _not_checked(rule: Rule, problem: str) -> Any:
    from great_expectations.core import ExpectationValidationResult

    raised = {"raised_exception": True, "exception_message": problem, "exception_traceback": ""}
    return ExpectationValidationResult(False, rule.expectation.configuration, exception_info=raised)


def describe_failures(table: pa.Table, rules: list[Rule], results: list[Any]) -> list[dict[str, Any]]:
    """One entry per expectation that failed, critical ones first.

    Returns
    -------
    list of dict
        `rows` is the number of rows that violate the expectation (None if it is not about rows); `examples` are the
        first of them, counted from 1; `observed` is the value found otherwise; `error` says why it was not checked.
    """
    severities = ["critical", "warning", "info"]
    failures = [
        _failure(table, rule, result) for rule, result in zip(rules, results, strict=True) if not result.success
    ]
    return sorted(failures, key=lambda failure: severities.index(failure["severity"]))


def _failure(table: pa.Table, rule: Rule, result: Any) -> dict[str, Any]:
    expectation = rule.expectation
    found = result.result
    by_row = "partial_unexpected_index_list" in found
    rows = sorted(found.get("partial_unexpected_index_list", []))
    listed = table.take(pa.array(rows, pa.int64())) if rows else table
    seen = [
        (found.get("details") or {}).get("mismatched"),
        found.get("observed_value"),
        found.get("partial_unexpected_list"),
    ]
    return {
        "severity": expectation.severity.value,
        "columns": rule.columns,
        "expected": in_words(expectation),
        "where": rule.where,
        "rows": found["unexpected_count"] if by_row else None,
        "examples": [
            {"row": row + 1, "values": {name: _plain(listed[name][place].as_py()) for name in rule.columns}}
            for place, row in enumerate(rows)
        ],
        "observed": None if by_row else next((value for value in seen if value is not None), None),
        "error": problem(result.exception_info),
    }


def problem(info: dict[str, Any]) -> str | None:
    """The message of what Great Expectations caught: one exception, or one per metric."""
    if not info:
        return None
    caught = [info] if "raised_exception" in info else list(info.values())
    messages = [one["exception_message"] for one in caught if one["raised_exception"]]
    return min(map(str, messages)).splitlines()[0] if messages else None


def _plain(value: Any) -> Any:
    """A value of the table for JSON; long texts are cut."""
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, datetime.time):
        return value.isoformat()
    if isinstance(value, str):
        return _cut(value, LONGEST)
    return None if isinstance(value, float) and math.isnan(value) else value


def in_words(expectation: Any) -> str:
    """The expectation as a sentence, from Great Expectations or from `description` in the suite."""
    expectation.render()
    content = expectation.rendered_content[0].to_json_dict()["value"]
    description = content if "template" in content else content.get("header", {}).get("value", {})
    values = {name: _number(param["value"]) for name, param in (description.get("params") or {}).items()}
    return string.Template(description.get("template") or expectation.expectation_type).safe_substitute(values)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def write_results(rules: list[Rule], failures: list[dict[str, Any]]) -> None:
    """Write the metric and the list of failures."""
    failed = Counter(failure["severity"] for failure in failures)
    passed = len(rules) - len(failures)
    metric = {
        "expectations": len(rules),
        "passed": passed,
        "failed_critical": failed["critical"],
        "failed_warning": failed["warning"],
        "failed_info": failed["info"],
        "success_percent": round(100 * passed / len(rules), 2) if rules else 100.0,
    }
    write_json(metric, METRIC)
    write_json(failures, FAILURES)


def report(failures: list[dict[str, Any]], source: str) -> None:
    """Print the failures to standard error.

    Raises
    ------
    UserError
        If one is critical, or could not be checked.
    """
    unchecked = [failure for failure in failures if failure["error"]]
    broken = [failure for failure in failures if not failure["error"]]
    critical = sum(failure["severity"] == "critical" for failure in broken)
    text = [f"{failure['where']} cannot be checked: {failure['error']}" for failure in unchecked[:SHOWN_FAILURES]]
    if broken:
        severity = "critical" if critical else "non-critical"
        count = counted(critical or len(broken), f"{severity} expectation")
        text += [f"the table fails {count} of {source}", in_a_table(broken[:SHOWN_FAILURES])]
    if max(len(unchecked), len(broken)) > SHOWN_FAILURES:
        text.append(f"… {len(failures):,} failures in all: {FAILURES}")
    if unchecked:
        raise UserError("\n".join(text), "fix the suite: existing columns, limits of the column's type")
    if critical:
        raise UserError("\n".join(text), f"fix the source, or a wrong expectation (rows: {FAILURES})")
    print("warning:", "\n".join(text), file=sys.stderr)


def in_a_table(failures: list[dict[str, Any]]) -> str:
    """The failures as text of at most 100 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("severity", no_wrap=True)
    table.add_column("column", max_width=22, overflow="fold")
    table.add_column("expected", max_width=34, overflow="fold")
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("found", max_width=28, overflow="fold")
    for failure in failures:
        examples = [
            f"row {example['row']:,}: {', '.join(_shown(value, 40) for value in example['values'].values())}"
            for example in failure["examples"][:SHOWN_EXAMPLES]
        ]
        table.add_row(
            failure["severity"],
            _cut(", ".join(_shown(name, 44) for name in failure["columns"]), 90),
            _cut(failure["expected"], 160),
            "" if failure["rows"] is None else f"{failure['rows']:,}",
            "\n".join(examples) or _observed(failure["observed"]),
        )
    text = io.StringIO()
    Console(file=text, width=100, markup=False, emoji=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def _observed(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_shown(part, 70)}" for key, part in value.items())
    return "" if value is None else _shown(value, 160)


def _shown(value: Any, width: int) -> str:
    """A value or name on one line, cut at `width`; control characters are escaped."""
    text = value if isinstance(value, str) and value.isprintable() and value else json.dumps(value, ensure_ascii=False)
    return _cut(text, width)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def write_docs(results: list[Any], name: str) -> None:
    """Write Great Expectations' own page about each expectation."""
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    passed = sum(bool(result.success) for result in results)
    outcome = ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=results,
        suite_name=name,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results) if results else 100,
        },
    )
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))
    with atomic(DOCS) as partial:
        partial.write_text(page.replace("<head>", DOCS_HEAD, 1), encoding="utf-8")
    print(f"Data Docs → {DOCS}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("mlops.pipeline.validate", description="Check the prepared table.")
    parser.add_argument("--docs", action="store_true", help=f"also write Data Docs to {DOCS}")
    arguments = parser.parse_args()
    run("validate", lambda: main(arguments.docs))
