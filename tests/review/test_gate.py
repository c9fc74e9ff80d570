"""The gate: each kind of rule turned red, left green, and left undecided; what is missing is a failure."""

from __future__ import annotations

import datetime
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from mlops.core.report import Behaviour, Estimate, NotRun, Policy, Result
from mlops.model.metrics import Classes, Predictions
from mlops.monitoring.drift import Change
from mlops.review import rules
from mlops.review.compare import Paired, compare
from mlops.review.drift import OTHER_TYPE, Moved
from mlops.review.gate import Measurements, SliceMeasurements, error_by_chance, judge
from mlops.review.policy import Gate
from mlops.review.rebuilt import Rebuilt
from mlops.review.recipes import Recipes

TODAY = datetime.date(2026, 3, 1)
RESAMPLES = 400
CLASSES = Classes(np.array([0, 1]), 1)
FIRST = "main has no trained model yet"


def said(n: int, wrong: float, seed: int) -> Predictions:
    """Predictions of n positive rows, of which a share is wrong."""
    missed = np.random.default_rng(seed).permutation(n) < round(wrong * n)
    return Predictions((~missed).astype(int), None)


def pairs(n: int, here: float, main: float | None, *, seed: int = 0) -> dict[str, Paired]:
    """Accuracy of a change and of main that are wrong in so many rows, main's within the change's as far as they go."""
    baseline = None if main is None else said(n, main, seed)
    return compare(np.ones(n, int), baseline, said(n, here, seed), CLASSES, resamples=RESAMPLES, seed=seed)


def crossed(difference: float, spread: float) -> Recipes:
    """Recipes that differ by so much in accuracy."""
    normal = NormalDist()
    drawn = difference + spread * np.array([normal.inv_cdf((i + 0.5) / RESAMPLES) for i in range(RESAMPLES)])
    pair = Paired("accuracy", 0.9, 0.9 + difference, np.full(RESAMPLES, 0.9), 0.9 + drawn)
    return Recipes(300, 5, 4, {"accuracy": pair})


def of_slices(*wrong: tuple[int, float, float | None], column: str = "site") -> list[SliceMeasurements]:
    return [
        SliceMeasurements(column, f"no. {i}", n, pairs(n, here, main, seed=i))
        for i, (n, here, main) in enumerate(wrong)
    ]


def bins(*pairs_: tuple[float, float], rows: int = 100) -> list[dict[str, Any]]:
    return [{"predicted_probability": p, "observed_share": o, "rows": rows} for p, o in pairs_]


def column(name: str, effect: float, p_value: float, rows: int = 1000) -> Moved:
    return Moved(name, rows, Change(p_value, effect, "median 1 → 2"))


def evidence(**found: Any) -> Measurements:
    """Evidence of a change that is in order, but for what is given."""
    good: dict[str, Any] = {
        "rows": 1000,
        "pairs": pairs(1000, 0.05, 0.05),
        "slices": of_slices((300, 0.05, 0.05), (300, 0.05, 0.05)),
        "baseline_problem": None,
        "first": False,
        "train": {"accuracy": 0.96},
        "calibration": bins((0.1, 0.1), (0.9, 0.9)),
        "validation": {"expectations": 9, "passed": 9, "failed_critical": 0, "failed_warning": 0},
        "drift": [column("age", 0.05, 0.9), column("sex", 0.0, 1.0)],
        "model_bytes": 2_000_000,
        "latency_ms": 3.0,
        "moved": [],
        "dirty": False,
        "leaked": 0,
        "misrecorded": [],
        "behaviour": Behaviour(passed=3, failures=0),
    }
    return Measurements(**{**good, **found})


def judged(rules: list[dict[str, Any]], found: Measurements, waivers: tuple[dict[str, Any], ...] = ()) -> Policy:
    gate = Gate.model_validate({"rules": rules, "waivers": list(waivers)})
    return judge(gate, found, {}, TODAY)


def result(rule: dict[str, Any], found: Measurements, *waivers: dict[str, Any]) -> Result:
    return judged([rule], found, waivers).results[0]


RULES: dict[str, dict[str, Any]] = {
    "floor": {"rule": "floor", "metric": "accuracy", "at_least": 0.9},
    "ceiling": {"rule": "ceiling", "metric": "accuracy", "at_most": 0.97},
    "no_worse": {"rule": "no_worse", "metric": "accuracy", "margin": 0.01},
    "slices_no_worse": {"rule": "slices_no_worse", "metric": "accuracy", "margin": 0.02},
    "worst_slice": {"rule": "worst_slice", "metric": "accuracy", "limit": 0.9},
    "group_gap": {"rule": "group_gap", "column": "site", "metric": "accuracy", "at_most": 0.1},
    "calibration": {"rule": "calibration", "at_most": 0.05},
    "validation": {"rule": "validation", "warnings": 1},
    "drift": {"rule": "drift", "at_most": 0.2},
    "overfitting": {"rule": "overfitting", "metric": "accuracy", "at_most": 0.05},
    "model_size": {"rule": "model_size", "at_most": 5},
    "latency": {"rule": "latency", "at_most": 10},
    "lock": {"rule": "lock"},
    "behaviour": {"rule": "behaviour", "failures": 1},
    "leakage": {"rule": "leakage"},
    "recorded": {"rule": "recorded"},
}

VALIDATED = {"expectations": 9, "passed": 7, "failed_critical": 0, "failed_warning": 2}

# what turns each rule red, with words of the reason
RED: list[tuple[str, dict[str, Any], str]] = [
    (
        "behaviour",
        {"behaviour": Behaviour(passed=1, failures=2)},
        "1 of 3 behaviour tests passed; 2 failures, at most 1 allowed",
    ),
    ("behaviour", {"behaviour": None}, "the behaviour tests did not run"),
    ("floor", {"pairs": pairs(1000, 0.2, 0.05)}, "accuracy is 0.8 (95% interval "),
    ("ceiling", {"pairs": pairs(1000, 0.0, 0.05)}, "accuracy is 1 (95% interval 1 to 1); at most 0.97 is required"),
    (
        "no_worse",
        {"pairs": pairs(1000, 0.1, 0.05)},
        "accuracy has dropped by 0.05 compared with main; at most 0.01 is allowed",
    ),
    (
        "slices_no_worse",
        {"slices": of_slices((300, 0.05, 0.05), (300, 0.15, 0.05))},
        "accuracy of site no. 1 has dropped by 0.1 compared with main",
    ),
    (
        "worst_slice",
        {"slices": of_slices((300, 0.0, 0.05), (300, 0.25, 0.05))},
        "accuracy is 0.75 in the worst slice, site no. 1 (300 rows); at least 0.9 is required",
    ),
    (
        "group_gap",
        {"slices": of_slices((300, 0.05, None), (300, 0.3, None))},
        "differs by 0.25 between site no. 0 and site no. 1; at most 0.1 is allowed",
    ),
    (
        "calibration",
        {"calibration": bins((0.1, 0.4), (0.9, 0.6))},
        "the expected calibration error is 0.3; at most 0.05",
    ),
    ("validation", {"validation": VALIDATED}, "7 of 9 expectations pass; 2 failures, at most 1 allowed"),
    (
        "validation",
        {"validation": {**VALIDATED, "failed_critical": 1, "failed_warning": 0}},
        "1 critical failure, none allowed",
    ),
    (
        "drift",
        {"drift": [column("age", 0.3, 0.004), column("size", 0.15, 1e-9), column("sex", 0.0, 1.0)]},
        "age has changed by a distance of 0.3: median 1 → 2; 1 column exceeds the limit of 0.2",
    ),
    (
        "drift",
        {"drift": [Moved("age", 20, OTHER_TYPE)]},
        "age has changed by a distance of 1: values of another type than on main",
    ),
    ("overfitting", {"pairs": pairs(1000, 0.2, 0.05)}, "better on the training rows by 0.16; at most 0.05 is allowed"),
    ("model_size", {"model_bytes": 5_000_001}, "at most 5 MB are allowed"),
    ("latency", {"latency_ms": 10.5}, "at most 10 ms are allowed"),
    (
        "lock",
        {"moved": ["train: models/model.skops"]},
        "not what this commit produces: train: models/model.skops; run make",
    ),
    ("leakage", {"leaked": 1}, "1 test row is also a training row"),
    ("recorded", {"misrecorded": ["recall is 0.9, recorded as 1"]}, "recall is 0.9, recorded as 1"),
]

# what leaves a rule undecided: too few rows, or nothing to compare with yet
REMOVED = NotRun(name="test_a.py::test_b", reason="removed", why="")
UNCLEAR: list[tuple[str, dict[str, Any], str]] = [
    ("behaviour", {"behaviour": Behaviour(passed=0, failures=0)}, "no behaviour test ran"),
    (
        "behaviour",
        {"behaviour": Behaviour(passed=2, failures=1, not_run=[REMOVED], left_out=3)},
        "2 of 3 behaviour tests passed; 4 did not run",
    ),
    ("floor", {"pairs": pairs(20, 0.15, 0.05)}, "at least 0.9 is required, but the 95% interval "),
    ("ceiling", {"pairs": pairs(50, 0.02, 0.05)}, "at most 0.97 is required, but the 95% interval "),
    (
        "no_worse",
        {"pairs": pairs(50, 0.1, 0.08)},
        "may have dropped by more than 0.01; this test set can only detect drops of 0.",
    ),
    (
        "slices_no_worse",
        {"slices": of_slices((40, 0.1, 0.05), (40, 0.05, 0.05))},
        "may have dropped by more than 0.02; this test set can only detect drops of 0.",
    ),
    ("slices_no_worse", {"slices": of_slices((29, 0.5, 0.0))}, "no slice has 30 test rows"),
    ("worst_slice", {"slices": of_slices((40, 0.15, 0.05))}, "at least 0.9 is required, but the 95% interval "),
    ("worst_slice", {"slices": of_slices((29, 0.5, 0.0))}, "no slice has 30 test rows"),
    ("group_gap", {"slices": of_slices((40, 0.05, None), (40, 0.2, None))}, "differs by 0.15"),
    ("group_gap", {"slices": of_slices((40, 0.05, None), (29, 1.0, None))}, "fewer than two groups of site have 30"),
    (
        "calibration",
        {"calibration": bins((0.5, 0.6), (0.5, 0.4), rows=10)},
        "with so few test rows a perfectly calibrated model can reach 0.2",
    ),
    (
        "overfitting",
        {"pairs": pairs(20, 0.1, 0.05), "train": {"accuracy": 1.0}},
        "at most 0.05 is allowed, but the 95% interval",
    ),
    ("drift", {"drift": None, "baseline_problem": FIRST, "first": True}, FIRST),
    ("drift", {"drift": [column("age", 0.9, 1e-9, rows=60)]}, "cannot tell: 40 training rows too few"),
]


def test_every_kind_of_rule_has_its_fixtures() -> None:
    kinds = {kind.built_in() for kind in rules.built_in()}
    assert kinds == set(RULES) == {name for name, _, _ in RED}


@pytest.mark.parametrize("name", RULES)
def test_a_change_in_order_is_green(name: str) -> None:
    found = judged([RULES[name]], evidence())
    assert (found.verdict, found.blocks) == ("pass", False), found.results[0].why
    assert found.results[0].verdict == "pass"


@pytest.mark.parametrize(("name", "found", "message"), RED)
def test_what_a_rule_forbids_turns_it_red(name: str, found: dict[str, Any], message: str) -> None:
    one = judged([RULES[name]], evidence(**found))
    assert (one.verdict, one.blocks) == ("fail", True)
    assert message in one.results[0].why


@pytest.mark.parametrize("inconclusive", ["block", "warn"])
@pytest.mark.parametrize(("name", "found", "message"), UNCLEAR)
def test_an_inconclusive_rule_says_why_and_blocks_only_where_the_gate_says_so(
    name: str, found: dict[str, Any], message: str, inconclusive: str
) -> None:
    one = judged([{**RULES[name], "inconclusive": inconclusive}], evidence(**found))
    assert one.verdict == "inconclusive", one.results[0].why
    assert one.blocks == (inconclusive == "block")
    assert message in one.results[0].why


def test_every_rule_that_can_be_inconclusive_says_in_the_gate_what_then_happens() -> None:
    configurable = {kind.built_in() for kind in rules.built_in() if "inconclusive" in kind.model_fields}
    assert configurable == {name for name, _, _ in UNCLEAR}


def test_a_lock_that_is_not_committed_yet_only_warns() -> None:
    one = judged([RULES["lock"]], evidence(moved=["train"], dirty=True))
    assert (one.verdict, one.blocks) == ("inconclusive", False)


# it fails closed


@pytest.mark.parametrize("name", RULES)
def test_an_empty_test_set_fails_every_rule(name: str) -> None:
    one = result(RULES[name], evidence(rows=0, pairs={}, slices=[], calibration=[]))
    assert (one.verdict, one.blocks, one.why) == ("fail", True, "there are no test rows")


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if "metric" in rule])
def test_a_missing_or_undefined_metric_fails(name: str) -> None:
    misspelt = result({**RULES[name], "metric": "accuraccy"}, evidence())
    assert (misspelt.verdict, misspelt.blocks) == ("fail", True)
    assert misspelt.why == "the model has no metric accuraccy; did you mean 'accuracy'?"
    undefined = {"accuracy": Paired("accuracy", 0.9, math.nan, np.full(9, 0.9), np.full(9, math.nan))}
    one = result(RULES[name], evidence(pairs=undefined))
    assert (one.verdict, one.blocks, one.why) == ("fail", True, "accuracy is undefined on these test rows")


@pytest.mark.parametrize("name", ["no_worse", "slices_no_worse", "drift"])
def test_without_a_baseline_a_comparison_fails_but_for_the_first_model(name: str) -> None:
    nothing = {"pairs": pairs(1000, 0.05, None), "slices": of_slices((300, 0.05, None)), "drift": None}
    lost = result(RULES[name], evidence(**nothing, baseline_problem="main's model is damaged"))
    assert (lost.verdict, lost.blocks, lost.why) == ("fail", True, "main's model is damaged")
    first = result(RULES[name], evidence(**nothing, baseline_problem=FIRST, first=True))
    assert (first.verdict, first.blocks, first.why) == ("inconclusive", False, FIRST)


def test_rules_that_need_no_baseline_decide_on_the_first_model() -> None:
    nothing = {"pairs": pairs(1000, 0.2, None), "drift": None, "baseline_problem": FIRST, "first": True}
    one = judged([RULES["floor"], RULES["no_worse"]], evidence(**nothing))
    assert [each.verdict for each in one.results] == ["fail", "inconclusive"]
    assert one.blocks


def test_drift_without_main_s_rows_or_without_a_common_column_fails() -> None:
    assert result(RULES["drift"], evidence(drift=None)).why == "main's training rows are not available"
    assert result(RULES["drift"], evidence(drift=None)).blocks
    assert result(RULES["drift"], evidence(drift=[])).blocks


def test_a_large_distance_by_chance_and_a_significant_small_one_pass() -> None:
    chance = result(RULES["drift"], evidence(drift=[column("age", 0.3, 0.006), column("sex", 0.0, 1.0)]))
    assert (chance.verdict, chance.found.value) == ("pass", 0)
    assert chance.why == "no significant change in 2 columns; distances from 0.082 on are found"
    small = result(RULES["drift"], evidence(drift=[column("age", 0.15, 1e-9), column("sex", 0.0, 1.0)]))
    assert (small.verdict, small.found.value) == ("pass", 0.15)


@pytest.mark.parametrize("name", ["slices_no_worse", "worst_slice", "group_gap"])
def test_a_rule_about_slices_fails_where_none_is_asked_for(name: str) -> None:
    one = result(RULES[name], evidence(slices=[]))
    assert (one.verdict, one.blocks) == ("fail", True)
    assert "evaluate.slices" in one.why


def test_a_group_of_a_column_that_is_not_sliced_fails() -> None:
    one = result({**RULES["group_gap"], "column": "sex"}, evidence())
    assert one.blocks
    assert one.why == "sex is not one of evaluate.slices, so its groups were not evaluated"


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        ("calibration", {"calibration": []}, "gives no probabilities"),
        ("validation", {"validation": None}, "no expectations"),
        ("validation", {"validation": {"expectations": 0, "passed": 0}}, "no expectations"),
        ("overfitting", {"train": {}}, "accuracy is undefined on the training rows"),
        ("overfitting", {"train": {"accuracy": math.nan}}, "accuracy is undefined on the training rows"),
    ],
)
def test_evidence_that_is_missing_fails_and_is_named(name: str, found: dict[str, Any], message: str) -> None:
    one = result(RULES[name], evidence(**found))
    assert (one.verdict, one.blocks) == ("fail", True)
    assert message in one.why


def test_a_metric_that_main_s_model_does_not_have_is_inconclusive() -> None:
    alone = {"accuracy": pairs(1000, 0.05, 0.05)["accuracy"]._replace(baseline=math.nan)}
    assert result(RULES["no_worse"], evidence(pairs=alone)).verdict == "inconclusive"
    strict = {**RULES["no_worse"], "inconclusive": "block"}
    assert result(strict, evidence(pairs=alone)).blocks


def test_a_loss_that_no_resample_defines_is_reported_without_a_number() -> None:
    undefined = {"accuracy": Paired("accuracy", 0.9, 0.8, np.full(9, math.nan), np.full(9, math.nan))}
    one = result(RULES["no_worse"], evidence(pairs=undefined))
    assert one.verdict == "inconclusive"
    assert "nan" not in one.why


# statistics


def test_identical_models_pass_with_no_margin_at_all_even_on_two_rows() -> None:
    for n in (2, 30):
        same = evidence(pairs=pairs(n, 0.5, 0.5), slices=of_slices((n, 0.5, 0.5)))
        rules = [{**RULES["no_worse"], "margin": 0}, {**RULES["slices_no_worse"], "margin": 0, "min_rows": 2}]
        one = judged(rules, same)
        assert one.verdict == "pass"
        assert one.results[0].why == "accuracy is the same as on main"


def test_an_improvement_passes() -> None:
    one = result(RULES["no_worse"], evidence(pairs=pairs(1000, 0.02, 0.1)))
    assert (one.verdict, one.why) == ("pass", "accuracy has not dropped by more than 0.01")
    assert one.found.value == pytest.approx(0.08)


def test_a_real_loss_within_the_margin_passes() -> None:
    assert result({**RULES["no_worse"], "margin": 0.1}, evidence(pairs=pairs(1000, 0.1, 0.05))).verdict == "pass"


def test_where_less_is_better_more_is_worse() -> None:
    y = np.zeros(300)
    noise = np.random.default_rng(0).normal(size=300)
    losing = compare(y, Predictions(noise, None), Predictions(2 * noise, None), None, resamples=RESAMPLES)
    rules: list[dict[str, Any]] = [
        {"rule": "no_worse", "metric": "rmse", "margin": 0.1},
        {"rule": "ceiling", "metric": "rmse", "at_most": 1.5},
        {"rule": "worst_slice", "metric": "rmse", "limit": 1.5},
        {"rule": "slices_no_worse", "metric": "rmse", "margin": 0.1},
        {"rule": "overfitting", "metric": "rmse", "at_most": 0.5},
    ]
    found = {"pairs": losing, "slices": [SliceMeasurements("site", "a", 300, losing)], "train": {"rmse": 1.0}}
    assert [each.verdict for each in judged(rules, evidence(**found)).results] == ["fail"] * 5
    winning = compare(y, Predictions(2 * noise, None), Predictions(noise, None), None, resamples=RESAMPLES)
    found = {"pairs": winning, "slices": [SliceMeasurements("site", "a", 300, winning)], "train": {"rmse": 1.0}}
    assert [each.verdict for each in judged(rules, evidence(**found)).results] == ["pass"] * 5


def test_a_loss_that_one_slice_shows_is_not_enough_among_twenty() -> None:
    """The same slice, alone and among others: with many slices, one of them looks bad by chance."""
    bad = (100, 0.15, 0.09)
    alone = result(RULES["slices_no_worse"], evidence(slices=of_slices(bad)))
    among = result(RULES["slices_no_worse"], evidence(slices=of_slices(bad, *[(100, 0.05, 0.05)] * 19)))
    assert (alone.verdict, among.verdict) == ("fail", "inconclusive")


def test_a_gap_between_two_groups_is_not_enough_where_it_is_the_largest_of_many() -> None:
    two = of_slices((100, 0.05, None), (100, 0.25, None))
    more = of_slices((100, 0.05, None), (100, 0.25, None), *[(100, 0.15, None)] * 6)
    found = [result(RULES["group_gap"], evidence(slices=slices)).verdict for slices in (two, more)]
    assert found == ["fail", "inconclusive"]


@pytest.mark.parametrize(
    ("difference", "spread", "verdict"),
    [
        (0.0, 0.01, "pass"),
        (-0.01, 0.01, "inconclusive"),  # the recipe may lose 0.01 + 1.64 × 0.01
        (-0.05, 0.01, "fail"),
        (-0.01, 0.001, "pass"),  # it is certainly worse, and by less than the margin
    ],
)
def test_the_difference_of_the_recipes_decides_what_the_test_rows_leave_open(
    difference: float, spread: float, verdict: str
) -> None:
    rule = {"rule": "no_worse", "metric": "accuracy", "margin": 0.02}
    both = said(60, 0.1, 0), said(60, 0.1, 1)
    found = evidence(rows=60, pairs=compare(np.ones(60, int), *both, CLASSES, resamples=RESAMPLES))
    assert result(rule, found).verdict == "inconclusive"
    by_recipe = result(rule, found._replace(recipes=crossed(difference, spread)))
    assert (by_recipe.verdict, by_recipe.found.value) == (verdict, pytest.approx(difference))


def test_a_recipe_takes_back_no_loss_of_its_model_that_the_test_rows_prove() -> None:
    found = evidence(pairs=pairs(1000, 0.2, 0.05), recipes=crossed(0.0, 0.001))
    rule = {"rule": "no_worse", "metric": "accuracy", "margin": 0.02}
    assert result(rule, found).verdict == "fail"


def test_no_loss_at_all_in_rows_that_are_too_few_is_no_proof() -> None:
    """Two models that are wrong equally often, in other rows."""
    n = 60
    found = compare(np.ones(n, int), said(n, 0.1, 0), said(n, 0.1, 1), CLASSES, resamples=RESAMPLES)
    assert found["accuracy"].loss == 0
    assert result(RULES["no_worse"], evidence(pairs=found)).verdict == "inconclusive"


def test_one_bad_slice_is_seen_among_sixty_whatever_the_number_of_resamples() -> None:
    found = evidence(slices=of_slices((300, 0.5, 0.05), *[(300, 0.05, 0.05)] * 59))
    for name in ("slices_no_worse", "worst_slice", "group_gap"):
        one = result(RULES[name], found)
        assert one.verdict == "fail", one.why
        assert "no. 0" in one.why


def test_more_rules_about_slices_share_the_risk() -> None:
    """What fails for one rule alone does not where the risk is shared by four."""
    bad = evidence(slices=of_slices((100, 0.125, 0.08)))
    rule = RULES["slices_no_worse"]
    four = [rule, {**rule, "metric": "recall"}, {**rule, "metric": "f1"}, RULES["no_worse"]]
    p_value = bad.slices[0].pairs["accuracy"].p_value()
    assert 0.05 / 4 < p_value < 0.05
    assert judged([rule], bad).results[0].verdict == "fail"
    assert judged(four, bad).results[0].verdict == "inconclusive"


def test_the_calibration_error_of_chance_is_that_of_simulated_perfect_models() -> None:
    rng = np.random.default_rng(1)
    predicted, rows = np.array([0.1, 0.5, 0.8]), 200
    errors = [np.abs(rng.binomial(rows, predicted) / rows - predicted).mean() for _ in range(4000)]
    table = bins(*((p, p) for p in predicted), rows=rows)
    assert error_by_chance(table, 0.95) == pytest.approx(np.quantile(errors, 0.95), rel=0.08)


# waivers, deleted rules, and whose policy decides

LOSING = evidence(pairs=pairs(1000, 0.1, 0.05))
WAIVER = {"rule": "no_worse", "subject": "accuracy", "reason": "the old labels were wrong", "until": "2026-03-01"}


def test_a_waiver_sets_its_rule_aside_until_its_last_day_and_is_reported() -> None:
    found = judged([RULES["no_worse"], RULES["floor"]], LOSING, (WAIVER,))
    assert (found.verdict, found.blocks) == ("pass", False)
    one = found.results[0]
    assert (one.verdict, one.blocks) == ("fail", False)
    assert one.waiver is not None
    assert (one.waiver.reason, one.waiver.until) == ("the old labels were wrong", "2026-03-01")
    assert found.results[1].waiver is None


def test_a_waiver_that_has_expired_is_named_and_does_not_count() -> None:
    one = result(RULES["no_worse"], LOSING, {**WAIVER, "until": "2026-02-28"})
    assert (one.verdict, one.blocks, one.waiver) == ("fail", True, None)
    assert one.why.endswith("(its waiver expired on 2026-02-28)")


def test_a_renewed_waiver_counts_beside_the_expired_one() -> None:
    old = {**WAIVER, "until": "2026-02-28"}
    for waivers in ((old, WAIVER), (WAIVER, old)):
        assert not result(RULES["no_worse"], LOSING, *waivers).blocks


@pytest.mark.parametrize("other", [{"rule": "floor"}, {"subject": "recall"}, {"subject": ""}])
def test_a_waiver_of_another_rule_or_metric_does_not_count(other: dict[str, Any]) -> None:
    assert result(RULES["no_worse"], LOSING, {**WAIVER, **other}).blocks


def test_a_waiver_of_a_rule_that_holds_is_not_reported() -> None:
    assert result(RULES["no_worse"], evidence(), WAIVER).waiver is None


def test_a_waiver_covers_one_rule_and_not_the_others_that_fail() -> None:
    found = judged([RULES["no_worse"], RULES["leakage"]], LOSING._replace(leaked=3), (WAIVER,))
    assert (found.verdict, found.blocks) == ("fail", True)


def test_a_rule_that_the_change_deletes_still_decides_by_main_s_policy() -> None:
    main = Gate.model_validate({"rules": [RULES["floor"], RULES["no_worse"]]})
    change = Gate.model_validate({"rules": [RULES["floor"]]})
    lines = {("floor", "accuracy"): 41}  # those of the change's file, in which the rule is no more
    assert judge(main, LOSING, lines, TODAY).blocks
    assert not judge(change, LOSING, lines, TODAY).blocks
    assert [each.line for each in judge(main, LOSING, lines, TODAY).results] == [41, None]


def test_one_inconclusive_rule_makes_the_whole_inconclusive_and_one_failure_makes_it_fail() -> None:
    found = evidence(slices=of_slices((29, 0.5, 0.0)))
    assert judged([RULES["floor"], RULES["worst_slice"]], found).verdict == "inconclusive"
    assert judged([RULES["leakage"], RULES["worst_slice"]], found._replace(leaked=1)).verdict == "fail"


def test_long_reasons_and_names_fit_the_report() -> None:
    names = ["stage: " + "x" * 400] * 9
    one = result(RULES["lock"], evidence(moved=names))
    assert len(one.why) == 300
    assert one.verdict == "fail"


def test_rules_about_training_rows_cannot_pass_where_other_parties_hold_some() -> None:
    found = {name: result(rule, evidence(elsewhere=True)) for name, rule in RULES.items()}
    apart = {"drift", "overfitting", "leakage"}
    assert {name for name, each in found.items() if each.verdict == "inconclusive"} == apart
    assert not any(each.blocks for each in found.values())
    for name in apart:
        here = result(RULES[name], evidence())
        assert here.verdict == "pass"
        assert found[name].why == f"{name} cannot apply: other parties hold training rows; of those here, {here.why}"
        assert found[name].found == Estimate(value=None, low=None, high=None)
    # what the rows here show is enough to block
    assert result(RULES["leakage"], evidence(elsewhere=True, leaked=2)).verdict == "fail"


@pytest.mark.parametrize(
    ("again", "message"),
    [
        (
            Rebuilt("macOS arm64", "Linux x86_64", 143, 1e-12),
            "made on another platform (macOS arm64) and rebuilt here ",
        ),
        (
            Rebuilt(None, "Linux x86_64", 143, 1e-12),
            "all 143 test rows are equal within 1e-09; start the workflow relock",
        ),
        (Rebuilt("Linux x86_64", "Linux x86_64", 143, 0.0), "made on another machine (Linux x86_64)"),
        (Rebuilt("macOS arm64", "Linux x86_64", 0, 1e-6), "the recorded metrics are equal to six decimals"),
        (Rebuilt("macOS arm64", "Linux x86_64", 143, 1e-8), "train; predictions differ by up to 1e-08; run make"),
        (Rebuilt("macOS arm64", "Linux x86_64", 0, 1e-5), "not what this commit produces: train; run make"),
        (Rebuilt("macOS arm64", "Linux x86_64", 143, math.inf), "not what this commit produces: train; run make"),
        (None, "not what this commit produces: train; run make and commit what changed"),
    ],
)
def test_a_lock_of_another_platform_fails_for_that_reason_alone(again: Rebuilt | None, message: str) -> None:
    """Whatever it says and however equal it is: what ships is what the review has built."""
    one = result(RULES["lock"], evidence(moved=["train"], rebuilt=again))
    assert (one.verdict, one.blocks) == ("fail", True)
    assert message in one.why


def test_a_lock_says_what_was_not_recomputed() -> None:
    one = result({"rule": "lock", "recompute": "never"}, evidence(believed=["tune", "train"]))
    assert (one.verdict, one.why) == (
        "pass",
        "dvc.lock is what this commit produces from the author's outputs of tune and train",
    )
    assert judged([RULES["lock"]], evidence(moved=["card"], believed=["tune", "train"])).verdict == "fail"


def test_the_tolerance_of_the_lock_is_a_setting_of_the_gate() -> None:
    again = Rebuilt("macOS arm64", "Linux x86_64", 143, 1e-8)
    one = result({"rule": "lock", "within": 1e-7}, evidence(moved=["train"], rebuilt=again))
    assert "equal within 1e-07" in one.why
    assert one.blocks
