"""`make canary LOG=folder CHAMPION=version CANARY=version`: is the canary's outcome as good as the champion's?

It may be asked at any time and as often as you like; the first decision stands. Exit code 0 is *promote*: each loss is
higher by less than the margin. 1 is *abort*: a loss is higher. 2 is *not yet*, and 3 an error.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import prometheus_client as prometheus

from mlops.core import paths
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import write_json
from mlops.core.settings import Cost, Costs, cost_columns
from mlops.core.yamlfile import closest
from mlops.data import project as projects
from mlops.model.costs import cost_metric
from mlops.model.metrics import Classes, Predictions
from mlops.monitoring import labels, reference, streams
from mlops.monitoring.collect import Labelled, collect
from mlops.monitoring.log import Reading
from mlops.monitoring.losses import QUANTILE, Loss, losses
from mlops.monitoring.reference import Reference

Array = np.ndarray[Any, Any]
Answer = Literal["promote", "abort", "not yet"]

FOLDER = Path("build/canary")
CODES: dict[Answer, int] = {"promote": 0, "abort": 1, "not yet": 2}
FAILED = 3
ERROR = 0.05  # of a wrong promotion, and of a wrong abortion
FEW = 0.1  # share of the canary's rows with a label, below which its outcome is unknown
HOUR = "datetime64[h]"


class Outcome(NamedTuple):
    """A loss of both versions.

    Attributes
    ----------
    unit : float
        What a loss of 1 is, in units of the metric.
    champion, canary : float
        Mean losses, in units of the metric; NaN where there is no row.
    rows : tuple of int
        Of the champion and of the canary.
    harm, safety : ndarray of shape (n_hours,)
        Evidence, by hour, that the canary's loss is higher, and that it is higher by less than the margin.
    needed : float
        About how many labels more prove the one or the other.
    """

    metric: str
    meaning: str
    unit: float
    champion: float
    canary: float
    rows: tuple[int, int]
    harm: Array
    safety: Array
    needed: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mlops.monitoring.canary", description=__doc__)
    parser.add_argument("log", type=Path, help="folder of the prediction log")
    parser.add_argument("--champion", required=True, help="the version that serves")
    parser.add_argument("--canary", required=True, help="the version that is to replace it")
    parser.add_argument("--margin", type=float, default=0.05, help="tolerated rise, as a share of the largest loss")
    parser.add_argument("--metrics", nargs="*", default=[], help="by default all that have a loss of single rows")
    given = parser.parse_args()
    if not 0 < given.margin < 1:
        raise UserError(f"MARGIN must be between 0 and 1, got {given.margin:g}")
    if given.champion == given.canary:
        raise UserError(f"CHAMPION and CANARY are both {given.canary}")
    project = projects.open()
    settings = project.settings
    if settings.monitor.labels is None:
        raise UserError(
            "params.yaml: monitor.labels is missing", "name the source of the labels, or judge errors alone"
        )
    known = reference.read(project)
    truth = labels.read(settings.monitor.labels, settings, project.source[settings.data.target])
    reading = Reading(given.log, known.contract, known.model, (given.champion, given.canary))
    logged = {part.name for part in known.contract.inputs}
    found = collect(reading, truth, [name for name in cost_columns(settings.evaluate.costs) if name in logged], 1)
    for version in (given.champion, given.canary):
        if not found.versions[version]:
            others = [*reading.others, *found.versions]
            raise UserError(f"{given.log} holds no row of version {version}{closest(version, others)}")
    assert found.labelled is not None  # noqa: S101  there are labels
    measures = measured(known, found.labelled.columns, given.metrics)
    judged = judge(measures, found.labelled, given.canary, given.margin)
    answer, hour = decide(judged)
    report = described(judged, answer, hour, given, found.labelled, found.versions)
    write_json(report, FOLDER / "report.json")
    (FOLDER / "canary.prom").write_text(metrics(report), encoding="utf-8")
    print("\n".join(ending(report)))
    return CODES[answer]


def measured(known: Reference, logged: dict[str, Array], names: list[str]) -> list[Loss]:
    """The losses of the metrics, and the costs of decisions where the log has what they depend on."""
    recorded = list(json.loads(paths.EVALUATION.read_text(encoding="utf-8"))["metrics"])
    available = losses(recorded, known.y, known.predictions, known.classes)
    costs = known.project.settings.evaluate.costs
    if costs is not None and known.classes is not None and {*cost_columns(costs)} <= logged.keys():
        available.append(cost_loss(costs, known.classes, known, logged))
    for name in names:
        if name not in {each.metric for each in available}:
            hint = closest(name, [each.metric for each in available])
            raise UserError(f"METRICS: {name} has no loss of single rows{hint}")
    return [each for each in available if not names or each.metric in names]


def cost_loss(costs: Costs | list[Cost], classes: Classes, known: Reference, logged: dict[str, Array]) -> Loss:
    """What a decision costs, between the lowest and the highest price."""
    cost, columns = cost_metric(costs, classes)
    prices = [*costs.model_dump().values()] if isinstance(costs, Costs) else [each.cost for each in costs]
    amounts = [0.0, *(price for price in prices if not isinstance(price, str))]
    for name in columns:
        values = known.test[name].drop_null().to_numpy()
        amounts += [float(np.quantile(values, share)) for share in (1 - QUANTILE, QUANTILE)] if len(values) else []
    low, high = min(amounts), max(amounts)
    unit = high - low or 1.0

    def of(y: Array, predictions: Predictions) -> Array:
        actual, predicted = y, predictions.predicted
        if len(classes.labels) == 2:
            actual, predicted = ((each == classes.labels[classes.positive]).astype(int) for each in (actual, predicted))
        return np.clip((cost(actual, predicted, *(logged[name] for name in columns)) - low) / unit, 0, 1)

    return Loss("cost", f"cost of a decision above {low:.4g}, cut at {high:.4g}", unit, of)


def judge(measures: list[Loss], labelled: Labelled, canary: str, margin: float) -> list[Outcome]:
    """Compare each loss of both versions, in the order in which the labels became known."""
    second = labelled.version == canary
    hours = labelled.known.astype(HOUR)
    looks = np.unique(hours)
    found = []
    for loss in measures:
        values = loss.of(labelled.y, labelled.predictions)
        rows = np.flatnonzero(~np.isnan(values))
        values, stream, when = values[rows], second[rows], hours[rows]
        made = streams.rounds(stream, values)
        harm, safety = streams.higher(made.differences), streams.lower(made.differences, margin)
        # what is known at the end of each hour; the highest so far, because a proof stays one
        last = np.searchsorted(when[made.closed], looks, side="right") - 1
        by_hour = [
            np.maximum.accumulate(np.where(last >= 0, each[last] if len(each) else 0.0, 0.0)) for each in (harm, safety)
        ]
        sizes = int((~stream).sum()), int(stream.sum())
        means = [float(loss.unit * values[side].mean()) if side.any() else math.nan for side in (~stream, stream)]
        found.append(
            Outcome(
                loss.metric,
                loss.meaning,
                loss.unit,
                means[0],
                means[1],
                sizes,
                by_hour[0],
                by_hour[1],
                needed(made, harm, safety, margin, len(values), len(measures)),
            )
        )
    return found


def needed(made: streams.Rounds, harm: Array, safety: Array, margin: float, labels_: int, tests: int) -> float:
    """About how many labels more prove that a loss is higher, or that it is not by the margin."""
    differences = made.differences
    mean = float(differences.mean()) if len(differences) >= streams.LEAST_ROUNDS else 0.0
    proofs = [
        streams.rounds_needed(differences, margin - mean, float(safety[-1]) if len(safety) else 1.0, ERROR),
        streams.rounds_needed(differences, mean, float(harm[-1]) if len(harm) else 1.0, ERROR / tests),
    ]
    return min(proofs) * (labels_ / len(differences) if len(differences) else 2.0)


def decide(judged: list[Outcome]) -> tuple[Answer, int | None]:
    """The first decision, and the hour in which it was made.

    Any loss that is higher aborts, so they share the error (Bonferroni). All losses must be safe to promote, which
    needs no correction (Berger 1982).
    """
    if not judged:
        return "not yet", None
    harmed = np.array([each.harm for each in judged]).max(axis=0) >= len(judged) / ERROR
    safe = np.array([each.safety for each in judged]).min(axis=0) >= 1 / ERROR
    hour = next(iter(np.flatnonzero(harmed | safe)), None)
    if hour is None:
        return "not yet", None
    return ("abort" if harmed[hour] else "promote"), int(hour)


def described(
    judged: list[Outcome],
    answer: Answer,
    hour: int | None,
    given: argparse.Namespace,
    labelled: Labelled,
    logged: dict[str, int],
) -> dict[str, Any]:
    """The results as JSON."""
    versions = {}
    for role in ("champion", "canary"):
        version = getattr(given, role)
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
        "margin": given.margin,
        **versions,
        "metrics": [
            {
                "metric": each.metric,
                "meaning": each.meaning,
                "champion": finite(each.champion),
                "canary": finite(each.canary),
                "margin": finite(given.margin * each.unit),
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
    with errors_in_words():
        try:
            sys.exit(main())
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(FAILED)
