"""The findings in Prometheus' text format, for the node exporter's folder of text files or a push gateway."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import prometheus_client as prometheus

from mlops.monitoring.findings import Findings


def metrics(found: Findings) -> str:
    """All metrics; their time is that of the run."""
    registry = prometheus.CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> prometheus.Gauge:
        return prometheus.Gauge(name, text, labels, registry=registry)

    gauge("monitor_rows", "Rows that were predicted").set(found.rows)
    gauge("monitor_requests", "Requests in the log").set(sum(found.requests_by_day.values()))
    gauge("monitor_logged_share", "Share of the answered requests that monitor.log.sample lets into the log").set(
        found.log.logged_share
    )
    gauge("monitor_timestamp_seconds", "When the monitor ran").set_to_current_time()
    gauge("monitor_newest_row_timestamp_seconds", "Day of the newest row").set(seconds(max(found.rows_by_day)))
    if found.labels.declared:
        gauge("monitor_labelled_rows", "Rows with a label").set(found.labels.rows)
        gauge(
            "monitor_newest_label_timestamp_seconds",
            "Day on which the newest label became known; of the first row where there is no label",
        ).set(seconds(found.labels.newest or found.start))
    evidence = gauge("monitor_risk_evidence", "Evidence that a loss has risen; 1 is an alarm", "metric", "part")
    alarm = gauge("monitor_risk_alarm", "Whether a loss has risen", "metric", "part")
    for risk in found.risk:
        last = risk.evidence[-1] if risk.evidence else 0
        evidence.labels(risk.metric, risk.part).set(math.inf if last is None else last)
        alarm.labels(risk.metric, risk.part).set(risk.alarm is not None)
    mean = gauge("monitor_figure_mean", "Mean of a business figure over labelled rows", "figure", "version")
    low = gauge("monitor_figure_low", "Lower end of its 95 % interval", "figure", "version")
    high = gauge("monitor_figure_high", "Upper end of its 95 % interval", "figure", "version")
    rows = gauge("monitor_figure_rows", "Rows that it is the mean of", "figure", "version")
    for figure in found.figures:
        rows.labels(figure.figure, figure.version).set(figure.rows)
        for part, value in ((mean, figure.mean), (low, figure.low), (high, figure.high)):
            if value is not None:
                part.labels(figure.figure, figure.version).set(value)
    effect = gauge("monitor_column_change", "Distance of a column's distribution from the release's", "column", "days")
    warning = gauge("monitor_column_warning", "Whether that is significant and large", "column", "days")
    for column in found.columns:
        if column.change is not None:
            effect.labels(column.column, column.days).set(column.change.effect)
            warning.labels(column.column, column.days).set(column.warns)
    return prometheus.generate_latest(registry).decode()


def seconds(day: str) -> float:
    """Seconds from 1970 to the beginning of a day in UTC."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
