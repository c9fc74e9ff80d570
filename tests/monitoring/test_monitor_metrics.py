"""What the monitor tells Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops.model.metrics import Predictions
from mlops.monitoring import results
from mlops.monitoring.collect import Collected, Labelled
from mlops.monitoring.findings import Findings
from mlops.monitoring.metrics import metrics


def findings(evidence: list[float | None], **labels: Any) -> Findings:
    risk = {
        "metric": "recall",
        "meaning": "share of positives that is missed",
        "part": "all rows",
        "reference": 0.1,
        "limit": 0.2,
        "mean": 0.1,
        "rows": 5,
        "reference_rows": 100,
        "missing": 0,
        "evidence": evidence,
        "alarm": None,
    }
    arrived = {
        "declared": True,
        "rows": 5,
        "share": 0.5,
        "newest": "2026-01-02",
        "delay_days": None,
        "selection": None,
        "corrected": 0,
        "unusable": 0,
        "of_repeated_requests": 0,
        "of_rows_that_were_not_logged": 0,
    }
    content = {
        "model": "a" * 32,
        "start": "2026-01-01",
        "until": "2026-01-04",
        "rows": 10,
        "rows_by_day": {"2026-01-01": 5, "2026-01-03": 5},
        "log": {"other_releases": {}, "unreadable_lines": 0, "damaged_files": 0},
        "labels": arrived | labels,
        "alarms": [],
        "warnings": [],
        "risk": [risk],
        "columns": [],
        "estimates": [],
        "false_alarm_years": 20,
    }
    return Findings.model_validate(content)


def samples(found: Findings) -> dict[str, float]:
    families = text_string_to_metric_families(metrics(found))
    return {sample.name: sample.value for family in families for sample in family.samples}


def day(number: int) -> float:
    return datetime(2026, 1, number, tzinfo=UTC).timestamp()


def test_prometheus_learns_how_old_rows_and_labels_are() -> None:
    found = samples(findings([0.1]))
    assert found["monitor_newest_row_timestamp_seconds"] == day(3)
    assert found["monitor_newest_label_timestamp_seconds"] == day(2)
    assert (found["monitor_rows"], found["monitor_labelled_rows"]) == (10, 5)


def test_labels_that_never_came_are_awaited_since_the_first_row() -> None:
    assert samples(findings([], newest=None, rows=0))["monitor_newest_label_timestamp_seconds"] == day(1)


def test_nothing_is_said_of_labels_that_nobody_expects() -> None:
    found = samples(findings([], declared=False, newest=None, rows=0))
    assert not [name for name in found if "label" in name]


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [([0.1, 0.5], 0.5), ([0.1, 0.0], 0), ([], 0), ([0.1, None], float("inf"))],
    ids=["number", "zero", "none", "infinite"],
)
def test_the_last_evidence_counts(evidence: list[float | None], expected: float) -> None:
    assert samples(findings(evidence))["monitor_risk_evidence"] == expected


@pytest.mark.parametrize(
    ("known", "newest"),
    [([], None), (["2026-01-01T10:00", "2026-01-02T23:59", "2999-01-01"], "2026-01-02"), (["2999-01-01"], None)],
    ids=["no label", "one of the future", "only of the future"],
)
def test_labels_of_the_future_do_not_hide_that_labels_are_late(known: list[str], newest: str | None) -> None:
    times = np.array(known, dtype="datetime64[us]")
    labelled = Labelled(times, times, Predictions(times, None), {})
    assert results.newest_label(Collected(labelled=labelled), np.datetime64("2026-01-02", "D")) == newest
