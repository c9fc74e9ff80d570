"""The second half of `make start`: a gate for the model of the first run, whose margins this table can decide.

A margin is the smallest loss that the test rows detect (`Paired.detectable`) between two models which differ as two
draws of the training rows do. A smaller one would leave most changes inconclusive; the team may choose a larger one.
"""

from __future__ import annotations

import json
import math
import textwrap
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core import paths, started
from mlops.core.errors import counted, errors_in_words
from mlops.data import project as projects
from mlops.data.project import Project
from mlops.model import forests, metrics, modelfile, slices, training
from mlops.model.estimators import make_model
from mlops.model.metrics import Array, Classes, Predictions, parts
from mlops.review.compare import POWER, Paired, compare
from mlops.review.policy import Gate

RESAMPLES, CONFIDENCE = 1000, 0.95
MEGABYTE = 1_000_000
# a calibration error that few models reach
CALIBRATION = 0.1
# rows of the second model, which costs as long as the first training
MOST_ROWS = 100_000
RARE, MIN_ROWS = 0.1, 30
HEAD = """# yaml-language-server: $schema=gate.schema.json
# The rules that a pull request must pass. Main's version applies, so a change cannot loosen its own gate.
# `make start` drafted them from the first model. They are yours, and a code owner's, from the first commit on.
"""


class Measured(NamedTuple):
    """The first model and a second one on the test rows."""

    project: Project
    pairs: dict[str, Paired]
    slices: list[tuple[str, int, dict[str, Paired]]]
    evaluation: dict[str, Any]
    rows: int


def main() -> None:
    started.check([started.GATE])
    project = projects.open()
    found = measure(project)
    text = draft(found)
    started.write({started.GATE: text})
    count = sum(line.startswith("  - ") for line in text.splitlines())
    print(f"gate      {count} rules for {counted(found.rows, 'test row')} → {started.GATE}, with reasons")


def measure(project: Project) -> Measured:
    """Compare the first model with one of the same recipe, trained on a resample of the training rows."""
    settings = project.settings
    train, test = project.read(paths.TRAIN), project.read(paths.TEST)
    columns = [column for column in project.columns if train[column.name].null_count < train.num_rows]
    other = make_model(settings, columns)
    rows = np.random.default_rng(0).choice(train.num_rows, min(train.num_rows, MOST_ROWS))
    y = project.y(train)
    if settings.data.task == "classification":  # each class at least once
        rows = np.concatenate([rows, np.unique(y, return_index=True)[1]])
    drawn = train.take(pa.array(np.sort(rows)))
    with training.warnings_once():
        forests.fit(other, project.X(drawn, columns), project.y(drawn))
    classes, first = recorded(project, other)
    second = metrics.predict_table(other, test, columns)
    y_test = project.y(test)

    def paired(members: Array, seed: int) -> dict[str, Paired]:
        both = parts(first, members), parts(second, members)
        return compare(y_test[members], *both, classes, resamples=RESAMPLES, seed=seed)

    by_slice: list[tuple[str, int, dict[str, Paired]]] = []
    for column in settings.evaluate.slices:
        for label, members in slices.slice_rows(column, train[column], test[column]):
            if len(members) >= MIN_ROWS:
                by_slice.append((f"{column} {label}", len(members), paired(members, 1 + len(by_slice))))
    evaluation = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
    return Measured(project, paired(np.arange(test.num_rows), 0), by_slice, evaluation, test.num_rows)


def recorded(project: Project, model: Any) -> tuple[Classes | None, Predictions]:
    """The first model's predictions for the test rows."""
    first = modelfile.load(project.settings)
    test = project.read(paths.TEST)
    classes = None
    if project.settings.data.task == "classification":
        classes = Classes.of(np.asarray(model.classes_), project.settings.data.positive)
    return classes, metrics.predict_table(first, test, project.columns)


def draft(found: Measured) -> str:
    """The text of `gate.yaml`, checked."""
    rows = [*limits(found), *comparisons(found), *others(found)]
    gate = {"confidence": CONFIDENCE, "rules": [rule for rule, _ in rows]}
    Gate.model_validate(gate)
    lines = [
        f"{HEAD}confidence: {CONFIDENCE}   # of the changes that alter nothing, all rules together block at most 5 %"
    ]
    lines.append("rules:")
    for rule, why in rows:
        lines += [f"  # {line}" for line in textwrap.wrap(" ".join(why.split()), 112)]
        shown = ", ".join(
            f"{key}: {value:g}" if isinstance(value, float) else f"{key}: {value}" for key, value in rule.items()
        )
        lines.append(f"  - {{{shown}}}")
    lines.append("  # - {rule: behaviour, failures: 0}   # once tests/behaviour has tests of your own")
    lines.append("# smaller margins, where training is cheap: compare on the training rows as well (docs/review.md)")
    lines.append("# cross_validation: {folds: 10, repeats: 3, seconds: 120}")
    return "\n".join(lines) + "\n"


def chosen(found: Measured) -> tuple[str, str, str]:
    """The metrics of the task: one for people, one that any change of a prediction moves, one for slices."""
    classes = found.evaluation.get("classes") or []
    if found.evaluation["task"] == "regression":
        return "r2", "rmse", "mae"
    if len(classes) != 2:
        return ("accuracy", "log_loss", "accuracy")
    if rare(found):
        return "average_precision", "log_loss", "brier_score"
    return "roc_auc", "log_loss", "accuracy"


def rare(found: Measured) -> bool:
    """Whether one of two classes has so few rows that accuracy and ROC AUC look good for any model."""
    y = found.project.y(found.project.read(paths.TEST))
    return bool(np.unique(y, return_counts=True)[1].min() < RARE * len(y))


def limits(found: Measured) -> list[tuple[dict[str, Any], str]]:
    """A limit for the first metric: the lower end of the first model's interval, rounded down."""
    name = chosen(found)[0]
    metric = found.evaluation["metrics"].get(name) or {}
    value, low, dummy = (metric.get(key) for key in ("value", "low", "dummy"))
    if value is None or low is None:
        return []
    limit = down(low)
    why = f"the first model has {value:.3g}, and its interval does not go below {limit:g}"
    if dummy is not None:
        why += (
            f"; a dummy has {dummy:.3g}"
            if low > dummy
            else f"; CHECK: a dummy has {dummy:.3g}, so it may have learned nothing"
        )
    if rare(found) and name == "average_precision":
        why += "; not ROC AUC or accuracy, because one class is rare"
    return [({"rule": "floor", "metric": name, "at_least": limit}, why)]


def comparisons(found: Measured) -> list[tuple[dict[str, Any], str]]:
    """Margins that the test rows can decide."""
    first, second, of_slices = chosen(found)
    power = f"{POWER:.0%}"
    rows: list[tuple[dict[str, Any], str]] = []
    for name in (first, second):
        smallest = found.pairs[name].detectable(CONFIDENCE)
        if math.isfinite(smallest):
            why = f"{counted(found.rows, 'test row')} detect a loss of {smallest:.2g} in {power} of cases; a "
            why += "smaller margin would leave changes undecided"
            rows.append(
                (
                    {"rule": "no_worse", "metric": name, "margin": up(smallest)},
                    why if not rows else f"as above: {smallest:.2g}",
                )
            )
    by_slice = [
        (pairs[of_slices].detectable(CONFIDENCE), name, count)
        for name, count, pairs in found.slices
        if of_slices in pairs
    ]
    by_slice = [each for each in by_slice if math.isfinite(each[0])]
    if by_slice:
        smallest, name, count = max(by_slice)
        why = f"the slice {name} ({counted(count, 'row')}) detects a loss of {smallest:.2g}, the others less"
        rows.append(({"rule": "slices_no_worse", "metric": of_slices, "margin": up(smallest)}, why))
    return rows


def others(found: Measured) -> list[tuple[dict[str, Any], str]]:
    """What needs no margin."""
    rows: list[tuple[dict[str, Any], str]] = []
    error = found.evaluation["calibration_error"]
    if error is not None:
        limit = max(CALIBRATION, up(error))
        rows.append(({"rule": "calibration", "at_most": min(limit, 0.9)}, f"the first model's error is {error:.2g}"))
    name = chosen(found)[0]
    metric = found.evaluation["metrics"].get(name) or {}
    if metric.get("train") is not None and metric.get("low") is not None:
        gap = metric["train"] - metric["value"]
        limit = up(max(metric["train"] - metric["low"], 0.05))
        why = f"{name} is better by {max(gap, 0):.2g} on the training rows; lower the limit as the model allows"
        rows.append(({"rule": "overfitting", "metric": name, "at_most": limit}, why))
    size = paths.MODEL.stat().st_size / MEGABYTE
    rows.append(
        ({"rule": "drift", "at_most": 0.2, "error": 0.01}, "a distance of distributions; chance blocks 1 % more")
    )
    rows.append(({"rule": "validation"}, "the suite of data/expectations; no test row in training; honest records"))
    rows += [({"rule": name}, "") for name in ("leakage", "recorded", "lock")]
    rows.append(({"rule": "model_size", "at_most": max(10.0, up(2 * size))}, f"MB; the first model has {size:.2g}"))
    rows.append(({"rule": "latency", "at_most": 200}, "ms, on the machine of the review"))
    return rows


def up(value: float) -> float:
    """Rounded up to one digit, so that it is a limit that people can remember."""
    return _rounded(value, math.ceil)


def down(value: float) -> float:
    """Rounded down to two digits."""
    return _rounded(value, math.floor, 2)


def _rounded(value: float, towards: Any, digits: int = 1) -> float:
    if not value:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    return float(f"{towards(round(value / unit, 9)) * unit:.12g}")


if __name__ == "__main__":
    with errors_in_words():
        main()
