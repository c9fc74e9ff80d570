"""Prints the summary at the end of `make`: the model, its metrics, the results and the next step.

It reads only small files, so that `make` is fast when nothing changed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mlops.core import files, journal, paths
from mlops.core.errors import UserError, counted, errors_in_words
from mlops.core.git import git

DVC_CONFIG = (Path(".dvc/config"), Path(".dvc/config.local"))
SERVED_BY = {"onnx": "ONNX Runtime", "scikit-learn": "scikit-learn"}


def main() -> None:
    try:
        evaluation = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
        model = files.md5(paths.MODEL)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing", "make, or dvc checkout") from None
    print(
        "\n".join(
            [
                "",
                *heading(evaluation),
                "",
                *metric_table(evaluation),
                "",
                *where_to_look(evaluation, model),
                "",
            ]
        )
    )


def heading(evaluation: dict[str, Any]) -> list[str]:
    rows = evaluation["rows"]
    return [
        f"{evaluation['model']['estimator']} predicts {evaluation['target']}",
        f"{rows['train']:,} training rows, {rows['test']:,} test rows",
    ]


def metric_table(evaluation: dict[str, Any]) -> list[str]:
    """The metrics with their intervals, on the training rows, and of a model that ignores all features."""
    rows = [("metric", "test", f"{evaluation['interval']['confidence']:.0%} interval", "training", "dummy")]
    for name, each in evaluation["metrics"].items():
        interval = f"{_number(each['low'])} … {_number(each['high'])}"
        shown = f"{name} ({each['unit']})" if each.get("unit") else name
        rows.append((shown, _number(each["value"]), interval, _number(each["train"]), _number(each["dummy"])))
    one, two, three, four, five = (max(map(len, cells)) for cells in zip(*rows, strict=True))
    lines = [
        f"  {name:<{one}}  {value:>{two}}   {interval:<{three}}  {train:>{four}}  {dummy:>{five}}"
        for name, value, interval, train, dummy in rows
    ]
    first = next(iter(evaluation["metrics"]))
    sign = 1 if evaluation["metrics"][first]["greater_is_better"] else -1
    slices = [each for each in evaluation["slices"] if each["metrics"][first]["value"] is not None]
    if slices:
        worst = min(slices, key=lambda each: sign * each["metrics"][first]["value"])
        value = _number(worst["metrics"][first]["value"])
        lines.append(f"  worst slice: {worst['column']} {worst['slice']}, {worst['rows']:,} rows, {first} {value}")
    return lines


def where_to_look(evaluation: dict[str, Any], model: str) -> list[str]:
    """Files and commands, and the next step."""
    latency = journal.noted("evaluate", model).get("latency_ms")
    run = journal.noted("track", model)
    size = f"{evaluation['model']['bytes'] / 1000:,.0f} kB"
    found = [
        (str(paths.MODEL), size + (f", {latency:.1f} ms for one row on this machine" if latency else "")),
        (str(paths.EVALUATION), "slices, thresholds, importance"),
        (str(paths.CARD), "the model card: intended use, metrics, slices and limits"),
        (str(paths.PROFILE), "the profile of the training rows"),
        ("make plots", "the curves in a browser"),
    ]
    served = SERVED_BY[evaluation["served"]["runtime"]]
    found.append(("make serve", f"the model as an API, served by {served}"))
    if run:
        found.append(("make ui", f"MLflow at {run['uri']}, run {run['run_id'][:8]}"))
    width = max(len(what) for what, _ in found)
    return [
        "results",
        *(f"  {what:<{width}}   {why}" for what, why in found),
        "next",
        *next_step(),
    ]


def next_step() -> list[str]:
    """What to do with the files that changed, if any did."""
    changed = git("status", "--porcelain", check=False).splitlines()
    if not changed:
        return ["  edit params.yaml on a branch, run `make`, commit the changed files, and open a pull request"]
    lines = [
        f"  git add --all && git commit   {counted(len(changed), 'changed file')}: a change and its results go together"
    ]
    if any(
        re.search(r"^\s*remote\s*=", path.read_text(encoding="utf-8"), re.M) for path in DVC_CONFIG if path.exists()
    ):
        lines.append("  dvc push                      stores the data and the model where your team finds them")
    return [*lines, "  then open a pull request"]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


if __name__ == "__main__":
    with errors_in_words():
        main()
