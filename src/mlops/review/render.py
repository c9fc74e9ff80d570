"""The comment: a report as Markdown for GitHub, with every text escaped.

A job with a write token renders the report of a job without one. So texts of the report stay text: they cannot add
markup, mentions, links or charts.
"""

from __future__ import annotations

from mlops.core import mermaid
from mlops.core.markdown import code, details, escaped, number, one_line, table
from mlops.core.report import (
    CATCH_ALL,
    Bars,
    Change,
    Chart,
    Comparison,
    Owned,
    Policy,
    Report,
    Result,
    Served,
    Slice,
    Verdict,
    interval,
    shortened,
)
from mlops.review import sections
from mlops.review.replay_section import replayed

# GitHub takes 65,536 characters
MOST_BYTES = 60_000
# of names of files that need an approval; the others are only counted
MOST_NAMED = 12_000
MOST_PLACE = 40  # characters of a pattern
MARKS: dict[Verdict, str] = {"pass": "✅ pass", "fail": "❌ fail", "inconclusive": "⚠️ inconclusive"}
COLOURS = [mermaid.MAIN_COLOUR, mermaid.HERE_COLOUR]
RUNTIMES = {"onnx": "ONNX Runtime", "scikit-learn": "scikit-learn"}


def comment(report: Report, *, run_url: str | None = None) -> str:
    """Render a report.

    Parameters
    ----------
    report : Report
    run_url : str, optional
        Address of the run, whose artifact holds the full plots and the profile page. From a trusted source.

    Returns
    -------
    str
        GitHub's Markdown, shorter than GitHub's limit.
    """
    parts = [heading(report), approvals(report), reasons(report, run_url), sections.behaviour(report.behaviour)]
    if report.policy is not None:
        parts += [
            metric_table(report),
            recent_table(report),
            sections.recipes(report),
            *charts(report),
            rule_table(report),
        ]
    parts.append(replayed(report.replayed))
    parts += [
        sections.decisions(report.decisions),
        what_changed(report),
        sections.influence(report.influence),
        slice_tables(report),
        validation(report),
        sections.cleaning(report.cleaning),
    ]
    parts += [costs(report), lineage(report, run_url)]
    text = ""
    cut = False
    for part in filter(None, parts):
        if len((text + part).encode()) > MOST_BYTES - 300:
            cut = True
        else:
            text += ("\n\n" if text else "") + part
    note = "\n\n*Some sections are too long for a comment. The run's artifact holds them.*" if cut else ""
    return f"{text}{note}\n"


def no_review(head: str, reason: str, *, run_url: str) -> str:
    """Render the comment for a commit that has no usable report; it replaces an earlier one."""
    return (
        f"## ❌ No review for this commit\n\n"
        f"{code(head[:10])} has no usable report and must not be merged:  {escaped(reason)}\n\n"
        f"See the log of [its run]({run_url}).\n"
    )


def heading(report: Report) -> str:
    """Render the verdict, and below it the model, the rows and the baseline."""
    if report.doubts:
        one = escaped(report.doubts[0]) if len(report.doubts) == 1 else "the report is inconsistent"
        return f"## ❌ Do not merge: {one}"
    if not report.touched:
        return (
            "## ✅ The model is not affected\n\nOnly documentation or deployment files changed, so nothing was trained."
        )
    if report.policy is None:
        line = "## ❌ The review failed"
    elif report.blocks or report.verdict == "fail":
        line = "## ❌ Do not merge: " + _counted(report.policy, blocking=True)
    elif report.verdict == "inconclusive":
        line = "## ⚠️ May be merged, with care: " + _counted(report.policy, blocking=False)
    else:
        waived = any(result.waiver for result in report.policy.results)
        line = "## ✅ May be merged: all rules pass" + (" or are waived" if waived else "")
    about = []
    if report.estimator and report.target:
        name = " → ".join(part.rsplit(".", 1)[-1] for part in report.estimator.split(" → "))
        about.append(f"{code(name)} predicts {code(report.target)}")
    if report.rows:
        recent = f", {report.recent.rows:,} recent rows" if report.recent else ""
        about.append(f"{report.rows.train:,} training and {report.rows.test:,} test rows{recent}")
    if report.baseline and report.baseline.commit and not report.baseline.problem:
        about.append(f"compared with main at {code(report.baseline.commit[:7])}")
    return line + (f"\n\n{' · '.join(about)}" if about else "")


def _counted(policy: Policy, *, blocking: bool) -> str:
    found = [
        result
        for result in policy.results
        if (result.blocks if blocking else result.verdict != "pass" and result.waiver is None)
    ]
    unclear = sum(result.verdict == "inconclusive" for result in found)
    failed = len(found) - unclear
    counts = [f"{failed} {_plural(failed, 'rule fails', 'rules fail')}"] if failed else []
    counts += [f"{unclear} {_plural(unclear, 'rule is', 'rules are')} inconclusive"] if unclear else []
    return ", ".join(counts)


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def approvals(report: Report) -> str:
    """List the files that need a code owner's approval, by pattern of CODEOWNERS, most dangerous first."""
    if not report.owned:
        return ""
    total = sum(place.count for place in report.owned)
    lines = [f"🔒 **{total:,} {_plural(total, 'file needs', 'files need')} a code owner's approval:**"]
    room = MOST_NAMED
    for place in report.owned:
        names = []
        for name in map(code, place.files):
            room -= len(name.encode())
            if room > 0:
                names.append(name)
        left = place.count - len(names)
        more = ([f"{left:,} more"] if names else [f"{left:,} {_plural(left, 'file', 'files')}"]) if left else []
        lines.append(f"- {' and '.join(filter(None, [', '.join(names), *more]))}{_where(place, named=bool(names))}")
    return "\n".join(lines)


def _where(place: Owned, *, named: bool) -> str:
    if place.place in CATCH_ALL:
        return " in no known folder"
    if named and [place.place.lstrip("/")] == place.files:
        return ""
    return f" in {code(one_line(place.place, MOST_PLACE))}"


def reasons(report: Report, run_url: str | None = None) -> str:
    """List what failed, what is inconclusive, what is waived, and what else a reviewer should know."""
    lines = [f"- ❌ {escaped(doubt)}" for doubt in report.doubts if len(report.doubts) > 1]
    if report.proposed is not None and report.policy is not None:
        lines.append(
            f"- 🔒 This change **edits the gate** or its rules. Main's gate applies: {MARKS[report.policy.verdict]}. "
            f"With the edited ones: {MARKS[report.proposed.verdict]}."
        )
    if report.problem:
        lines.append(f"- ❌ {escaped(report.problem)}")
    order: list[Verdict] = ["fail", "inconclusive", "pass"]
    results = report.policy.results if report.policy else []
    for result in sorted(results, key=lambda each: order.index(each.verdict)):
        if result.waiver:
            waived = f"waived until {result.waiver.until}: {escaped(result.waiver.reason)}"
            lines.append(f"- 📝 {escaped(result.why)} ({waived})")
        elif result.verdict != "pass":
            remedy = _relock(run_url) if (result.rule, result.verdict) == ("lock", "fail") else ""
            lines.append(f"- {_mark(result.verdict)} {escaped(result.why)}{remedy}")
    if report.served and report.served_before and report.served.runtime != report.served_before.runtime:
        now, before = (RUNTIMES[each.runtime] for each in (report.served, report.served_before))
        why = f": {escaped(report.served.why)}" if report.served.why else ""
        lines.append(f"- 📦 The model is now served by {now} instead of {before}{why}")
    if report.believed:
        lines.append(f"- ✍️ Not recomputed, but taken from the author: {_believed(report)}")
    if report.redefined:
        names = ", ".join(map(code, report.redefined))
        lines.append(f"- 🔒 This change **defines a metric differently**: {names}. Main's definition decides.")
    if report.lost:
        names = ", ".join(map(escaped, report.lost))
        lines.append(f"- ⚠️ Main has {_plural(len(report.lost), 'a metric', 'metrics')} that this change lacks: {names}")
    better = [code(each.metric) for each in report.metrics if significantly_better(each)]
    if better:
        lines.append(f"- 📈 Significantly better than main: {', '.join(better)}")
    on_recent = report.recent.metrics if report.recent else []
    for mark, way, holds in (("📈", "better", significantly_better), ("📉", "worse", significantly_worse)):
        found = [code(each.metric) for each in on_recent if holds(each)]
        if found:
            lines.append(f"- {mark} Significantly {way} than main on the recent rows: {', '.join(found)}")
    if report.wear and report.wear.decisions > report.wear.budget:
        lines.append(
            f"- ⚠️ The test rows have been used for {report.wear.decisions} merge decisions, more than the recommended "
            f"{report.wear.budget}. Use a new test set."
        )
    if report.dirty:
        lines.append("- ⚠️ The working tree has uncommitted changes, which a pull request would not include.")
    shown = [line for place, line in enumerate(lines, 1) if len("\n".join(lines[:place]).encode()) < MOST_BYTES / 2]
    left_out = len(lines) - len(shown)
    return "\n".join([*shown, f"- … and {left_out} more"] if left_out else shown)


def _believed(report: Report) -> str:
    return " and ".join(map(code, report.believed))


def _relock(run_url: str | None) -> str:
    """Where to start the workflow that commits the rebuilt lock, which GitHub alone has."""
    repository, actions, _ = (run_url or "").partition("/actions/")
    return f" ([start relock]({repository}{actions}workflows/relock.yaml))" if actions else ""


def significantly_better(each: Comparison) -> bool:
    """Whether the interval of the difference lies entirely on the better side."""
    nearest = each.difference.low if each.greater_is_better else each.difference.high
    return nearest is not None and (nearest > 0 if each.greater_is_better else nearest < 0)


def significantly_worse(each: Comparison) -> bool:
    """Whether the interval of the difference lies entirely on the worse side."""
    nearest = each.difference.high if each.greater_is_better else each.difference.low
    return nearest is not None and (nearest < 0 if each.greater_is_better else nearest > 0)


def metric_table(report: Report) -> str:
    """Compare the metrics of main and this change, with the verdict of the rules about them."""
    if report.policy is None or not report.metrics:
        return ""
    title = ""
    if report.recent and report.rows:
        title = f"**On the {report.rows.test:,} test rows, which stay the same**\n\n"
    notes = "".join(f"\n\n<sub>{note}</sub>" for note in metric_notes(report))
    return title + comparison_table(report, report.metrics) + notes


def recent_table(report: Report) -> str:
    """Compare the metrics on the recent window."""
    if report.policy is None or report.recent is None:
        return ""
    title = f"**On the {report.recent.rows:,} newest labelled rows, which neither model was trained on**"
    problem = f"\n\n⚠️ {escaped(report.recent.problem)}" if report.recent.problem else ""
    return f"{title}{problem}\n\n{comparison_table(report, report.recent.metrics, recent=True)}"


def comparison_table(report: Report, metrics: list[Comparison], *, recent: bool = False) -> str:
    """One row for each metric, with the verdict of the rules about it on these rows."""
    results = report.policy.results if report.policy else []
    header = ["metric", *_compared_header(report), "limit"]
    rows = []
    for each in metrics:
        subject = shortened(f"{each.metric}, recent") if recent else each.metric
        rules = [
            result
            for result in results
            if result.subject == subject and result.rule in ("floor", "ceiling", "no_worse")
        ]
        name, *compared = _compared(each)
        rows.append([_worst(rules) + name, *compared, ", ".join(filter(None, map(_limit, rules)))])
    return table(header, rows)


def metric_notes(report: Report) -> list[str]:
    """What the table of metrics does not say: directions, and intervals of fewer resamples."""
    less = [code(each.metric) for each in report.metrics if not each.greater_is_better]
    notes = [f"Lower is better: {', '.join(less)}"] if less else []
    few = [f"{code(each.metric)} ({each.resamples:,})" for each in report.metrics if each.resamples]
    if few:
        notes.append(f"Intervals from fewer resamples, because each takes a call of the metric: {', '.join(few)}")
    return notes


def _compared(each: Comparison) -> list[str]:
    difference = interval(each.difference, signed=True)
    name = _breakable(each.metric) + (f" ({escaped(each.unit)})" if each.unit else "")
    values = f"{number(each.baseline)} → {number(each.candidate)}"
    return [name, values, difference, _probability(each.worse)]


def _compared_header(report: Report) -> list[str]:
    """Both values are in one column, so that a phone shows the difference too."""
    return ["main → this change", f"difference ({report.confidence:.0%} interval)", "P(worse)"]


def _probability(value: float | None) -> str:
    """A probability in percent; resampling does not prove that one is 0 or 1."""
    if value is None:
        return ""
    return "&lt;1%" if value < 0.01 else "&gt;99%" if value > 0.99 else f"{value:.0%}"


def _breakable(name: str) -> str:
    """A name as code that a phone may break after an underscore."""
    return code(name).replace("&#95;", "&#95;<wbr>")


def _limit(result: Result) -> str:
    if result.limit is None:
        return ""
    sign = {"floor": "≥ ", "ceiling": "≤ ", "no_worse": "margin "}.get(result.rule, "")
    return f"{sign}{result.limit:g}" + (" (waived)" if result.waiver else "")


def _worst(results: list[Result]) -> str:
    """The mark of the worst verdict, to stand before a name: a phone shows the first columns only."""
    order: list[Verdict] = ["fail", "inconclusive", "pass"]
    verdicts = {result.verdict for result in results}
    return next((f"{_mark(verdict)}&nbsp;" for verdict in order if verdict in verdicts), "")


def _mark(verdict: Verdict) -> str:
    return MARKS[verdict].split()[0]


def rule_table(report: Report) -> str:
    """List the results of all rules: of main's gate, and of the edited one."""
    blocks = []
    for policy, title in (
        (report.policy, "All rules of the gate"),
        (report.proposed, "All rules of the edited gate"),
    ):
        if policy is None:
            continue
        rows = [
            [
                f"{_mark(result.verdict)}&nbsp;{_breakable(' '.join(filter(None, [result.rule, result.subject])))}"
                + (" (waived)" if result.waiver else ""),
                measured(result.found.value, result.unit),
                measured(result.limit, result.unit),
                escaped(result.why),
            ]
            for result in policy.results
        ]
        passed = sum(result.verdict == "pass" for result in policy.results)
        summary = f"{title}: {passed} of {len(policy.results)} pass"
        blocks.append(details(summary, table(["rule", "found", "limit", "reason"], rows)))
    return "\n\n".join(blocks)


def charts(report: Report) -> list[str]:
    """Render the charts with Mermaid, with the numbers in a table below."""
    return [*map(chart, report.charts), *map(bars, report.bars)]


def chart(each: Chart) -> str:
    """Render lines; texts of a chart keep letters, digits and spaces only."""
    if len(each.at) < 2 or len(each.series) > 2:
        return ""
    series = [line.values for line in each.series]
    drawn = mermaid.lines(each.title, each.x, each.y, each.at, series, COLOURS[-len(series) :])
    header = [each.x, *(line.name for line in each.series)]
    return _with_table(drawn, each.title, header, [*map(number, each.at)], series)


def bars(each: Bars) -> str:
    """Render the bars of a metric by category."""
    series = [values for values in (each.main, each.here) if values]
    drawn = mermaid.bars(each.title, each.y, each.names, series, COLOURS[-len(series) :])
    header = ["", *["main", "this change"][-len(series) :]]
    return _with_table(drawn, each.title, header, [*map(escaped, each.names)], series)


def _with_table(drawn: str, title: str, header: list[str], places: list[str], series: list[list[float]]) -> str:
    legend = "Grey: main. Orange: this change." if len(series) > 1 else "Orange: this change."
    rows = [[place, *(number(line[i]) for line in series)] for i, place in enumerate(places)]
    numbers = table([*map(escaped, header)], rows)
    return f"{drawn}\n\n<sub>{legend}</sub>\n\n{details(f'{escaped(title)} as a table', numbers)}"


def what_changed(report: Report) -> str:
    """List the parameters, data, files and dependencies that differ from main."""
    found = report.changes
    kinds = []
    blocks = []
    for name, each in (("parameter", found.params), ("dependency", found.dependencies)):
        if each:
            kinds.append(
                f"{len(each)} {_plural(len(each), name, name[:-1] + 'ies' if name.endswith('y') else name + 's')}"
            )
            blocks.append(change_table(each, name))
    if found.data:
        kinds.append("data")
        blocks.append(change_table(found.data, "data"))
    if found.files:
        kinds.append(f"{len(found.files)} {_plural(len(found.files), 'file', 'files')}")
        blocks.append("Files: " + ", ".join(map(code, found.files)))
    if found.left_out:
        blocks.append(f"And {found.left_out:,} more.")
    return details("What changed: " + (", ".join(kinds) or "nothing"), "\n\n".join(blocks) or "Nothing.")


def change_table(found: list[Change], name: str) -> str:
    rows = [[code(each.name), _side(each.before), _side(each.after)] for each in found]
    return table([name, "main", "this change"], rows)


def _side(text: str | None) -> str:
    return "–" if text is None else code(text)


def slice_tables(report: Report) -> str:
    """Compare the slices, by the metrics of the rules about slices, or else by the first metric."""
    if not report.slices:
        return ""
    asked = [
        result.subject.split(", ")[-1]
        for result in (report.policy.results if report.policy else [])
        if result.rule in ("worst_slice", "slices_no_worse", "group_gap")
    ]
    first = report.slices[0].metrics[:1]
    names = list(dict.fromkeys(asked)) or [each.metric for each in first]
    blocks = []
    for name in names:
        rows = []
        for each in report.slices:
            pair = next((pair for pair in each.metrics if pair.metric == name), None)
            if pair is not None:
                rows.append([slice_name(each), f"{each.rows:,}", *_compared(pair)[1:]])
        header = ["slice", "rows", *_compared_header(report)]
        blocks.append(f"{code(name)}\n\n{table(header, rows)}")
    return details(f"Slices: {len(report.slices)}", "\n\n".join(blocks))


def slice_name(each: Slice) -> str:
    return f"{code(each.column)} {code(each.name)}"


def validation(report: Report) -> str:
    """List the expectations that the table does not meet."""
    found = report.validation
    if found is None:
        return ""
    failed = "\n".join(f"- {code(each)}" for each in found.failed)
    summary = f"Data validation: {found.passed:,} of {found.expectations:,} expectations pass"
    return details(summary, failed or "All expectations pass.")


def costs(report: Report) -> str:
    """Compare training time, size and latency, and say which runtime serves the model."""
    rows = [
        [escaped(each.name), measured(each.before, each.unit), measured(each.after, each.unit)] for each in report.cost
    ]
    here, main = report.served, report.served_before
    if here is None:
        return details("Cost", table(["cost", "main", "this change"], rows)) if rows else ""
    rows.append(["served file", measured(main.size if main else None, "bytes"), measured(here.size, "bytes")])
    text = f"Served by {form(here)}"
    if main is not None:
        text += ", as on main" if form(main) == form(here) else f". On main: {form(main)}"
    summary = f"Cost and serving: {RUNTIMES[here.runtime]}"
    return details(summary, f"{table(['cost', 'main', 'this change'], rows)}\n\n{text}.")


def form(served: Served) -> str:
    """Describe the runtime that serves the model."""
    if served.runtime == "onnx":
        return f"ONNX Runtime in {served.precision} precision; predictions equal within {served.within:g}"
    return "scikit-learn" + (f", because {escaped(served.why)}" if served.why else "")


def lineage(report: Report, run_url: str | None) -> str:
    """List hashes, the origin of main's model, and the commands that reproduce the review."""
    blocks = []
    if report.lineage:
        blocks.append(change_table(list(report.lineage), "MD5"))
    if report.policy is not None:
        blocks.append(_recomputed(report))
    if report.baseline:
        origin = {
            "cache": "the DVC cache",
            "remote": "the DVC remote",
            "rebuilt": "a rebuild of main's commit",
        }
        if report.baseline.origin == "another platform":
            blocks.append(
                "Main's model was rebuilt on another platform than main's: its hash is not the one in main's "
                "`dvc.lock`, but its metrics equal the recorded ones to six decimals."
            )
        elif report.baseline.origin:
            blocks.append(
                f"Main's model comes from {origin[report.baseline.origin]} and matches the hash in main's `dvc.lock`."
            )
    if report.wear and report.rows:
        blocks.append(
            f"The {report.rows.test:,} test rows have been used for {report.wear.decisions} of about "
            f"{report.wear.budget} merge decisions."
        )
    commands = ["git fetch origin", f"git switch --detach {report.head}", f"make review BASE={report.base or 'main'}"]
    blocks.append("To reproduce this review:\n\n```sh\n" + "\n".join(commands) + "\n```")
    if run_url:
        blocks.append(
            f"[The run's artifact]({run_url}#artifacts) holds all plots and the profile of the training rows."
        )
    return details("Lineage and how to reproduce", "\n\n".join(blocks))


def _recomputed(report: Report) -> str:
    """Which stages the review ran, and which it believed."""
    if not report.believed:
        return "This review ran every stage that the change affects."
    return (
        f"**The outputs of {_believed(report)} are the author's**, as main's gate allows. Their bytes have the hashes "
        "in `dvc.lock`, which names the code, parameters and data of this commit; whether training gives these bytes "
        "was not checked. This review ran every other stage that the change affects."
    )


def measured(value: float | None, unit: str) -> str:
    """Format a number with its unit."""
    if value is None:
        return "–"
    if unit == "bytes":
        return f"{value / 1000:,.0f} kB" if value < 1_000_000 else f"{value / 1_000_000:,.1f} MB"
    return f"{value:.3g} {unit}" if unit else number(value)
