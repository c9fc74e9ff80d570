from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.data import expectations, tables
from mlops.pipeline import ingest

SUITE = Path("data/expectations/suite.json")
MESSY = Path("data/raw/messy.csv")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    SUITE.parent.mkdir(parents=True)
    return tmp_path


def params(source: str, target: str, task: str = "classification", suite: str | None = str(SUITE), **data: Any) -> None:
    """Write `params.yaml` (JSON is YAML) and the prepared table."""
    content = {
        "data": {"source": source, "task": task, "target": target, **data},
        "validate": {"suite": suite},
        "split": {},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }
    Path("params.yaml").write_text(json.dumps(content), encoding="utf-8")
    ingest.main()


def messy(suite: str | None = str(SUITE), **data: Any) -> None:
    lines = [
        f"{row},{'' if row % 10 == 0 else 1990 + row % 30},{row % 2 * 0.5},{'' if row % 50 else 'nie'},"
        f"{['früh', 'spät'][row % 2]},{'name ' + str(row)},20{10 + row % 9}-05-{1 + row % 28:02},,{row % 3}"
        for row in range(200)
    ]
    MESSY.parent.mkdir(parents=True, exist_ok=True)
    MESSY.write_text("\n".join(["id,jahr,anteil,selten,schicht,name,tag,leer,note", *lines]), encoding="utf-8")
    params(str(MESSY), "note", suite=suite, **{"key": ["id"], **data})


def drafted(path: Path = SUITE) -> list[dict[str, Any]]:
    expectations.main()
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["expectations"]
    return entries


def about(entries: list[dict[str, Any]], column: str) -> dict[str, dict[str, Any]]:
    return {entry["type"]: entry for entry in entries if entry["kwargs"].get("column") == column}


BETWEEN, IN_SET, NOT_NULL = (f"expect_column_values_to_{kind}" for kind in ("be_between", "be_in_set", "not_be_null"))


def test_a_draft_is_critical_of_what_is_certain_and_warns_of_what_is_likely() -> None:
    messy()
    entries = drafted()
    critical = [(entry["type"], entry["kwargs"].get("column")) for entry in entries if entry["severity"] == "critical"]
    assert critical == [
        ("expect_table_columns_to_match_set", None),
        ("expect_table_row_count_to_be_between", None),
        (NOT_NULL, "note"),
        (IN_SET, "note"),
    ]
    assert {entry["severity"] for entry in entries} == {"critical", "warning"}
    assert entries[0]["kwargs"]["column_set"] == tables.read(paths.TABLE).column_names
    assert entries[1]["kwargs"] == {"min_value": 100}
    assert about(entries, "note")[IN_SET]["kwargs"]["value_set"] == [0, 1, 2]


def test_a_draft_leaves_room_around_what_was_seen() -> None:
    messy()
    entries = drafted()
    assert about(entries, "jahr")[BETWEEN]["kwargs"] == {"column": "jahr", "min_value": 1977, "max_value": 2033}
    assert about(entries, "anteil")[BETWEEN]["kwargs"] == {"column": "anteil", "min_value": 0, "max_value": 0.75}
    assert about(entries, "tag")[BETWEEN]["kwargs"] == {"column": "tag", "min_value": "2010-01-01T00:00:00"}
    assert about(entries, "schicht")[IN_SET]["kwargs"]["value_set"] == ["früh", "spät"]
    assert about(entries, "jahr")[NOT_NULL]["kwargs"]["mostly"] == 0.85
    assert about(entries, "jahr")[BETWEEN]["meta"] == {"observed": "1991 to 2019"}


def test_a_draft_says_nothing_where_the_table_says_nothing() -> None:
    messy()
    entries = drafted()
    assert about(entries, "id") == {}  # the key: `validate` checks it in any case
    assert about(entries, "leer") == {}
    assert set(about(entries, "name")) == {NOT_NULL}
    assert set(about(entries, "selten")) == {IN_SET}


def test_a_draft_holds_no_pseudonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDONYM_KEY", "0123456789abcdef")
    messy(private={"schicht": "pseudonymise"})
    assert set(about(drafted(), "schicht")) == {NOT_NULL}


def test_each_drafted_expectation_is_one_line_that_great_expectations_takes() -> None:
    messy()
    entries = drafted()
    assert len(SUITE.read_text(encoding="utf-8").splitlines()) == len(entries) + 5
    rules = expectations.read(SUITE)
    configurations = [rule.expectation.configuration.to_json_dict() for rule in rules]
    assert [{key: found[key] for key in entry} for entry, found in zip(entries, configurations, strict=True)] == entries


def test_a_draft_does_not_overwrite_what_people_decided() -> None:
    params("sklearn:iris", "species")
    SUITE.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=f"{SUITE} exists"):
        expectations.main()
    assert SUITE.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("source", "name"), [("sklearn:iris", "iris"), ("data/raw/messy.csv", "messy"), ("data/raw/*.csv", "table")]
)
def test_a_draft_takes_its_name_from_the_source_where_params_yaml_has_none(source: str, name: str) -> None:
    messy(suite=None)
    params(source, "species" if source == "sklearn:iris" else "note", suite=None)
    outcome = expectations.main()
    path = f"data/expectations/{name}.json"
    assert json.loads(Path(path).read_text(encoding="utf-8"))["name"] == name
    assert f"then set validate.suite: {path} in params.yaml" in outcome


def test_the_draft_needs_the_table() -> None:
    params("sklearn:iris", "species")
    paths.CATALOGUE.unlink()
    with pytest.raises(UserError, match="dvc repro ingest"):
        expectations.main()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"type": "expect_column_values_to_be_betwen", "kwargs": {}},
            "unknown type; did you mean 'expect_column_values_to_be_between'?",
        ),
        (
            {"type": BETWEEN, "kwargs": {"column": "a", "min_valu": 1}},
            "unknown argument 'min_valu'; did you mean 'min_value'?",
        ),
        ({"type": BETWEEN, "kwargs": {"min_value": 1}}, "needs the argument 'column'"),
        (
            {"type": BETWEEN, "kwargs": {"column": "a", "min_value": "low"}},
            'min_value: value is not a valid float, got "low"',
        ),
        (
            {"type": BETWEEN, "kwargs": {"column": "a", "min_value": 1, "mostly": 7}},
            "mostly: ensure this value is less than or equal to 1.0, got 7",
        ),
        ({"type": BETWEEN, "kwargs": {"column": "a"}}, "min_value and max_value cannot both be None"),
        (
            {"type": BETWEEN, "kwargs": {"column": "a", "min_value": 1}, "severity": "grave"},
            "Invalid severity 'grave'. Must be one of: critical, warning, info",
        ),
        ({"type": BETWEEN, "kwarg": {"column": "a"}}, "unknown key 'kwarg'; did you mean 'kwargs'?"),
        ({"type": BETWEEN, "kwargs": ["a"]}, "needs a type (a name) and kwargs (an object)"),
        ({"kwargs": {}}, "needs a type (a name) and kwargs (an object)"),
        ("a", 'must be an object with type and kwargs, got "a"'),
    ],
)
def test_a_broken_expectation_is_named_with_what_is_allowed(entry: Any, message: str) -> None:
    good = expectations.expect("column_values_to_not_be_null", "critical", column="a")
    expectations.write(SUITE, [good, entry])
    with pytest.raises(UserError) as caught:
        expectations.read(SUITE)
    output = str(caught.value)
    assert output.startswith(f"{SUITE}: expectation 2")
    assert output.endswith(message)
    assert len(output.splitlines()) == 1


def test_every_broken_expectation_is_reported_at_once() -> None:
    expectations.write(SUITE, [{"type": "expect_nothing", "kwargs": {}}, {"type": BETWEEN, "kwargs": {}}])
    with pytest.raises(UserError) as caught:
        expectations.read(SUITE)
    assert f"{SUITE}: expectation 1 (expect_nothing): unknown type" in str(caught.value)
    assert f"{SUITE}: expectation 2 ({BETWEEN}): needs the argument 'column'" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON: Expecting value (line 1, column 1)"),
        (b'{"name": "a",\n "expectations": [}', "(line 2, column 19)"),
        (b"[]", "is not a suite"),
        (b'{"name": "a"}', "is not a suite"),
        (
            b'{"name": "a", "expectations": [], "expectation": []}',
            "unknown key 'expectation'; did you mean 'expectations'?",
        ),
        (b'{"name": "\xff"}', "is not UTF-8"),
    ],
)
def test_a_broken_file_is_named(content: bytes, message: str) -> None:
    SUITE.write_bytes(content)
    with pytest.raises(UserError) as caught:
        expectations.read(SUITE)
    assert str(caught.value).startswith(str(SUITE))
    assert message in str(caught.value)


def test_a_missing_suite_is_reported_with_the_closest_there_is() -> None:
    SUITE.write_text("{}")
    with pytest.raises(
        UserError, match=r"there is no file data/expectations/suit\.json; did you mean '.*suite\.json'\?"
    ):
        expectations.read("data/expectations/suit.json")


def test_a_suite_may_say_a_day_without_a_time() -> None:
    expectations.write(
        SUITE, [expectations.expect("column_values_to_be_between", "info", column="a", min_value="2026-01-31")]
    )
    [rule] = expectations.read(SUITE)
    assert rule.expectation.configuration.to_json_dict()["kwargs"]["min_value"] == "2026-01-31T00:00:00"
