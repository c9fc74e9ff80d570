"""The clients of Triton and KServe, each in an environment of its own, ask the real service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, Project
from serving.served import PATIENCE, Served, serving


@pytest.fixture(scope="module")
def kserve(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(released, tmp_path_factory.mktemp("kserve"), SERVING_PROTOCOL="kserve") as served:
        yield served


@pytest.mark.parametrize("client", ["triton", "kserve"])
def test_the_platform_s_own_client_gets_health_metadata_predictions_and_errors(kserve: Served, client: str) -> None:
    test = pq.read_table(kserve.project.folder / "data/prepared/test.parquet").slice(0, 50)
    columns = {name: test[name].to_pylist() for name in kserve.example}
    asked = subprocess.run(
        [
            ROOT / f"build/tools/{client}/bin/python",
            Path(__file__).with_name(f"ask_{client}.py"),
            f"127.0.0.1:{kserve.port}",
            json.dumps(columns),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    found = json.loads(asked.stdout.splitlines()[-1])

    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    own = kserve.predict(*rows).json()["predictions"]
    predicted = [each["prediction"] for each in own]
    assert len(set(predicted)) == 2
    expected = ["order-7", predicted, [each["probabilities"]["benign"] for each in own]]
    assert found["answers"] == [expected] * len(found["answers"])
    assert len(found["answers"]) >= 2
    assert found["healthy"] == [True] * 3
    assert found["other"] is False
    status, message = found["error"]
    assert status == "400"
    assert "mean radius: is missing" in message
    assert found.get("inputs", list(columns)) == list(columns)
