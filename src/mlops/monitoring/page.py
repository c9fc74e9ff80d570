"""The monitor's results as a page, readable on a phone and in the dark, without a script."""

from __future__ import annotations

import math
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jinja2

from mlops.monitoring.findings import Column, Figure, Findings, Risk
from mlops.monitoring.risk import ALL_ROWS
from mlops.monitoring.windows import DAYS

TEMPLATE = Path(__file__).with_name("page.html.jinja")
LOWEST, HIGHEST = 1e-6, 1e3  # evidence at the bottom and at the top of a curve; an alarm is at 1
MOST_RISKS = 40


def page(found: Findings) -> str:
    """The page of a report."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = number
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        found=found,
        risk=[risk_row(each) for each in found.risk[:MOST_RISKS]],
        more_risks=len(found.risk[MOST_RISKS:]),
        all_rows=ALL_ROWS,
        windows=DAYS,
        columns=column_rows(found.columns),
        figures=figure_rows(found.figures),
        traffic=traffic(found),
        most_rows=max(found.rows_by_day.values(), default=0),
        facts=facts(found),
    )


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def risk_row(each: Risk) -> dict[str, Any]:
    """What the page shows of a risk."""
    state, says = "calm", "no alarm"
    if each.alarm:
        state, says = "alarm", f"alarm since {each.alarm}"
    elif each.missing:
        state, says = "quiet", f"cannot tell: {each.missing:,} more labels needed"
    elif each.limit is None or each.reference_rows == 0:
        state, says = "quiet", "cannot tell: the release has no such rows"
    path, line = curve(each.evidence)
    return {"is": each, "state": state, "says": says, "path": path, "line": line}


def curve(evidence: list[float | None]) -> tuple[str, float]:
    """The evidence by day as a path, on a logarithmic scale, and the height at which there is an alarm."""
    if len(evidence) < 2:
        return "", 0.0

    def height(value: float | None) -> float:
        share = min(max(HIGHEST if value is None else value, LOWEST), HIGHEST) / LOWEST
        return round(100 - 100 * math.log(share) / math.log(HIGHEST / LOWEST), 1)

    steps = [f"{100 * day / (len(evidence) - 1):.1f},{height(value)}" for day, value in enumerate(evidence)]
    return "M" + " L".join(steps), height(1.0)


def figure_rows(figures: list[Figure]) -> list[dict[str, Any]]:
    """Each figure, with the ends of its interval as shares of the widest one of all versions, in percent."""
    found = []
    for each in figures:
        ends = [end for other in figures if other.figure == each.figure for end in (other.low, other.high)]
        known = [end for end in ends if end is not None]
        bar = None
        if each.mean is not None and each.low is not None and each.high is not None:
            start, width = min(known), (max(known) - min(known)) or 1.0
            bar = {name: round(1 + 98 * (getattr(each, name) - start) / width, 1) for name in ("low", "mean", "high")}
        found.append({"is": each, "bar": bar})
    return found


def days(found: Findings) -> int:
    return (date.fromisoformat(found.until) - date.fromisoformat(found.start)).days + 1


def traffic(found: Findings) -> str:
    """Rows per day as a path; a day without a row is one of the page's facts, too."""
    number, most = days(found), max(found.rows_by_day.values(), default=0)
    if number < 2 or not most:
        return ""
    start = date.fromisoformat(found.start)
    counts = [found.rows_by_day.get(str(start + timedelta(days=day)), 0) for day in range(number)]
    steps = [f"{100 * day / (number - 1):.1f},{99 - 98 * count / most:.1f}" for day, count in enumerate(counts)]
    return "M" + " L".join(steps)


def column_rows(columns: list[Column]) -> list[tuple[str, list[dict[str, str]]]]:
    """The windows of each column, those with a warning first."""
    found: dict[str, dict[int, Column]] = {}
    for each in columns:
        found.setdefault(each.column, {})[each.days] = each
    ranked = sorted(found.items(), key=lambda item: not any(each.warns for each in item[1].values()))
    return [(name, [cell(windows.get(days)) for days in DAYS]) for name, windows in ranked]


def cell(each: Column | None) -> dict[str, str]:
    if each is None:
        return {"state": "quiet", "effect": "–", "what": "not tested"}
    if each.change is None:
        return {"state": "quiet", "effect": "cannot tell", "what": f"{each.rows:,} rows"}
    return {"state": "warning" if each.warns else "", "effect": f"{each.change.effect:.2f}", "what": each.change.what}


def facts(found: Findings) -> list[tuple[str, str]]:
    log, labels = found.log, found.labels
    requests = sum(found.requests_by_day.values())
    last = max(found.rows_by_day, default=found.until)
    facts = [
        ("requests in the log", f"{requests:,}"),
        (f"requests and rows on {last}", f"{found.requests_by_day.get(last, 0):,}, {found.rows_by_day.get(last, 0):,}"),
        ("days without a row", f"{days(found) - len(found.rows_by_day):,} of {days(found):,}"),
        ("share of the requests that is logged (monitor.log.sample)", f"{log.logged_share:.3g}"),
        *((f"rows of another release, {version}", f"{count:,}") for version, count in log.other_releases.items()),
        ("lines that the service did not write", f"{log.unreadable_lines:,}"),
        ("damaged files", f"{log.damaged_files:,}"),
        ("rows that are left out because of their time", f"{log.misdated_rows:,}"),
        ("largest share of rows with one request id", f"{log.most_frequent_request:.2%}"),
        ("largest share of rows with equal values", f"{log.most_frequent_row:.2%}"),
    ]
    if labels.declared:
        delay = "–" if labels.delay_days is None else f"{labels.delay_days:.1f} days"
        selection = "as the others" if labels.selection is None else labels.selection.what
        facts += [
            ("last day with a new label", labels.newest or "–"),
            ("median time until a label arrives", delay),
            ("rows with a label, compared with those without", selection),
            ("rows whose label was corrected", f"{labels.corrected:,}"),
            ("labels without an id, a value or a time", f"{labels.unusable:,}"),
            ("labels of rows that were not logged", f"{labels.of_rows_that_were_not_logged:,}"),
            ("labels of requests that were logged more than once", f"{labels.of_repeated_requests:,}"),
        ]
    return facts
