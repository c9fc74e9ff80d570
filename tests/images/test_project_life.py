"""A project from `make start` over review and release to an update of the template, in an empty place and home."""

from __future__ import annotations

import json

import pytest
from life import Life, live
from ruamel.yaml import YAML


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Life:
    life = Life(tmp_path_factory.mktemp("life"))
    live(life)
    return life


def test_a_table_becomes_a_project_of_its_own(lived: Life) -> None:
    output = lived.printed["make start TABLE=../wine.csv TARGET=cultivar"]
    assert "178 rows × 15 columns → params.yaml" in output
    assert "LogisticRegression predicts cultivar" in output
    yaml = YAML(typ="safe")
    params, gate = (yaml.load(released(lived, name)) for name in ("params.yaml", "gate.yaml"))
    assert (params["data"]["key"], params["model"]["params"]["C"]) == (["bottle_id"], 0.9)
    assert {"floor", "no_worse", "validation", "lock"} <= {rule["rule"] for rule in gate["rules"]}
    assert json.loads(released(lived, "reports/validation.json"))["failed_critical"] == 0
    assert "predicts `cultivar`" in released(lived, "README.md")
    assert "`cultivar`" in released(lived, "models/CARD.md")


def released(lived: Life, name: str) -> str:
    """A file of the release."""
    return lived.run(f"git show v1.0.0:{name}")


def test_what_tests_the_template_leaves_and_stays_away(lived: Life) -> None:
    folders = lived.run("git ls-tree -r --name-only HEAD").splitlines()
    assert not [name for name in folders if name.startswith(("benchmarks/", "examples/", ".ci/", "tests/core/"))]
    assert "tests/core/test_newer.py" in lived.run("git -C ../template ls-tree -r --name-only v2.0")


def test_both_reviews_compare_the_models_and_pass(lived: Life) -> None:
    assert len(lived.reports) == 2
    for report in lived.reports:
        assert report.policy
        compared = [rule for rule in report.policy.results if rule.rule == "no_worse"]
        assert compared
        assert {rule.verdict for rule in compared} == {"pass"}


def test_the_release_is_rehearsed(lived: Life) -> None:
    output = lived.printed["git tag v1.0.0 && make release-check"]
    assert "1.0.0 can be released" in output


def test_the_update_keeps_the_team_s_line_and_brings_the_template_s(lived: Life) -> None:
    output = lived.printed["make update TEMPLATE=../template.git"]
    assert "Makefile: both changed the same lines" in output
    assert "PORT ?= 8080\n" in (lived.project / "Makefile").read_text(encoding="utf-8")
    assert "Of version 2." in (lived.project / "src/mlops/pipeline/evaluate.py").read_text(encoding="utf-8")
    record = json.loads((lived.project / ".template.json").read_text(encoding="utf-8"))
    assert record["version"] == "v2.0"
    assert (lived.project / "gate.yaml").read_text(encoding="utf-8") == released(lived, "gate.yaml")
