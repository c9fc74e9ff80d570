"""The recent window in a review: rules about either table, both tables in the comment, and what is doubted."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from review.test_evidence import main_branch
from review.test_gate import TODAY, evidence, pairs, result
from review.test_render import compared as comparison
from review.test_render import policy as policy_of
from review.test_render import report as rendered_report
from review.test_render import ruled
from review.test_verdict import a_gate, by_the_run, edited, good_evidence, good_pairs, message, metric_of, result_of

from mlops.core.report import Recent as Window
from mlops.core.report import Report
from mlops.data import project as projects
from mlops.review import changes
from mlops.review import evidence as evidences
from mlops.review.build_report import recent as as_report
from mlops.review.gate import Recent, judge
from mlops.review.policy import Gate
from mlops.review.render import comment
from mlops.review.verdict import derive

FLOOR = {"rule": "floor", "metric": "accuracy", "at_least": 0.9}
NO_WORSE = {"rule": "no_worse", "metric": "accuracy", "margin": 0.01}
GOOD, BAD = pairs(1000, 0.05, 0.05), pairs(1000, 0.2, 0.05, seed=1)


def recent(rule: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**rule, "rows": "recent", **more}


# -- rules


@pytest.mark.parametrize("rule", [FLOOR, NO_WORSE], ids=["floor", "no_worse"])
def test_a_rule_judges_the_rows_that_it_names(rule: dict[str, Any]) -> None:
    worse_now = evidence(pairs=GOOD, recent=Recent(1000, BAD))
    assert result(rule, worse_now).verdict == "pass"
    found = result(recent(rule), worse_now)
    assert (found.verdict, found.blocks, found.subject) == ("fail", True, "accuracy, recent")
    assert "accuracy on the recent rows" in found.why
    better_now = evidence(pairs=BAD, recent=Recent(1000, GOOD))
    assert result(rule, better_now).verdict == "fail"
    assert result(recent(rule), better_now).verdict == "pass"


def test_rules_about_both_tables_share_one_risk_of_a_false_alarm() -> None:
    gate = Gate.model_validate({"rules": [NO_WORSE, recent(NO_WORSE)]})
    found = evidence(pairs=GOOD, recent=Recent(1000, BAD))
    verdicts = [each.verdict for each in judge(gate, found, {}, TODAY).results]
    assert verdicts == ["pass", "fail"]


@pytest.mark.parametrize(
    ("window", "verdict", "why"),
    [
        (Recent(), "inconclusive", "there is no recent window yet"),
        (Recent(lost=True), "fail", "this change removes it"),
        (Recent(1000, GOOD, problem="main's model needs a column"), "fail", "main's model needs a column"),
        (Recent(1000, {}), "fail", "the model has no metric accuracy"),
    ],
    ids=["none yet", "removed", "not comparable", "not measured"],
)
def test_a_rule_without_its_rows_does_not_pass(window: Recent, verdict: str, why: str) -> None:
    found = result(recent(NO_WORSE), evidence(recent=window))
    assert (found.verdict, why in found.why) == (verdict, True)


def test_without_rows_a_floor_blocks_unless_the_gate_says_otherwise() -> None:
    assert result(recent(FLOOR), evidence()).blocks
    assert not result(recent(FLOOR, inconclusive="warn"), evidence()).blocks


def test_a_rule_about_recent_rows_has_a_line_and_a_name_of_its_own_among_the_changes() -> None:
    rules = [
        "{rule: floor, metric: recall, at_least: 0.8}",
        "{rule: floor, metric: recall, at_least: 0.7, rows: recent}",
    ]
    text = "".join(["rules:\n", *(f"- {rule}\n" for rule in rules)]).encode()
    assert changes._gate(text) == {"gate: floor recall": "at_least 0.8", "gate: floor recall recent": "at_least 0.7"}


# -- evidence


def test_both_models_are_compared_on_the_recent_rows(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(done.folder, folder, symlinks=True)
    monkeypatch.chdir(folder)
    shutil.copyfile("data/prepared/test.parquet", "data/prepared/recent.parquet")
    ours = evidences.read_ours(projects.open())
    main = main_branch()
    window = evidences.on_recent(ours)
    found = evidences.compare_recent(window, main, evidences.own_metrics(ours, main), 200)
    assert (found.rows, found.problem, found.lost) == (ours.test.num_rows, None, False)
    assert found.pairs["roc_auc"].candidate == pytest.approx(found.pairs["roc_auc"].baseline)
    assert np.isfinite(found.pairs["roc_auc"].baseline_values).all()


def test_a_window_that_main_has_and_the_change_has_not_is_lost(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done.folder)
    ours, main = evidences.read_ours(projects.open()), main_branch()
    assert main.project is not None
    data = main.project.settings.data.model_copy(update={"recent": ["data/raw/a.parquet"]})
    settings = main.project.settings.model_copy(update={"data": data})
    main = main._replace(project=projects.Project(settings, main.project.source, main.project.features))
    window = evidences.on_recent(ours)
    assert evidences.compare_recent(window, main, evidences.own_metrics(ours, main), 200).lost


# -- the trusted side

RULES = [
    {"rule": "no_worse", "metric": "roc_auc", "margin": 0.01},
    {"rule": "no_worse", "metric": "roc_auc", "margin": 0.01, "rows": "recent"},
    {"rule": "floor", "metric": "recall", "at_least": 0.5, "rows": "recent", "inconclusive": "warn"},
]


def with_window(window: Recent) -> tuple[Report, Gate]:
    gate = a_gate(RULES)
    return message(gate, good_evidence(recent=window), recent=as_report(window, gate.confidence)), gate


def doubts(report: Report, gate: Gate, windowed: bool = True) -> list[str]:
    return derive(report, gate, [], by_the_run(report), TODAY, windowed=windowed).doubts


def test_an_honest_report_is_not_doubted() -> None:
    for window, windowed in ((Recent(500, good_pairs(500, 5)), True), (Recent(), False), (Recent(lost=True), True)):
        assert doubts(*with_window(window), windowed=windowed) == []


def test_a_report_that_hides_main_s_window_is_doubted() -> None:
    report, gate = with_window(Recent())
    assert doubts(report, gate) == ["main has a recent window, and the report has no results on one"]


@pytest.mark.parametrize(
    ("edit", "doubt"),
    [
        (lambda r: metric_of(r["recent"], "roc_auc")["difference"].update(value=-0.5), "the metric's is -0.5"),
        (lambda r: result_of(r, "floor", "recall, recent")["found"].update(value=0.4), "which breaks the limit"),
        (
            lambda r: result_of(r, "no_worse", "roc_auc, recent").update(
                verdict="inconclusive", found={"value": None, "low": None, "high": None}
            ),
            "although the report has a recent window",
        ),
        (
            lambda r: metric_of(r["recent"], "log_loss").update(greater_is_better=True),
            "log_loss: less is better on main",
        ),
    ],
    ids=["another number", "below the limit", "no number", "direction"],
)
def test_a_report_that_contradicts_itself_about_the_window_is_doubted(edit: Any, doubt: str) -> None:
    report, gate = with_window(Recent(500, good_pairs(500, 5)))
    assert any(doubt in each for each in doubts(edited(report, edit), gate))


# -- the comment


def test_the_comment_shows_both_tables_each_with_its_rules() -> None:
    results = [ruled("floor", "recall", "pass"), ruled("floor", "recall, recent", "fail", limit=0.9)]
    window = Window(rows=321, metrics=[comparison("recall")])
    text = comment(rendered_report(*results, policy=policy_of(*results), recent=window))
    first, second = text.split("**On the 321 newest labelled rows, which neither model was trained on**")
    assert "**On the 143 test rows, which stay the same**" in first
    assert re.search(r"^\| ✅&nbsp;.*≥ 0.95 \|$", first, re.MULTILINE)
    assert re.search(r"^\| ❌&nbsp;.*≥ 0.9 \|$", second.split("<details>")[0], re.MULTILINE)
    assert "143 test rows, 321 recent rows" in text


def test_without_a_window_there_is_one_table_without_a_title() -> None:
    assert "On the " not in comment(rendered_report())


def test_what_a_report_says_of_the_window_stays_text() -> None:
    window = Window(rows=3, metrics=[comparison("@ada <b>")], problem="@ada ![x](https://evil.example)")
    text = comment(rendered_report(recent=window))
    for part in ("@ada", "<b>", "![x]", "https://evil"):
        assert part not in text
