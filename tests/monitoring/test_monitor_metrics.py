"""What the monitor tells Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops.monitoring import results
from mlops.monitoring.collect import Collected
from mlops.monitoring.findings import Findings
from mlops.monitoring.labels import Truth
from mlops.monitoring.matched import Matched
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
        "requests_by_day": {"2026-01-01": 5, "2026-01-03": 5},
        "log": {
            "logged_share": 1.0,
            "other_releases": {},
            "unreadable_lines": 0,
            "damaged_files": 0,
            "misdated_rows": 0,
            "most_frequent_request": 0.1,
            "most_frequent_row": 0.1,
        },
        "labels": arrived | labels,
        "alarms": [],
        "warnings": [],
        "risk": [risk],
        "columns": [],
        "estimates": [],
        "figures": [],
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
    labelled = Matched(Truth(np.arange(len(times), dtype=np.uint64), times, times, 0, 0, {}), [])
    labelled.times[:] = 1
    assert results.newest_label(Collected(labelled=labelled), np.datetime64("2026-01-02", "D")) == newest


@pytest.mark.parametrize(
    ("present", "warning"),
    [
        pytest.param("1111111", [], id="each day"),
        pytest.param("1111100", ["no row for 2 days"], id="two days"),
        pytest.param("1111110", [], id="one day"),
        pytest.param("111110011111000", [], id="little longer than a weekend"),
        pytest.param("1111100111110000", ["no row for 4 days"], id="much longer than a weekend"),
    ],
)
def test_a_log_that_falls_silent_for_longer_than_before_warns(present: str, warning: list[str]) -> None:
    days = np.datetime64("2026-01-01", "D") + np.arange(len(present))
    rows = {day: 10 for day, there in zip(days, present, strict=True) if there == "1"}
    assert results.silence(rows, days) == warning
