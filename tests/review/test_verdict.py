"""The verdict of the trusted side: it agrees with the gate about every honest report, and with no contradiction."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from review.test_gate import FIRST, RED, RULES, UNCLEAR, bins, evidence, of_slices, pairs

from mlops.core import paths
from mlops.core.report import Baseline, Behaviour, Comparison, Estimate, Report, shortened
from mlops.core.settings import LOWER_IS_BETTER
from mlops.model.metrics import Classes, Predictions
from mlops.review.build_report import compared
from mlops.review.build_report import recipes as of_recipes
from mlops.review.compare import Paired, compare
from mlops.review.gate import Measurements, SliceMeasurements, judge
from mlops.review.policy import Gate
from mlops.review.recipes import Recipes
from mlops.review.rules.base import Rule
from mlops.review.verdict import derive, recorded_directions

HEAD, BASE = "0123456789abcdef0123456789abcdef01234567", "b" * 40
TODAY = datetime.date(2026, 3, 1)
LATER, EARLIER = "2999-12-31", "2026-02-28"

# every kind of rule, about metrics of which more is better and of which less is
EVERY_KIND: list[dict[str, Any]] = [
    {"rule": "floor", "metric": "recall", "at_least": 0.85},
    {"rule": "ceiling", "metric": "log_loss", "at_most": 0.5},
    {"rule": "no_worse", "metric": "roc_auc", "margin": 0.01},
    {"rule": "no_worse", "metric": "log_loss", "margin": 0.02},
    {"rule": "slices_no_worse", "metric": "accuracy", "margin": 0.05},
    {"rule": "slices_no_worse", "metric": "log_loss", "margin": 0.1},
    {"rule": "worst_slice", "metric": "accuracy", "limit": 0.8},
    {"rule": "worst_slice", "metric": "log_loss", "limit": 0.6},
    {"rule": "group_gap", "column": "site", "metric": "accuracy", "at_most": 0.1},
    {"rule": "calibration", "at_most": 0.1},
    {"rule": "validation", "warnings": 1},
    {"rule": "drift", "at_most": 0.25},
    {"rule": "overfitting", "metric": "roc_auc", "at_most": 0.05},
    {"rule": "model_size", "at_most": 10},
    {"rule": "latency", "at_most": 200},
    {"rule": "lock"},
    {"rule": "behaviour", "failures": 1},
    {"rule": "leakage"},
    {"rule": "recorded"},
]


# -- honest reports, made by the gate itself


def a_gate(rules: list[dict[str, Any]], *waivers: dict[str, Any], **more: Any) -> Gate:
    return Gate.model_validate({"rules": rules, "waivers": list(waivers), **more})


def message(gate: Gate, found: Measurements, **different: Any) -> Report:
    """A report as `make review` writes it, of this evidence."""
    result = judge(gate, found, {}, TODAY)
    return Report(
        head=HEAD,
        base=BASE,
        dirty=False,
        touched=True,
        verdict=result.verdict,
        blocks=result.blocks,
        policy=result,
        baseline=Baseline(commit=BASE, model_md5=None, origin="cache", problem=found.baseline_problem),
        metrics=[compared(pair, gate.confidence) for pair in found.pairs.values()],
        behaviour=found.behaviour,
        elsewhere=found.elsewhere,
        recipes=of_recipes(found, gate.confidence),
    ).model_copy(update=different)


def by_the_run(report: Report) -> str:
    """How the run of an honest report ends."""
    return "failure" if report.blocks else "success"


def derived(report: Report, gate: Gate | None, conclusion: str | None = None, *names: str) -> Report:
    return derive(report, gate, list(names), conclusion or by_the_run(report), TODAY)


@cache
def good_pairs(rows: int, seed: int) -> dict[str, Paired]:
    """Each metric of a good classifier, and of main's, which is the slightest bit worse."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.4).astype(int)
    score = (2 * y - 1) * 3 + rng.normal(size=rows) * 1.4

    def said(sharpness: float) -> Predictions:
        positive = 1 / (1 + np.exp(-sharpness * score))
        return Predictions((positive > 0.5).astype(int), np.column_stack([1 - positive, positive]))

    return compare(y, said(0.95), said(1.0), Classes(np.array([0, 1]), 1), resamples=400, seed=seed)


def good_evidence(**found: Any) -> Measurements:
    """Evidence of a change to a classifier that gives probabilities, in order but for what is given."""
    good: dict[str, Any] = {
        "pairs": good_pairs(1000, 0),
        "slices": [SliceMeasurements("site", name, 300, good_pairs(300, seed)) for seed, name in enumerate("ab", 1)],
        "train": {name: pair.candidate for name, pair in good_pairs(1000, 3).items()},
    }
    return evidence(**{**good, **found})


def honest(*waivers: dict[str, Any], rules: list[dict[str, Any]] = EVERY_KIND, **found: Any) -> tuple[Report, Gate]:
    """A report about every kind of rule, and the gate that it was judged by."""
    gate = a_gate(rules, *waivers)
    return message(gate, good_evidence(**found)), gate


def edited(report: Report, edit: Any) -> Report:
    """A report after somebody has edited its JSON."""
    document = json.loads(report.model_dump_json())
    edit(document)
    return Report.model_validate_json(json.dumps(document))


def result_of(document: dict[str, Any], rule: str, about: str = "") -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in document["policy"]["results"] if (each["rule"], each["subject"]) == (rule, about)
    )
    return found


def metric_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in document["metrics"] if each["metric"] == name)
    return found


# -- an honest report is never doubted


def accepted(report: Report, gate: Gate | None) -> None:
    found = derived(report, gate)
    assert found.doubts == []
    assert (found.verdict, found.blocks, found.policy) == (report.verdict, report.blocks, report.policy)


def test_an_honest_report_about_every_kind_of_rule_is_accepted() -> None:
    report, gate = honest()
    assert {rule.rule for rule in gate.rules} == set(RULES)
    assert (report.verdict, report.blocks) == ("pass", False), [each.why for each in report.policy.results]
    accepted(report, gate)


def test_a_rule_passes_by_the_difference_of_the_recipes_only_if_main_asks_for_it() -> None:
    rules = [{"rule": "no_worse", "metric": "roc_auc", "margin": 0.01}]
    gate = a_gate(rules, cross_validation={})
    pair = Paired("roc_auc", 0.99, 0.986, np.full(2, 0.99), np.array([0.985, 0.987]))
    report = message(gate, good_evidence(recipes=Recipes(300, 10, 3, {"roc_auc": pair})))
    assert report.verdict == "pass"
    accepted(report, gate)

    def better(document: dict[str, Any]) -> None:
        result_of(document, "no_worse", "roc_auc")["found"]["value"] = 0.0

    doubt = "no_worse roc_auc: its number is 0, the metric's is -0.004"
    assert derived(edited(report, better), gate).doubts == [doubt]
    assert "the report compares recipes, which main's gate does not ask for" in derived(report, a_gate(rules)).doubts


@pytest.mark.parametrize("name", RULES)
def test_what_the_gate_lets_pass_is_accepted(name: str) -> None:
    gate = a_gate([RULES[name]])
    report = message(gate, evidence())
    assert report.verdict == "pass"
    accepted(report, gate)


@pytest.mark.parametrize(("name", "found"), [(name, found) for name, found, _ in RED])
def test_what_the_gate_stops_is_accepted(name: str, found: dict[str, Any]) -> None:
    gate = a_gate([RULES[name]])
    report = message(gate, evidence(**found))
    assert report.blocks
    accepted(report, gate)


@pytest.mark.parametrize("inconclusive", ["block", "warn"])
@pytest.mark.parametrize(("name", "found"), [(name, found) for name, found, _ in UNCLEAR])
def test_what_the_gate_finds_inconclusive_is_accepted(name: str, found: dict[str, Any], inconclusive: str) -> None:
    gate = a_gate([{**RULES[name], "inconclusive": inconclusive}])
    report = message(gate, evidence(**found))
    assert (report.verdict, report.blocks) == ("inconclusive", inconclusive == "block")
    accepted(report, gate)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "found",
    [
        {"rows": 0, "pairs": {}, "slices": [], "calibration": []},
        {"baseline_problem": FIRST, "first": True, "drift": None, "pairs": pairs(1000, 0.05, None)},
        {"baseline_problem": "main's model is damaged", "drift": None, "slices": of_slices((300, 0.05, None))},
        {"pairs": {"accuracy": Paired("accuracy", 0.9, np.nan, np.full(9, 0.9), np.full(9, np.nan))}},
        {"pairs": {"accuracy": Paired("accuracy", np.nan, 0.9, np.full(9, np.nan), np.full(9, 0.9))}},
        {"slices": []},
        {"drift": []},
        {"calibration": bins((0.5, 0.6), (0.5, 0.4), rows=10)},
        {"validation": None, "train": {}},
    ],
    ids=[
        "no rows",
        "first model",
        "no baseline",
        "undefined here",
        "undefined on main",
        "no slices",
        "no column",
        "few rows",
        "nothing known",
    ],
)
def test_evidence_that_is_missing_raises_no_doubt(name: str, found: dict[str, Any]) -> None:
    gate = a_gate([RULES[name]])
    accepted(message(gate, evidence(**found)), gate)


@pytest.mark.parametrize("seed", range(40))
def test_numbers_at_their_limits_raise_no_doubt(seed: int) -> None:
    """Limits that are the very numbers found, one digit off, or anywhere; few rows and many."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([20, 60, 400]))
    here, main = rng.random(2) * 0.3
    found = {"pairs": pairs(n, here, main, seed=seed), "slices": of_slices((n, here, main), (n, main, here))}
    accuracy = found["pairs"]["accuracy"]
    near = float(rng.choice([0, 1e-7, 1e-6, -1e-7, 0.01]))
    rules = [
        {"rule": "floor", "metric": "accuracy", "at_least": accuracy.candidate + near},
        {"rule": "ceiling", "metric": "accuracy", "at_most": accuracy.candidate + near},
        {"rule": "no_worse", "metric": "accuracy", "margin": max(0.0, accuracy.loss + near)},
        {"rule": "slices_no_worse", "metric": "accuracy", "margin": max(0.0, accuracy.loss + near), "min_rows": 10},
        {"rule": "worst_slice", "metric": "accuracy", "limit": accuracy.candidate + near, "min_rows": 10},
        {"rule": "drift", "at_most": 0.05 + abs(near)},
        {"rule": "latency", "at_most": 3.0},
        {"rule": "model_size", "at_most": 2},
        {"rule": "overfitting", "metric": "accuracy", "at_most": max(1e-9, 0.96 - accuracy.candidate + near)},
    ]
    gate = a_gate(rules)
    accepted(message(gate, evidence(**found)), gate)


def test_a_waiver_of_main_raises_no_doubt_until_its_day_is_over() -> None:
    waiver = {"rule": "no_worse", "subject": "accuracy", "reason": "the new data are harder", "until": str(TODAY)}
    long = {**waiver, "subject": "", "rule": "lock", "reason": "a long reason with  two\tspaces " + "x" * 200}
    gate = a_gate([RULES["no_worse"], RULES["lock"]], waiver, long)
    report = message(gate, evidence(pairs=pairs(1000, 0.1, 0.05), moved=["train"]))
    assert [each.verdict for each in report.policy.results if each.waiver] == ["fail", "fail"]
    accepted(report, gate)
    tomorrow = TODAY + datetime.timedelta(days=1)
    doubts = derive(report, gate, [], "success", tomorrow).doubts
    assert doubts == [
        "no_worse accuracy: its waiver expired on 2026-03-01",
        "lock: its waiver expired on 2026-03-01",
    ]


def test_an_expired_waiver_that_the_gate_ignored_raises_no_doubt() -> None:
    waiver = {"rule": "no_worse", "subject": "accuracy", "reason": "the new data are harder", "until": EARLIER}
    gate = a_gate([RULES["no_worse"]], waiver)
    report = message(gate, evidence(pairs=pairs(1000, 0.1, 0.05)))
    assert report.blocks
    accepted(report, gate)


def test_a_subject_that_is_too_long_for_a_report_raises_no_doubt() -> None:
    gate = a_gate([{**RULES["group_gap"], "column": "x" * 400}])
    accepted(message(gate, evidence()), gate)


def test_without_a_gate_on_main_the_results_are_taken_as_they_are() -> None:
    report, _ = honest()
    accepted(report, None)
    report, _ = honest(pairs=good_pairs(1000, 0) | pairs(1000, 0.3, 0.05))
    accepted(report, None)


def test_a_pipeline_that_failed_and_a_change_of_pages_raise_no_doubt() -> None:
    failed = Report(head=HEAD, base=BASE, dirty=False, touched=True, verdict="fail", blocks=True, problem="it stopped")
    found = derived(failed, a_gate(EVERY_KIND))
    assert (found.doubts, found.verdict, found.blocks) == ([], "fail", True)
    pages = Report(head=HEAD, base=BASE, dirty=False, touched=False, verdict="pass", blocks=False)
    found = derived(pages, a_gate(EVERY_KIND), "success", "docs/page.md")
    assert (found.doubts, found.verdict, found.blocks) == ([], "pass", False)


# -- what contradicts itself is doubted


def a_rule(**fields: Any) -> Rule:
    return a_gate([fields]).rules[0]


LIMITS: list[tuple[dict[str, Any], float | None]] = [
    ({"rule": "floor", "metric": "recall", "at_least": 0.85}, 0.85),
    ({"rule": "ceiling", "metric": "rmse", "at_most": 3}, 3.0),
    ({"rule": "no_worse", "metric": "recall", "margin": 0}, 0.0),
    ({"rule": "slices_no_worse", "metric": "recall", "margin": 0.05}, 0.05),
    ({"rule": "worst_slice", "metric": "recall", "limit": 0.8}, 0.8),
    ({"rule": "group_gap", "column": "site", "metric": "recall", "at_most": 0.1}, 0.1),
    ({"rule": "calibration", "at_most": 0.1}, 0.1),
    ({"rule": "validation"}, 0.0),
    ({"rule": "validation", "warnings": 2}, 2.0),
    ({"rule": "behaviour"}, 0.0),
    ({"rule": "behaviour", "failures": 2}, 2.0),
    ({"rule": "drift"}, 0.2),
    ({"rule": "overfitting", "metric": "recall", "at_most": 0.05}, 0.05),
    ({"rule": "model_size", "at_most": 2.5}, 2_500_000.0),
    ({"rule": "latency", "at_most": 200}, 200.0),
    ({"rule": "lock"}, None),
    ({"rule": "leakage"}, 0.0),
    ({"rule": "recorded"}, None),
]


@pytest.mark.parametrize(("fields", "expected"), LIMITS)
def test_each_rule_has_the_limit_that_the_gate_reports(fields: dict[str, Any], expected: float | None) -> None:
    assert a_rule(**fields).bound == expected
    assert {each["rule"] for each, _ in LIMITS} == set(RULES)


# for each rule: a number that keeps its limit, one that breaks it
NUMBERS: list[tuple[dict[str, Any], float, float]] = [
    ({"rule": "floor", "metric": "recall", "at_least": 0.85}, 0.85, 0.8499),
    ({"rule": "floor", "metric": "r2", "at_least": -1}, -1, -1.1),
    ({"rule": "ceiling", "metric": "rmse", "at_most": 3}, 3, 3.01),
    ({"rule": "no_worse", "metric": "recall", "margin": 0.01}, -0.01, -0.02),
    ({"rule": "no_worse", "metric": "recall", "margin": 0.01}, 0.5, -0.5),
    ({"rule": "no_worse", "metric": "log_loss", "margin": 0.01}, 0.01, 0.02),
    ({"rule": "no_worse", "metric": "log_loss", "margin": 0.01}, -0.5, 0.5),
    ({"rule": "slices_no_worse", "metric": "recall", "margin": 0.05}, -0.05, -0.06),
    ({"rule": "slices_no_worse", "metric": "rmse", "margin": 0.05}, 0.05, 0.06),
    ({"rule": "worst_slice", "metric": "recall", "limit": 0.8}, 0.8, 0.79),
    ({"rule": "worst_slice", "metric": "mae", "limit": 0.8}, 0.8, 0.81),
    ({"rule": "group_gap", "column": "site", "metric": "recall", "at_most": 0.1}, 0.1, 0.11),
    ({"rule": "calibration", "at_most": 0.1}, 0.1, 0.11),
    ({"rule": "validation", "warnings": 1}, 1, 2),
    ({"rule": "behaviour", "failures": 1}, 1, 2),
    ({"rule": "drift", "at_most": 0.2}, 0.2, 0.21),
    ({"rule": "overfitting", "metric": "recall", "at_most": 0.05}, 0.05, 0.06),
    ({"rule": "model_size", "at_most": 2}, 2_000_000, 2_000_001),
    ({"rule": "latency", "at_most": 200}, 200, 200.1),
    ({"rule": "leakage"}, 0, 1),
]


@pytest.mark.parametrize(("fields", "kept", "broken"), NUMBERS)
def test_each_rule_knows_which_side_of_its_limit_is_good(fields: dict[str, Any], kept: float, broken: float) -> None:
    rule = a_rule(**fields)
    bound = rule.bound
    assert bound is not None
    greater_is_better = fields.get("metric") not in LOWER_IS_BETTER
    assert rule.keeps(kept, bound, greater_is_better)
    assert not rule.keeps(broken, bound, greater_is_better)


# rules about a metric of the project's own, by which the candidate is worse, and what main says of its direction
OWN: list[dict[str, Any]] = [
    {"rule": "no_worse", "metric": "cost", "margin": 0.1},
    {"rule": "slices_no_worse", "metric": "cost", "margin": 0.1},
    {"rule": "worst_slice", "metric": "cost", "limit": 1},
]
MAIN = {"cost": False}


def dear(greater_is_better: bool) -> Report:
    """A report of a change that costs more than main's model, by what its own code says of the direction."""
    rng = np.random.default_rng(0)
    theirs = rng.normal(1, 0.01, 400)
    pair = Paired("cost", 1.0, 2.0, theirs, theirs + 1, own=greater_is_better)
    slices = [SliceMeasurements("site", "a", 300, {"cost": pair})]
    return message(a_gate(OWN), good_evidence(pairs={"cost": pair}, slices=slices))


def test_a_metric_of_one_s_own_is_judged_by_the_direction_that_main_gives_it() -> None:
    gate = a_gate(OWN)
    honest_report = derive(dear(False), gate, [], "failure", TODAY, MAIN)
    assert (honest_report.verdict, honest_report.doubts) == ("fail", [])
    # turned round, the same numbers look like an improvement, and the run of the change is green
    turned = dear(True)
    assert turned.verdict == "pass"
    doubts = derive(turned, gate, [], "success", TODAY, MAIN).doubts
    assert "cost: less is better on main, more by the report" in doubts
    assert sum("breaks the limit" in doubt for doubt in doubts) == 3


def test_a_direction_turned_round_in_a_slice_alone_is_found() -> None:
    def turn(document: dict[str, Any]) -> None:
        one = {**metric_of(document, "log_loss"), "greater_is_better": True}
        document["slices"] = [{"column": "site", "name": "a", "rows": 300, "metrics": [one]}]

    report, gate = honest()
    doubts = derived(edited(report, turn), gate).doubts
    assert doubts == ["log_loss: less is better on main, more by the report"]


def test_a_metric_that_main_does_not_have_yet_has_the_direction_of_the_report() -> None:
    assert derive(dear(False), a_gate(OWN), [], "failure", TODAY, {}).doubts == []


def test_main_s_directions_are_read_from_its_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recorded_directions() == {}
    paths.EVALUATION.parent.mkdir()
    evaluation = {"metrics": {"cost": {"value": 1.0, "greater_is_better": False}, "f2": {"greater_is_better": True}}}
    paths.EVALUATION.write_text(json.dumps(evaluation))
    assert recorded_directions() == {"cost": False, "f2": True}
    for broken in ("{", "[]", '{"metrics": 1}', '{"metrics": {"cost": 3}}'):
        paths.EVALUATION.write_text(broken)
        assert recorded_directions() == {}


def breaking() -> Iterator[tuple[str, str, float]]:
    """For each rule of `EVERY_KIND` that has a limit, a number that breaks it."""
    for rule in a_gate(EVERY_KIND).rules:
        bound = rule.bound
        if bound is not None:
            above, below = bound + 0.01, bound - 0.01
            less = rule.rule == "floor" or (rule.rule == "worst_slice" and rule.metric == "accuracy")
            loss = rule.rule in ("no_worse", "slices_no_worse") and rule.metric != "log_loss"
            yield rule.rule, rule.subject, -above if loss else below if less else bound + 1 if bound > 1 else above


BREAKING = list(breaking())


@pytest.mark.parametrize(("name", "about", "value"), BREAKING)
def test_a_pass_whose_number_breaks_the_limit_is_doubted(name: str, about: str, value: float) -> None:
    def edit(document: dict[str, Any]) -> None:
        result_of(document, name, about)["found"]["value"] = value
        # the table says the same, so only the limit tells
        if name in ("floor", "ceiling"):
            metric_of(document, about)["candidate"] = value
        elif name == "no_worse":
            metric_of(document, about)["difference"]["value"] = value

    report, gate = honest()
    found = derived(edited(report, edit), gate)
    assert len(found.doubts) == 1
    named = f"{name} {about}".strip()
    assert found.doubts[0].startswith(f"{named}: it passes with {value:g}, which breaks the limit ")
    assert (found.verdict, found.blocks) == ("fail", True)


@pytest.mark.parametrize(("name", "about"), [(name, about) for name, about, _ in BREAKING])
def test_a_pass_without_a_number_is_doubted(name: str, about: str) -> None:
    report, gate = honest()
    empty = edited(report, lambda document: result_of(document, name, about)["found"].update(value=None))
    assert derived(empty, gate).doubts == [f"{f'{name} {about}'.strip()}: it passes without a number"]


@pytest.mark.parametrize("name", [rule["rule"] for rule in RULES.values()])
def test_only_a_rule_with_uncertainty_may_be_inconclusive(name: str) -> None:
    def undecided(document: dict[str, Any]) -> None:
        for each in (*document["policy"]["results"], document["policy"], document):
            each["verdict"] = "inconclusive"
        # the limit lies in the interval, as it does in an honest report
        result_of(document, **about)["found"].update(low=-1e9, high=1e9)

    gate = a_gate([RULES[name]])
    about = {"rule": name, "about": gate.rules[0].subject}
    of_tests = {"behaviour": Behaviour(passed=0, failures=0)} if name == "behaviour" else {}
    report = edited(message(gate, good_evidence(**of_tests)), undecided)
    uncertain = {"validation", "model_size", "latency", "lock", "leakage", "recorded"}.isdisjoint({name})
    blocks = RULES[name]["rule"] in ("floor", "ceiling")
    found = derived(report, gate, "failure" if blocks else "success").doubts
    named = f"{name} {about['about']}".strip()
    assert found == ([] if uncertain else [f"{named}: it is inconclusive, which this rule cannot be"])


@pytest.mark.parametrize(
    ("low", "high", "doubt"),
    [
        (0.7, 0.84, "it is inconclusive, but its interval does not include the limit 0.85"),
        (0.86, 0.9, "it is inconclusive, but its interval does not include the limit 0.85"),
        (None, None, "it is inconclusive without an interval"),
    ],
)
def test_a_floor_is_inconclusive_only_if_its_interval_includes_the_limit(
    low: float | None, high: float | None, doubt: str
) -> None:
    def undecided(document: dict[str, Any]) -> None:
        result_of(document, "floor", "recall").update(verdict="inconclusive", blocks=True)
        result_of(document, "floor", "recall")["found"].update(low=low, high=high)
        document["policy"].update(verdict="inconclusive", blocks=True)

    report, gate = honest()
    assert derived(edited(report, undecided), gate, "failure").doubts == [f"floor recall: {doubt}"]


def test_a_rule_of_the_team_s_own_is_taken_at_the_run_s_word_but_not_whether_it_blocks() -> None:
    def answered(verdict: str, **more: Any) -> Report:
        def edit(document: dict[str, Any]) -> None:
            blocks = verdict == "fail"
            result_of(document, "lock").update(rule="project.mine", verdict=verdict, blocks=blocks, **more)
            document["policy"].update(verdict=verdict, blocks=blocks)

        return edited(message(a_gate([RULES["lock"]]), good_evidence()), edit)

    lenient = a_gate([{"rule": "project.mine", "limit": 3}])
    strict = a_gate([{"rule": "project.mine", "inconclusive": "block"}])
    for verdict, blocks in (("pass", False), ("inconclusive", False), ("fail", True)):
        found = derived(answered(verdict, limit=7.0), lenient, "failure" if blocks else "success")
        assert (found.doubts, found.verdict, found.blocks) == ([], verdict, blocks)
    assert derived(answered("inconclusive"), strict, "failure").blocks
    assert derived(answered("pass"), a_gate([{"rule": "project.other"}]), "success").doubts == [
        "the report has no result for main's rule project.other",
        "the report has a result for a rule that main's gate does not have: project.mine",
    ]


@pytest.mark.parametrize(("name", "about"), [(name, about) for name, about, _ in BREAKING])
def test_another_limit_than_main_s_is_doubted(name: str, about: str) -> None:
    report, gate = honest()
    other = edited(report, lambda document: result_of(document, name, about).update(limit=1e9))
    (doubt,) = derived(other, gate).doubts
    assert "its limit is 1e+09, main's gate has " in doubt


def test_a_limit_of_a_rule_that_has_none_is_doubted() -> None:
    report, gate = honest()
    other = edited(report, lambda document: result_of(document, "lock").update(limit=0.5))
    assert derived(other, gate).doubts == ["lock: its limit is 0.5, main's gate has none"]


@pytest.mark.parametrize(
    ("name", "about", "key"),
    [("floor", "recall", "candidate"), ("ceiling", "log_loss", "candidate"), ("no_worse", "roc_auc", "difference")],
)
def test_a_number_that_is_not_the_metric_s_is_doubted(name: str, about: str, key: str) -> None:
    def other(document: dict[str, Any]) -> None:
        metric = metric_of(document, about)
        if key == "difference":
            metric["difference"]["value"] += 0.001
        else:
            metric[key] += 0.001

    report, gate = honest()
    (doubt,) = derived(edited(report, other), gate).doubts
    assert doubt.startswith(f"{name} {about}: its number is ")
    gone = edited(report, lambda document: document.update(metrics=[]))
    assert f"{name} {about}: its number is " in str(derived(gone, gate).doubts)
    assert "the metric's is missing" in str(derived(gone, gate).doubts)


def test_rules_must_be_those_of_main_each_once() -> None:
    report, gate = honest()

    def doubts(edit: Any) -> list[str]:
        return derived(edited(report, edit), gate).doubts

    def without(document: dict[str, Any]) -> None:
        document["policy"]["results"].remove(result_of(document, "floor", "recall"))

    def more(document: dict[str, Any]) -> None:
        document["policy"]["results"].append({**result_of(document, "lock"), "rule": "goodwill"})

    def twice(document: dict[str, Any]) -> None:
        document["policy"]["results"].append(result_of(document, "lock"))

    assert doubts(without) == ["the report has no result for main's rule floor recall"]
    assert doubts(more) == ["the report has a result for a rule that main's gate does not have: goodwill"]
    assert doubts(twice) == ["the report has more than one result for the rule lock"]
    assert "the report has no results" in doubts(lambda document: document["policy"].update(results=[]))
    assert len(doubts(lambda document: document["policy"].update(results=[]))) == 1 + len(gate.rules)


@pytest.mark.parametrize(
    ("different", "doubt"),
    [
        ({"until": LATER, "reason": "the new data are harder"}, None),
        ({"until": "2998-12-31", "reason": "the new data are harder"}, "main's gate has no such waiver"),
        ({"until": LATER, "reason": "because I say so"}, "main's gate has no such waiver"),
        (None, "main's gate has no such waiver"),
    ],
    ids=["main's", "another day", "another reason", "another rule"],
)
def test_a_waiver_must_be_main_s(different: dict[str, Any] | None, doubt: str | None) -> None:
    waiver = {"rule": "lock", "reason": "the new data are harder", "until": LATER}
    report, gate = honest(waiver, moved=["train"])
    rule = "lock" if different else "recorded"
    given = different or {"until": LATER, "reason": "the new data are harder"}
    other = edited(report, lambda document: result_of(document, rule).update(waiver=given))
    assert derived(other, gate, "success").doubts == ([f"{rule}: {doubt}"] if doubt else [])


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ({"passed": 1, "failures": 2}, "1 of 3 behaviour tests passed; 2 failures, at most 1 allowed"),
        ({"passed": 2, "failures": 1}, "2 of 3 behaviour tests passed"),
        ({"passed": 0, "failures": 0}, "no behaviour test ran"),
        ({"passed": 3, "failures": 0, "left_out": 1}, "3 of 3 behaviour tests passed; 1 did not run"),
        (None, "the behaviour tests did not run"),
    ],
)
def test_a_pass_that_the_counts_of_behaviour_tests_contradict_is_doubted(
    tests: dict[str, int] | None, expected: str
) -> None:
    report, gate = honest()
    found = derived(edited(report, lambda document: document.update(behaviour=tests)), gate)
    assert found.doubts == [f"behaviour: the report shows otherwise: {expected}"]
    assert found.blocks


@pytest.mark.parametrize("verdict", ["pass", "inconclusive"])
def test_a_verdict_that_does_not_follow_from_the_results_is_doubted(verdict: str) -> None:
    report, gate = honest(moved=["train"])
    lying = edited(report, lambda document: document["policy"].update(verdict=verdict))
    assert derived(lying, gate, "failure").doubts == [f"the report says {verdict!r}, its results say 'fail'"]


def test_what_a_result_says_of_blocking_is_derived_from_main_s_rule() -> None:
    report, gate = honest(moved=["train"])

    def harmless(document: dict[str, Any]) -> None:
        document["blocks"] = document["policy"]["blocks"] = False
        for each in document["policy"]["results"]:
            each["blocks"] = False

    found = derived(edited(report, harmless), gate, "failure")
    assert (found.verdict, found.blocks, found.policy) == ("fail", True, report.policy)


@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out", "skipped", "stale", "unfinished"])
def test_a_run_that_did_not_end_well_makes_no_change_mergeable(conclusion: str) -> None:
    report, gate = honest()
    found = derived(report, gate, conclusion)
    assert found.doubts == [f"the run ended as {conclusion}: a job other than the review did not pass"]
    assert (found.verdict, found.blocks) == ("fail", True)


def test_a_success_with_results_that_block_is_doubted() -> None:
    report, gate = honest(moved=["train"])
    assert derived(report, gate, "success").doubts == [
        "the run ended as a success although its own results block the change"
    ]


@pytest.mark.parametrize("conclusion", ["success", "failure"])
def test_a_change_of_pages_that_blocks_is_doubted(conclusion: str) -> None:
    pages = Report(head=HEAD, base=BASE, dirty=False, touched=False, verdict="fail", blocks=True)
    found = derived(pages, a_gate(EVERY_KIND), conclusion)
    assert (len(found.doubts), found.verdict, found.blocks) == (1, "fail", True)


@pytest.mark.parametrize(
    ("different", "doubt"),
    [
        ({"touched": False}, "the report has results for a change that does not affect the model"),
        ({"policy": None}, "the report has no results"),
        ({"problem": "it stopped"}, "the run ended as a success although its own results block the change"),
        (
            {"touched": False, "policy": None, "problem": "x"},
            "the report has results for a change that does not affect the model",
        ),
    ],
)
def test_parts_of_a_report_that_exclude_each_other_are_doubted(different: dict[str, Any], doubt: str) -> None:
    report, gate = honest()
    found = derived(report.model_copy(update=different), gate, "success")
    assert doubt in found.doubts
    assert (found.verdict, found.blocks) == ("fail", True)


def test_a_file_that_dvc_would_load_is_named_whatever_the_report_says() -> None:
    report, gate = honest()
    found = derived(report, gate, "success", "docs/dvc.yaml", "src/x.py", "data/raw/table.csv.dvc", "dvc.yaml")
    assert found.doubts == ["DVC would load docs/dvc.yaml, which is in an unexpected place"]
    assert found.verdict == "fail"


def test_doubts_of_any_number_and_form_fit_into_a_report() -> None:
    report, gate = honest()
    hostile = Comparison(
        metric="x", greater_is_better=True, baseline=1.0, candidate=1.0, difference=Estimate(value=0.0), worse=None,
        detectable=None,
    )  # fmt: skip
    names = [f"docs/{number}\n\x1b[2J{'x' * 400}/dvc.yaml" for number in range(100)]
    found = derived(report.model_copy(update={"metrics": [hostile]}), gate, "success", *names)
    assert len(found.doubts) == 20
    assert Report.model_validate(found.model_dump()) == found
    assert all(shortened(doubt) == doubt for doubt in found.doubts)


def test_every_rule_of_a_gate_has_a_side_of_its_limit_to_test() -> None:
    kinds = {rule.rule for rule in a_gate(EVERY_KIND).rules if rule.bound is not None}
    assert kinds == {each["rule"] for each, _, _ in NUMBERS} == {name for name, _, _ in BREAKING}
    assert kinds == set(RULES) - {"lock", "recorded"}


def test_a_rule_about_training_rows_is_inconclusive_only_where_the_report_says_that_others_hold_some() -> None:
    report, gate = honest(elsewhere=True)
    believed = derived(report, gate)
    assert believed.doubts == []
    assert believed.verdict == "inconclusive"

    doubted = derived(report.model_copy(update={"elsewhere": False}), gate)
    assert {doubt.partition(":")[0].split()[0] for doubt in doubted.doubts} >= {"leakage", "overfitting"}
    # a number is judged as ever
    widened = edited(report, lambda document: result_of(document, "leakage")["found"].update(value=2.0))
    assert any(doubt.startswith("leakage: ") for doubt in derived(widened, gate).doubts)


@pytest.mark.parametrize(
    ("recompute", "run", "doubted"),
    [("always", "1", True), ("never", "1", False), (0.5, "1", False), (0.5, "6", True)],
)
def test_a_report_cannot_spare_its_change_the_training_that_main_s_gate_requires(
    recompute: Any, run: str, doubted: bool
) -> None:
    rules = [{"rule": "lock", "recompute": recompute} if each["rule"] == "lock" else each for each in EVERY_KIND]
    report, gate = honest(rules=rules, believed=["tune", "train"])
    report = report.model_copy(update={"believed": ["tune", "train"]})
    found = derive(report, gate, [], "success", TODAY, run=run)
    message = "the run took tune and train from the author, which main's gate does not allow"
    assert (message in found.doubts, found.blocks) == (doubted, doubted)


def test_without_a_rule_about_the_lock_every_review_trains() -> None:
    report, gate = honest(rules=[each for each in EVERY_KIND if each["rule"] != "lock"])
    assert gate.recomputes(HEAD, "1")
    assert derive(report.model_copy(update={"believed": ["train"]}), gate, [], "success", TODAY).blocks
