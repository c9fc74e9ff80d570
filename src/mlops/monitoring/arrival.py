"""When labels arrive, and whether at random: those of the rows that were labelled may say little about the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlops.monitoring import drift
from mlops.monitoring.collect import Sample
from mlops.monitoring.drift import Change
from mlops.monitoring.labels import Truth, places

Array = np.ndarray[Any, Any]

SIGNIFICANT = 0.001
LEAST_ROWS = 50  # with a label, and without
ARRIVED = 0.95  # share of the labels for which a row must have had the time


class Arrival(NamedTuple):
    """How labels arrive.

    Attributes
    ----------
    delay_days : float or None
        Median time from the day of the prediction to the label.
    selection : Change or None
        How the rows with a label differ most from those without; None where they do not, or are too few.
    """

    delay_days: float | None
    selection: Change | None


def arrival(samples: dict[Any, Sample], truth: Truth, kinds: dict[str, str]) -> Arrival:
    """Compare sampled rows with a label to those without.

    Rows that are younger than nearly all delays are left out, because their labels may still arrive.

    Parameters
    ----------
    samples : dict of numpy.datetime64 to Sample
        By day.
    kinds : dict of str to str
        Of the columns.
    """
    delays = []
    for day, sample in samples.items():
        label = places(truth, sample.hashes)
        delays.append((truth.known[label[label >= 0]] - day) / np.timedelta64(1, "D"))
    if not any(map(len, delays)):
        return Arrival(None, None)
    delay, wait = map(float, np.quantile(np.concatenate(delays), [0.5, ARRIVED]))
    last = max(samples)
    old = [sample for day, sample in samples.items() if (last - day) / np.timedelta64(1, "D") >= wait]
    if not old:
        return Arrival(delay, None)
    labelled = np.concatenate([places(truth, sample.hashes) for sample in old]) >= 0
    if min(labelled.sum(), (~labelled).sum()) < LEAST_ROWS:
        return Arrival(delay, None)
    changes = {}
    for name, kind in kinds.items():
        values = np.concatenate([sample.columns[name] for sample in old])
        compare = drift.numbers if kind in ("numeric", "boolean") else drift.categories
        changes[name] = compare(values[~labelled], values[labelled])
    name = min(changes, key=lambda each: changes[each].p_value)
    most = changes[name]
    if len(changes) * most.p_value >= SIGNIFICANT:
        return Arrival(delay, None)
    return Arrival(delay, Change(min(1.0, len(changes) * most.p_value), most.effect, f"{name}: {most.what}"))
