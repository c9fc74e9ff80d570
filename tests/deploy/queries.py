"""Every query in `deploy/`: of the dashboard's panels, of the alerts, and of the canary's analysis."""

from __future__ import annotations

import json

from manifests import DEPLOY, load

METRICS = {
    "up",
    "model_info",
    "model_rows_total",
    "model_refused_requests_total",
    "bentoml_service_request_total",
    "bentoml_service_request_in_progress",
    "bentoml_service_request_duration_seconds_bucket",
    "prediction_log_dropped_rows_total",
    "monitor_timestamp_seconds",
    "monitor_newest_row_timestamp_seconds",
    "monitor_newest_label_timestamp_seconds",
    "monitor_rows",
    "monitor_labelled_rows",
    "monitor_risk_alarm",
    "monitor_risk_evidence",
    "monitor_column_change",
    "monitor_column_warning",
}
"""What they may ask for; the service and the monitor under test show that they export each of them."""
OF_THE_CANARY = {"monitor_canary_verdict"}
"""What `make canary` writes."""
OF_A_TABLE = {"model_keyed_rows_total", "model_precomputed_until_timestamp_seconds"}
"""What a service with `PREDICTIONS` exports, as `tests/serving/test_precomputed.py` shows."""


def dashboard_queries(raw: bool = False) -> dict[str, str]:
    """Panel and number → query; as Grafana sends it unless `raw`."""
    board = json.loads((DEPLOY / "monitoring/grafana/model.json").read_text(encoding="utf-8"))
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    }
    found |= {f"{each['name']} (annotation)": each["expr"] for each in board["annotations"]["list"]}
    if raw:
        return found
    given = {"$__rate_interval": "10s", "$__range": "1h", "$job": "model", "$namespace": ".*"}
    return {name: substituted(query, given) for name, query in found.items()}


def analysis_queries(**arguments: str) -> dict[str, str]:
    """Metric → query of the AnalysisTemplate, with its arguments filled in."""
    (template,) = load((DEPLOY / "kubernetes/components/canary/analysis.yaml").read_text(encoding="utf-8"))
    values = {each["name"]: each.get("value", "") for each in template["spec"]["args"]} | arguments
    given = {f"{{{{args.{name}}}}}": value for name, value in values.items()}
    metrics = template["spec"]["metrics"]
    return {each["name"]: substituted(each["provider"]["prometheus"]["query"], given) for each in metrics}


def analysis_limits() -> dict[str, float]:
    """Metric → what its number may not exceed; the outcome is an answer instead."""
    (template,) = load((DEPLOY / "kubernetes/components/canary/analysis.yaml").read_text(encoding="utf-8"))
    found = {}
    for each in template["spec"]["metrics"]:
        if each["name"] == "outcome":
            assert each["failureCondition"] == "len(result) > 0 && result[0] < 0"
            assert each["successCondition"] == "len(result) == 0 || result[0] >= 0"
            continue
        limit = each["failureCondition"].removeprefix("len(result) > 0 && result[0] > ")
        assert each["successCondition"] == f"len(result) > 0 && result[0] <= {limit}"
        found[each["name"]] = float(limit)
    return found


def alert_queries() -> dict[str, str]:
    (group,) = load((DEPLOY / "monitoring/prometheus/rules.yaml").read_text(encoding="utf-8"))[0]["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def all_queries() -> dict[str, str]:
    return {
        **dashboard_queries(),
        **{f"analysis {name}": query for name, query in analysis_queries(canary="c", stable="s").items()},
        **alert_queries(),
    }


def substituted(text: str, given: dict[str, str]) -> str:
    for name, value in given.items():
        text = text.replace(name, value)
    return text
