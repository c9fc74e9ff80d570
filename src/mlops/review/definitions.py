"""Which definition of a metric decides: main's, where main has one, as main's gate does.

`params.yaml` has no code owner. If a change could redefine the metric that a rule of main's gate names, or turn its
direction round, it would loosen the gate. So a metric is judged as main defines it, and the comment says where this
change defines it otherwise.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pyarrow as pa

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.git import show
from mlops.core.settings import Evaluate, MetricPath
from mlops.model import checks, resampling
from mlops.model.declared import same
from mlops.model.metrics import Array, Classes, Predictions
from mlops.model.resampling import Custom


class Definitions(NamedTuple):
    """The project's own metrics for the test rows.

    Attributes
    ----------
    ours : Custom
        As this change defines them, which is what it has recorded.
    deciding : Custom
        As main defines those that it has, and this change the others.
    redefined : list of str
        Metrics that the two define differently.
    lost : dict of str to str
        Metrics of main that cannot be computed here, with the reason.
    """

    ours: Custom
    deciding: Custom
    redefined: list[str]
    lost: dict[str, str]


def define(
    ours: Evaluate, theirs: Evaluate | None, classes: Classes | None, test: pa.Table, y: Array, said: Predictions
) -> Definitions:
    """Load the metrics of both, checked on this change's predictions of the test rows.

    Parameters
    ----------
    theirs : Evaluate or None
        Main's; None where it is not known.
    """
    own = resampling.declared(ours, classes)[0].on(test)
    if not len(y):
        return Definitions(own, own, [], {})
    own = checks.check(own, y, said, classes)
    found = {metric.name: metric for metric in own.metrics}
    columns = {**own.columns}
    redefined: list[str] = []
    lost: dict[str, str] = {}
    alike = theirs is None or (theirs.metrics, theirs.costs) == (ours.metrics, ours.costs)
    for name, part, team in [] if theirs is None or alike else _parts(theirs):
        try:
            custom = checks.check(resampling.declared(part, classes, team=team)[0].on(test), y, said, classes)
        except UserError as error:
            lost[name] = str(error).splitlines()[0]
            found.pop(name, None)  # what this change calls so is something else
            continue
        columns |= custom.columns
        for metric in custom.metrics:
            if metric.name in found and not same(metric, found[metric.name]):
                redefined.append(metric.name)
            found[metric.name] = metric
    return Definitions(own, own._replace(metrics=tuple(found.values()), columns=columns), redefined, lost)


def _parts(evaluate: Evaluate) -> list[tuple[str, Evaluate, bool]]:
    """The metrics of a section one by one, so that a broken one leaves the others; and whether the team's are asked."""
    entries = evaluate.metrics
    every = entries is None or (entries and not any(isinstance(entry, str) for entry in entries))
    parts = [("src/project/metrics.py", Evaluate(), True)] if every else []
    for entry in entries or []:
        by_path = isinstance(entry, MetricPath)
        parts.append((entry.shown if isinstance(entry, MetricPath) else entry, Evaluate(metrics=[entry]), not by_path))
    if evaluate.costs is not None:
        parts.append(("cost", Evaluate(costs=evaluate.costs), False))
    return parts


def recorded(commit: str) -> list[str]:
    """Names of the metrics that a commit's evaluation has."""
    try:
        return list(json.loads(show(commit, paths.EVALUATION) or b"{}")["metrics"])
    except (ValueError, KeyError, TypeError):
        return []
