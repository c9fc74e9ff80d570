"""Is a version's outcome as good as another's? Each measure as a sequential test, and the decision of all together."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from mlops.monitoring import streams
from mlops.monitoring.matched import Labelled
from mlops.monitoring.measures import Measure

Array = np.ndarray[Any, Any]
Answer = Literal["promote", "abort", "not yet"]

ERROR = 0.05  # of a wrong promotion, and of a wrong abortion
HOUR = "datetime64[h]"


class Outcome(NamedTuple):
    """A measure of both versions.

    Attributes
    ----------
    champion, canary : float
        Means, in units of the metric or figure; NaN where there is no row.
    margin : float
        Tolerated difference, in the same units; NaN where it is not known.
    rows : tuple of int
        Of the champion and of the canary.
    harm, safety : ndarray of shape (n_hours,)
        Evidence, by hour, that the canary's loss is higher, and that it is higher by less than the margin.
    needed : float
        About how many labels more prove the one or the other.
    """

    name: str
    meaning: str
    champion: float
    canary: float
    margin: float
    rows: tuple[int, int]
    harm: Array
    safety: Array
    needed: float


def judge(measures: list[Measure], labelled: Labelled, canary: str, margin: float) -> list[Outcome]:
    """Compare each measure of both versions, in the order in which the labels became known.

    Rows that were predicted before the canary's first one are left out: there is none of the canary at that time, and
    labels that come late would be compared with early ones.

    Parameters
    ----------
    margin : float
        Tolerated rise of a loss, as a share of the largest loss, or of the champion's mean where there is no largest.
    """
    second, hours = labelled.version == canary, labelled.known.astype(HOUR)
    shared = labelled.time >= labelled.time[second].min() if second.any() else np.ones(len(second), dtype=bool)
    return [one(each, second, hours, shared, margin, len(measures)) for each in measures]


def one(measure: Measure, second: Array, hours: Array, shared: Array, margin: float, tests: int) -> Outcome:
    """Compare one measure, on the rows that are shared."""
    rows = np.flatnonzero(shared & ~np.isnan(measure.values))
    values, stream, when = measure.values[rows], second[rows], hours[rows]
    means = [float(values[side].mean()) if side.any() else math.nan for side in (~stream, stream)]
    made = streams.rounds(stream, values)
    if measure.bounded:
        allowed = margin
        harm, safety = streams.higher(made.differences), streams.lower(made.differences, margin)
    else:
        allowed = margin * abs(means[0])
        # a share of the champion's mean, which is not known exactly either
        scale = np.where(stream, 1.0, 1 + math.copysign(margin, means[0]))
        harm = streams.asymptotic(made.differences)
        safety = streams.asymptotic(-streams.rounds(stream, values * scale).differences)
    # what is known in each hour; the highest so far, because a proof stays one
    looks = np.unique(hours)
    last = np.searchsorted(when[made.closed], looks, side="right") - 1
    by_hour = [
        np.where(last >= 0, np.maximum.accumulate(each)[last] if len(each) else 0.0, 0.0) for each in (harm, safety)
    ]
    shown = [measure.start + measure.unit * mean for mean in means]
    more = needed(made, (harm, safety), allowed, measure.bounded, tests) * labels_per_round(made, len(values))
    sizes = int((~stream).sum()), int(stream.sum())
    return Outcome(
        measure.name,
        measure.meaning,
        shown[0],
        shown[1],
        abs(measure.unit) * allowed,
        sizes,
        by_hour[0],
        by_hour[1],
        more,
    )


def needed(made: streams.Rounds, evidence: tuple[Array, Array], margin: float, bounded: bool, tests: int) -> float:
    """About how many rounds more prove that a loss is higher, or that it is not by the margin."""
    differences = made.differences
    missing = 0 if bounded else streams.LEAST_ASYMPTOTIC - len(differences)
    if not bounded and len(differences) < streams.LEAST_ROUNDS:
        return float(missing)
    mean = float(differences.mean()) if len(differences) >= streams.LEAST_ROUNDS else 0.0
    harm, safety = (float(each[-1]) if len(each) else 1.0 for each in evidence)
    proofs = [
        streams.rounds_needed(differences, margin - mean, safety if safety else 1.0, ERROR),
        streams.rounds_needed(differences, mean, harm if harm else 1.0, ERROR / tests),
    ]
    return max(missing, min(proofs))


def labels_per_round(made: streams.Rounds, labels: int) -> float:
    return labels / len(made.differences) if len(made.differences) else 2.0


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
