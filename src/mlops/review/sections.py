"""Sections of the comment that a report does not always have."""

from __future__ import annotations

from mlops.core.markdown import code, details, escaped, number, one_line, table
from mlops.core.report import (
    Behaviour,
    CleaningStep,
    Decisions,
    Estimate,
    Example,
    FailedTest,
    Influence,
    NotRun,
    Report,
    interval,
)

MOST_FAILED = 5
MOST_LETTERS = 60
REASONS = {"removed": "removed, main has it", "skipped": "skipped", "deselected": "not run"}


def behaviour(found: Behaviour | None) -> str:
    """Render the behaviour tests that failed, each with an example row, and those that did not run."""
    if found is None or not (found.failures or found.not_run):
        return ""
    total = found.passed + found.failures
    blocks = [f"**Behaviour: {found.passed:,} of {total:,} {'test passes' if total == 1 else 'tests pass'}**"]
    blocks += [_failed(each) for each in found.failed[:MOST_FAILED]]
    more = [_titled(each.name) for each in found.failed[MOST_FAILED:]]
    left = found.failures - len(found.failed)
    if more or left > 0:
        blocks.append("\n".join(f"- ❌ {line}" for line in [*more, *([f"{left:,} more"] if left > 0 else [])]))
    lines = [f"- ⚠️ {_titled(each.name)}: {_why(each)}" for each in found.not_run]
    if found.left_out:
        lines.append(f"- ⚠️ {found.left_out:,} more did not run")
    return "\n\n".join([*blocks, *(["\n".join(lines)] if lines else [])])


def _failed(test: FailedTest) -> str:
    text = [escaped(test.why)] if test.why else []
    if test.rows:
        text.append(f"{test.rows:,} {'row' if test.rows == 1 else 'rows'}, for example:")
    line = f"- ❌ {_titled(test.name)}: {'; '.join(text)}"
    if not test.row:
        return line
    header = [code(one_line(each.column, MOST_LETTERS)) for each in test.row]
    values = [escaped(one_line(each.value, MOST_LETTERS)) for each in test.row]
    more = f"\n\n  {test.left_out:,} more columns are left out." if test.left_out else ""
    # part of the list's item
    return f"{line}\n\n" + "\n".join(f"  {row}" for row in table(header, [values]).splitlines()) + more


def _titled(name: str) -> str:
    """``test_file.py::test_a_sentence`` as a sentence and the file."""
    file, _, test = name.partition("::")
    sentence = test.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return f"{escaped(sentence)} ({code(file)})" if sentence else code(file)


def _why(test: NotRun) -> str:
    return REASONS[test.reason] + (f": {escaped(test.why)}" if test.why else "")


def cleaning(steps: list[CleaningStep]) -> str:
    """How many rows each step of cleaning took, here and on main."""
    if not steps:
        return ""
    dropped = sum(each.rows or 0 for each in steps if each.effect.endswith("dropped"))
    rows = [[code(each.step), code(each.effect), _count(each.before), _count(each.rows)] for each in steps]
    summary = f"Cleaning: {dropped:,} {'row' if dropped == 1 else 'rows'} dropped"
    return details(summary, table(["step", "effect", "main", "this change"], rows))


def decisions(found: Decisions | None) -> str:
    """How many rows get another decision, and in which direction."""
    if found is None:
        return ""
    of = f"{found.changed:,} of {found.rows:,} test rows"
    if not found.changed:
        return f"<sub>Decisions: no test row of {found.rows:,} is predicted otherwise than on main.</sub>"
    named = _named(found.examples)
    share = f"{of} ({found.changed / max(found.rows, 1):.1%})"
    if found.median is not None and found.most is not None:
        about = (
            f"Half of the test rows move by {number(found.median)} or more, 5 % by {number(found.most)} or more. "
            f"{found.higher:,} of the changed predictions rise, {max(found.changed - found.higher, 0):,} fall."
        )
        return details(f"Decisions: {share} are predicted otherwise", about + named)
    rows = [
        [escaped(each.before), escaped(each.after), f"{each.rows:,}", f"{each.right:,}", f"{each.wrong:,}"]
        for each in found.flips
    ]
    header = ["main predicts", "this change predicts", "rows", "now right", "now wrong"]
    left = f"\n\n{found.left_out:,} more rows change between other classes." if found.left_out else ""
    right, wrong = (sum(counts) for counts in zip(*((each.right, each.wrong) for each in found.flips), strict=True))
    summary = f"Decisions: {share} change sides: {right:,} now right, {wrong:,} now wrong"
    return details(summary, table(header, rows) + left + named)


def _named(examples: list[Example]) -> str:
    """Rows by their key."""
    if not examples:
        return ""
    keys = [code(one_line(each.column, MOST_LETTERS)) for each in examples[0].key]
    rows = [
        [
            *(escaped(one_line(each.value, MOST_LETTERS)) for each in example.key),
            *(escaped(one_line(text, MOST_LETTERS)) for text in (example.before, example.after, example.actual)),
        ]
        for example in examples
        if len(example.key) == len(keys)
    ]
    return "\n\nFor example:\n\n" + table([*keys, "main predicts", "this change predicts", "observed"], rows)


def recipes(report: Report) -> str:
    """The recipes' difference, for the metrics that a rule compares."""
    found = report.recipes
    if found is None or report.policy is None:
        return ""
    if found.problem is not None:
        return f"<sub>The recipes are not cross-validated: {escaped(found.problem)}.</sub>"
    limits = {each.subject: each.limit for each in report.policy.results if each.rule == "no_worse"}
    rows = [
        [code(each.metric), interval(each.difference, signed=True), f"margin {limits[each.metric]:g}"]
        for each in found.metrics
        if limits.get(each.metric) is not None
    ]
    about = (
        f"What is fitted on main and here was cross-validated on the same {found.rows:,} training rows, in "
        f"{found.folds} folds, {found.repeats} times, and combined with the test rows. This is a statement about the "
        "recipe: the steps, the estimator and its parameters. The table of metrics is about the two models."
    )
    header = ["metric", f"difference of the recipes ({report.confidence:.0%} interval)", "limit"]
    return details("The recipes, cross-validated", f"{table(header, rows)}\n\n<sub>{about}</sub>")


def influence(found: Influence | None) -> str:
    """The columns whose share of the contributions moved."""
    if found is None:
        return ""
    if found.problem is not None:
        return f"<sub>What drives the predictions is not compared: {escaped(found.problem)}.</sub>"
    if not found.moved:
        return ""
    lines = [
        f"- {code(one_line(each.column, MOST_LETTERS))}: {_share(each.before)} → {_share(each.after)}, "
        f"{interval(_percent(each.difference), signed=True)}"
        for each in found.moved
    ]
    left = found.count - len(found.moved)
    lines += [f"- {left:,} more"] if left > 0 else []
    about = (
        f"Each column's share of all contributions (mean absolute SHAP values) on {found.rows:,} test rows: on main → "
        "here, then the difference in percentage points with its interval over rows. If one rises, others fall."
    )
    summary = f"What drives the predictions: {found.count:,} of {found.columns:,} columns moved"
    return details(summary, "\n".join(lines) + f"\n\n<sub>{about}</sub>")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _percent(found: Estimate) -> Estimate:
    numbers = {key: None if value is None else 100 * value for key, value in found.model_dump().items()}
    return Estimate(**numbers)


def _count(rows: int | None) -> str:
    return "–" if rows is None else f"{rows:,}"
