"""Derives the verdict from results and the gate, where a report's own conclusions are not trusted.

A pull request's run writes the report, so it may claim anything. Its numbers cannot be checked without running its
code, but consistency can: the rules are those of main's gate, a rule that passes has a number within
its limit, only rules with uncertainty are inconclusive, the same metric has the same value everywhere and
the direction that it has on main, and the run ended as the results say.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from mlops.core import dvcfiles, paths
from mlops.core.report import Policy, Report, Result, Verdict, shortened
from mlops.core.settings import BUILT_IN, LOWER_IS_BETTER
from mlops.review.policy import Gate
from mlops.review.rules.base import ROUNDING, Rule

MOST = 20


def overall(results: Iterable[Result]) -> Verdict:
    """The worst verdict of the results that are not waived."""
    verdicts = {result.verdict for result in results if result.waiver is None}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def derive(
    report: Report,
    gate: Gate | None,
    names: list[str],
    conclusion: str,
    today: datetime.date,
    directions: Mapping[str, bool] = MappingProxyType({}),
    *,
    windowed: bool = False,
    run: str = "",
) -> Report:
    """A report whose verdict follows from its results, from main's gate and from how its run ended.

    Parameters
    ----------
    report : Report
        As the run of the pull request wrote it.
    gate : Gate or None
        Main's; None where main has none.
    names : list of str
        Files that the pull request adds or changes.
    conclusion : str
        How GitHub says that the run ended.
    directions : mapping of str to bool
        Of the metrics of main's evaluation: whether greater is better.
    windowed : bool
        Whether main has a recent window.
    run : str
        The number of the run that wrote it.

    Returns
    -------
    Report
        `verdict` and `blocks` are derived; `doubts` lists where the report contradicts itself, main's gate or the run.
    """
    doubts = [f"DVC would load {name}, which is in an unexpected place" for name in dvcfiles.misplaced(names)]
    found = report.policy
    if not report.touched:
        if found is not None or report.problem:
            doubts.append("the report has results for a change that does not affect the model")
        verdict: Verdict = "pass"
        blocking = False
    elif found is None or report.problem:
        verdict, blocking, found = "fail", True, None
        if not report.problem:
            doubts.append("the report has no results")
    else:
        found, more = judged(found, gate, report, today, directions)
        doubts += [*more, *_of_window(report, gate, windowed)]
        if report.believed and (gate is None or gate.recomputes(report.head, run)):
            doubts.append(
                f"the run took {' and '.join(report.believed)} from the author, which main's gate does not allow"
            )
        verdict, blocking = found.verdict, found.blocks
    if conclusion == "success" and (blocking or report.blocks):
        doubts.append("the run ended as a success although its own results block the change")
    elif conclusion != "success" and not blocking:
        doubts.append(f"the run ended as {conclusion}: a job other than the review did not pass")
    if doubts:
        verdict, blocking = "fail", True
    update = {
        "policy": found,
        "verdict": verdict,
        "blocks": blocking,
        "doubts": [shortened(doubt) for doubt in doubts[:MOST]],
    }
    return report.model_copy(update=update)


def judged(
    found: Policy, gate: Gate | None, report: Report, today: datetime.date, directions: Mapping[str, bool]
) -> tuple[Policy, list[str]]:
    """The results with the verdicts that follow from them, and what contradicts them."""
    doubts = []
    rules = {} if gate is None else {(rule.rule, shortened(rule.subject)): rule for rule in gate.rules}
    reported = [(result.rule, result.subject) for result in found.results]
    if not reported:
        doubts.append("the report has no results")
    if gate is not None:
        for title, keys in (
            ("has no result for main's rule", [key for key in rules if key not in reported]),
            ("has a result for a rule that main's gate does not have:", [key for key in reported if key not in rules]),
            ("has more than one result for the rule", {key for key in reported if reported.count(key) > 1}),
        ):
            doubts += [f"the report {title} {' '.join(filter(None, key))}" for key in sorted(keys)]
    known, turned = known_directions(report, directions)
    doubts += turned
    values = {each.metric: (each.candidate, each.difference.value) for each in report.metrics}
    on_recent = report.recent.metrics if report.recent else []
    values |= {f"{each.metric}, recent": (each.candidate, each.difference.value) for each in on_recent}
    if report.recipes is not None and gate is not None and gate.cross_validation is None:
        doubts.append("the report compares recipes, which main's gate does not ask for")
    elif report.recipes is not None:
        # what decides where the recipes are compared
        of_recipes = {each.metric: each.difference.value for each in report.recipes.metrics if each.metric in values}
        values |= {name: (values[name][0], difference) for name, difference in of_recipes.items()}
    results = []
    for result in found.results:
        rule = rules.get((result.rule, result.subject))
        if rule is not None and gate is not None:
            of_numbers = [] if _cannot_apply(result, rule, report) else list(_of_numbers(result, rule, values, known))
            of_numbers = of_numbers or list(_of_evidence(result, rule, report))
            contradictions = [*of_numbers, *_of_waiver(result, gate, today)]
            named = " ".join(filter(None, [result.rule, result.subject]))
            doubts += [f"{named}: {contradiction}" for contradiction in contradictions]
            blocking = rule.blocks(result.verdict)
        else:
            blocking = result.blocks or result.verdict == "fail"
        results.append(result.model_copy(update={"blocks": blocking and result.waiver is None}))
    verdict = overall(results)
    if verdict != found.verdict:
        doubts.append(f"the report says {found.verdict!r}, its results say {verdict!r}")
    return Policy(verdict=verdict, blocks=any(result.blocks for result in results), results=results), doubts


def known_directions(report: Report, directions: Mapping[str, bool]) -> tuple[dict[str, bool], list[str]]:
    """Whether greater is better, for each metric of a report, and where the report says otherwise.

    Built-in metrics have theirs; the project's own have what main's evaluation says. A metric that main does not have
    yet has what the report says.
    """
    known = {**directions, **{name: name not in LOWER_IS_BETTER for name in BUILT_IN}}
    compared = [*report.metrics, *(each for part in report.slices for each in part.metrics)]
    compared += report.recent.metrics if report.recent else []
    said = [(each.metric, each.greater_is_better) for each in compared]
    turned = {name for name, direction in said if known.get(name, direction) != direction}
    words = {name: ("more", "less") if known[name] else ("less", "more") for name in sorted(turned)}
    doubts = [f"{name}: {main} is better on main, {here} by the report" for name, (main, here) in words.items()]
    return {**dict(said), **known}, doubts


def recorded_window() -> bool:
    """Whether the evaluation of the commit that is checked out has a recent window."""
    try:
        return "recent" in json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _of_window(report: Report, gate: Gate | None, windowed: bool) -> Iterable[str]:
    rules = {(rule.rule, shortened(rule.subject)) for rule in gate.rules if rule.recent} if gate else set()
    if not rules or report.policy is None:
        return
    if windowed and report.recent is None:
        verdicts = {each.verdict for each in report.policy.results if (each.rule, each.subject) in rules}
        if verdicts != {"fail"}:
            yield "main has a recent window, and the report has no results on one"
    for each in report.policy.results:
        unmeasured = each.verdict == "inconclusive" and each.found.value is None
        if (
            report.recent is not None
            and (each.rule, each.subject) in rules
            and unmeasured
            and not _undefined(each, report)
        ):
            yield f"{each.rule} {each.subject}: it has no number, although the report has a recent window"


def _cannot_apply(result: Result, rule: Rule, report: Report) -> bool:
    """Whether a rule without a number is about training rows that others hold, which makes no result a pass."""
    without_number = result.verdict == "inconclusive" and result.found.value is None
    return report.elsewhere and rule.of_training_rows and without_number


def _undefined(result: Result, report: Report) -> bool:
    """Whether a metric of the recent window has no number in the report's own table."""
    name = result.subject.removesuffix(", recent")
    found = [each for each in report.recent.metrics if each.metric == name] if report.recent else []
    return all(each.candidate is None or each.difference.value is None for each in found)


def recorded_directions() -> dict[str, bool]:
    """The directions of the metrics in the evaluation of the commit that is checked out."""
    try:
        found = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))["metrics"]
        return {str(name): bool(each["greater_is_better"]) for name, each in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _of_numbers(
    result: Result,
    rule: Rule,
    values: dict[str, tuple[float | None, float | None]],
    directions: Mapping[str, bool],
) -> Iterable[str]:
    if not rule.derivable:  # a rule of the team's own: only running it could tell
        return
    value, bound = result.found.value, rule.bound
    if result.limit is not None and (bound is None or not math.isclose(result.limit, bound, rel_tol=1e-9)):
        yield f"its limit is {result.limit:g}, main's gate has {'none' if bound is None else f'{bound:g}'}"
    greater_is_better = directions.get(getattr(rule, "metric", ""), True)
    yield from rule.contradictions(result.verdict, result.found, greater_is_better)
    if rule.shown_as is not None and value is not None and result.verdict == "pass":
        candidate, difference = values.get(result.subject, (None, None))
        shown = difference if rule.shown_as == "difference" else candidate
        if shown is None or abs(shown - value) > ROUNDING:
            yield f"its number is {value:g}, the metric's is {'missing' if shown is None else f'{shown:g}'}"


def _of_evidence(result: Result, rule: Rule, report: Report) -> Iterable[str]:
    found = rule.rederive(report)
    if result.verdict == "fail" or found is None:
        return
    if (result.verdict, result.found.value) != (found.verdict, found.value):
        yield f"the report shows otherwise: {found.why}"


def _of_waiver(result: Result, gate: Gate, today: datetime.date) -> Iterable[str]:
    if result.waiver is None:
        return
    for waiver in gate.waivers:
        same = (waiver.rule, shortened(waiver.subject)) == (result.rule, result.subject)
        if same and str(waiver.until) == result.waiver.until and shortened(waiver.reason) == result.waiver.reason:
            if waiver.until < today:
                yield f"its waiver expired on {waiver.until}"
            return
    yield "main's gate has no such waiver"
