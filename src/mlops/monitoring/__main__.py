"""`make monitor LOG=folder`: compare what production saw with what the release recorded.

Exit code 3 is an alarm: a metric's loss has risen above the reference's. Everything else explains or warns.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mlops.core import settings as settings_module
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import atomic
from mlops.monitoring import labels, reference, results, windows
from mlops.monitoring.collect import collect
from mlops.monitoring.figures import cost_inputs
from mlops.monitoring.findings import FOLDER, REPORT, Findings
from mlops.monitoring.log import Reading
from mlops.monitoring.metrics import metrics
from mlops.monitoring.page import page
from mlops.monitoring.reference import Reference

ALARM = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mlops.monitoring", description=__doc__)
    parser.add_argument("log", type=Path, help="folder of the prediction log")
    parser.add_argument(
        "--release", type=Path, default=Path(), help="folder of the release's files, by default this one"
    )
    parser.add_argument("--fetched", action="store_true", help="read the labels that make fetch-labels left")
    parser.add_argument("--until", default=None, help="the day of the report, by default today (UTC)")
    given = parser.parse_args()
    try:
        until = np.datetime64(given.until or datetime.now(UTC).date().isoformat(), "D")
    except ValueError:
        raise UserError(f"--until must be a day such as 2026-12-31, got {given.until!r}") from None
    options = settings_module.load().monitor
    if given.fetched:
        options = labels.fetched(options)
    found = findings(given.log, reference.of_release(given.release), options, until)
    with atomic(REPORT) as partial:
        partial.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    with atomic(FOLDER / "report.html") as partial:
        partial.write_text(page(found), encoding="utf-8")
    with atomic(FOLDER / "monitor.prom") as partial:
        partial.write_text(metrics(found), encoding="utf-8")
    print("\n".join([*ending(found), f"{FOLDER / 'report.html'} has it all"]))
    return ALARM if found.alarms else 0


def findings(log: Path, known: Reference, options: settings_module.Monitor, until: np.datetime64) -> Findings:
    """Read a log and its labels, and compare them with the reference.

    Raises
    ------
    UserError
        If either cannot be read, or the log holds no row of the release.
    """
    project = known.project
    truth = None
    if options.labels is not None:
        truth = labels.read(options.labels, project.settings, project.source[project.settings.data.target])
    reading = Reading(log, known.contract, known.model)
    columns = list(dict.fromkeys([*known.slices, *cost_inputs(project, known.inputs)]))
    collected = collect(reading, truth, columns, max(windows.DAYS), ("version",), until)
    if not collected.rows:
        others = [f"{count:,} of {version}" for version, count in reading.others.most_common(3)]
        raise UserError(
            f"{log} holds no row of the model {known.model[:10]} in dvc.lock until {until}"
            + "".join(f"; {each}" for each in others),
            "make monitor LOG=folder VERSION=the release that is deployed",
        )
    days = np.arange(min(collected.rows), until + np.timedelta64(1, "D"))
    return results.of(known, reading, truth, collected, options, days)


def ending(found: Findings) -> list[str]:
    """The results for a terminal."""
    lines = [
        f"{found.rows:,} rows from {found.start} to {found.until}, {found.labels.rows:,} with a label "
        f"({found.labels.share:.0%})",
        "",
    ]
    for risk in found.risk:
        if risk.part != "all rows" and not risk.alarm:
            continue
        state = f"ALARM since {risk.alarm}" if risk.alarm else "no alarm"
        if risk.missing:
            state = f"cannot tell, {risk.missing:,} more"
        before, now = ("no label" if value is None else f"{value:.4g}" for value in (risk.reference, risk.mean))
        lines.append(
            f"  {state:<24} {risk.metric:<18} {risk.part}: {risk.meaning} {before} → {now}, {risk.rows:,} rows"
        )
    for figure in found.figures:
        here = "–" if figure.mean is None else f"{figure.mean:.4g}"
        between = "" if figure.low is None or figure.high is None else f" ({figure.low:.4g} to {figure.high:.4g})"
        lines.append(f"  {figure.figure:<24} {figure.version:<18} {here}{between}, {figure.rows:,} rows")
    for column in found.columns:
        if column.warns and column.change is not None:
            what = f"{column.change.what}, effect {column.change.effect:.2f}"
            lines.append(f"  {'warning':<24} {column.column}, last {column.days} days: {what}")
    return [*lines, "", found.headline]


if __name__ == "__main__":
    with errors_in_words():
        sys.exit(main())
