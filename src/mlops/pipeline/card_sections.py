"""The parts of the model card that are made of numbers: metrics, slices, thresholds, inputs, and what limits them.

Each takes what other stages have written and gives Markdown, cut with a count, so that a thousand columns or slices
still make a page.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.markdown import details, number, one_line, table, verbatim
from mlops.core.settings import Settings
from mlops.data.tables import Catalogue
from mlops.inference.contract import Contract, Field

# what is shown at most
SLICES, IMPORTANT, FIELDS, VALUES, NAMES = 20, 10, 50, 8, 10
THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)
BY_SLICE = ("accuracy", "recall", "rmse", "r2")
# below these, a number says little: test rows in all, and rows of a class or a slice
FEW_ROWS, FEW_OF_A_KIND = 1_000, 30
# an interval is wide from this share of the value on
WIDE = 0.1

Evaluation = dict[str, Any]


def metric_table(evaluation: Evaluation) -> str:
    """Each metric on test and training rows, and the dummy's."""
    found = evaluation["metrics"]
    rows = [
        [named(name, each), number(each["value"]), interval(each), number(each["train"]), number(each["dummy"])]
        for name, each in found.items()
    ]
    less = ", ".join(f"`{name}`" for name, each in found.items() if not each["greater_is_better"])
    return table(["metric", "test", "interval", "training", "dummy"], rows) + (
        f"\n\nLess is better: {less}." if less else ""
    )


def named(name: str, each: dict[str, Any]) -> str:
    """A metric with its unit, if it has one."""
    return f"`{name}`" + (f" ({verbatim(each['unit'])})" if each.get("unit") else "")


def interval(each: dict[str, Any]) -> str:
    return "–" if each["low"] is None else f"{number(each['low'])} … {number(each['high'])}"


def slice_section(evaluation: Evaluation) -> str:
    """The slices, worst first."""
    if not evaluation["slices"]:
        return "`evaluate.slices` names none, so nothing is known of how groups fare."
    names = slice_metrics(evaluation)
    rows = [
        [
            f"{verbatim(each['column'])} {verbatim(each['slice'])}",
            f"{each['rows']:,}",
            *(estimate(each["metrics"][name]) for name in names),
        ]
        for each in worst_first(evaluation, names[0])
    ]
    told = f"The worst by `{names[0]}` first. `reports/evaluation.json` has the other metrics."
    header = ["slice", "test rows", *(f"`{name}`" for name in names)]
    whole = ["all", f"{evaluation['rows']['test']:,}", *(estimate(evaluation["metrics"][name]) for name in names)]
    return f"{told}\n\n{cut(header, [whole, *rows], SLICES + 1, 'better')}"


def slice_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics that slices are told by: those that a few rows can have, or else the first."""
    names: list[str] = list(evaluation["metrics"])
    return [name for name in BY_SLICE if name in names] or names[:1]


def worst_first(evaluation: Evaluation, name: str) -> list[dict[str, Any]]:
    sign = 1 if evaluation["metrics"][name]["greater_is_better"] else -1

    def order(each: dict[str, Any]) -> tuple[bool, float]:
        value = each["metrics"][name]["value"]
        return value is None, 0.0 if value is None else sign * value

    return sorted(evaluation["slices"], key=order)


def estimate(each: dict[str, Any]) -> str:
    return number(each["value"]) + (f" ({interval(each)})" if each["low"] is not None else "")


def calibration_section(evaluation: Evaluation, settings: Settings) -> str:
    """How far probabilities can be believed, and what other thresholds would do; empty without probabilities."""
    error = evaluation["calibration_error"]
    if error is None:
        return ""
    text = (
        f"Expected calibration error: {number(error)}. By so much a probability differs, on average, from the share of "
        "rows in which it came true."
    )
    chosen = [each for each in evaluation["thresholds"] if each["threshold"] in THRESHOLDS]
    if not chosen:
        return text
    columns = ("threshold", "precision", "recall", "f1", "flagged_share")
    positive = verbatim(evaluation["positive"])
    told = (
        f"The model decides for {positive} from a probability of {number(settings.model.threshold or 0.5)} on. On the "
        "test rows, other thresholds would give:"
    )
    own = [name for name in evaluation["metrics"] if name in chosen[0] and name not in columns]
    rows = [[number(each[key]) for key in (*columns, *own)] for each in chosen]
    header = ["threshold", "precision", "recall", "F1", f"share called {positive}", *(f"`{name}`" for name in own)]
    return f"{text}\n\n{told}\n\n{table(header, rows)}"


def importance_section(evaluation: Evaluation) -> str:
    """The columns that matter most."""
    first = next(iter(evaluation["metrics"]))
    rows = [
        [verbatim(each["column"]), number(each["importance"]), number(each["std"])]
        for each in evaluation["importance"]
        if each["importance"] > 0
    ]
    if not rows:
        return f"Shuffling any single column does not make `{first}` worse on the test rows."
    told = f"How much worse `{first}` becomes when a column is shuffled. Columns that say the same hide each other."
    return f"{told}\n\n{cut(['column', 'loss', 'standard deviation'], rows, IMPORTANT, 'less important')}"


def input_section(contract: Contract, evaluation: Evaluation) -> str:
    """What the service takes; of many columns those that matter most, in the order of the table."""
    weight = {each["column"]: each["importance"] for each in evaluation["importance"]}
    ranked = sorted(contract.fields, key=lambda field: -weight.get(field.name, 0))
    kept = {field.name for field in ranked[:FIELDS]}
    fields = [*(field for field in contract.fields if field.name in kept), *ranked[FIELDS:]]
    rows = [
        [
            verbatim(field.name),
            field.kind,
            verbatim(field.unit) if field.unit else "",
            domain(field),
            "yes" if field.nullable else "no",
        ]
        for field in fields
    ]
    told = cut(["column", "type", "unit", "values", "may be missing"], rows, FIELDS, "less important")
    example = "An example of each stands in the page that `make serve` shows."
    return "\n\n".join([details(f"{len(fields):,} columns", told), *computed_section(contract), example])


def computed_section(contract: Contract) -> list[str]:
    """What the service computes from the columns before it asks the model."""
    if not contract.features:
        return []
    rows = [
        [verbatim(each.name), each.kind, verbatim(each.unit) if each.unit else "", listed(each.columns, NAMES)]
        for each in contract.features
    ]
    return [
        "The service computes further features from them, with the code in `src/project/features.py`:",
        table(["feature", "type", "unit", "computed from"], rows),
    ]


def domain(field: Field) -> str:
    """What is allowed, or what the training rows had."""
    if field.values is not None:
        return listed([one_line(value, 30) for value in field.values], VALUES)
    if field.kind == "numeric" and isinstance(field.low, float) and isinstance(field.high, float):
        return f"{number(field.low)} … {number(field.high)}"
    if field.kind == "date":
        return f"{str(field.low)[:10]} … {str(field.high)[:10]}"
    if field.kind == "time":
        return f"{str(field.low)[:8]} … {str(field.high)[:8]}"
    return {"boolean": "true, false", "text": "any text"}.get(field.kind, "any, new ones too")


def limits(
    evaluation: Evaluation, settings: Settings, catalogue: Catalogue, contract: Contract, test: pa.ChunkedArray
) -> str:
    """What the numbers themselves say against believing them too far, as a list."""
    found = []
    rows = len(test)
    if rows < FEW_ROWS:
        # no event in n rows: with 95 % confidence its probability is below 3 / n (Hanley and Lippman-Hand 1983)
        rare = f"{3 / max(rows, 1):.1%}"
        found.append(f"**Few test rows**: what befalls fewer than {rare} of all cases may not be among these {rows:,}.")
    wide = [f"`{name}`" for name, each in evaluation["metrics"].items() if is_wide(each)]
    if wide:
        found.append(f"**Wide intervals**, of more than a tenth of the value: {', '.join(wide)}.")
    if contract.task == "classification":
        seen = class_counts(test)
        few = [f"{name} ({seen[name]})" for name in map(str, contract.classes or []) if seen[name] < FEW_OF_A_KIND]
        if few:
            found.append(f"**Rare classes**, with fewer than {FEW_OF_A_KIND} test rows: {listed(few, NAMES)}.")
    found += slice_limits(evaluation)
    gaps = {column.name: column.missing / max(catalogue.rows, 1) for column in catalogue.columns if column.missing}
    told = [f"{field.name} ({gaps[field.name]:.1%})" for field in contract.fields if field.name in gaps]
    if told:
        found.append(f"**Missing values** in {len(told):,} of {len(contract.fields):,} columns: {listed(told, NAMES)}.")
    found.append(
        "**Extrapolation**: values outside the ranges under Inputs are taken, and nothing is known of the answer."
    )
    if settings.split.method != "time":
        found.append(
            "**Same table**: test rows are of the same time and places as training rows; others were not measured."
        )
    return "\n".join(f"- {each}" for each in found)


def is_wide(each: dict[str, Any]) -> bool:
    if each["low"] is None or each["value"] is None:
        return False
    return bool(each["high"] - each["low"] > WIDE * abs(each["value"]))


def slice_limits(evaluation: Evaluation) -> list[str]:
    """Slices that are worse than the whole beyond chance, no better than the dummy, or hardly seen."""
    if not evaluation["slices"]:
        return ["**No slices**: `evaluate.slices` names none, so a group that fares badly would not show."]
    names = slice_metrics(evaluation)
    ordered = worst_first(evaluation, names[0])
    groups: dict[str, list[str]] = {}
    for name in names:
        whole = evaluation["metrics"][name]
        sign = 1 if whole["greater_is_better"] else -1
        nearest = "high" if whole["greater_is_better"] else "low"
        for title, key, floor in (
            (f"**Worse slices** than all test rows by `{name}`, beyond chance", nearest, whole["value"]),
            (f"**Slices below the dummy** by `{name}`", "value", whole["dummy"]),
        ):
            groups[title] = [
                slice_name(each)
                for each in ordered
                if floor is not None
                and each["metrics"][name][key] is not None
                and sign * each["metrics"][name][key] < sign * floor
            ]
    small = [f"{slice_name(each)} ({each['rows']})" for each in ordered if each["rows"] < FEW_OF_A_KIND]
    groups[f"**Small slices**, of fewer than {FEW_OF_A_KIND} test rows"] = small
    columns = list(dict.fromkeys(each["column"] for each in evaluation["slices"]))
    return [
        *(f"{title}: {listed(members, NAMES)}." for title, members in groups.items() if members),
        f"**Groups** other than those by {listed(columns, NAMES)} were not looked at.",
    ]


def slice_name(each: dict[str, Any]) -> str:
    return f"{one_line(each['column'], 30)} {one_line(each['slice'], 20)}"


def class_counts(values: pa.ChunkedArray) -> Counter[str]:
    """Rows of each class."""
    return Counter({str(each["values"]): each["counts"] for each in pc.value_counts(values).to_pylist()})


def listed(names: list[str], most: int) -> str:
    """Foreign names in a row, cut with a count."""
    told = ", ".join(verbatim(name) for name in names[:most])
    return told + (f" and {len(names) - most:,} more" if len(names) > most else "")


def cut(header: list[str], rows: list[list[str]], most: int, which: str) -> str:
    """A table of the first rows, and how many it leaves out."""
    left_out = f"\n\nAnd {len(rows) - most:,} more ({which})." if len(rows) > most else ""
    return table(header, rows[:most]) + left_out
