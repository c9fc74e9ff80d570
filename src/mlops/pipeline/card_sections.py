"""The computed sections of the model card: metrics, slices, thresholds, feature importance, inputs and limits.

Each function takes the outputs of other stages and returns Markdown. Long lists are cut and the remaining entries are
counted, so that the card stays one page for a thousand columns or slices.
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

# how many entries are shown at most
SLICES, IMPORTANT, FIELDS, VALUES, NAMES = 20, 10, 50, 8, 10
THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)
BY_SLICE = ("accuracy", "recall", "rmse", "r2")
# below these, estimates are uncertain: number of test rows, and rows of a class or a slice
FEW_ROWS, FEW_OF_A_KIND = 1_000, 30
# an interval wider than this share of the value is reported
WIDE = 0.1

Evaluation = dict[str, Any]


def metric_table(evaluation: Evaluation) -> str:
    """Each metric on test rows, on training rows, and of the dummy model."""
    found = evaluation["metrics"]
    rows = [
        [
            named(name, metric),
            number(metric["value"]),
            interval(metric),
            number(metric["train"]),
            number(metric["dummy"]),
        ]
        for name, metric in found.items()
    ]
    less = ", ".join(f"`{name}`" for name, metric in found.items() if not metric["greater_is_better"])
    notes = [f"Lower is better: {less}."] if less else []
    scored, learned = (evaluation["rows"][key] for key in ("train_scored", "train"))
    if scored < learned:
        notes.append(f"Training: on a random sample of {scored:,} of the {learned:,} training rows.")
    return "\n\n".join([table(["metric", "test", "interval", "training", "dummy model"], rows), *notes])


def named(name: str, metric: dict[str, Any]) -> str:
    """A metric with its unit, if it has one."""
    return f"`{name}`" + (f" ({verbatim(metric['unit'])})" if metric.get("unit") else "")


def interval(metric: dict[str, Any]) -> str:
    return "–" if metric["low"] is None else f"{number(metric['low'])} … {number(metric['high'])}"


def slice_section(evaluation: Evaluation) -> str:
    """The slices, worst first."""
    if not evaluation["slices"]:
        return "`evaluate.slices` is empty, so the performance for groups is unknown."
    names = slice_metrics(evaluation)
    rows = [
        [
            f"{verbatim(part['column'])} {verbatim(part['slice'])}",
            f"{part['rows']:,}",
            *(estimate(part["metrics"][name]) for name in names),
        ]
        for part in worst_first(evaluation, names[0])
    ]
    caption = f"Sorted by `{names[0]}`, the worst first. `reports/evaluation.json` has the other metrics."
    header = ["slice", "test rows", *(f"`{name}`" for name in names)]
    whole = ["all", f"{evaluation['rows']['test']:,}", *(estimate(evaluation["metrics"][name]) for name in names)]
    return f"{caption}\n\n{cut(header, [whole, *rows], SLICES + 1, 'better')}"


def slice_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics shown for slices: those that are defined for few rows, or else the first metric."""
    names: list[str] = list(evaluation["metrics"])
    return [name for name in BY_SLICE if name in names] or names[:1]


def worst_first(evaluation: Evaluation, name: str) -> list[dict[str, Any]]:
    sign = 1 if evaluation["metrics"][name]["greater_is_better"] else -1

    def order(part: dict[str, Any]) -> tuple[bool, float]:
        value = part["metrics"][name]["value"]
        return value is None, 0.0 if value is None else sign * value

    return sorted(evaluation["slices"], key=order)


def estimate(metric: dict[str, Any]) -> str:
    return number(metric["value"]) + (f" ({interval(metric)})" if metric["low"] is not None else "")


def calibration_section(evaluation: Evaluation, settings: Settings) -> str:
    """The calibration error and the metrics at other thresholds; empty without probabilities."""
    error = evaluation["calibration_error"]
    if error is None:
        return ""
    text = (
        f"Expected calibration error: {number(error)}. It is the average difference between predicted probability and "
        "observed frequency."
    )
    chosen = [row for row in evaluation["thresholds"] if row["threshold"] in THRESHOLDS]
    if not chosen:
        return text
    columns = ("threshold", "precision", "recall", "f1", "flagged_share")
    positive = verbatim(evaluation["positive"])
    caption = (
        f"The model predicts {positive} if its probability is at least {number(settings.model.threshold or 0.5)}. "
        "Metrics on the test rows at other thresholds:"
    )
    own = [name for name in evaluation["metrics"] if name in chosen[0] and name not in columns]
    rows = [[number(row[key]) for key in (*columns, *own)] for row in chosen]
    header = ["threshold", "precision", "recall", "F1", f"share predicted {positive}", *(f"`{name}`" for name in own)]
    return f"{text}\n\n{caption}\n\n{table(header, rows)}"


def importance_section(evaluation: Evaluation) -> str:
    """The columns that matter most."""
    first = next(iter(evaluation["metrics"]))
    rows = [
        [verbatim(feature["column"]), number(feature["importance"]), number(feature["std"])]
        for feature in evaluation["importance"]
        if feature["importance"] > 0
    ]
    if not rows:
        return f"Shuffling any single column does not make `{first}` worse on the test rows."
    caption = (
        f"How much worse `{first}` becomes if a column is shuffled. Correlated columns hide each other's importance."
    )
    return f"{caption}\n\n{cut(['column', 'loss', 'standard deviation'], rows, IMPORTANT, 'less important')}"


def input_section(contract: Contract, evaluation: Evaluation) -> str:
    """The inputs of the service in the order of the table; of many columns, the most important ones."""
    weight = {feature["column"]: feature["importance"] for feature in evaluation["importance"]}
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
    inputs = cut(["column", "type", "unit", "values", "may be missing"], rows, FIELDS, "less important")
    example = "`make serve` shows a page with an example of each column."
    return "\n\n".join([details(f"{len(fields):,} columns", inputs), *computed_section(contract), example])


def computed_section(contract: Contract) -> list[str]:
    """The features that the service computes from the columns."""
    if not contract.features:
        return []
    rows = [
        [
            verbatim(feature.name),
            feature.kind,
            verbatim(feature.unit) if feature.unit else "",
            listed(feature.columns, NAMES),
        ]
        for feature in contract.features
    ]
    return [
        "The service computes these features from the columns, with `src/project/features.py`:",
        table(["feature", "type", "unit", "computed from"], rows),
    ]


def domain(field: Field) -> str:
    """The allowed values, or the range of the training rows."""
    if field.values is not None:
        return listed([one_line(value, 30) for value in field.values], VALUES)
    if field.kind == "numeric" and isinstance(field.low, float) and isinstance(field.high, float):
        return f"{number(field.low)} … {number(field.high)}"
    if field.kind == "date":
        return f"{str(field.low)[:10]} … {str(field.high)[:10]}"
    if field.kind == "time":
        return f"{str(field.low)[:8]} … {str(field.high)[:8]}"
    return {"boolean": "true, false", "text": "any text"}.get(field.kind, "any, including new ones")


def limits(
    evaluation: Evaluation, settings: Settings, catalogue: Catalogue, contract: Contract, test: pa.ChunkedArray
) -> str:
    """Limits of the evaluation that follow from its numbers, as a list."""
    found = []
    rows = len(test)
    if rows < FEW_ROWS:
        # no event in n rows: with 95 % confidence its probability is below 3 / n (Hanley and Lippman-Hand 1983)
        rare = f"{3 / max(rows, 1):.1%}"
        found.append(f"**Few test rows**: cases rarer than {rare} may be missing from these {rows:,}.")
    wide = [f"`{name}`" for name, metric in evaluation["metrics"].items() if is_wide(metric)]
    if wide:
        found.append(f"**Wide intervals** (more than a tenth of the value): {', '.join(wide)}.")
    if contract.task == "classification":
        seen = class_counts(test)
        few = [f"{name} ({seen[name]})" for name in map(str, contract.classes or []) if seen[name] < FEW_OF_A_KIND]
        if few:
            found.append(f"**Rare classes** (fewer than {FEW_OF_A_KIND} test rows): {listed(few, NAMES)}.")
    found += slice_limits(evaluation)
    gaps = {column.name: column.missing / max(catalogue.rows, 1) for column in catalogue.columns if column.missing}
    shares = [f"{field.name} ({gaps[field.name]:.1%})" for field in contract.fields if field.name in gaps]
    if shares:
        count = f"{len(shares):,} of {len(contract.fields):,} columns"
        found.append(f"**Missing values** in {count}: {listed(shares, NAMES)}.")
    found.append(
        "**Extrapolation**: the service accepts values outside the ranges under Inputs; its accuracy there is unknown."
    )
    if settings.split.method != "time":
        found.append(
            "**Same source**: test rows come from the same times and places as training rows; others were not tested."
        )
    return "\n".join(f"- {limit}" for limit in found)


def is_wide(metric: dict[str, Any]) -> bool:
    if metric["low"] is None or metric["value"] is None:
        return False
    return bool(metric["high"] - metric["low"] > WIDE * abs(metric["value"]))


def slice_limits(evaluation: Evaluation) -> list[str]:
    """Slices that are significantly worse than all test rows, worse than the dummy model, or small."""
    if not evaluation["slices"]:
        return ["**No slices**: `evaluate.slices` is empty, so worse predictions for a group would go unnoticed."]
    names = slice_metrics(evaluation)
    ordered = worst_first(evaluation, names[0])
    groups: dict[str, list[str]] = {}
    for name in names:
        whole = evaluation["metrics"][name]
        sign = 1 if whole["greater_is_better"] else -1
        nearest = "high" if whole["greater_is_better"] else "low"
        for title, key, floor in (
            (f"**Slices significantly worse than all test rows** by `{name}`", nearest, whole["value"]),
            (f"**Slices worse than the dummy model** by `{name}`", "value", whole["dummy"]),
        ):
            groups[title] = [
                slice_name(part)
                for part in ordered
                if floor is not None
                and part["metrics"][name][key] is not None
                and sign * part["metrics"][name][key] < sign * floor
            ]
    small = [f"{slice_name(part)} ({part['rows']})" for part in ordered if part["rows"] < FEW_OF_A_KIND]
    groups[f"**Small slices** (fewer than {FEW_OF_A_KIND} test rows)"] = small
    columns = list(dict.fromkeys(part["column"] for part in evaluation["slices"]))
    return [
        *(f"{title}: {listed(members, NAMES)}." for title, members in groups.items() if members),
        f"**Other groups** than those by {listed(columns, NAMES)} were not evaluated.",
    ]


def slice_name(part: dict[str, Any]) -> str:
    return f"{one_line(part['column'], 30)} {one_line(part['slice'], 20)}"


def class_counts(values: pa.ChunkedArray) -> Counter[str]:
    """Rows of each class."""
    return Counter({str(pair["values"]): pair["counts"] for pair in pc.value_counts(values).to_pylist()})


def listed(names: list[str], most: int) -> str:
    """Names from tables and settings, separated by commas; those past the first `most` are counted."""
    shown = ", ".join(verbatim(name) for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def cut(header: list[str], rows: list[list[str]], most: int, which: str) -> str:
    """A table of the first rows, and the number of rows left out."""
    left_out = f"\n\nAnd {len(rows) - most:,} more ({which})." if len(rows) > most else ""
    return table(header, rows[:most]) + left_out
