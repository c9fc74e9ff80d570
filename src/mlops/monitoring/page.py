"""The monitor's results as a page, readable on a phone and in the dark, without a script."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2

from mlops.monitoring.findings import Column, Findings, Risk
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
    facts = [
        *((f"rows of another release, {version}", f"{count:,}") for version, count in log.other_releases.items()),
        ("lines that the service did not write", f"{log.unreadable_lines:,}"),
        ("damaged files", f"{log.damaged_files:,}"),
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
