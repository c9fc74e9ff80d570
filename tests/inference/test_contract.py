from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.inference import contract as contracts
from mlops.inference.contract import Contract

WHOLE: dict[str, Any] = {
    "task": "classification",
    "target": "größe",
    "classes": [True, False],
    "probabilities": True,
    "runtime": "onnx",
    "fields": [{"name": 'a "b"', "kind": "numeric", "nullable": False, "low": 1.5, "high": 2, "example": 1.75}],
}


def test_a_contract_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    written = Contract.model_validate(WHOLE)
    write_json(written.model_dump(exclude_defaults=True), tmp_path / contracts.SCHEMA)
    read = contracts.read(tmp_path)
    assert read == written
    assert read.classes == [True, False]
    assert all(isinstance(label, bool) for label in read.classes or [])
    assert read.example == {'a "b"': 1.75}
    assert read.file == "model.onnx"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a valid contract"),
        (json.dumps({**WHOLE, "runtime": "pickle"}), "runtime: Input should be 'onnx' or 'scikit-learn'"),
        (json.dumps({**WHOLE, "extra": 1}), "extra: Extra inputs are not permitted"),
        (json.dumps({**WHOLE, "fields": [{"name": "x"}]}), "fields.0.kind: Field required"),
    ],
)
def test_a_broken_contract_is_reported_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / contracts.SCHEMA).write_text(content)
    with pytest.raises(UserError) as error:
        contracts.read(tmp_path)
    assert message in str(error.value)
    assert "try: dvc repro --force export" in str(error.value)


def test_a_missing_contract_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"schema.json is missing\n  try: make, or dvc checkout"):
        contracts.read(tmp_path)
