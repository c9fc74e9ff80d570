from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML

from mlops.core.errors import UserError
from mlops.core.files import folder_md5, md5, write_json
from mlops.inference import provenance
from mlops.inference.provenance import Release

FILES = {"model.onnx": b"a model", "schema.json": b"{}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "service").mkdir()
    for name, content in FILES.items():
        (tmp_path / "service" / name).write_bytes(content)
    return tmp_path / "service"


def release() -> Release:
    files = {name: md5(content) for name, content in FILES.items()}
    return Release(
        version="1.0.0",
        commit="0" * 40,
        model_md5=md5(b"model"),
        service_md5=folder_md5(files),
        files=files,
        data={},
        export={},
        metrics={},
    )


def test_the_released_files_pass(folder: Path) -> None:
    provenance.check(release(), folder)


def test_each_other_byte_and_each_file_too_few_or_too_many_is_named(folder: Path) -> None:
    expected = md5(FILES["model.onnx"])
    for position in range(len(FILES["model.onnx"])):
        content = bytearray(FILES["model.onnx"])
        content[position] ^= 1
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(UserError, match=f"is {md5(bytes(content))}, expected {expected}\n.*checkout --force"):
            provenance.check(release(), folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(UserError, match=rf"model.onnx is missing; expected the file with MD5 {expected}"):
        provenance.check(release(), folder)
    (folder / "model.onnx").write_bytes(FILES["model.onnx"])
    (folder / "model.pkl").write_bytes(b"")
    with pytest.raises(UserError, match=r"contains files that were not released: model\.pkl\n.*checkout --force"):
        provenance.check(release(), folder)


def test_a_release_comes_back_from_its_file_and_a_broken_one_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "release.json"
    with pytest.raises(UserError, match="is missing"):
        provenance.read(path)
    write_json(release().model_dump(), path)
    assert provenance.read(path) == release()
    write_json({**release().model_dump(), "model_md5": "../etc"}, path)
    with pytest.raises(UserError, match="model_md5: String should match pattern"):
        provenance.read(path)


def test_the_hash_of_a_folder_is_the_one_that_dvc_writes(done: Project) -> None:
    found = {path.name: md5(path.read_bytes()) for path in (done.folder / "models/service").iterdir()}
    outs = YAML(typ="safe").load(done.folder / "dvc.lock")["stages"]["export"]["outs"]
    (named,) = [out["md5"] for out in outs if out["path"] == "models/service"]
    assert folder_md5(found) == named
