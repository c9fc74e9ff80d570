"""The comment: its verdict, its order, its tables, and what stays out of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_hostile_text import Page, report_of

from mlops.core.markdown import escaped, number, table
from mlops.core.report import (
    Bars,
    Change,
    Changes,
    Chart,
    CleaningStep,
    Comparison,
    Cost,
    Decisions,
    Estimate,
    Example,
    Flip,
    Owned,
    Policy,
    Recipe,
    Recipes,
    Report,
    Result,
    Rows,
    Series,
    Served,
    Slice,
    Validation,
    Value,
    Waiver,
    Wear,
)
from mlops.core.report import Baseline as MainModel
from mlops.review.render import MOST_BYTES, bars, chart, comment, heading, interval, measured

HEAD, BASE, MD5 = "1" * 40, "2" * 40, "3" * 32
ALONE = ["@", "#", ":", "<", "&", "|", "`", "*", "_", "[", "]", "(", ")", "!", "~", "\\", "$", "{", "}", '"', "'", ">"]


def compared(metric: str, better: bool = True) -> Comparison:
    difference = Estimate(value=-0.0123, low=-0.03, high=0.004)
    return Comparison(
        metric=metric,
        greater_is_better=better,
        baseline=0.9512,
        candidate=0.9389,
        difference=difference,
        worse=0.87,
        detectable=0.02,
    )


def owned(place: str, *files: str, count: int = 0) -> Owned:
    return Owned(place=place, owners=["@acme/owners"], files=list(files), count=count or len(files))


def ruled(rule: str, subject: str, verdict: Any, **other: Any) -> Result:
    given: dict[str, Any] = {
        "rule": rule,
        "subject": subject,
        "found": Estimate(value=0.9389),
        "limit": 0.95,
        "verdict": verdict,
        "blocks": verdict == "fail",
        "why": f"{rule} of {subject}: {verdict}",
    }
    return Result(**{**given, **other})


def policy(*results: Result) -> Policy:
    verdicts = {each.verdict for each in results if each.waiver is None}
    verdict = next((each for each in ("fail", "inconclusive") if each in verdicts), "pass")
    return Policy(verdict=verdict, blocks=any(each.blocks for each in results), results=list(results))


def report(*results: Result, **other: Any) -> Report:
    judged = policy(*(results or (ruled("floor", "recall", "pass"),)))
    given: dict[str, Any] = {
        "head": HEAD,
        "base": BASE,
        "dirty": False,
        "touched": True,
        "verdict": judged.verdict,
        "blocks": judged.blocks,
        "policy": judged,
        "baseline": MainModel(commit=BASE, model_md5=MD5, origin="remote"),
        "target": "diagnosis",
        "estimator": "sklearn.linear_model.LogisticRegression",
        "rows": Rows(train=426, test=143),
        "metrics": [compared("recall"), compared("log_loss", better=False)],
        "slices": [Slice(column="radius", name="< 12", rows=36, metrics=[compared("recall"), compared("log_loss")])],
        "wear": Wear(decisions=2, budget=13),
        "changes": Changes(params=[Change(name="model.params.C", before="1.0", after="2.0")], files=["params.yaml"]),
        "validation": Validation(expectations=9, passed=8, failed=["age: at most 120 (warning)"]),
        "cost": [Cost(name="model file", unit="bytes", before=None, after=12_345.0)],
        "charts": [
            Chart(
                title="ROC curve",
                x="false positive rate",
                y="true positive rate",
                at=[0.0, 0.5, 1.0],
                series=[
                    Series(name="main", values=[0.0, 0.8, 1.0]),
                    Series(name="this change", values=[0.0, 0.9, 1.0]),
                ],
            )
        ],
        "lineage": [Change(name="model", before=MD5, after="4" * 32)],
    }
    return Report(**{**given, **other})


# the verdict


@pytest.mark.parametrize(
    ("found", "first_line"),
    [
        (report(), "## ✅ May be merged: all rules pass"),
        (report(ruled("floor", "recall", "fail")), "## ❌ Do not merge: 1 rule fails"),
        (
            report(
                ruled("floor", "recall", "fail"),
                ruled("lock", "", "fail"),
                ruled("floor", "f1", "inconclusive", blocks=True),
            ),
            "## ❌ Do not merge: 2 rules fail, 1 rule is inconclusive",
        ),
        (report(ruled("floor", "recall", "inconclusive", blocks=True)), "## ❌ Do not merge: 1 rule is inconclusive"),
        (report(ruled("no_worse", "f1", "inconclusive")), "## ⚠️ May be merged, with care: 1 rule is inconclusive"),
        (
            report(ruled("lock", "", "fail", blocks=False, waiver=Waiver(reason="a known one", until="2026-12-31"))),
            "## ✅ May be merged: all rules pass or are waived",
        ),
        (report(policy=None, verdict="fail", blocks=True, problem="it broke"), "## ❌ The review failed"),
        (report(touched=False, policy=None), "## ✅ The model is not affected"),
        # a report that contradicts itself is not good news
        (report(verdict="fail", blocks=False), "## ❌ Do not merge: "),
    ],
)
def test_the_first_line_says_whether_to_merge(found: Report, first_line: str) -> None:
    assert comment(found).splitlines()[0] == first_line


def test_what_was_judged_stands_below_the_verdict() -> None:
    message = heading(report()).splitlines()[2]
    assert message == (
        "<code>LogisticRegression</code> predicts <code>diagnosis</code> · 426 training and 143 test rows · "
        "compared with main at <code>2222222</code>"
    )
    alone = MainModel(commit=BASE, model_md5=None, origin=None, problem="main has no trained model yet")
    assert "compared" not in heading(report(baseline=alone))


def test_each_reason_is_a_sentence_with_owners_and_failures_first() -> None:
    waiver = Waiver(reason="labels are being corrected", until="2026-12-31")
    text = comment(
        report(
            ruled("floor", "a", "pass", why="holds"),
            ruled("floor", "b", "inconclusive", why="too few rows"),
            ruled("floor", "c", "fail", why="is bad"),
            ruled("floor", "d", "fail", blocks=False, waiver=waiver, why="is late"),
            problem="something else",
            dirty=True,
            wear=Wear(decisions=14, budget=13),
            owned=[owned("/Makefile", "Makefile")],
        )
    )
    reasons = [line for line in text.splitlines() if line.startswith("- ")]
    assert reasons[:7] == [
        "- <code>Makefile</code>",
        "- ❌ something else",
        "- ❌ is bad",
        "- 📝 is late (waived until 2026-12-31: labels are being corrected)",
        "- ⚠️ too few rows",
        "- ⚠️ The test rows have been used for 14 merge decisions, more than the recommended 13. Use a new test set.",
        "- ⚠️ The working tree has uncommitted changes, which a pull request would not include.",
    ]


def test_a_change_of_the_gate_shows_both_verdicts() -> None:
    kept, loosened = policy(ruled("floor", "recall", "fail")), policy(ruled("floor", "recall", "pass"))
    text = comment(report(ruled("floor", "recall", "fail"), policy=kept, proposed=loosened))
    message = "Main's gate applies: ❌ fail. With the edited ones: ✅ pass."
    assert message in text
    assert text.startswith("## ❌ Do not merge")
    assert "All rules of the edited gate: 1 of 1 pass" in text


def test_files_that_need_an_approval_come_before_everything_else_with_the_unknown_ones_first() -> None:
    places = [
        owned("*", "GNUmakefile", "json.py"),
        owned("/.github/", ".github/workflows/ci.yaml"),
        owned("/src/", *(f"src/{i}.py" for i in range(20)), count=500),
    ]
    lines = comment(report(ruled("floor", "recall", "fail"), owned=places)).splitlines()
    lines = lines[lines.index("") + 3 :]
    assert lines[0] == "🔒 **503 files need a code owner's approval:**"
    assert lines[1] == "- <code>GNUmakefile</code>, <code>json.py</code> in no known folder"
    assert lines[2] == "- <code>.github/workflows/ci.yaml</code> in <code>/.github/</code>"
    assert lines[3].endswith(" and 480 more in <code>/src/</code>")


def test_no_place_is_cut_off_however_long_the_names_are() -> None:
    places = [owned(f"/place{i}/", *(f"place{i}/{'x' * 280}{j}" for j in range(20)), count=3000) for i in range(60)]
    text = comment(report(owned=places))
    assert len(text.encode()) < MOST_BYTES
    assert all(f"in <code>/place{i}/</code>" in text for i in range(60))


def test_a_doubt_is_the_headline() -> None:
    text = comment(report(ruled("floor", "recall", "pass"), doubts=["the run ended as failure"]))
    assert text.startswith("## ❌ Do not merge: the run ended as failure")
    two = comment(report(ruled("floor", "recall", "pass"), doubts=["first", "second <b>"]))
    assert two.startswith("## ❌ Do not merge: the report is inconsistent")
    assert "- ❌ first\n- ❌ second" in two
    assert "<b>" not in two


# what is served

COMPILED = Served(runtime="onnx", precision="single", within=1e-5, size=2_600, why=None)
AS_IT_IS = Served(runtime="scikit-learn", precision="double", within=0.0, size=57_400, why="it does not convert: <b>")


def test_what_is_served_stands_below_the_cost_with_what_main_serves() -> None:
    text = comment(report(served=COMPILED, served_before=COMPILED))
    assert "<summary>Cost and serving: ONNX Runtime</summary>" in text
    assert "Served by ONNX Runtime in single precision; predictions equal within 1e-05, as on main." in text
    assert "| served file | 3 kB | 3 kB |" in text
    assert "📦" not in text
    first = comment(report(served=COMPILED))
    assert "predictions equal within 1e-05.\n" in first
    assert "| served file | – | 3 kB |" in first
    assert "Served by" not in comment(report())


def test_another_form_of_the_model_is_a_reason_to_look() -> None:
    slower = comment(report(served=AS_IT_IS, served_before=COMPILED))
    line = "- 📦 The model is now served by scikit-learn instead of ONNX Runtime: "
    assert f"{line}it does not convert&#58;&#8288; &#60;b&#62;" in slower.splitlines()
    assert "Served by scikit-learn, because it does not convert" in slower
    assert "On main: ONNX Runtime in single precision; predictions equal within 1e-05." in slower
    faster = comment(report(served=COMPILED, served_before=AS_IT_IS))
    assert "- 📦 The model is now served by ONNX Runtime instead of scikit-learn" in faster.splitlines()
    other = COMPILED.model_copy(update={"precision": "double", "within": 1e-12})
    exact = comment(report(served=other, served_before=COMPILED))
    assert "📦" not in exact
    assert "in double precision; predictions equal within 1e-12. On main: ONNX Runtime in single precision" in exact


# order and tables

ORDER = [
    r"^## ",
    r"^- ❌ ",
    r"^\| metric \|",
    r"^```mermaid",
    r"<summary>All rules of the gate",
    r"<summary>What changed: 1 parameter, 1 file",
    r"<summary>Slices: 1<",
    r"<summary>Data validation: 8 of 9 expectations pass",
    r"<summary>Cost<",
    r"<summary>Lineage and how to reproduce<",
]


def test_the_parts_stand_in_the_order_in_which_a_reviewer_asks() -> None:
    text = comment(report(ruled("floor", "recall", "fail")), run_url="https://example.org/runs/1")
    places = []
    for part in ORDER:
        found = re.search(part, text, re.MULTILINE)
        assert found, part
        places.append(found.start())
    assert places == sorted(places)
    commands = "git fetch origin\ngit switch --detach " + HEAD + "\nmake review BASE=" + BASE
    assert commands in text
    assert "[The run's artifact](https://example.org/runs/1#artifacts)" in text


def test_a_metric_stands_between_its_verdict_and_its_limits() -> None:
    text = comment(
        report(ruled("floor", "recall", "pass", limit=0.85), ruled("no_worse", "recall", "fail", limit=0.01))
    )
    row = next(line for line in text.splitlines() if line.startswith("| ❌&nbsp;<code>recall"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["0.9512 → 0.9389", "−0.0123 (−0.03 … +0.004)", "87%", "≥ 0.85, margin 0.01"]
    assert "<sub>Lower is better: <code>log&#95;loss</code></sub>" in text


@pytest.mark.parametrize(
    ("worse", "shown"), [(0.0, "&lt;1%"), (0.01, "1%"), (0.99, "99%"), (1.0, "&gt;99%"), (None, "")]
)
def test_resampling_never_shows_a_probability_of_none_or_all(worse: float | None, shown: str) -> None:
    found = report()
    first = found.metrics[0].model_copy(update={"worse": worse})
    text = comment(found.model_copy(update={"metrics": [first]}))
    row = next(line for line in text.splitlines() if line.startswith("|") and f"<code>{first.metric}" in line)
    assert row.strip("|").split("|")[3].strip() == shown


def test_every_table_has_a_header_in_each_column_and_rows_of_its_width() -> None:
    text = comment(report(ruled("floor", "recall", "fail"), proposed=policy(ruled("lock", "", "pass"))))
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert len(tables) >= 7
    for found in tables:
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found.splitlines()]
        assert all(rows[0]), found
        assert {len(row) for row in rows} == {len(rows[0])}
    page = Page(text)
    assert page.outline.count("table") == len(tables)


def test_each_part_that_opens_says_in_words_what_is_in_it() -> None:
    summaries = re.findall(r"<summary>(.*)</summary>", comment(report()))
    assert len(summaries) == 7
    assert all(re.match(r"\w", summary) and "<" not in summary for summary in summaries)


def test_what_is_empty_is_left_out() -> None:
    empty: dict[str, Any] = {"metrics": [], "slices": [], "charts": [], "cost": [], "validation": None, "lineage": []}
    text = comment(report(**empty, changes=Changes(), wear=None, baseline=None, rows=None))
    assert "| metric" not in text
    assert "mermaid" not in text
    assert "<summary>What changed: nothing</summary>" in text
    assert "Slices" not in text
    assert "\n\n\n" not in text


def test_lists_that_were_cut_say_how_much_is_missing() -> None:
    assert "And 1,234 more." in comment(report(changes=Changes(files=["a"], left_out=1234)))


def test_counts_of_one_and_many_are_reported_in_words() -> None:
    change = Change(name="numpy", before="1", after="2")
    assert "What changed: 2 parameters, 1 dependency" in comment(
        report(changes=Changes(params=[change, change], dependencies=[change]))
    )
    assert "What changed: 2 dependencies, data, 2 files" in comment(
        report(changes=Changes(dependencies=[change, change], data=[change], files=["a", "b"]))
    )


# charts


def drawn(*lines: list[float], at: list[float] | None = None) -> Chart:
    places = at or [float(i) for i in range(len(lines[0]))]
    series = [Series(name=f"line {i}", values=list(line)) for i, line in enumerate(lines)]
    return Chart(title="a title", x="x", y="y", at=places, series=series)


def test_a_chart_has_its_numbers_in_a_table_below() -> None:
    text = chart(drawn([0.0, 0.25], [0.5, 1.0]))
    assert '    y-axis "y" 0.0000 --> 1.0000\n    line [0.0000, 0.2500]\n    line [0.5000, 1.0000]\n```' in text
    assert "Grey: main. Orange: this change." in text
    assert "| x | line 0 | line 1 |\n| --- | --- | --- |\n| 0 | 0 | 0.5 |\n| 1 | 0.25 | 1 |" in text
    assert "Orange: this change." in chart(drawn([0.0, 1.0]))
    assert "Grey" not in chart(drawn([0.0, 1.0]))


@pytest.mark.parametrize(
    "lines",
    [
        [[0.5, 0.5]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[1e-6, 3e-6], [2e-6, 5e-6]],
        [[0.0, 1e-300]],
        [[-1e308, 1e308]],
        [[1e15, 1e15]],
        [[-0.00001, 0.00001]],
    ],
)
def test_an_axis_has_an_extent_and_numbers_that_mermaid_reads(lines: list[list[float]]) -> None:
    text = chart(drawn(*lines))
    low, high = re.search(r'y-axis "y" (-?\d+\.\d+) --> (-?\d+\.\d+)\n', text).groups()  # type: ignore[union-attr]
    assert float(low) < float(high)
    assert len(re.findall(r"line \[-?\d+\.\d+, -?\d+\.\d+\]", text)) == len(lines)


def test_small_values_do_not_become_a_flat_line() -> None:
    assert "line [0.000001000, 0.000003000]" in chart(drawn([1e-6, 3e-6]))


@pytest.mark.parametrize("lines", [[[]], [[1.0]], [[1.0, 2.0]] * 3])
def test_what_is_no_line_is_not_drawn(lines: list[list[float]]) -> None:
    assert chart(drawn(*lines)) == ""


@pytest.mark.parametrize("text", ['a" --> x', "%%{init: {}}%%", "```", "a\\nb", "x-axis [a, b]", "a; click b"])
def test_a_title_cannot_leave_its_quotes(text: str) -> None:
    found = chart(drawn([0.0, 1.0]).model_copy(update={"title": text, "x": text, "y": text}))
    message = found.split("```")[1].splitlines()[3:6]
    for line, word in zip(message, ("title", "x-axis", "y-axis"), strict=True):
        assert re.fullmatch(rf'    {word} "[\w .,%]*"( [-\d.]+ --> [-\d.]+)?', line), line


# text


@pytest.mark.parametrize("letter", ALONE)
def test_a_letter_that_means_something_is_written_as_an_entity(letter: str) -> None:
    message = escaped(f"x{letter}y").replace("<span>", "")  # which a dollar sign has around it
    assert message.startswith(f"x&#{ord(letter)};")


@pytest.mark.parametrize(
    "text", ["- x", "---", "1. x", "1) x", "===", "-", "    code", "+ x", "* x", "# x", "> x", "12345678. x", "\\- x"]
)
def test_text_begins_no_list_no_rule_and_no_code(text: str) -> None:
    for where in ("validation", "why", "problem"):
        failing = ruled("floor", "recall", "fail", **({"why": text} if where == "why" else {}))
        other: dict[str, Any] = {"problem": text} if where == "problem" else {}
        if where == "validation":
            other = {"validation": Validation(expectations=1, passed=0, failed=[text])}
        page = Page(comment(report(failing, **other)))
        other = {name: "x" if name == "problem" else value for name, value in other.items()}
        if where == "validation":
            other = {"validation": Validation(expectations=1, passed=0, failed=["x"])}
        same = Page(comment(report(failing.model_copy(update={"why": "x"}), **other)))
        assert page.outline == same.outline, where


def test_a_commit_is_no_link_in_a_sentence_and_whole_in_a_table() -> None:
    text = comment(report(ruled("lock", "", "fail", why=f"see {HEAD} and a1b2c3d"), lineage=[]))
    sentence = next(line for line in text.splitlines() if line.startswith("- ❌"))
    assert not re.search(r"\b[0-9a-f]{7,40}\b", sentence.replace("&#8288;", "\u2060"))
    assert f"<code>{MD5}</code>" in comment(report())


def test_letters_of_any_language_stay_as_they_are() -> None:
    for text in ("Größe in cm", "年齢", "גיל", "naïve – 3 × 4 ≤ 12 €", "🙂"):
        assert escaped(text) == text


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        (None, "", "–"),
        (12_345.0, "bytes", "12 kB"),
        (12_345_678.0, "bytes", "12.3 MB"),
        (3.14159, "ms", "3.14 ms"),
        (0.93891, "", "0.9389"),
        (1_234_567.8, "", "1,234,568"),
    ],
)
def test_numbers_are_reported_with_their_unit(value: float | None, unit: str, message: str) -> None:
    assert measured(value, unit) == message


def test_differences_are_reported_with_their_sign_and_none_as_none() -> None:
    assert interval(Estimate(value=0.01, low=-0.02, high=0.03), signed=True) == "+0.01 (−0.02 … +0.03)"
    assert interval(Estimate(value=0.0, low=0.0, high=0.0), signed=True) == "none"
    assert interval(Estimate(value=0.0, low=-0.1, high=None), signed=True) == "0 (−0.1 … –)"
    assert interval(Estimate(value=None)) == "–"
    assert number(None) == "–"
    assert table(["a"], [["b"]]) == "| a |\n| --- |\n| b |"


def test_bars_have_names_and_their_numbers_in_a_table_below() -> None:
    text = bars(Bars(title="accuracy by sex", y="accuracy", names=["f", "m"], main=[0.5, 0.75], here=[0.625, 0.25]))
    assert 'xychart-beta horizontal\n    title "accuracy by sex"\n    x-axis ["f", ".", "m", ".."]\n' in text
    first, second = re.findall(r"bar \[(.*)\]", text)
    # a bar of one model has no length where the other's is drawn
    assert [float(value) for value in first.split(", ")] == [0.5, -0.075, 0.75, -0.075]
    assert [float(value) for value in second.split(", ")] == [-0.075, 0.625, -0.075, 0.25]
    assert "|  | main | this change |\n| --- | --- | --- |\n| f | 0.5 | 0.625 |\n| m | 0.75 | 0.25 |" in text
    alone = bars(Bars(title="t", y="y", names=["a-b", "a b", "<"], here=[1.0, 1.0, 1.0]))
    assert 'x-axis ["a b", "a b .", "empty"]' in alone
    assert "Grey" not in alone


# decisions


def test_decisions_are_shown_by_direction() -> None:
    assert "Decisions" not in comment(report())
    flip = Flip(before="benign", after="malignant", rows=3, right=2, wrong=1)
    example = Example(key=[Value(column="id", value="Ada")], before="benign", after="malignant", actual="benign")
    text = comment(report(decisions=Decisions(rows=143, changed=3, flips=[flip], examples=[example])))
    assert "<summary>Decisions: 3 of 143 test rows (2.1%) change sides: 2 now right, 1 now wrong</summary>" in text
    assert "| benign | malignant | 3 | 2 | 1 |" in text
    assert "| <code>id</code> | main predicts | this change predicts | observed |\n" in text
    assert "\n| Ada | benign | malignant | benign |" in text
    numbers = Decisions(rows=10, changed=8, median=0.5, most=2.25, higher=5)
    text = comment(report(decisions=numbers))
    assert "8 of 10 test rows (80.0%) are predicted otherwise" in text
    assert (
        "Half of the test rows move by 0.5 or more, 5 % by 2.25 or more. 5 of the changed predictions rise, 3 fall."
        in text
    )
    assert "no test row of 10 is predicted otherwise" in comment(report(decisions=Decisions(rows=10, changed=0)))


# size


def test_a_part_that_is_too_long_is_left_out_and_the_others_stay() -> None:
    many = [Slice(column="x" * 300, name="|" * 300, rows=1, metrics=[compared("recall")])] * 60
    text = comment(report(ruled("floor", "recall", "fail"), slices=many))
    assert len(text.encode()) < MOST_BYTES
    assert "<summary>Slices" not in text
    assert "<summary>Cost" in text
    assert HEAD in text
    assert text.endswith("*Some sections are too long for a comment. The run's artifact holds them.*\n")
    assert "too long" not in comment(report())


@pytest.mark.parametrize("letter", ["@", "🙂", "|", "x"])
def test_the_largest_report_of_the_schema_keeps_its_verdict_and_its_size(letter: str) -> None:
    text = comment(report_of(letter * 300, items=60))
    assert len(text.encode()) < MOST_BYTES
    assert text.startswith("## ❌")
    assert Page(text).open == []


@pytest.mark.parametrize(
    ("low", "high", "greater", "shown"),
    [(0.01, 0.05, True, True), (0.0, 0.05, True, False), (-0.05, -0.01, False, True), (-0.05, 0.01, False, False)],
)
def test_what_got_better_beyond_chance_is_reported(low: float, high: float, greater: bool, shown: bool) -> None:
    found = Comparison(
        metric="m",
        greater_is_better=greater,
        baseline=0.5,
        candidate=0.5,
        difference=Estimate(value=(low + high) / 2, low=low, high=high),
        worse=0.1,
        detectable=0.1,
    )
    text = comment(report(ruled("floor", "m", "pass")).model_copy(update={"metrics": [found]}))
    assert ("Significantly better than main: <code>m</code>" in text) == shown


def test_the_comment_says_what_each_step_of_cleaning_took_here_and_on_main() -> None:
    steps = [
        CleaningStep(step="age outside 0 to 120", effect="rows dropped", rows=1_234, before=7),
        CleaningStep(step="height above 3", effect="values clipped, in the service too", rows=5, before=None),
    ]
    shown = comment(report(cleaning=steps))
    assert "Cleaning: 1,234 rows dropped" in shown
    assert "| <code>age outside 0 to 120</code> | <code>rows dropped</code> | 7 | 1,234 |" in shown
    assert "| <code>values clipped, in the service too</code> | – | 5 |" in shown
    assert "Cleaning" not in comment(report())


def test_a_lock_that_fails_leads_to_relock_of_the_repository_of_its_run() -> None:
    failed = report(ruled("lock", "", "fail"), ruled("floor", "recall", "fail"))
    link = "([start relock](https://github.com/ada/models/actions/workflows/relock.yaml))"
    text = comment(failed, run_url="https://github.com/ada/models/actions/runs/12")
    (line,) = [line for line in text.splitlines() if link in line]
    assert line.startswith("- ❌ lock")
    assert "relock.yaml" not in comment(failed)
    assert "relock.yaml" not in comment(failed, run_url="https://gitlab.com/ada/models/-/pipelines/12")
    passed = report(ruled("lock", "", "pass"), ruled("floor", "recall", "fail"))
    assert "relock.yaml" not in comment(passed, run_url="https://github.com/ada/models/actions/runs/12")


def test_the_lineage_says_where_main_s_model_comes_from_and_whether_its_hash_was_checked() -> None:
    assert "comes from the DVC remote and matches the hash" in comment(report())
    rebuilt = MainModel(commit=BASE, model_md5=MD5, origin="another platform")
    text = comment(report(baseline=rebuilt))
    assert "Main's model was rebuilt on another platform than main's: its hash is not the one" in text
    assert "matches the hash" not in text


def test_what_the_review_believed_is_a_reason_to_look_and_part_of_the_lineage() -> None:
    text = comment(report(ruled("lock", "", "pass")))
    assert "This review ran every stage that the change affects." in text
    text = comment(report(ruled("lock", "", "pass"), believed=["tune", "train"]))
    both = "<code>tune</code> and <code>train</code>"
    assert f"- ✍️ Not recomputed, but taken from the author: {both}" in text
    assert f"**The outputs of {both} are the author's**, as main's gate allows." in text


def test_the_recipes_are_shown_for_the_metrics_that_a_rule_compares() -> None:
    recipes = Recipes(
        rows=426,
        folds=5,
        repeats=4,
        metrics=[
            Recipe(metric=name, difference=Estimate(value=-0.001, low=-0.004, high=0.002)) for name in ("recall", "f1")
        ],
    )
    rule = Result(
        rule="no_worse",
        subject="recall",
        found=Estimate(value=-0.01, low=-0.03, high=0.01),
        limit=0.02,
        verdict="pass",
        blocks=False,
        why="recall has not dropped",
    )
    policy = Policy(verdict="pass", blocks=False, results=[rule])
    report = Report(
        head=HEAD, base=BASE, dirty=False, touched=True, verdict="pass", blocks=False, policy=policy, recipes=recipes
    )
    text = comment(report)
    assert "cross-validated on the same 426 training rows, in 5 folds, 4 times" in text
    shown = next(part for part in text.split("<details>") if "The recipes" in part)
    assert "| <code>recall</code> | −0.001 (−0.004 … +0.002) | margin 0.02 |" in shown
    assert "f1" not in shown
    why = report.model_copy(update={"recipes": Recipes(rows=0, folds=0, repeats=0, problem="the split is by time")})
    assert "The recipes are not cross-validated: the split is by time." in comment(why)
