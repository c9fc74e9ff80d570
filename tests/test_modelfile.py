from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlops import modelfile
from mlops.settings import Settings
from mlops.stage import UserError

SETTINGS = Settings.model_validate(
    {
        "data": {"source": "data/raw/x.csv", "task": "classification", "target": "y"},
        "validate": {},
        "split": {},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }
)

X, y = np.arange(20.0).reshape(-1, 1), np.repeat(["no", "yes"], 10)

TEXT_MODEL = """
import hashlib, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_modelfile import save_text_model
print(hashlib.md5(save_text_model(Path({path!r}))).hexdigest())
"""


def save_text_model(path: Path) -> bytes:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    modelfile.save(model.fit([f"word{number} and more" for number in range(20)], y), SETTINGS, path)
    return path.read_bytes()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "model.skops"
    modelfile.save(LogisticRegression().fit(X, y), SETTINGS, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        modelfile.load(SETTINGS, path)
    return str(error.value)


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the file with another schema."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    files["schema.json"] = json.dumps(change(schema) or schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    script = TEXT_MODEL.format(tests=str(Path(__file__).parent), path=str(tmp_path / "other.skops"))
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    here = hashlib.md5(save_text_model(tmp_path / "here.skops"), usedforsecurity=False).hexdigest()
    assert here == there


def test_a_file_is_not_compressed_because_libraries_compress_differently(good: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_missing_file_is_told_with_the_stage_that_makes_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "model.skops").endswith("model.skops is missing\n  try: dvc repro train")


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -100])
def test_a_truncated_file_is_refused(good: Path, keep: int) -> None:
    good.write_bytes(good.read_bytes()[:keep])
    assert "is no whole model file" in refused(good)


def test_a_flipped_byte_of_an_array_is_noticed(good: Path) -> None:
    content = bytearray(good.read_bytes())
    at = content.index(b"\x93NUMPY") + 200
    content[at] ^= 1
    good.write_bytes(content)
    assert "is no whole model file: Bad CRC-32" in refused(good)


@pytest.mark.parametrize("content", [b"a model, honestly", pickle.dumps(LogisticRegression())], ids=["text", "pickle"])
def test_a_file_of_another_kind_is_refused(good: Path, content: bytes) -> None:
    good.write_bytes(content)
    assert "is no whole model file" in refused(good)


def test_an_archive_without_a_schema_is_refused(good: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    good.write_bytes(buffer.getvalue())
    assert "is no whole model file" in refused(good)


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: [schema],
        lambda schema: {"hello": "there"},
        lambda schema: {**schema, "protocol": 99},
        lambda schema: {**schema, "__loader__": "NoSuchNode"},
        lambda schema: {**schema, "content": schema},
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(good: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    changed(good, change)
    assert "is no whole model file" in refused(good)


class Opener:
    """Opens a file when it is built: what a hostile model would do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")

    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(state["path"]).touch()


@pytest.mark.parametrize(
    "hostile",
    [
        lambda trap: FunctionTransformer(os.system, kw_args={"command": f"touch {trap}"}),
        lambda trap: FunctionTransformer(partial(os.system, f"touch {trap}")),
        lambda trap: Opener(str(trap)),
    ],
    ids=["function", "partial", "class"],
)
def test_a_hostile_file_is_refused_before_anything_of_it_is_built(good: Path, hostile: Callable[[Path], Any]) -> None:
    trap = good.parent / "trap"
    good.write_bytes(skops.io.dumps(make_pipeline(hostile(trap), LogisticRegression())))
    message = refused(good)
    assert "holds types that are not on the list of trusted ones: " in message
    assert any(name in message for name in ("posix.system", "Opener"))
    assert not trap.exists()


def test_a_model_that_load_would_refuse_is_not_written(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(os.path.basename), LogisticRegression())
    with pytest.raises(UserError, match=r"let params.yaml say so:\n    trusted:\n      - posixpath.basename"):
        modelfile.save(model, SETTINGS, tmp_path / "model.skops")
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_params_yaml_trusts_is_built(tmp_path: Path) -> None:
    model = FunctionTransformer(os.path.basename)
    trusting = SETTINGS.model_copy(
        update={"model": SETTINGS.model.model_copy(update={"trusted": ["posixpath.basename"]})}
    )
    modelfile.save(model, trusting, tmp_path / "model.skops")
    assert modelfile.load(trusting, tmp_path / "model.skops").func is os.path.basename
