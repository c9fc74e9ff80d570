"""Puts the results together: risk, windows, estimates, labels and log, as findings."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from mlops.core.markdown import one_line
from mlops.core.part import MOST_LETTERS
from mlops.core.settings import Monitor
from mlops.model.metrics import Predictions
from mlops.monitoring import estimate, risk, windows
from mlops.monitoring.arrival import arrival
from mlops.monitoring.collect import Collected, Sample
from mlops.monitoring.drift import Change
from mlops.monitoring.figures import Mean, by_version, other_releases
from mlops.monitoring.findings import MOST_FIGURES, MOST_ROWS, Findings
from mlops.monitoring.labels import Truth
from mlops.monitoring.log import Reading
from mlops.monitoring.reference import Reference

Array = np.ndarray[Any, Any]

MOST_RELEASES = 20


def of(
    known: Reference,
    reading: Reading,
    truth: Truth | None,
    collected: Collected,
    options: Monitor,
    days: Array,
) -> Findings:
    """All findings of a log.

    Parameters
    ----------
    days : ndarray of datetime64[D]
        All days since the release's first prediction.
    """
    risks: list[dict[str, Any]] = []
    figures: list[Mean] = []
    if truth is not None and (labelled := collected.labelled) is not None:
        slices = [name for name in labelled.columns if name in known.slices]
        risks = [risk_row(each) for each in risk.watch(known, labelled, options, days, known.metrics, slices)]
        figures = by_version(known.project, known.classes, labelled)
        figures += other_releases(known.project, known.classes, truth, reading, {*collected.versions})
    compared = windows.compare(known, collected, options)
    columns = [
        {**each._asdict(), "column": text(each.column), "change": change(each.change)} for each in compared[:MOST_ROWS]
    ]
    return Findings.model_validate(
        {
            "model": known.model,
            "start": str(days[0]),
            "until": str(days[-1]),
            "rows": sum(collected.rows.values()),
            "rows_by_day": {str(day): count for day, count in collected.rows.items()},
            "requests_by_day": {str(day): count for day, count in collected.requests.items()},
            "log": {
                "logged_share": min(1.0, sum(collected.requests.values()) / reading.asked) if reading.asked else 1.0,
                "other_releases": releases(reading.others),
                "unreadable_lines": reading.unreadable.total(),
                "damaged_files": len(reading.damaged),
                "misdated_rows": collected.misdated,
                "most_frequent_request": most_frequent([sample.hashes for sample in collected.samples.values()]),
                "most_frequent_row": most_frequent([of_values(sample) for sample in collected.samples.values()]),
            },
            "labels": labels(known, truth, collected, days[-1]),
            "alarms": sorted({f"{each['metric']}, {each['part']}"[:MOST_LETTERS] for each in risks if each["alarm"]}),
            "warnings": [
                *silence(collected.rows, days),
                *sorted({text(each.column) for each in compared if each.warns}),
            ],
            "risk": sorted(risks, key=rank)[:MOST_ROWS],
            "columns": columns,
            "estimates": estimates(known, collected.samples),
            "figures": [figure_row(each) for each in sorted(figures)[:MOST_FIGURES]],
            "false_alarm_years": options.false_alarm_years,
        }
    )


def text(value: str) -> str:
    """A text of the log or the table as the findings hold it."""
    return one_line(value, MOST_LETTERS)


def most_frequent(values: list[Array]) -> float:
    """The share of the commonest value."""
    if not values:
        return 0.0
    _, count = np.unique(np.concatenate(values), return_counts=True)
    return float(count.max() / count.sum())


def of_values(sample: Sample) -> Array:
    """A hash of the values of each row."""
    return np.asarray(pd.util.hash_pandas_object(pd.DataFrame(sample.columns), index=False, categorize=False))


def finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def change(found: Change | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"p_value": float(found.p_value), "effect": float(found.effect), "what": text(found.what)}


def risk_row(each: risk.Risk) -> dict[str, Any]:
    return {
        **each._asdict(),
        "part": text(each.part),
        "evidence": [finite(value) for value in each.evidence],
        **{name: finite(getattr(each, name)) for name in ("reference", "limit", "mean")},
    }


def silence(rows: dict[Any, int], days: Array) -> list[str]:
    """A warning, where the log has had no row for longer than ever before, and for at least two days."""
    seen = np.flatnonzero([rows.get(day, 0) for day in days])
    pause, longest = len(days) - 1 - seen[-1], np.diff(seen).max(initial=1) - 1
    return [f"no row for {pause} days"] if pause > longest + 1 else []


def figure_row(each: Mean) -> dict[str, Any]:
    return {
        **each._asdict(),
        "figure": text(each.figure),
        "version": text(each.version),
        **{name: finite(getattr(each, name)) for name in ("mean", "low", "high")},
    }


def rank(each: dict[str, Any]) -> tuple[bool, bool, float]:
    """Alarms first, then all rows, then slices by their evidence."""
    most = max((math.inf if value is None else value for value in each["evidence"]), default=0)
    return not each["alarm"], each["part"] != risk.ALL_ROWS, -most


def releases(others: Counter[str]) -> dict[str, int]:
    """The rows of other releases that are left out."""
    found: Counter[str] = Counter()
    for version, count in others.most_common(MOST_RELEASES):
        found[text(version)] += count
    return dict(found)


def labels(known: Reference, truth: Truth | None, collected: Collected, until: np.datetime64) -> dict[str, Any]:
    """How many labels have arrived, when, and of which rows."""
    rows = 0 if collected.labelled is None else len(collected.labelled)
    kinds: dict[str, str] = {part.name: part.kind for part in known.contract.inputs}
    arrived = None if truth is None else arrival(collected.samples, truth, kinds)
    return {
        "declared": truth is not None,
        "rows": rows,
        "share": rows / max(1, sum(collected.rows.values())),
        "newest": newest_label(collected, until),
        "delay_days": None if arrived is None else arrived.delay_days,
        "selection": None if arrived is None else change(arrived.selection),
        "corrected": 0 if truth is None else truth.corrected,
        "unusable": 0 if truth is None else truth.unusable,
        "of_repeated_requests": 0 if collected.labelled is None else collected.labelled.repeated,
        "of_rows_that_were_not_logged": 0 if collected.labelled is None else collected.labelled.unmatched,
    }


def newest_label(collected: Collected, until: np.datetime64) -> str | None:
    """The last day on which a label arrived. One of the future must not hide that the others are late."""
    if collected.labelled is None:
        return None
    days = collected.labelled.known.astype("datetime64[D]")
    days = days[days <= until]
    return str(days.max()) if len(days) else None


def estimates(known: Reference, samples: dict[Any, Sample]) -> list[dict[str, Any]]:
    """The metrics of the last four weeks without labels, of a classification with probabilities."""
    likely = [sample.probabilities for sample in samples.values()]
    if known.classes is None or known.predictions.probabilities is None or not likely:
        return []
    if any(each is None for each in likely):
        return []
    here = Predictions(
        np.concatenate([sample.predicted for sample in samples.values()]),
        np.concatenate([each for each in likely if each is not None]),
    )
    found = estimate.estimates(known.y, known.predictions, here, known.classes)
    return [
        {
            "metric": each.metric,
            "value": each.value,
            "reference": each.reference,
            "error": each.reference_error,
        }
        for each in found
        if each.metric in known.metrics and all(map(math.isfinite, each[1:]))
    ]
