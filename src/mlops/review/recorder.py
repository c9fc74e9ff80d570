"""A pytest plugin that writes what each test did as JSON Lines, so that a review knows it even of a run that hangs.

pytest loads it with ``-p mlops.review.recorder --record=FILE``. A line is one of: the names that were collected, a file
that could not be collected, the start of a test, its outcome, the end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlops.core.report import EXAMPLE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", metavar="FILE", help="write what each test did to this file, as JSON Lines")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("record"):
        config.pluginmanager.register(Recorder(Path(config.getoption("record"))))


class Recorder:
    """Writes a line for each event, at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def _write(self, event: str, **content: Any) -> None:
        self._file.write(json.dumps({"event": event, **content}) + "\n")
        self._file.flush()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._write(report.outcome, name=report.nodeid, why=reason(report))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write("started", name=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # set-up and tear-down count where they go wrong
        if report.when == "call" or not report.passed:
            example = dict(report.user_properties).get(EXAMPLE)
            self._write(report.outcome, name=report.nodeid, why=reason(report), example=example)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._write("ended", code=int(exitstatus))


def reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """The line that says what went wrong, or why a test was skipped."""
    if report.passed:
        return ""
    if report.skipped:
        why = getattr(report, "wasxfail", None)
        text = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        return text if why is None else f"expected to fail: {why or 'no reason given'}"
    lines = report.longreprtext.splitlines()
    errors = [line[1:].strip() for line in lines if line.startswith("E  ")]
    # an assertion explains itself below its first line, a traceback of an import ends with the error
    return (errors or lines or [""])[0 if isinstance(report, pytest.TestReport) else -1]
