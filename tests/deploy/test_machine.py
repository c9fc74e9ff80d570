"""One machine: the compose file as compose reads it, and the unit for systemd."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from manifests import DEPLOY, load, run

from mlops.release import rollout

REFERENCE = re.compile(r"ghcr\.io/\S+@sha256:[0-9a-f]{64}")
VERSION = re.compile(r"[a-z/-]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?")


MORE = ("compose.log.yaml", "compose.monitor.yaml")


def composed(*files: str) -> dict[str, Any]:
    """The services of some compose files together, defaults and references resolved."""
    said = run("compose-go", "-no-interpolation", "-format", "json", *files, cwd=DEPLOY / "compose")
    found: dict[str, Any] = json.loads(said)["services"]
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return composed("compose.yaml")


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    return composed("compose.yaml", *MORE)


def read_unit(*names: str) -> configparser.ConfigParser:
    """A file of systemd or Quadlet, and those that are dropped in."""
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read([DEPLOY / name for name in names], encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    return read_unit("quadlet/model.container")


def test_a_mistyped_key_of_the_compose_file_is_noticed(tmp_path: Any) -> None:
    broken = (DEPLOY / "compose/compose.yaml").read_text(encoding="utf-8").replace("read_only:", "readonly:", 1)
    (tmp_path / "compose.yaml").write_text(broken, encoding="utf-8")
    with pytest.raises(AssertionError, match="'readonly' not allowed"):
        run("compose-go", "-no-interpolation", "compose.yaml", cwd=tmp_path)


def test_the_model_is_named_by_the_digest_in_env_and_by_nothing_else(services: dict[str, Any]) -> None:
    assert re.fullmatch(r"\$\{MODEL_IMAGE:\?.*\}", services["model"]["image"])
    lines = (DEPLOY / "compose/.env").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line and not line.startswith("#"))
    name, _, reference = line.partition("=")
    assert name == "MODEL_IMAGE"
    assert REFERENCE.fullmatch(reference)


def test_other_images_are_pinned_by_version_and_dependabot_follows_them(everything: dict[str, Any]) -> None:
    others = [service["image"] for name, service in everything.items() if name != "model"]
    assert len(others) == 5
    assert all(VERSION.fullmatch(image) for image in others)
    (bot,) = load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))
    assert {"docker-compose": "/deploy/compose"}.items() <= {
        each["package-ecosystem"]: each.get("directory") for each in bot["updates"]
    }.items()


def test_no_container_may_do_what_it_need_not(services: dict[str, Any], everything: dict[str, Any]) -> None:
    for name, service in everything.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", []))
        assert not service.get("privileged")
        writable = [m["target"] for m in service.get("volumes", []) if m["type"] == "bind" and not m.get("read_only")]
        assert writable == (["/var/log/model"] if name == "model" else [])
    assert services["model"]["user"] == "10001:10001"
    assert services["model"]["healthcheck"]["test"][0] == "CMD"
    assert "volumes" not in services["model"]


def test_the_unit_is_as_careful_as_the_compose_file(unit: configparser.ConfigParser) -> None:
    container = unit["Container"]
    assert REFERENCE.fullmatch(container["Image"])
    assert "AutoUpdate" not in container
    assert (container["User"], container["Group"]) == ("10001", "10001")
    assert container["ReadOnly"] == container["NoNewPrivileges"] == "true"
    assert container["DropCapability"] == "all"
    assert container["PublishPort"].startswith("127.0.0.1:")
    assert unit["Service"]["Restart"] == "always"
    assert int(unit["Service"]["TimeoutStopSec"]) > int(container["StopTimeout"]) >= 60


def test_unit_and_compose_file_ask_for_health_in_the_same_way(
    unit: configparser.ConfigParser, services: dict[str, Any]
) -> None:
    program, flag, code = services["model"]["healthcheck"]["test"][1:]
    assert unit["Container"]["HealthCmd"] == f'{program} {flag} "{code}"'
    assert "/readyz" in code


def test_files_with_secrets_are_kept_out_of_git() -> None:
    secret = ["deploy/compose/secrets.env", "deploy/compose/grafana.env", "deploy/compose/bucket.env"]
    said = subprocess.run(["git", "check-ignore", *secret], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.stdout.split() == secret


# the prediction log and the daily monitor


def test_the_log_is_off_unless_its_file_is_named(services: dict[str, Any], unit: configparser.ConfigParser) -> None:
    assert services.keys() == {"model", "prometheus", "alertmanager", "grafana"}
    assert "PREDICTION_LOG" not in services["model"].get("environment", {})
    assert not {"Volume", "Environment"} & unit["Container"].keys()
    (line,) = (line for line in (DEPLOY / "compose/.env").read_text("utf-8").splitlines() if "COMPOSE_FILE" in line)
    assert line == f"# COMPOSE_FILE=compose.yaml:{':'.join(MORE)}"


def test_the_shipper_reads_what_the_service_logs(everything: dict[str, Any]) -> None:
    model, shipper = everything["model"], everything["shipper"]
    folder = model["environment"]["PREDICTION_LOG"]
    (written,) = model["volumes"]
    read, script = shipper["volumes"]
    assert (written["target"], read["target"]) == (folder, folder)
    assert written["source"] == read["source"]
    # a folder that docker creates would belong to root
    assert written["bind"]["create_host_path"] is False
    assert read["read_only"] is script["read_only"] is True
    assert shipper["user"] == model["user"]
    assert shipper["entrypoint"] == ["/bin/sh", f"{script['target']}/ship.sh"]
    assert (Path(script["source"]) / "ship.sh").resolve() == DEPLOY / "log/ship.sh"
    assert [each["path"].rpartition("/")[2] for each in shipper["env_file"]] == ["bucket.env"]


def test_the_shipper_of_the_units_is_that_of_the_compose_file(everything: dict[str, Any]) -> None:
    shipper = read_unit("quadlet/log/model-shipper.container")["Container"]
    model = read_unit("quadlet/model.container", "quadlet/log/model.container.d/log.conf")["Container"]
    volume, folder = model["Volume"].split(":")
    assert model["Environment"] == f"PREDICTION_LOG={folder}"
    assert (DEPLOY / "quadlet/log" / volume).is_file()
    text = (DEPLOY / "quadlet/log/model-shipper.container").read_text(encoding="utf-8")
    assert re.findall(r"^Volume=(.*)$", text, re.M) == [
        f"{volume}:{folder}:ro",
        "%h/.config/containers/systemd/ship.sh:/etc/shipper/ship.sh:ro",
    ]
    assert shipper["Image"] == f"docker.io/{everything['shipper']['image']}"
    assert [shipper["Entrypoint"], shipper["Exec"]] == everything["shipper"]["entrypoint"]
    assert shipper["EnvironmentFile"].endswith("/bucket.env")
    assert (shipper["User"], shipper["Group"]) == (model["User"], model["Group"])
    assert shipper["ReadOnly"] == shipper["NoNewPrivileges"] == "true"
    assert shipper["DropCapability"] == "all"
    # stopped after the model, whose last file it copies
    assert read_unit("quadlet/log/model-shipper.container")["Unit"]["Before"] == "model.service"


def test_cluster_and_machine_run_the_same_shipper(everything: dict[str, Any]) -> None:
    (deployment,) = load((DEPLOY / "log/kubernetes/deployment.yaml").read_text(encoding="utf-8"))
    (shipper,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert shipper["image"] == everything["shipper"]["image"]
    assert shipper["command"] == everything["shipper"]["entrypoint"]


@pytest.mark.parametrize("unit", ["schedule/model-monitor", "precompute/model-score"])
def test_systemd_takes_the_timer_and_its_service(unit: str, tmp_path: Path) -> None:
    service, timer = (Path(shutil.copy(DEPLOY / f"{unit}.{kind}", tmp_path)) for kind in ("service", "timer"))
    assert run("systemd-analyze", "verify", "--man=no", service, timer) == ""
    calendar = read_unit(f"{unit}.timer")["Timer"]["OnCalendar"]
    assert "Normalized form" in run("systemd-analyze", "calendar", calendar)
    service.write_text(service.read_text(encoding="utf-8").replace("Type=oneshot", "Typ=oneshot"), encoding="utf-8")
    assert "Unknown key" in run("systemd-analyze", "verify", "--man=no", service)


def test_the_monitor_leaves_its_metrics_where_the_node_exporter_looks(everything: dict[str, Any]) -> None:
    service = read_unit("schedule/model-monitor.service")["Service"]
    (mount,) = everything["monitor"]["volumes"]
    work = f"/var/lib/{service['StateDirectory']}"
    assert f"WORK={work} " in service["Environment"]
    assert mount["source"] == f"{work}/metrics"
    assert f"--collector.textfile.directory={mount['target']}" in everything["monitor"]["command"]
    config = load((DEPLOY / "monitoring/prometheus/prometheus.yaml").read_text(encoding="utf-8"))[0]
    (job,) = (each for each in config["scrape_configs"] if each["job_name"] == "model-monitor")
    assert job["dns_sd_configs"][0]["names"] == ["monitor"]


# the rollout


def test_proxy_and_scripts_of_the_rollout_agree_where_model_and_canary_listen(
    services: dict[str, Any], unit: configparser.ConfigParser
) -> None:
    config = DEPLOY / "rollout/haproxy.cfg"
    run("haproxy", "-c", "-f", config)
    text = config.read_text(encoding="utf-8")
    servers = dict(re.findall(r"^ +server (\w+) (127\.0\.0\.1:\d+) weight \d+$", text, re.M))
    (port,) = services["model"]["ports"]
    assert servers["model"] == f"{port['host_ip']}:{port['published']}" == unit["Container"]["PublishPort"][:14]
    for place, change in (("compose", "--publish {}:3000"), ("quadlet", "s/^PublishPort=.*/PublishPort={}:3000/")):
        script = DEPLOY / place / "rollout.sh"
        run("sh", "-n", script)
        assert change.format(servers["canary"]) in script.read_text(encoding="utf-8")
    # what the script replaces in the unit is there once
    lines = (DEPLOY / "quadlet/model.container").read_text(encoding="utf-8").splitlines()
    assert [sum(line.startswith(f"{key}=") for line in lines) for key in ("ContainerName", "PublishPort")] == [1, 1]
    assert tuple(f"http://{servers[name]}" for name in ("model", "canary")) == (rollout.MODEL, rollout.CANARY)
