"""`make canary LOG=folder CHAMPION=version CANARY=version`: is the canary's outcome as good as the champion's?

It may be asked at any time and as often as you like; the first decision stands. Exit code 0 is *promote*: each loss is
higher by less than the margin. 1 is *abort*: a loss is higher. 2 is *not yet*, and 3 an error.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client as prometheus

from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import write_json
from mlops.core.yamlfile import closest
from mlops.data import project as projects
from mlops.monitoring import labels, reference
from mlops.monitoring.collect import collect
from mlops.monitoring.figures import cost_inputs
from mlops.monitoring.log import Reading
from mlops.monitoring.matched import Labelled
from mlops.monitoring.measures import measures
from mlops.monitoring.outcomes import ERROR, HOUR, Answer, Outcome, decide, judge

FOLDER = Path("build/canary")
CODES: dict[Answer, int] = {"promote": 0, "abort": 1, "not yet": 2}
FAILED = 3
FEW = 0.1  # share of the canary's rows with a label, below which its outcome is unknown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mlops.monitoring.canary", description=__doc__)
    parser.add_argument("log", type=Path, help="folder of the prediction log")
    parser.add_argument("--champion", required=True, help="the version that serves")
    parser.add_argument("--canary", required=True, help="the version that is to replace it")
    parser.add_argument("--margin", type=float, default=0.05, help="tolerated rise, as a share of the largest loss")
    parser.add_argument("--metrics", nargs="*", default=[], help="by default all that have a loss of single rows")
    given = parser.parse_args()
    report = ask(given.log, given.champion, given.canary, given.margin, given.metrics)
    print("\n".join(ending(report)))
    return CODES[report["answer"]]


def ask(log: Path, champion: str, canary: str, margin: float, names: list[str]) -> dict[str, Any]:
    """Compare two versions, and leave the answer in `build/canary`.

    Parameters
    ----------
    names : list of str
        Metrics and figures; all where it is empty.

    Raises
    ------
    UserError
        If there are no labels, or the log holds no row of a version.
    """
    if not 0 < margin < 1:
        raise UserError(f"MARGIN must be between 0 and 1, got {margin:g}")
    if champion == canary:
        raise UserError(f"CHAMPION and CANARY are both {canary}")
    project = projects.open()
    settings = project.settings
    if settings.monitor.labels is None:
        raise UserError(
            "params.yaml: monitor.labels is missing", "name the source of the labels, or judge errors alone"
        )
    known = reference.read(project)
    truth = labels.read(settings.monitor.labels, settings, project.source[settings.data.target])
    reading = Reading(log, known.contract, known.model, (champion, canary))
    found = collect(reading, truth, cost_inputs(project, known.inputs), 1, ("version", "time"))
    for version in (champion, canary):
        if not found.versions[version]:
            others = [*reading.others, *found.versions]
            raise UserError(f"{log} holds no row of version {version}{closest(version, others)}")
    assert found.labelled is not None  # noqa: S101  there are labels
    labelled = found.labelled.together()
    judged = judge(measures(known, labelled, settings.monitor.labels, names), labelled, canary, margin)
    report = described(judged, {"champion": champion, "canary": canary}, margin, labelled, found.versions)
    write_json(report, FOLDER / "report.json")
    (FOLDER / "canary.prom").write_text(metrics(report), encoding="utf-8")
    return report


def described(
    judged: list[Outcome], roles: dict[str, str], margin: float, labelled: Labelled, logged: dict[str, int]
) -> dict[str, Any]:
    """The results as JSON."""
    answer, hour = decide(judged)
    versions: dict[str, dict[str, Any]] = {}
    for role, version in roles.items():
        versions[role] = {
            "version": version,
            "rows": logged[version],
            "labelled": int((labelled.version == version).sum()),
        }
    share = versions["canary"]["labelled"] / versions["canary"]["rows"]
    more = max((each.needed for each in judged), default=math.inf)
    return {
        "answer": answer,
        "since": None if hour is None else str(np.unique(labelled.known.astype(HOUR))[hour]),
        "outcome_known": answer != "not yet" or share >= FEW,
        "more_labels": None if answer != "not yet" or not math.isfinite(more) else math.ceil(more),
        "margin": margin,
        **versions,
        "metrics": [
            {
                "metric": each.name,
                "meaning": each.meaning,
                "champion": finite(each.champion),
                "canary": finite(each.canary),
                "margin": finite(each.margin),
                "rows": list(each.rows),
                "worse": bool(len(each.harm) and each.harm[-1] >= len(judged) / ERROR),
                "within_margin": bool(len(each.safety) and each.safety[-1] >= 1 / ERROR),
            }
            for each in judged
        ],
    }


def finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def metrics(report: dict[str, Any]) -> str:
    """The answer in Prometheus' text format: 1 to promote, -1 to abort, 0 for not yet."""
    registry = prometheus.CollectorRegistry()
    names = ("champion", "canary")
    labels_ = [report[role]["version"] for role in names]
    verdict = prometheus.Gauge(
        "monitor_canary_verdict", "1 promote, -1 abort, 0 not yet, by outcome", names, registry=registry
    )
    verdict.labels(*labels_).set({"promote": 1, "abort": -1, "not yet": 0}[report["answer"]])
    arrived = prometheus.Gauge("monitor_canary_labelled_rows", "Rows with a label", ["version"], registry=registry)
    for role in names:
        arrived.labels(report[role]["version"]).set(report[role]["labelled"])
    return prometheus.generate_latest(registry).decode()


def ending(report: dict[str, Any]) -> list[str]:
    """The results for a terminal."""
    lines = [
        f"{role:<9} {each['version']:<12} {each['rows']:>9,} rows, {each['labelled']:,} labelled"
        for role, each in ((role, report[role]) for role in ("champion", "canary"))
    ]
    lines += ["", f"  {'':<14} {'champion':>10} {'canary':>10} {'margin':>8}"]
    for each in report["metrics"]:
        here = ["–" if each[key] is None else f"{each[key]:.4g}" for key in ("champion", "canary", "margin")]
        state = "worse" if each["worse"] else "within the margin" if each["within_margin"] else "not yet"
        lines.append(f"  {each['metric']:<14} {here[0]:>10} {here[1]:>10} {here[2]:>8}  {state}: {each['meaning']}")
    if report["answer"] != "not yet":
        return [*lines, "", f"{report['answer']}, since {report['since']}:00 UTC"]
    more = "" if report["more_labels"] is None else f", about {report['more_labels']:,} labels more"
    few = "" if report["outcome_known"] else "; few labels have arrived, so only technical health was judged"
    return [*lines, "", f"not yet{more}{few}"]


if __name__ == "__main__":
    with errors_in_words(FAILED):
        sys.exit(main())
