"""`make release-facts`: hashes before anything else; what is not as `dvc.lock` names it goes no further."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import Project, copied


def gather(project: Project) -> str:
    commit = project.git("rev-parse", "HEAD")
    tag = {"tag": "v1.0.0", "commit": commit, "previous": None, "pull_request": 1, "head": commit, "url": "https://x"}
    folder = project.folder / "build/release"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tag.json").write_text(json.dumps(tag), encoding="utf-8")
    done = project.run(sys.executable, "-m", "mlops.release.facts", check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert [path.name for path in folder.iterdir()] == ["tag.json"]
    return done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models/model.skops", "models/model.skops does not match dvc.lock: its MD5 is"),
        ("models/service/model.onnx", "models/service does not match dvc.lock: its MD5 is"),
        ("models/service/schema.json", "models/service does not match dvc.lock: its MD5 is"),
        ("reports/evaluation.json", "reports/evaluation.json does not match dvc.lock: its MD5 is"),
    ],
)
def test_one_flipped_byte_stops_a_release(done: Project, tmp_path: Path, name: str, message: str) -> None:
    project = copied(done, tmp_path)
    path = project.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # it may be a link into the cache
    path.write_bytes(content)
    assert message in gather(project)


def test_without_a_verified_tag_there_is_nothing_to_gather(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    message = project.run(sys.executable, "-m", "mlops.release.facts", check=False).stdout
    assert "build/release/tag.json is missing" in message
