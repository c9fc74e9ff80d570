"""Alerts, dashboard and their configuration: read by the tools that will read them, and played through."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from manifests import DEPLOY, load, run
from queries import (
    METRICS,
    OF_A_TABLE,
    OF_THE_CANARY,
    all_queries,
    analysis_limits,
    analysis_queries,
    dashboard_queries,
)
from ruamel.yaml import YAML

MONITORING = DEPLOY / "monitoring"
RULES = MONITORING / "prometheus/rules.yaml"
PLAYED = [Path(__file__).with_name(name) for name in ("rules_test.yaml", "rules_daily_test.yaml")]
MACHINE = load((DEPLOY / "compose/compose.yaml").read_text(encoding="utf-8"))[0]["services"]


def rules() -> dict[str, str]:
    (group,) = load(RULES.read_text(encoding="utf-8"))[0]["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def scraped() -> dict[str, Any]:
    """Job → what Prometheus knows of it."""
    config = load((MONITORING / "prometheus/prometheus.yaml").read_text(encoding="utf-8"))[0]
    return {each["job_name"]: each for each in config["scrape_configs"]}


def test_prometheus_takes_its_configuration_and_finds_the_rules() -> None:
    said = run("promtool", "check", "config", MONITORING / "prometheus/prometheus.yaml")
    assert f"{len(rules())} rules found" in said


def test_alertmanager_takes_its_configuration() -> None:
    assert "SUCCESS" in run("amtool", "check-config", MONITORING / "alertmanager/alertmanager.yaml")


@pytest.mark.parametrize(("severity", "waits"), [("page", "1h"), ("ticket", "12h")])
def test_every_alert_reaches_the_team(severity: str, waits: str) -> None:
    config = MONITORING / "alertmanager/alertmanager.yaml"
    said = run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={config}",
        "--verify.receivers=team",
        f"severity={severity}",
    )
    assert "team" in said
    routes = load(config.read_text(encoding="utf-8"))[0]["route"]
    matching = [each for each in routes["routes"] if f'"{severity}"' in str(each["matchers"])] or [routes]
    assert matching[0]["repeat_interval"] == waits


def test_each_alert_fires_when_it_should_and_is_quiet_otherwise() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", *PLAYED)
    played = "".join(path.read_text(encoding="utf-8") for path in PLAYED)
    assert [name for name in rules() if name not in played] == []


@pytest.mark.parametrize("name", rules())
def test_the_played_series_notice_an_alert_that_never_fires(name: str, tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "monitoring/prometheus", tmp_path / "deploy/monitoring/prometheus")
    (tmp_path / "tests/deploy").mkdir(parents=True)
    copies = [shutil.copy(path, tmp_path / "tests/deploy") for path in PLAYED]
    broken = tmp_path / RULES.relative_to(DEPLOY.parent)
    text = broken.read_text(encoding="utf-8")
    changed = re.sub(
        rf"(alert: {name}\n +expr: )(\|\n.*?|.*?)(?=\n +(for|labels):)", r"\1vector(1) > 2", text, flags=re.S
    )
    assert changed != text
    broken.write_text(changed, encoding="utf-8")
    with pytest.raises(AssertionError, match="FAILED"):
        run("promtool", "test", "rules", *copies)


def test_the_cluster_has_the_same_alerts_as_the_machine() -> None:
    (cluster,) = load((MONITORING / "kubernetes/rules.yaml").read_text(encoding="utf-8"))
    assert cluster["spec"] == load(RULES.read_text(encoding="utf-8"))[0], "copy the groups of one file into the other"


def test_what_is_asked_for_is_what_the_service_exports() -> None:
    for place, query in all_queries().items():
        names = set(re.findall(r"\b([a-z_]+)(?=\{)", query)) - {"by", "le"}
        assert names, place
        assert names <= METRICS | OF_THE_CANARY | OF_A_TABLE, place


def test_the_dashboard_fits_its_grid_and_has_no_panel_without_data() -> None:
    board = json.loads((MONITORING / "grafana/model.json").read_text(encoding="utf-8"))
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["targets"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    known = {each["name"] for each in board["templating"]["list"]} | {"__rate_interval", "__range"}
    for query in dashboard_queries(raw=True).values():
        assert set(re.findall(r"\$(\w+)", query)) <= known


def test_files_lie_where_the_containers_look_for_them() -> None:
    """Each mount's source exists, and what the programs are configured to read is mounted."""
    mounted = {}
    for service in ("prometheus", "alertmanager", "grafana"):
        for volume in MACHINE[service]["volumes"]:
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                mounted[target] = DEPLOY / "compose" / source
    assert all(path.exists() for path in mounted.values())
    assert (mounted["/etc/prometheus"] / "prometheus.yaml").is_file()
    (provider,) = load((MONITORING / "grafana/provisioning/dashboards/model.yaml").read_text("utf-8"))[0]["providers"]
    assert any(target.startswith(provider["options"]["path"]) for target in mounted)
    (source,) = load((MONITORING / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))[0][
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    scrape = scraped()["model"]
    assert scrape["static_configs"] == [{"targets": ["model:3000"]}]


def test_cluster_and_machine_keep_the_same_series() -> None:
    """A port's label by the operator must not push the service's own `endpoint` aside."""
    scrape = scraped()["model"]
    (pods,) = load((MONITORING / "kubernetes/pods.yaml").read_text("utf-8"))
    (endpoint,) = pods["spec"]["podMetricsEndpoints"]
    (machine,), (cluster,) = scrape["metric_relabel_configs"], endpoint["metricRelabelings"]
    assert (machine["source_labels"], machine["regex"]) == (cluster["sourceLabels"], cluster["regex"])
    assert {"action": "labeldrop", "regex": "endpoint"} in endpoint["relabelings"]
    assert pods["spec"]["sampleLimit"] == scrape["sample_limit"]


def played(
    folder: Path, canary: dict[str, int], stable: dict[str, int], slow: str = "0.025"
) -> dict[str, float | None]:
    """What the analysis finds where so many requests a minute end in a status, the canary's within `slow` seconds."""
    series = []
    for name, statuses, within in (("c", canary, slow), ("s", stable, "0.025")):
        labels = f'job="model", namespace="n", endpoint="/predict", rollouts_pod_template_hash="{name}"'
        for status, number in statuses.items():
            total = f'bentoml_service_request_total{{{labels}, http_response_code="{status}"}}'
            series.append({"series": total, "values": f"0+{number}x20"})
            for le in ("0.01", "0.025", "0.25", "1.0", "+Inf"):
                bucket = f'{{{labels}, http_response_code="{status}", le="{le}"}}'
                bucket = f"bentoml_service_request_duration_seconds_bucket{bucket}"
                series.append({"series": bucket, "values": f"0+{number if float(le) >= float(within) else 0}x20"})
    queries = analysis_queries(canary="c", stable="s", namespace="n")
    found: dict[str, float | None] = {}
    for name, query in queries.items():
        # promtool tells what it got where that is not what it was promised
        test = {"expr": query, "eval_time": "15m", "exp_samples": [{"labels": '{never="this"}', "value": 0}]}
        file = folder / f"{name}.yaml"
        YAML().dump({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [test]}]}, file)
        with pytest.raises(AssertionError) as failure:
            run("promtool", "test", "rules", file)
        (got,) = re.findall(r"got:.*?(\S+)\s*$", str(failure.value), re.M)
        found[name] = None if got in ("nil", "NaN") else float(got)
    return found


WELL = {"200": 100}


@pytest.mark.parametrize(
    ("canary", "slow", "failing"),
    [
        (WELL, "0.025", set()),
        ({"200": 99, "500": 1, "422": 3}, "0.025", set()),
        ({"200": 95, "500": 5}, "0.025", {"errors"}),
        ({"200": 80, "422": 20}, "0.025", {"refused"}),
        (WELL, "1.0", {"latency"}),
        ({"500": 100}, "1.0", {"errors", "latency"}),
    ],
)
def test_the_analysis_fails_a_canary_that_is_worse(
    canary: dict[str, int], slow: str, failing: set[str], tmp_path: Path
) -> None:
    found, limits = played(tmp_path, canary, WELL, slow), analysis_limits()
    assert {name for name, number in found.items() if number is not None and number > limits.get(name, 0)} == failing


def test_the_analysis_does_not_blame_a_canary_for_what_the_stable_one_does_too(tmp_path: Path) -> None:
    bad = {"200": 70, "500": 10, "422": 20}
    assert played(tmp_path, bad, bad) == {"errors": 0, "refused": 0, "latency": 1, "outcome": None}


def test_the_analysis_takes_silence_for_no_proof(tmp_path: Path) -> None:
    assert played(tmp_path, {}, WELL) == {"errors": None, "refused": None, "latency": None, "outcome": None}
    assert played(tmp_path, {"200": 0}, WELL) == {"errors": None, "refused": None, "latency": None, "outcome": None}


@pytest.mark.parametrize("number", [-1, 0, 1])
def test_the_analysis_takes_the_outcome_of_the_version_in_the_canary_s_pods(number: int, tmp_path: Path) -> None:
    pods = [
        f'model_info{{job="model", namespace="n", version="{version}", rollouts_pod_template_hash="{pods}"}}'
        for version, pods in (("1.5.0", "c"), ("1.4.0", "s"))
    ]
    answers = {f'monitor_canary_verdict{{champion="1.4.0", canary="{name}"}}' for name in ("1.5.0", "1.3.0")}
    series = [{"series": each, "values": "1x20"} for each in pods]
    series += [{"series": each, "values": f"{number if '1.5.0' in each else -1}x20"} for each in sorted(answers)]
    query = analysis_queries(canary="c", stable="s", namespace="n")["outcome"]
    test = {"expr": query, "eval_time": "15m", "exp_samples": [{"labels": "{}", "value": number}]}
    file = tmp_path / "outcome.yaml"
    YAML().dump({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [test]}]}, file)
    run("promtool", "test", "rules", file)
