"""Which logged rows are worth a label: uncertain ones, unlike ones, random ones; as files, and back."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from conftest import Project, copied
from monitoring.logged import CONTRACT, MODEL, SETTINGS, line, segment

from mlops.core import files
from mlops.core.errors import UserError
from mlops.inference.contract import Contract, Field
from mlops.model.metrics import Predictions
from mlops.monitoring import label_files
from mlops.monitoring.labelling import RANDOM, UNCERTAIN, UNLIKE, Chosen, choose
from mlops.monitoring.labels import hashed
from mlops.monitoring.log import Reading
from mlops.monitoring.reference import Reference

NONE = np.zeros(0, dtype=np.uint64)


def reference(contract: Contract = CONTRACT, **columns: list[Any]) -> Reference:
    """A release whose training rows have these columns."""
    sizes = [float(number % 100) for number in range(200)]
    columns = columns or {"size": sizes, "town": ["a"] * 200, "double": [2 * each for each in sizes]}
    train = pa.table(columns)
    return Reference(None, contract, MODEL, train, train, np.zeros(0), Predictions(np.zeros(0), None), None, [])  # type: ignore[arg-type]


def rows(count: int, prefix: str = "id", margin: float = 0.8) -> list[dict[str, Any]]:
    """Rows like the training rows; the one of number n has the n-th largest margin."""
    found = []
    for number in range(count):
        high = 0.5 + margin / 2 - margin * number / (4 * count)
        likely = {"no": 1 - high, "yes": high}
        size = float(number % 100)
        found.append(
            line(
                number,
                request_id=f"{prefix}-{number}",
                probabilities=likely,
                features={"size": size, "town": "a"},
                computed={"double": 2 * size},
            )
        )
    return found


def chosen(folder: Path, count: int = 9, labelled: Any = NONE, known: Reference | None = None) -> Chosen:
    known = known or reference()
    return choose(Reading(folder, known.contract, MODEL), known, labelled, count)


def ids(found: Chosen, why: str) -> list[str]:
    return [each for each, name in zip(found.rows.request_id.tolist(), found.why, strict=True) if name == why]


def test_a_third_is_uncertain_a_third_unlike_and_a_third_random(tmp_path: Path) -> None:
    given = rows(300)
    for number in (50, 120, 200):
        given[number]["features"]["size"] = 5_000.0
        given[number]["computed"]["double"] = 10_000.0
    segment(tmp_path, 1, *given)
    found = chosen(tmp_path)
    assert set(ids(found, UNCERTAIN)) == {"id-297", "id-298", "id-299"}
    assert set(ids(found, UNLIKE)) == {"id-50", "id-120", "id-200"}
    assert len(ids(found, RANDOM)) == 3
    assert len(set(found.rows.request_id.tolist())) == 9
    np.testing.assert_allclose(found.probability, [1] * 6 + [3 / 294] * 3)
    assert (1 / found.probability).sum() == pytest.approx(300)


def test_a_mean_weighted_by_inclusion_is_unbiased(tmp_path: Path) -> None:
    means = []
    for number in range(80):
        folder = tmp_path / str(number)
        segment(folder, 1, *rows(40, prefix=f"log{number}"))
        found = chosen(folder, 12)
        y = found.rows.probabilities[:, 1]  # type: ignore[index]
        means.append((y / found.probability).sum() / 40)
    truth = np.mean([each["probabilities"]["yes"] for each in rows(40)])
    error = np.std(means) / np.sqrt(len(means))
    assert error > 0
    assert abs(np.mean(means) - truth) < 3.5 * error


def test_the_same_log_gives_the_same_rows_in_whatever_files_it_comes(tmp_path: Path) -> None:
    given = rows(300)
    segment(tmp_path / "one", 1, *given)
    for number in range(3):
        segment(tmp_path / "other", number, *given[number::3][::-1])
    one, other = (chosen(tmp_path / name, 30) for name in ("one", "other"))
    assert one.rows.request_id.tolist() == other.rows.request_id.tolist()
    assert one.probability.tolist() == other.probability.tolist()


def test_what_has_a_label_or_cannot_get_one_is_left_out(tmp_path: Path) -> None:
    given = rows(10)
    given[0]["request_id"] = "=cmd|' /C calc'!A1"
    segment(tmp_path, 1, *given, given[1])
    labelled = hashed(np.array(["id-2", "id-3"], dtype=object), np.zeros(2))
    found = chosen(tmp_path, 100, labelled)
    assert set(found.rows.request_id.tolist()) == {f"id-{number}" for number in range(4, 10)}
    assert list(found.left_out.values()) == [2, 2, 1]
    assert found.probability.tolist() == [1.0] * 6
    with pytest.raises(UserError, match=r"no row of the model aaaaaaaaaa that could be labelled: 8 have a label"):
        chosen(tmp_path, 9, hashed(np.array([f"id-{number}" for number in range(10)], dtype=object), np.zeros(10)))


def test_uncertain_is_near_the_threshold_where_the_decision_has_one(tmp_path: Path) -> None:
    contract = CONTRACT.model_copy(update={"threshold": 0.8})
    segment(tmp_path, 1, *rows(300))
    found = chosen(tmp_path, 9, known=reference(contract))
    likely = [each["probabilities"]["yes"] for each in rows(300)]
    nearest = np.argsort(np.abs(np.array(likely) - 0.8), kind="stable")[:3]
    assert set(ids(found, UNCERTAIN)) == {f"id-{number}" for number in nearest}


def test_of_a_regression_the_rows_farthest_from_the_training_rows_are_uncertain(tmp_path: Path) -> None:
    contract = CONTRACT.model_copy(
        update={
            "task": "regression",
            "classes": None,
            "positive": None,
            "probabilities": False,
            "fields": [*CONTRACT.fields, Field(name="colour", kind="categorical", nullable=True)],
        }
    )
    given = [each | {"prediction": 1.5, "probabilities": None} for each in rows(200)]
    for each in given:
        each["features"]["colour"] = "red"
    given[7]["features"]["size"] = -400.0
    given[8]["features"]["colour"] = "never seen"
    given[9]["features"]["size"] = None
    segment(tmp_path, 1, *given)
    sizes = [float(number % 100) for number in range(200)]
    columns = {"size": sizes, "town": ["a"] * 200, "double": [2 * each for each in sizes], "colour": ["red"] * 200}
    found = chosen(tmp_path, 6, known=reference(contract, **columns))
    assert set(ids(found, UNCERTAIN)) == {"id-7", "id-8"}
    known = reference(contract, **columns)
    task = label_files.tasks(found.rows, found.why, found.probability, known)[0]
    expected = {"from_name": "label", "to_name": "row", "type": "number", "value": {"number": 1.5}}
    assert task["predictions"][0]["result"] == [expected]
    assert ElementTree.fromstring(label_files.interface(known)).find("Number") is not None  # noqa: S314


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2+3", "@SUM(A1)", " =1", "\t=1", "|x", "%x"])
def test_hostile_text_is_no_formula_in_the_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    given = rows(3)
    given[0]["features"] = {"size": -5.0, "town": text}
    segment(tmp_path / "log", 1, *given)
    found = chosen(tmp_path / "log", 3)
    label_files.write(found.rows, found.why, found.probability, reference(), SETTINGS)
    with (tmp_path / "build/label/rows.csv").open(encoding="utf-8", newline="") as file:
        read = {each["request_id"]: each for each in csv.DictReader(file)}
    assert read["id-0"]["town"] == f"'{text}"
    assert read["id-0"]["size"] == "-5.0"
    assert read["id-1"]["town"] == "a"
    task = next(
        each
        for each in json.loads((tmp_path / "build/label/tasks.json").read_text())
        if each["data"]["request_id"] == "id-0"
    )
    assert task["data"]["features"] == {"size": -5.0, "town": text, "double": 0.0}


def test_a_column_with_the_name_of_another_one_is_renamed(tmp_path: Path) -> None:
    field = Field(name="why", kind="text", nullable=True)
    known = reference(CONTRACT.model_copy(update={"fields": [*CONTRACT.fields, field]}))
    segment(tmp_path, 1, *rows(3))
    found = choose(Reading(tmp_path, known.contract, MODEL), reference(), NONE, 3)
    found.rows.columns["why"] = np.array([None] * 3, dtype=object)
    table = label_files.columns(found.rows, found.why, found.probability, known, SETTINGS)
    assert table["why"] == found.why
    assert "feature why" in table


def test_classes_of_any_name_fit_into_the_interface() -> None:
    contract = CONTRACT.model_copy(update={"classes": ['<b>"', "a & b\x01"], "positive": None})
    view = ElementTree.fromstring(label_files.interface(reference(contract)))  # noqa: S314
    assert [each.get("value") for each in view.iter("Choice")] == ['<b>"', "a & b\N{REPLACEMENT CHARACTER}"]


def test_the_filled_file_comes_back_as_labels_that_the_monitor_counts(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    log = tmp_path / "log"
    contract = json.loads(project.read("models/service/schema.json"))
    md5 = files.md5(project.folder / "models/model.skops")
    features = {field["name"]: field["example"] for field in contract["fields"]}
    logged = [
        line(
            number,
            request_id=f"00{number}",
            row=number % 2,
            model=md5,
            features=features | {"mean radius": 10 + number / 10},
            computed={each["name"]: 1.0 for each in contract["features"]},
            prediction="benign",
            probabilities={"benign": 0.9 - number / 200, "malignant": 0.1 + number / 200},
        )
        for number in range(60)
    ]
    segment(log, 1, *logged)
    label = (sys.executable, "-P", "-m", "mlops.monitoring.labelling", str(log), "--rows", "12")
    assert "12 rows to label: 4 uncertain, 4 unlike the training rows, 4 random" in project.run(*label).stdout
    path = project.folder / "build/label/rows.csv"
    with path.open(encoding="utf-8", newline="") as file:
        chosen_rows = list(csv.DictReader(file))
    for each in chosen_rows[:10]:  # two are left empty
        each["diagnosis"] = "malignant"
    filled = tmp_path / "filled.csv"
    with filled.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(chosen_rows[0]))
        writer.writeheader()
        writer.writerows(chosen_rows)
    labels = {"source": str(filled), "row": "row", "time": "known_at"}
    project.edit_params(lambda document: document.update(monitor={"labels": labels}))
    monitor = (sys.executable, "-P", "-m", "mlops.monitoring", str(log), "--until", "2026-01-02")
    assert "60 rows from 2026-01-01 to 2026-01-02, 10 with a label" in project.run(*monitor, check=False).stdout

    # those that have a label are not asked for again
    assert "10 rows were left out because they have a label" in project.run(*label).stdout
    with path.open(encoding="utf-8", newline="") as file:
        again = {each["request_id"] for each in csv.DictReader(file)}
    assert not again & {each["request_id"] for each in chosen_rows[:10]}

    # what Label Studio exports of the tasks has other names
    filled.write_text(
        "annotation_id,created_at,id,inclusion_probability,label,request_id,row,updated_at,why\n"
        + "".join(
            f"1,2026-02-01T00:00:00Z,1,1.0,benign,{each['request_id']},{each['row']},2026-02-01T00:00:00Z,random\n"
            for each in chosen_rows[:5]
        )
    )
    labels = {"source": str(filled), "target": "label", "row": "row", "time": "updated_at"}
    project.edit_params(lambda document: document.update(monitor={"labels": labels}))
    assert ", 5 with a label" in project.run(*monitor, check=False).stdout


@pytest.mark.parametrize(("count", "message"), [("0", "N must be"), ("99999999", "N must be"), ("9", "not a folder")])
def test_make_label_says_what_is_wrong(done: Project, tmp_path: Path, count: str, message: str) -> None:
    failed = done.run(
        *(sys.executable, "-P", "-m", "mlops.monitoring.labelling", str(tmp_path / "none"), "--rows", count),
        check=False,
    )
    assert failed.returncode == 1
    assert failed.stdout.startswith("error: ")
    assert message in failed.stdout
