"""Rows to label as files: a CSV for a spreadsheet, and tasks with an interface for Label Studio.

What the log holds of texts is hostile: a cell that a spreadsheet would take for a formula gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from mlops.core.files import atomic, write_json
from mlops.core.settings import Settings
from mlops.inference.contract import Computed, Field, label_name, probability_column
from mlops.monitoring.log import Rows
from mlops.monitoring.reference import Reference

Array = np.ndarray[Any, Any]

FOLDER = Path("build/label")
MOST_LETTERS = 10_000  # of a cell
KNOWN_AT = "known_at"


def write(rows: Rows, why: list[str], probability: Array, known: Reference, settings: Settings) -> None:
    """Write `rows.csv`, `tasks.json` and `interface.xml`."""
    table = columns(rows, why, probability, known, settings)
    with atomic(FOLDER / "rows.csv") as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([cell(name) for name in table])
        for place in range(len(rows)):
            writer.writerow([cell(values[place]) for values in table.values()])
    write_json(tasks(rows, why, probability, known), FOLDER / "tasks.json")
    with atomic(FOLDER / "interface.xml") as partial:
        partial.write_text(interface(known), encoding="utf-8")


def columns(
    rows: Rows, why: list[str], probability: Array, known: Reference, settings: Settings
) -> dict[str, list[Any]]:
    """The columns of the CSV; the last two are for the person who labels.

    When a label became known is filled in with the time of the last chosen row: no label was known before.
    """
    given = settings.monitor.labels
    named = {
        "request_id": given.request_id if given else "request_id",
        "row": (given.row if given else None) or "row",
        "target": (given.target if given else None) or settings.data.target,
        "time": given.time if given else KNOWN_AT,
    }
    found: dict[str, list[Any]] = {
        named["request_id"]: rows.request_id.tolist(),
        named["row"]: rows.row.tolist(),
        "why": why,
        "inclusion_probability": [float(f"{each:.6g}") for each in probability],
        "prediction": [plain(each) for each in rows.predicted.tolist()],
    }
    if rows.probabilities is not None and known.contract.classes is not None:
        for place, label in enumerate(known.contract.classes):
            found[probability_column(label)] = [float(f"{each:.6g}") for each in rows.probabilities[:, place]]
    for name, values in features(rows, known).items():
        found[name if name not in {*found, named["target"], named["time"]} else f"feature {name}"] = values
    last = str(rows.time.max()) + "Z"
    return {**found, named["target"]: [""] * len(rows), named["time"]: [last] * len(rows)}


def features(rows: Rows, known: Reference) -> dict[str, list[Any]]:
    """The columns that the service received and computed; None where missing."""
    found: dict[str, list[Any]] = {}
    for part in parts(known):
        values = rows.columns[part.name].tolist()
        if part.kind in ("numeric", "boolean"):
            values = [None if math.isnan(each) else bool(each) if part.kind == "boolean" else each for each in values]
        found[part.name] = [each[:MOST_LETTERS] if isinstance(each, str) else each for each in values]
    return found


def parts(known: Reference) -> list[Field | Computed]:
    """What the service receives, and what it computes."""
    return [*known.contract.fields, *known.contract.features]


def tasks(rows: Rows, why: list[str], probability: Array, known: Reference) -> list[dict[str, Any]]:
    """Tasks with predictions in Label Studio's format for import."""
    values = features(rows, known)
    units = {part.name: part.unit for part in parts(known)}
    found = []
    for place in range(len(rows)):
        shown = {
            f"{name} [{units[name]}]" if units[name] else name: "" if each[place] is None else each[place]
            for name, each in values.items()
        }
        predicted = plain(rows.predicted[place])
        result: dict[str, Any] = {"from_name": "label", "to_name": "row"}
        if known.contract.classes is None:
            result |= {"type": "number", "value": {"number": predicted}}
        else:
            result |= {"type": "choices", "value": {"choices": [label_name(predicted)]}}
        prediction: dict[str, Any] = {"model_version": known.model[:10], "result": [result]}
        if rows.probabilities is not None:
            prediction["score"] = float(f"{rows.probabilities[place].max():.6g}")
        data = {
            "request_id": rows.request_id[place],
            "row": int(rows.row[place]),
            "why": why[place],
            "inclusion_probability": float(f"{probability[place]:.6g}"),
            "features": shown,
        }
        found.append({"data": data, "predictions": [prediction]})
    return found


def interface(known: Reference) -> str:
    """Label Studio's labelling interface: the row as a table, and the classes or a number."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=clean(f"{known.contract.target} of this row?"))
    ElementTree.SubElement(view, "Table", name="row", value="$features")
    if known.contract.classes is None:
        ElementTree.SubElement(view, "Number", name="label", toName="row", required="true")
    else:
        choices = ElementTree.SubElement(view, "Choices", name="label", toName="row", choice="single", required="true")
        for label in known.contract.classes:
            ElementTree.SubElement(choices, "Choice", value=clean(label_name(label)))
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def clean(text: str) -> str:
    """Text without the controls that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]", "\N{REPLACEMENT CHARACTER}", text)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would take a text for a formula, or lose it."""
    return bool(re.match(r"\s*[=+\-@|%]|[\t\r\n]", text))


def cell(value: Any) -> Any:
    """A value for a CSV: numbers as they are, texts so that none is a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        value = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "\N{REPLACEMENT CHARACTER}", value)
        return f"'{value}" if is_formula(value) else value
    return value


def plain(value: Any) -> Any:
    """A value of Python instead of NumPy."""
    return value.item() if isinstance(value, np.generic) else value
