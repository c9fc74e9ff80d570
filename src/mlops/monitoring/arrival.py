"""When labels arrive, and whether at random: those of the rows that were labelled may say little about the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlops.monitoring import drift
from mlops.monitoring.collect import Sample
from mlops.monitoring.drift import Change
from mlops.monitoring.labels import Truth

Array = np.ndarray[Any, Any]

SIGNIFICANT = 0.001
LEAST_ROWS = 50  # with a label, and without


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

    Rows that are younger than the median delay are left out, because their labels may still arrive.

    Parameters
    ----------
    samples : dict of numpy.datetime64 to Sample
        By day.
    kinds : dict of str to str
        Of the columns.
    """
    known = dict(zip(truth.hashes.tolist(), truth.known, strict=True))
    delays = [
        (known[each] - day) / np.timedelta64(1, "D")
        for day, sample in samples.items()
        for each in sample.hashes.tolist()
        if each in known
    ]
    if not delays:
        return Arrival(None, None)
    delay = float(np.median(delays))
    last = max(samples)
    old = [sample for day, sample in samples.items() if (last - day) / np.timedelta64(1, "D") >= delay]
    if not old:
        return Arrival(delay, None)
    labelled = np.isin(np.concatenate([sample.hashes for sample in old]), truth.hashes)
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
