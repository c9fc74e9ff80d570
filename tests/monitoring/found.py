"""Findings for tests: a calm month, and what is different."""

from __future__ import annotations

from typing import Any

from mlops.monitoring.findings import Findings

RISK = {
    "metric": "accuracy",
    "meaning": "share of wrong predictions",
    "part": "all rows",
    "reference": 0.05,
    "limit": 0.08,
    "mean": 0.05,
    "rows": 1_000,
    "reference_rows": 500,
    "missing": 0,
    "evidence": [0.0, 0.1, None, 0.2],
    "alarm": None,
}
COLUMN = {
    "column": "mean radius",
    "days": 7,
    "rows": 700,
    "change": {"p_value": 1e-9, "effect": 0.4, "what": "median 14 → 1.4"},
    "warns": False,
}
LABELS = {
    "declared": True,
    "rows": 1_000,
    "share": 0.7,
    "newest": "2026-01-31",
    "delay_days": 2.5,
    "selection": None,
    "corrected": 3,
    "unusable": 2,
    "of_repeated_requests": 1,
    "of_rows_that_were_not_logged": 4,
}
FIGURES = [
    {"figure": "revenue", "version": "1.3.0", "mean": 12.5, "low": 11.0, "high": 14.0, "rows": 12},
    {"figure": "revenue", "version": "1.4.0", "mean": None, "low": None, "high": None, "rows": 0},
]


def finding(risk: dict[str, Any] | None = None, column: dict[str, Any] | None = None, **different: Any) -> Findings:
    """Findings of January 2026 in which a risk, a column, or anything else is different."""
    risks, columns = [{**RISK, **(risk or {})}], [{**COLUMN, **(column or {})}]
    whole = {
        "model": "0" * 32,
        "start": "2026-01-01",
        "until": "2026-01-31",
        "rows": 1_428,
        "rows_by_day": {"2026-01-01": 1_428},
        "requests_by_day": {"2026-01-01": 1_428},
        "log": {
            "logged_share": 1.0,
            "other_releases": {"1.3.0": 12},
            "unreadable_lines": 5,
            "damaged_files": 1,
            "misdated_rows": 2,
            "most_frequent_request": 0.001,
            "most_frequent_row": 0.002,
        },
        "labels": LABELS,
        "alarms": [f"{each['metric']}, {each['part']}"[:300] for each in risks if each["alarm"]],
        "warnings": [each["column"] for each in columns if each["warns"]],
        "risk": risks,
        "columns": columns,
        "estimates": [{"metric": "accuracy", "value": 0.93, "reference": 0.95, "error": 0.004}],
        "figures": FIGURES,
        "false_alarm_years": 20.0,
    }
    return Findings.model_validate({**whole, **different})
