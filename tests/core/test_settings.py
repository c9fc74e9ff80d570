from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dvc.utils.serialize import parse_yaml
from ruamel.yaml import YAML

from mlops.core.errors import UserError
from mlops.core.settings import Settings, check_columns, load
from mlops.core.yamlfile import json_schema
from mlops.review import policy

ROOT = Path(__file__).parents[2]

VALID = """\
data:
  source: data/raw/x.csv
  task: classification
  target: y
validate: {}
split:
  method: random
  test_size: 0.25
model:
  estimator: sklearn.linear_model.LogisticRegression
  params: {C: 1.0}
tuning: null
evaluate:
  slices: []
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as error:
        load(write(folder, text))
    return str(error.value).replace(f"{folder}/", "")


FILES = pytest.mark.parametrize(("name", "kind"), [("params", Settings), ("gate", policy.Gate)], ids=["params", "gate"])


def test_a_url_may_stand_without_quotes_in_braces(tmp_path: Path) -> None:
    text = VALID.replace("{C: 1.0}", "{memory: s3://bucket/x.csv}")
    assert load(write(tmp_path, text)).model.params == {"memory": "s3://bucket/x.csv"}
    # DVC reads it too; ruamel.yaml's parser in C, which it would use where that is installed, refuses it
    assert parse_yaml(text, "params.yaml")["model"]["params"] == {"memory": "s3://bucket/x.csv"}


@FILES
def test_the_committed_schema_is_the_one_of_the_models(name: str, kind: Any) -> None:
    committed = json.loads((ROOT / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert committed == json_schema(kind), "run `make schema`"


@FILES
def test_a_file_names_its_schema_and_agrees_with_it(name: str, kind: Any) -> None:
    text = (ROOT / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={name}.schema.json\n")
    jsonschema.validate(YAML(typ="safe").load(text), json_schema(kind))


@FILES
def test_every_setting_is_explained_in_the_schema(name: str, kind: Any) -> None:
    for name, section in json_schema(kind)["$defs"].items():
        if name == "Interval":
            continue
        for key, content in section["properties"].items():
            obvious = {"folds", "seed", "method"}
            assert content.get("description") or key in obvious, f"{name}.{key}"


def test_valid_settings_are_read(tmp_path: Path) -> None:
    settings = load(write(tmp_path, VALID))
    assert settings.model.params == {"C": 1.0}
    assert settings.evaluate.confidence == 0.95


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("test_size", "tset_size", "params.yaml: unknown key split.tset_size (line 8); did you mean 'test_size'?"),
        (
            "test_size: 0.25",
            "test_size: 25",
            "params.yaml: split.test_size: input should be less than 1, got 25 (line 8)",
        ),
        (
            "0.25",
            "much",
            "params.yaml: split.test_size: input should be a valid number, unable to parse string as a "
            'number, got "much" (line 8)',
        ),
        (
            "classification",
            "clasification",
            "params.yaml: data.task must be 'classification' or 'regression', "
            "got \"clasification\" (line 3); did you mean 'classification'?",
        ),
        ("  target: y\n", "", "params.yaml: data.target is missing"),
        ("tuning: null\n", "", "params.yaml: tuning is missing"),
        ("evaluate:", "evaluat:", "params.yaml: unknown key evaluat (line 13); did you mean 'evaluate'?"),
        (
            "sklearn.linear_model.LogisticRegression",
            "LogisticRegression",
            "params.yaml: model.estimator: must be an import "
            "path such as sklearn.linear_model.LogisticRegression, got 'LogisticRegression' (line 10)",
        ),
        (
            "data/raw/x.csv",
            "https://ada:secret@example.org/x.csv",
            "params.yaml: data.source: contains a user name or password, which belong in the environment (line 2)",
        ),
        (
            "data/raw/x.csv",
            "https://example.org/x.csv?sig=secret",
            "params.yaml: data.source: contains the credential 'sig'; credentials belong in the environment (line 2)",
        ),
        (
            "data/raw/x.csv",
            "{sql: select 1, url: x}",
            "params.yaml: unknown key data.source.url (line 2); did you mean 'url_env'?",
        ),
        (
            "method: random",
            "method: time",
            "params.yaml: split: method time requires split.time, the name of a column (line 6)",
        ),
        (
            "method: random",
            "method: random\n  group: g",
            "params.yaml: split: split.group requires method group, not random (line 6)",
        ),
        (
            "tuning: null",
            "tuning: {method: grid, space: {C: {low: 1, high: 2}}}",
            "params.yaml: tuning: method grid requires a list of values for C, not a range (line 12)",
        ),
        (
            "tuning: null",
            "tuning: {method: random, space: {C: {low: 2, high: 1}}}",
            "params.yaml: tuning.space.C: low must be below high, got low 2 and high 1 (line 12)",
        ),
        (
            "task: classification",
            "task: regression\n  units: 3",
            "params.yaml: data.units: input should be a valid dictionary, got 3 (line 4)",
        ),
        (
            "evaluate:",
            "gate: {rules: [{rule: lock}]}\nevaluate:",
            "params.yaml: unknown key gate (line 13); the gate is in gate.yaml",
        ),
    ],
)
def test_a_mistake_is_reported_with_key_value_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in VALID
    assert expected in problems(tmp_path, VALID.replace(old, new))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "rules:\n  - {rule: flor, metric: f1}",
            "gate.yaml: rules.0: unknown rule flor (line 2); did you mean 'floor'?",
        ),
        (
            "rules: [{rule: floor, metric: f1, at_least: 0.5, at_leest: 0.5}]",
            "gate.yaml: unknown key rules.0.at_leest (line 1); did you mean 'at_least'?",
        ),
        ("rules: [{rule: lock}, {rule: lock}]", "gate.yaml: rules: the rule lock appears twice (line 1)"),
        (
            "rules: []\nwaivers: [{rule: lock, reason: a good reason, until: 2026-02-31}]",
            "gate.yaml is not valid YAML: day is out of range for month",
        ),
    ],
)
def test_a_mistake_in_the_gate_is_reported_likewise(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "gate.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        policy.load(tmp_path / "gate.yaml")
    assert expected in str(error.value)


def test_a_password_is_not_repeated_in_the_message(tmp_path: Path) -> None:
    assert "secret" not in problems(tmp_path, VALID.replace("data/raw/x.csv", "https://ada:secret@example.org/x.csv"))


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    message = problems(tmp_path, VALID.replace("test_size", "tset_size").replace("target", "traget"))
    for mistake in ("data.traget", "split.tset_size", "data.target is missing"):
        assert mistake in message


@pytest.mark.parametrize("text", ["", "- a list\n", "data: [unclosed\n", "data: {}\ndata: {}\n"])
def test_what_is_no_mapping_or_no_yaml_is_reported(tmp_path: Path, text: str) -> None:
    assert "params.yaml" in problems(tmp_path, text)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params.yaml is missing\n  try: git checkout"):
        load(tmp_path / "params.yaml")


def test_settings_of_classification_are_refused_for_a_regression(tmp_path: Path) -> None:
    text = VALID.replace("classification", "regression\n  positive: yes")
    assert "data.positive: yes requires task classification" in problems(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("target: y", "target: yy", "data.target"),
        ("target: y", "target: y\n  key: [i]", "data.key"),
        ("target: y", "target: y\n  drop: [i]", "data.drop"),
        ("target: y", "target: y\n  private: {i: drop}", "data.private"),
        ("target: y", "target: y\n  types: {i: text}", "data.types"),
        ("target: y", "target: y\n  units: {i: cm}", "data.units"),
        ("slices: []", "slices: [i]", "evaluate.slices"),
        ("method: random", "method: group\n  group: i", "split.group"),
        ("method: random", "method: time\n  time: i", "split.time"),
    ],
)
def test_an_unknown_column_is_reported_with_its_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    settings = load(write(tmp_path, VALID.replace(old, new)))
    with pytest.raises(UserError, match=f"params.yaml: {key}: the table has no column '(i|yy)'"):
        check_columns(settings, ["id", "x", "y"], features=["f"])


def test_slices_of_computed_features_are_checked_where_these_are_known(tmp_path: Path) -> None:
    settings = load(write(tmp_path, VALID.replace("slices: []", "slices: [f]")))
    check_columns(settings, ["id", "x", "y"])
    check_columns(settings, ["id", "x", "y"], features=["f"])
