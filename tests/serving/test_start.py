"""The service starts with the released files or not at all, and says in words what is wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project, copied
from serving.served import PATIENCE, command, environment, free_port

from mlops.core.files import md5

MODEL, SCHEMA = "models/service/model.onnx", "models/service/schema.json"


@pytest.fixture(scope="module")
def project(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copied(released, tmp_path_factory.mktemp("start"))


def start(project: Project, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Start the service where it cannot start."""
    started = subprocess.run(
        command(free_port()),
        cwd=project.folder,
        env=environment(project, home, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert started.returncode != 0
    assert "Traceback" not in started.stderr + started.stdout
    assert started.stderr.startswith("error: "), started.stderr
    assert "try: " in started.stderr
    return started


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_another_feature_than_the_model_was_trained_with_is_named_before_any_of_it_runs(
    project: Project, tmp_path: Path
) -> None:
    path = project.folder / "src/project/features.py"
    whole = path.read_text(encoding="utf-8")
    path.write_text(f"raise SystemExit('it runs')\n{whole}", encoding="utf-8")
    try:
        started = start(project, tmp_path)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert "error: src/project/features.py is not the file that the model was trained with" in started.stderr
    assert "it runs" not in started.stderr + started.stdout


@pytest.mark.parametrize(
    ("name", "damage"),
    [(MODEL, Path.unlink), (MODEL, changed), (MODEL, truncated), (SCHEMA, Path.unlink), (SCHEMA, changed)],
)
def test_a_damaged_file_is_named_with_the_hash_that_was_expected(
    project: Project, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    path = project.folder / name
    whole = path.read_bytes()
    path.unlink()  # a link into the cache of DVC
    path.write_bytes(whole)
    try:
        damage(path)
        said = start(project, tmp_path).stderr
    finally:
        path.write_bytes(whole)
    assert name in said
    assert md5(whole) in said


@pytest.mark.parametrize("given", ["abc", "0", "-1", "1.5", " "])
def test_a_number_of_workers_that_is_none_is_reported(project: Project, tmp_path: Path, given: str) -> None:
    said = start(project, tmp_path, SERVICE_WORKERS=given).stderr
    assert said.startswith(f"error: SERVICE_WORKERS must be an integer of at least 1, got {given!r}\n")


def test_a_token_of_nothing_but_whitespace_stops_the_service(project: Project, tmp_path: Path) -> None:
    said = start(project, tmp_path, SERVICE_TOKEN=" \n").stderr
    assert said.startswith("error: SERVICE_TOKEN is set, but contains only whitespace\n")


def test_a_file_that_was_not_released_stops_the_service(project: Project, tmp_path: Path) -> None:
    other = project.folder / "models/service/other.onnx"
    other.write_bytes(b"")
    try:
        assert "other.onnx" in start(project, tmp_path).stderr
    finally:
        other.unlink()


def test_without_a_whole_release_the_service_does_not_start(project: Project, tmp_path: Path) -> None:
    path = project.folder / "models/release.json"
    whole = path.read_text(encoding="utf-8")
    try:
        path.unlink()
        assert "models/release.json is missing" in start(project, tmp_path).stderr
        path.write_text(whole[:-50], encoding="utf-8")
        assert "models/release.json is invalid: Invalid JSON" in start(project, tmp_path).stderr
        path.write_text(json.dumps({**json.loads(whole), "model_md5": "0"}), encoding="utf-8")
        assert "model_md5" in start(project, tmp_path).stderr
    finally:
        path.write_text(whole, encoding="utf-8")
