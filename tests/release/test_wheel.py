"""The package of `make wheel`, installed in an environment of its own, and what is refused instead of packaged."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Project, copied

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.release import wheel

PACKAGE = "model_of_diagnosis"
ASK = f"""
import json, sys
from {PACKAGE} import InvalidRowsError, contract, predict, release
asked = json.load(open(sys.argv[1]))
rows = predict(asked)
columns = predict({{name: [row[name] for row in asked] for name in asked[0]}})
assert (rows.probabilities == columns.probabilities).all()
first = asked[0]
wrong = [first, {{**first, "mean radius": "wide", "mean texture": None}}, {{**first, "mean area": 0.0}}]
def refused(given):
    try:
        return predict(given).predicted.tolist()
    except InvalidRowsError as error:
        return [list(each) for each in error.problems]
print(json.dumps({{
    "predicted": rows.predicted.tolist(),
    "probabilities": rows.probabilities.tolist(),
    "refused": refused(wrong),
    "uncomputable": refused([first, {{**first, "mean area": 0.0}}]),
    "strange": refused([{{"mean radio": 1.0, **first}}]),
    "absent": refused([{{}}])[0],
    "classes": contract()["classes"],
    "release": release(),
    "modules": sorted({{name.partition(".")[0] for name in sys.modules}}),
}}))
"""
# what a type checker sees in a caller's code
TYPED = f"""
from {PACKAGE} import predict
predict([{{"mean radius": 1.0}}]).probabilities.shape
predict(3)
reveal_type(predict([]).predicted)
"""


@pytest.fixture(scope="module")
def project(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copied(done, tmp_path_factory.mktemp("wheel"))
    project.git("tag", "v1.2.0-rc.3")
    return project


def built(project: Project) -> Path:
    project.run(sys.executable, "-m", "mlops.release.wheel")
    (found,) = (project.folder / wheel.FOLDER / wheel.PACKED).iterdir()
    return found


def test_the_package_predicts_in_an_environment_of_its_own_what_evaluation_recorded(
    project: Project, tmp_path: Path
) -> None:
    file = built(project)
    assert file.name == f"{PACKAGE}-1.2.0rc3-py3-none-any.whl"
    uv = shutil.which("uv") or ".uv/bin/uv"
    python = tmp_path / "env/bin/python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "env"], check=True)
    pinned = [f"{name}=={version(name)}" for name in wheel.NEEDED]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, file, *pinned], check=True)
    rows = pq.read_table(project.folder / paths.TEST)
    asked = rows.select([field["name"] for field in contract(project)["fields"]]).to_pylist()
    (tmp_path / "rows.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [python, "-I", "-c", ASK, tmp_path / "rows.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    recorded = pq.read_table(project.folder / paths.PREDICTIONS).to_pydict()
    assert found["predicted"] == recorded["predicted"]
    assert len(set(found["predicted"])) == 2
    for place, label in enumerate(found["classes"]):
        expected = pytest.approx(recorded[f"probability of {label}"], abs=1e-9)
        assert [row[place] for row in found["probabilities"]] == expected

    assert found["refused"] == [
        [1, "mean radius", "should be a number, not 'wide'"],
        [1, "mean texture", "is missing, but the training data had no missing values in this column"],
    ]
    ((row, field, why),) = found["uncomputable"]
    assert (row, field) == (1, "irregularity")
    assert "mean area = 0" in why
    assert found["strange"] == [[0, "mean radio", "is not a field of this model"]]
    assert found["absent"] == [0, "mean radius", "is missing"]
    assert found["release"]["version"] == "1.2.0-rc.3"
    assert found["release"]["commit"] == project.git("rev-parse", "HEAD")
    assert not {"mlops", "project", "pydantic", "sklearn", "pandas"} & set(found["modules"])

    (tmp_path / "caller.py").write_text(TYPED)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        "--cache-dir",
        tmp_path / "types",
    ]
    typed = subprocess.run([*command, tmp_path / "caller.py"], capture_output=True, text=True, check=False).stdout
    assert 'caller.py:3: error: Item "None" of' in typed, "a regression has no probabilities"
    assert 'caller.py:4: error: Argument 1 to "predict" has incompatible type "int"' in typed
    assert re.search(r"caller.py:5: note: Revealed type is .*ndarray", typed), typed


def contract(project: Project) -> dict[str, Any]:
    return dict(json.loads(project.read("models/portable/contract.json")))


def test_the_same_commit_makes_the_same_wheel(project: Project, tmp_path: Path) -> None:
    first = built(project)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    output = tmp_path / "output"
    project.run(sys.executable, "-m", "mlops.release.wheel", "release", GITHUB_OUTPUT=str(output))
    assert output.read_text() == f"name={first.name}\ndigest=sha256:{digest}\n"


def test_a_model_that_was_changed_is_not_packaged(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied(project, tmp_path).folder)
    with (paths.PORTABLE / "model.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=r"models/portable does not match dvc\.lock: its MD5 is"):
        wheel.make()


def test_a_model_that_onnx_cannot_hold_is_refused_with_the_reason(project: Project, tmp_path: Path) -> None:
    project = copied(project, tmp_path)
    text = "\n\n@feature('mean radius')\ndef rounded(radius):\n    return np.round(radius, 1)\n"
    file = project.folder / "src/project/features.py"
    file.write_text(file.read_text() + text)
    project.run("dvc", "repro", "export")
    refused = project.run(sys.executable, "-m", "mlops.release.wheel", check=False)
    assert refused.returncode == 1
    reason = "this model runs in the service only: a feature has no ONNX form: rounded uses np.round"
    assert refused.stdout.startswith(f"error: {reason}")
    output = tmp_path / "output"
    message = project.run(sys.executable, "-m", "mlops.release.wheel", "release", GITHUB_OUTPUT=str(output)).stdout
    assert message.startswith(f"no wheel: {reason}")
    assert not output.exists()
    assert not (project.folder / wheel.FOLDER).exists(), "nor is that of an earlier model left"


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ("1.4.0", "1.4.0"),
        ("1.4.0-rc.2", "1.4.0rc2"),
        ("1.4.0-dirty", "1.4.0+dirty"),
        ("1.4.0-3-gabc1234567", "1.4.0.post3+gabc1234567"),
        ("0.0.0-abc1234567-dirty", "0.0.0+abc1234567.dirty"),
        ("0.0.0-unknown", "0.0.0+unknown"),
    ],
)
def test_a_version_follows_pep_440(described: str, expected: str) -> None:
    assert wheel.version(described) == expected


@pytest.mark.parametrize(
    ("target", "expected"), [("diagnosis", "model_of_diagnosis"), ("Prix (€)", "model_of_prix"), ("価格", "model")]
)
def test_the_package_has_the_name_of_the_target(target: str, expected: str) -> None:
    assert wheel.name(target) == expected
