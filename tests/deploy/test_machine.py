"""One machine: the compose file as compose reads it, and the unit for systemd."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from typing import Any

import pytest
from conftest import ROOT
from manifests import DEPLOY, load, run

REFERENCE = re.compile(r"ghcr\.io/\S+@sha256:[0-9a-f]{64}")
VERSION = re.compile(r"[a-z/]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of compose.yaml, defaults and references resolved."""
    said = run("compose-go", "-no-interpolation", "-format", "json", "compose.yaml", cwd=DEPLOY / "compose")
    found: dict[str, Any] = json.loads(said)["services"]
    return found


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(DEPLOY / "quadlet/model.container", encoding="utf-8")
    return found


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


def test_other_images_are_pinned_by_version_and_dependabot_follows_them(services: dict[str, Any]) -> None:
    others = [service["image"] for name, service in services.items() if name != "model"]
    assert len(others) == 3
    assert all(VERSION.fullmatch(image) for image in others)
    (bot,) = load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))
    assert {"docker-compose": "/deploy/compose"}.items() <= {
        each["package-ecosystem"]: each["directory"] for each in bot["updates"]
    }.items()


def test_no_container_may_do_what_it_need_not(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
        assert all(port["host_ip"] == "127.0.0.1" for port in service["ports"])
        assert not service.get("privileged")
        assert all(mount.get("read_only") for mount in service.get("volumes", []) if mount["type"] == "bind")
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
    secret = ["deploy/compose/secrets.env", "deploy/compose/grafana.env"]
    said = subprocess.run(["git", "check-ignore", *secret], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.stdout.split() == secret
