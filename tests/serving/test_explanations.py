"""Explanations of the running service and of batch scoring: asked for, exact, and refused with a reason."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from conftest import Project, copied
from jsonschema import Draft202012Validator
from serving.served import Served, serving

from mlops.core import files


def asked(service: Served, rows: list[dict[str, Any]], query: str = "explain=true") -> Any:
    return service.client.post(f"/predict?{query}", json={"rows": rows})


def test_contributions_of_the_inputs_add_up_to_the_log_odds_of_the_probability(service: Served) -> None:
    test = pq.read_table(service.project.folder / "data/prepared/test.parquet")
    names = [field["name"] for field in service.contract["fields"]]
    rows = test.select(names).slice(0, 20).to_pylist()
    plain = service.predict(*rows).json()["predictions"]
    answer = asked(service, rows).json()
    inputs = [*names, *(feature["name"] for feature in service.contract["features"])]
    for each, other in zip(answer["predictions"], plain, strict=True):
        why = each.pop("explanation")
        assert each == other
        assert (why["of"], why["unit"], list(why["contributions"])) == ("malignant", "log-odds", inputs)
        assert math.isclose(why["base"] + sum(why["contributions"].values()), why["score"], abs_tol=1e-9)
        probability = each["probabilities"]["malignant"]
        assert math.isclose(1 / (1 + math.exp(-why["score"])), probability, rel_tol=1e-9)
    # a product of coefficients: the contribution of a column does not depend on the others
    rows[0][names[0]] += 1
    moved = asked(service, rows[:1]).json()["predictions"][0]["explanation"]
    first = asked(service, test.select(names).slice(0, 1).to_pylist()).json()["predictions"][0]["explanation"]
    changed = [name for name in inputs if moved["contributions"][name] != first["contributions"][name]]
    assert changed == [names[0]]


def test_only_who_asks_for_an_explanation_gets_one(service: Served) -> None:
    for query in ("", "explain=false", "other=1"):
        (answer,) = asked(service, [service.example], query).json()["predictions"]
        assert sorted(answer) == ["prediction", "probabilities"]
    for query in ("explain=maybe", "explain=", "explain=true&explain=false"):
        answer = asked(service, [service.example], query)
        assert (answer.status_code, answer.json()["error"]) == (422, "explain must be true or false")
    many = asked(service, [service.example] * 1001)
    assert many.status_code == 422
    assert many.json()["error"] == "1,001 rows take too long to explain; at most 1,000 are explained at once"


def test_the_description_has_the_parameter_and_the_form_of_an_explanation(service: Served) -> None:
    described = service.client.get("/docs.json").json()
    (parameter,) = described["paths"]["/predict"]["post"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["schema"]["type"]) == ("explain", "query", "boolean")
    assert "log-odds" in parameter["description"]
    schema = {"$ref": "#/components/schemas/Answer", "components": described["components"]}
    answers = [asked(service, [service.example], query).json() for query in ("", "explain=true")]
    for answer in answers:
        Draft202012Validator(schema).validate(answer)
    del answers[1]["predictions"][0]["explanation"]["base"]
    assert not Draft202012Validator(schema).is_valid(answers[1])


def test_what_explains_holds_no_row_and_is_the_same_in_each_run(released: Project) -> None:
    with np.load(released.folder / "models/service/explanation.npz", allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
    inputs = len(json.loads(released.read("models/service/schema.json"))["fields"]) + 1
    assert shapes == {
        "source": (inputs,),
        "inputs": (),
        "coefficients": (1, inputs),
        "intercepts": (1,),
        "means": (inputs,),
    }
    before = (released.folder / "models/service/explanation.npz").read_bytes()
    again = copied(released, released.folder.parent / "again")
    again.stage("export", OMP_NUM_THREADS="2")
    assert (again.folder / "models/service/explanation.npz").read_bytes() == before


def test_batch_scoring_adds_the_same_contributions_as_columns(
    released: Project, service: Served, tmp_path: Path
) -> None:
    given = released.folder / "data/prepared/test.parquet"
    wanted = tmp_path / "scored.parquet"
    command = [sys.executable, "-m", "mlops.serving.score", "--explain", str(given), str(wanted)]
    released.run(*command)
    found = pq.read_table(wanted)
    metadata = found.schema.metadata
    assert (metadata[b"explanation.unit"], metadata[b"explanation.of"]) == (b"log-odds", b"malignant")
    names = [name for name in found.column_names if name.startswith("contribution of ")]
    contributions = np.column_stack([found[name].to_numpy() for name in names])
    score = found["explanation base"].to_numpy() + contributions.sum(axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-score)), found["probability of malignant"].to_numpy(), rtol=1e-9)
    fields = [field["name"] for field in service.contract["fields"]]
    row = pq.read_table(given).select(fields).slice(0, 1).to_pylist()
    (answer,) = asked(service, row).json()["predictions"]
    assert dict(zip(names, contributions[0].tolist(), strict=True)) == {
        f"contribution of {name}": value for name, value in answer["explanation"]["contributions"].items()
    }


def test_a_model_without_an_exact_explanation_refuses_with_the_reason(released: Project, tmp_path: Path) -> None:
    project = copied(released, tmp_path / "calibrated")
    project.edit_params(
        lambda params: params.update(model={"estimator": "sklearn.calibration.CalibratedClassifierCV", "params": {}})
    )
    project.stage("train")
    project.stage("export")
    folder = project.folder / "models/service"
    release = json.loads(project.read("models/release.json"))
    release["files"] = {path.name: files.md5(path) for path in folder.iterdir()}
    assert sorted(release["files"]) == ["example.json", "model.onnx", "schema.json"]
    (project.folder / "models/release.json").write_text(json.dumps(release))
    why = "this model's predictions cannot be explained: the model is a CalibratedClassifierCV; exact explanations"
    with serving(project, tmp_path / "home") as service:
        answer = asked(service, [service.example])
        assert (answer.status_code, answer.json()["error"][: len(why)]) == (422, why)
        assert service.works()
        (parameter,) = service.client.get("/docs.json").json()["paths"]["/predict"]["post"]["parameters"]
        assert "cannot be explained: the model is a CalibratedClassifierCV" in parameter["description"]
    given, wanted = project.folder / "data/prepared/test.parquet", tmp_path / "scored.parquet"
    command = [sys.executable, "-m", "mlops.serving.score", "--explain", str(given), str(wanted)]
    ran = project.run(*command, check=False)
    assert (ran.returncode, ran.stdout[: len(why) + 7]) == (1, f"error: {why}")
    assert not wanted.exists()
