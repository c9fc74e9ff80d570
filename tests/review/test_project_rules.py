"""Rules of the team's own: what they see, which parameters they take, and how each mistake in them fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import ROOT
from review.test_gate import TODAY, evidence, of_slices, pairs

from mlops.core.errors import UserError
from mlops.core.report import Result
from mlops.model.metrics import Classes, Predictions
from mlops.review import policy, rule_call
from mlops.review.gate import Judged, Measurements, judge
from mlops.review.policy import Gate
from mlops.review.project_rules import Code

ILL, WELL = "malignant", "benign"
CLASSES = Classes(np.array([WELL, ILL]), 1)
N = 100


def predicted(missed: list[int]) -> Predictions:
    """Predictions of rows that are all ill, of which some are missed."""
    labels = np.full(N, ILL, dtype=object)
    labels[missed] = WELL
    positive = np.where(labels == ILL, 0.9, 0.1)
    return Predictions(labels, np.column_stack([1 - positive, positive]))


def found(here: list[int], main: list[int] | None, **other: Any) -> Measurements:
    """Evidence of two models that miss these rows."""
    table = pa.table({"site": ["a", None] * (N // 2), "radius": np.arange(N) / 10})
    judged = Judged(
        table, np.full(N, ILL, dtype=object), predicted(here), None if main is None else predicted(main), CLASSES, ILL
    )
    return evidence(**{"judged": judged, "rows": N, **other})


def result(row: dict[str, Any], seen: Measurements, code: Code = Code()) -> Result:  # noqa: B008  immutable
    return judge(Gate.model_validate({"rules": [row]}), seen, {}, TODAY, code).results[0]


def written(folder: Path, text: str, name: str = "rules") -> Code:
    """A room of the team with this module."""
    (folder / "project").mkdir(exist_ok=True)
    (folder / "project/__init__.py").touch()
    (folder / f"project/{name}.py").write_text(text, encoding="utf-8")
    return Code(folder)


def body(lines: str, parameters: str = "") -> str:
    indented = "\n    ".join(lines.splitlines())
    return (
        "from mlops import Evidence, failed, inconclusive, passed, rule\n\n\n"
        f"@rule\ndef mine(evidence: Evidence{parameters}):\n    {indented}\n"
    )


# -- the rule that ships


@pytest.mark.parametrize(
    ("here", "main", "verdict", "reason"),
    [
        ([1, 2], [1, 2], "pass", "2 of 100 malignant cases missed, 2 by main's model"),
        ([1], [1, 2], "pass", "1 of 100 malignant cases missed, 2 by main's model"),
        (
            [1, 2, 3],
            [1, 2],
            "inconclusive",
            "3 of 100 malignant cases missed, 2 by main's model; the rise may be chance",
        ),
        (list(range(9)), [1, 2], "fail", "9 of 100 malignant cases missed, 2 by main's model; the rise is significant"),
    ],
    ids=["none more", "fewer", "one more", "seven more"],
)
def test_cases_that_are_missed_must_not_rise_beyond_chance(
    here: list[int], main: list[int], verdict: str, reason: str
) -> None:
    one = result({"rule": "project.missed_cases"}, found(here, main))
    assert (one.verdict, one.why, one.blocks) == (verdict, reason, verdict == "fail")
    assert (one.found.value, one.limit) == (len(here), len(main))


def test_an_inconclusive_rule_of_the_team_blocks_where_its_row_says_so() -> None:
    row = {"rule": "project.missed_cases", "inconclusive": "block"}
    assert result(row, found([1, 2, 3], [1, 2])).blocks
    stricter = {"rule": "project.missed_cases", "alpha": 0.5}
    assert result(stricter, found([1, 2, 3], [1, 2])).verdict == "fail"


def test_the_first_model_and_a_table_without_positive_cases_are_no_pass() -> None:
    first = found([1], None, baseline_problem="main has no trained model yet", first=True)
    one = result({"rule": "project.missed_cases"}, first)
    assert (one.verdict, one.why) == ("inconclusive", "1 of 100 malignant cases missed; main has no trained model yet")
    judged = found([1], [1]).judged
    assert judged is not None
    none = result({"rule": "project.missed_cases"}, found([], [], judged=judged._replace(positive=None)))
    assert (none.verdict, none.blocks) == ("fail", True)
    assert "set data.positive" in none.why


# -- what a rule sees


def test_a_rule_sees_what_the_review_has_measured(tmp_path: Path) -> None:
    code = written(
        tmp_path,
        body(
            """
recall = evidence.metrics["accuracy"]
assert recall.greater_is_better and recall.candidate.low < recall.candidate.value == 0.9 < recall.candidate.high
assert recall.main.value == 0.95 and round(recall.difference.value, 9) == -0.05
assert [(each.column, each.name, each.rows) for each in evidence.slices] == [("site", "no. 0", 30)]
assert evidence.slices[0].metrics["accuracy"].candidate.value == 0.9
assert evidence.train_metrics == {"accuracy": 0.96}
assert (evidence.y_true == evidence.positive).sum() == evidence.rows == 100
assert (evidence.y_pred == "benign").sum() == 2 and (evidence.y_pred_main == "benign").sum() == 1
assert evidence.y_prob.shape == evidence.y_prob_main.shape == (100, 2) and evidence.classes == ("benign", "malignant")
assert evidence.columns["radius"].max() == 9.9 and evidence.columns["site"][1] is None
assert evidence.calibration_error == 0 and evidence.drift["age"] == 0.05 and evidence.validation["passed"] == 9
assert (evidence.leaked, evidence.model_bytes, evidence.latency_ms) == (0, 2_000_000, 3.0)
assert evidence.main_problem is None and evidence.confidence == 0.95
return passed("all is there")
""".strip()
        ),
    )
    seen = found([1, 2], [1], pairs=pairs(100, 0.1, 0.05), slices=of_slices((30, 0.1, 0.1)))
    one = result({"rule": "project.mine"}, seen, code)
    assert (one.verdict, one.why) == ("pass", "all is there")


def test_a_rule_imports_what_else_is_in_its_room_and_prints_to_the_log(tmp_path: Path) -> None:
    written(tmp_path, "LIMIT = 0.25\n", "limits")
    text = body("print('thinking')\nreturn failed('too much', value=0.5, limit=LIMIT)")
    code = written(tmp_path, f"from project.limits import LIMIT\n{text}")
    one = result({"rule": "project.mine"}, found([], []), code)
    assert (one.verdict, one.why, one.found.value, one.limit) == ("fail", "too much", 0.5, 0.25)


def test_where_main_has_no_rules_the_reason_says_whose_were_used() -> None:
    one = result({"rule": "project.missed_cases"}, found([1], [1]), Code(note="judged by this change's own rules"))
    assert one.why.endswith("1 by main's model (judged by this change's own rules)")


# -- mistakes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            body("return 1 / 0"),
            "project.mine raised ZeroDivisionError: division by zero (src/project/rules.py, line 6)",
        ),
        (body("return True"), "project.mine returned True; it must return passed(…), failed(…) or inconclusive(…)"),
        (body("pass"), "project.mine returned None; it must return passed(…), failed(…) or inconclusive(…)"),
        (
            body("return passed('')"),
            "project.mine raised TypeError: the reason of a verdict must be a sentence, got '' "
            "(src/project/rules.py, line 6)",
        ),
        (
            body("return passed('fine', value='high')"),
            "project.mine raised TypeError: the value of a verdict must be a number, got 'high' "
            "(src/project/rules.py, line 6)",
        ),
        (body("import sys\nsys.exit(3)"), "project.mine ended with exit code 3 and without a verdict"),
        (body("import os\nos._exit(0)"), "project.mine ended without a verdict"),
        (body("return passed('fine')", ", limit: float"), "project.mine needs the parameter 'limit'"),
        ("def mine(evidence:\n", "src/project/rules.py, line 1: SyntaxError: '(' was never closed"),
        ("import nothing_of_that_name\n", "src/project/rules.py, line 1: ModuleNotFoundError: No module named"),
        ("", "src/project/rules.py defines no rule 'mine'"),
        (body("return passed('fine')").replace("@rule\n", ""), "src/project/rules.py defines no rule 'mine'"),
    ],
    ids=[
        "raises",
        "returns a boolean",
        "returns nothing",
        "no reason",
        "no number",
        "exits",
        "ends the process",
        "lacks a parameter",
        "does not parse",
        "imports what is not there",
        "is not there",
        "is not declared",
    ],
)
def test_a_mistake_in_a_rule_blocks_and_says_which(tmp_path: Path, text: str, reason: str) -> None:
    one = result({"rule": "project.mine"}, found([], []), written(tmp_path, text))
    assert (one.verdict, one.blocks) == ("fail", True)
    assert one.why.startswith(reason)


def test_a_rule_that_takes_too_long_blocks(tmp_path: Path) -> None:
    code = written(tmp_path, body("import time\ntime.sleep(600)\nreturn passed('late')"))
    one = result({"rule": "project.mine"}, found([], []), code._replace(seconds=2))
    assert (one.verdict, one.blocks, one.why) == ("fail", True, "project.mine took longer than 2 s")


def test_a_number_that_is_none_is_left_out_and_a_long_reason_is_cut(tmp_path: Path) -> None:
    code = written(tmp_path, body("return passed('x\\n' * 400, value=float('nan'), limit=float('inf'))"))
    one = result({"rule": "project.mine"}, found([], []), code)
    assert (one.verdict, one.found.value, one.limit) == ("pass", None, None)
    assert len(one.why) <= 300


# -- parameters


def declared(parameters: str) -> Any:
    scope: dict[str, Any] = {}
    exec(f"from typing import Literal\ndef mine(evidence, {parameters}): ...", scope)  # noqa: S102
    return scope["mine"]


def test_parameters_are_checked_and_converted_by_the_annotations_of_the_function() -> None:
    function = declared("limit: float, sites: list[str] = ['a'], *, side: Literal['low', 'high'] = 'low', copy=None")
    assert rule_call.arguments(function, {"limit": 1}) == {"limit": 1.0, "sites": ["a"], "side": "low", "copy": None}
    given = {"limit": 0.5, "sites": ["b"], "side": "high", "copy": {"x": 1}}
    assert rule_call.arguments(function, given) == given
    assert rule_call.arguments(declared("**more"), {"a": 1, "b": [2]}) == {"a": 1, "b": [2]}


@pytest.mark.parametrize(
    ("parameters", "given", "problem"),
    [
        ("limit: float", {"limt": 1, "limit": 1}, "project.mine has no parameter 'limt'; did you mean 'limit'?"),
        ("", {"limit": 1}, "project.mine has no parameter 'limit'; it has none"),
        ("limit: float", {}, "project.mine needs the parameter 'limit'"),
        (
            "limit: float",
            {"limit": "much"},
            'project.mine: limit: input should be a valid number, unable to parse string as a number, got "much"',
        ),
        ("side: Literal['low']", {"side": "up"}, "project.mine: side: input should be 'low', got \"up\""),
        (
            "rule: str",
            {},
            "project.mine: a parameter cannot be called 'rule', which is a key of every row",
        ),
        ("limit: 'Nothing'", {"limit": 1}, "project.mine: an annotation cannot be resolved: name 'Nothing' is not"),
    ],
    ids=["unknown", "none known", "missing", "another type", "another value", "reserved", "unknown annotation"],
)
def test_a_parameter_that_does_not_fit_is_named(parameters: str, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as error:
        rule_call.arguments(declared(parameters), given)
    assert str(error.value).startswith(problem)


def test_a_function_without_arguments_is_no_rule() -> None:
    with pytest.raises(UserError, match=r"^project\.<lambda> must take the evidence as its first argument"):
        rule_call.arguments(lambda: None, {})


def test_make_check_names_the_row_and_line_of_each_mistake(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(
        "rules:\n  - {rule: lock}\n  - {rule: project.missed_cases, alpha: lots}\n  - {rule: project.missed_casess}\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError) as error:
        rule_call.check(policy.load(path).rules, path)
    assert str(error.value).splitlines() == [
        f"{path}: rules.1 (line 3): project.missed_cases: alpha: input should be a valid number, unable to parse "
        'string as a number, got "lots"',
        f"{path}: rules.2 (line 4): src/project/rules.py defines no rule 'missed_casess'; did you mean 'missed_cases'?",
    ]
    rule_call.check(policy.load(ROOT / "gate.yaml").rules, ROOT / "gate.yaml")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{rule: project.}", "rules.0.rule: string should match pattern"),
        ("{rule: project.a.b}", "rules.0.rule: string should match pattern"),
        ("{rule: project.mine, inconclusive: pass}", "rules.0.inconclusive must be 'block' or 'warn', got \"pass\""),
        ("{rule: project.mine, limit: 1}, {rule: project.mine, limit: 2}", "the rule project.mine appears twice"),
    ],
)
def test_a_row_must_name_one_function_once(tmp_path: Path, row: str, problem: str) -> None:
    (tmp_path / "gate.yaml").write_text(f"rules: [{row}]", encoding="utf-8")
    with pytest.raises(UserError) as error:
        policy.load(tmp_path / "gate.yaml")
    assert problem in str(error.value)


def test_rows_about_several_metrics_or_columns_stand_beside_each_other() -> None:
    rows = [{"rule": "project.mine", "metric": "recall"}, {"rule": "project.mine", "column": "site"}]
    assert [rule.subject for rule in Gate.model_validate({"rules": rows}).rules] == ["recall", "site"]


def test_what_posts_the_comment_reads_the_gate_and_derives_the_verdict_without_numpy() -> None:
    script = (
        "import sys\n"
        "for name in ('numpy', 'pandas', 'pyarrow', 'scipy', 'sklearn', 'project'): sys.modules[name] = None\n"
        "import mlops.review.publish, mlops.review.verdict\n"
        "from mlops.review import policy\n"
        "print([rule.bound for rule in policy.load().rules][:2])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[0.85, 0.95]\n"), done.stderr
