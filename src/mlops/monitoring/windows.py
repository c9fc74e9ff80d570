"""Inputs and predictions of the last day, week and four weeks, compared with the release's test rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core.settings import Monitor
from mlops.monitoring import drift
from mlops.monitoring.classifier import separation
from mlops.monitoring.collect import Collected, Sample
from mlops.monitoring.drift import Change
from mlops.monitoring.reference import Reference

Array = np.ndarray[Any, Any]

DAYS = (1, 7, 28)
DAYS_OF_YEAR = 365.25
PREDICTION = "the prediction"
TOGETHER = "all columns together"
LEAST_DAYS = 7  # for the classifier, which takes seconds


class Compared(NamedTuple):
    """A column in a window.

    Attributes
    ----------
    days, rows : int
        Of the window; `rows` are those that were compared.
    change : Change or None
        None where there are too few rows.
    warns : bool
        Whether it is significant at the stated error, and large enough.
    """

    column: str
    days: int
    rows: int
    change: Change | None
    warns: bool


def compare(reference: Reference, collected: Collected, options: Monitor) -> list[Compared]:
    """Each column that the model takes, the prediction, and all together, in each window up to the log's last day."""
    names = [part.name for part in reference.contract.inputs]
    limit = drift.level(options.false_alarm_years * DAYS_OF_YEAR, len(names) + 2, len(DAYS))
    last = max(collected.samples, default=None)
    found = []
    for days in DAYS:
        samples = [
            sample
            for day, sample in collected.samples.items()
            if last is not None and day > last - np.timedelta64(days, "D")
        ]
        rows = sum(len(sample.hashes) for sample in samples)
        enough = rows >= options.least_rows
        tested = changes(reference, names, samples, enough)
        if days >= LEAST_DAYS:
            tested.append((TOGETHER, together(reference, samples) if enough else None))
        for name, change in tested:
            warns = change is not None and change.p_value < limit and change.effect >= options.least_effect
            found.append(Compared(name, days, rows, change, warns))
    return found


def changes(
    reference: Reference, names: list[str], samples: list[Sample], enough: bool
) -> list[tuple[str, Change | None]]:
    """How each column, and the prediction, has changed; None where there are too few rows."""
    if not enough:
        return [(name, None) for name in [*names, PREDICTION]]
    found: list[tuple[str, Change | None]] = []
    for part in reference.contract.inputs:
        known = as_array(reference.test[part.name], part.kind)
        here = comparable(np.concatenate([sample.columns[part.name] for sample in samples]), part.kind)
        compare_ = drift.numbers if part.kind in ("numeric", "boolean") else drift.categories
        found.append((part.name, compare_(known, here)))
    here = np.concatenate([sample.predicted for sample in samples])
    if reference.classes is None:
        change = drift.numbers(reference.predictions.predicted.astype(float), here.astype(float))
    else:
        change = drift.categories(reference.predictions.predicted.astype(object), here.astype(object))
        likely = [sample.probabilities for sample in samples if sample.probabilities is not None]
        if likely and reference.predictions.probabilities is not None:
            column = reference.classes.positive
            numbers = drift.numbers(reference.predictions.probabilities[:, column], np.concatenate(likely)[:, column])
            change = drift.combined([change, numbers])
    return [*found, (PREDICTION, change)]


def together(reference: Reference, samples: list[Sample]) -> Change | None:
    """What a classifier finds that tells the window from the reference."""
    inputs = reference.contract.inputs
    known = {part.name: as_array(reference.test[part.name], part.kind) for part in inputs}
    logged = {part.name: np.concatenate([sample.columns[part.name] for sample in samples]) for part in inputs}
    here = {part.name: comparable(logged[part.name], part.kind) for part in inputs}
    found = separation(known, here)
    if found is None:
        return None
    by = ", ".join(name for name, _ in found.columns[:3])
    return Change(found.p_value, found.effect, f"a classifier tells them apart by {by}" if by else "no difference")


def as_array(values: pa.ChunkedArray, kind: str) -> Array:
    """A column of the reference as the log has it: numbers, or texts."""
    if kind in ("numeric", "boolean"):
        return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=float)
    found = np.empty(len(values), dtype=object)
    found[:] = [value if value is None or isinstance(value, str) else str(value) for value in values.to_pylist()]
    return comparable(found, kind)


def comparable(values: Array, kind: str) -> Array:
    """What can stay the same over time: of a date only whether it is there, of a time of day its hour."""
    if kind not in ("date", "time"):
        return values
    found = np.empty(len(values), dtype=object)
    found[:] = [value if value is None else "a date" if kind == "date" else str(value)[:2] for value in values]
    return found
