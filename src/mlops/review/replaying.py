"""Recorded rows through main's model and this change's: gets both as their services run them, and words what comes out.

`mlops.monitoring.replay` does the rest.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core import dvcfiles, files, paths
from mlops.core.errors import UserError
from mlops.core.lock import hash_of, read_lock
from mlops.core.part import shortened
from mlops.core.replayed import (
    MOST_MOVES,
    MOST_REASONS,
    MOST_SLICES,
    Group,
    Move,
    Moved,
    Obstacle,
    Price,
    Replayed,
    Skew,
)
from mlops.core.settings import Settings
from mlops.data.project import Project
from mlops.inference import runtime
from mlops.inference.contract import Contract
from mlops.model.costs import cost_metric
from mlops.model.metrics import Classes
from mlops.model.slices import QUARTILES
from mlops.monitoring import labels
from mlops.monitoring.recorded import Log
from mlops.monitoring.replay import Replay, Side, replay
from mlops.monitoring.replay_costs import Pricing
from mlops.monitoring.replay_slices import Slices
from mlops.monitoring.replay_tally import Large
from mlops.review import baseline as main_branch
from mlops.review.baseline import Baseline


def run(folder: Path, project: Project, main: Baseline) -> tuple[Replayed, list[dict[str, Any]]]:
    """Replay a log.

    Returns
    -------
    Replayed
    list of dict
        Features of the rows with the largest changes, which a comment does not show.

    Raises
    ------
    UserError
        If the log or a model cannot be read, or the log does not hold what a model takes.
    """
    if main.project is None or main.problem is not None:
        raise UserError(main.problem or "main's model is not available")
    fetch(folder)
    change, champion = ours(), theirs(main)
    log = Log(folder)
    classes = None
    if change.contract.classes is not None:
        classes = Classes.of(np.array(change.contract.classes), change.contract.positive)
    settings, theirs_ = project.settings, main.project.settings
    pricing, expected_only = prices(settings, theirs_, project, classes, champion.contract, change.contract)
    train = project.read(paths.TRAIN)
    wanted = list(dict.fromkeys([*theirs_.evaluate.slices, *settings.evaluate.slices]))
    slices = Slices(wanted, train, [change.contract, champion.contract])
    edges = None
    if classes is None:
        edges = np.unique(np.quantile(np.asarray(project.y(train), dtype=float), QUARTILES))
    options = [settings.monitor.log, theirs_.monitor.log]
    found = replay(log, champion, change, options, slices, pricing, edges)
    if not log.rows:
        raise UserError(
            f"{folder} holds no row of a prediction log", "the folder that PREDICTION_LOG of the service named"
        )
    features = [shown_features(each, settings) for each in largest(found)]
    return in_report(found, change.contract, expected_only), features


def fetch(folder: Path) -> None:
    """Get a log that DVC tracks from its cache or remote, where it is not there yet."""
    pointer = folder.with_name(f"{folder.name}.dvc")
    if pointer.is_file():
        dvcfiles.fetch([str(pointer)])


def ours() -> Side:
    """This change's model."""
    lock = read_lock()
    expected = hash_of(lock, paths.SERVICE)
    if not paths.SERVICE.is_dir() or files.tree_md5(paths.SERVICE) != expected:
        raise UserError(f"{paths.SERVICE} is not the folder in dvc.lock", "make, or dvc checkout --force")
    contract, model = runtime.load(paths.SERVICE)
    return Side(str(hash_of(lock, paths.MODEL)), contract, model, nullcontext)


def theirs(main: Baseline) -> Side:
    """Main's model, with main's features."""
    folder = main_branch.service(main)
    with main.own_code():
        contract, model = runtime.load(folder)
    return Side(str(hash_of(main.lock, paths.MODEL)), contract, model, main.own_code)


def prices(
    settings: Settings, theirs: Settings, project: Project, classes: Classes | None, before: Contract, after: Contract
) -> tuple[Pricing, str | None]:
    """How decisions are priced, by main's prices where it has some; and why not, or only by expectation."""
    costs = theirs.evaluate.costs or settings.evaluate.costs
    why = None
    truth = None
    given = settings.monitor.labels or theirs.monitor.labels
    if given is not None:
        try:
            truth = labels.read(given, settings, project.source[settings.data.target])
        except UserError as error:
            why = str(error).splitlines()[0]
    if costs is None or classes is None or before.classes != after.classes:
        if costs is None:
            why = why or "evaluate.costs is not set"
        elif classes is not None:
            why = "the models have different classes"
        return Pricing(None, (), classes, truth), why
    cost, columns = cost_metric(costs, classes)
    return Pricing(cost, columns, classes, truth), why


def in_report(found: Replay, contract: Contract, why: str | None) -> Replayed:
    """The results with bounded lists and short texts."""
    tally, log = found.tally, found.log
    changed = [(pair, count) for pair, count in tally.moves.most_common() if pair[0] != pair[1]]
    groups = sorted(found.slices.rows)
    obstacles = [
        Obstacle(model=model, why=shortened(text), rows=count, refused=refused)  # type: ignore[arg-type]
        for refused, each in ((True, found.unfit), (False, found.ignored))
        for model, reasons in each.items()
        for text, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
    sums = found.pricing.sums
    return Replayed(
        rows=log.rows,
        compared=tally.compared,
        changed=tally.changed,
        unreadable=log.unreadable,
        damaged=len(log.damaged),
        task=contract.task,
        moves=[Move(before=shortened(a), after=shortened(b), rows=count) for (a, b), count in changed[:MOST_MOVES]],
        moves_left_out=sum(count for _, count in changed[MOST_MOVES:]),
        mean_change=rounded(tally.difference / tally.compared) if contract.classes is None and tally.compared else None,
        slices=[
            Group(
                column=shortened(column),
                name=shortened(name),
                rows=found.slices.rows[column, name],
                changed=found.slices.changed[column, name],
            )
            for column, name in ordered(groups, found.slices)[:MOST_SLICES]
        ],
        largest=[moved(each) for each in largest(found)],
        labelled=found.pricing.labelled,
        repaired=found.pricing.repaired,
        broken=found.pricing.broken,
        prices=[
            Price(basis=basis, rows=int(rows), before=rounded(before / rows), after=rounded(after / rows))
            for basis in ("labels", "main", "change")
            for rows, before, after in [sums.get(basis, [0, 0.0, 0.0])]
            if rows
        ],
        priceless=shortened(reason) if (reason := found.pricing.priceless or why) else None,
        skew=Skew(
            rows=tally.of_main,
            differ=tally.differ,
            largest=rounded(tally.largest_skew),
            named=[shortened(each) for each in tally.skewed],
        ),
        obstacles=obstacles[:MOST_REASONS],
    )


def ordered(groups: list[tuple[str, str]], slices: Slices) -> list[tuple[str, str]]:
    """Slices in the order of their columns; within one, those of numbers by their edges, others by name."""
    names = list(slices.train)

    def rank(group: tuple[str, str]) -> tuple[int, int, float, str]:
        column, name = group
        if column in slices.kept or not pa.types.is_floating(slices.train[column].type):
            return names.index(column), int(name in ("other", "missing")), 0.0, name
        first = name.split(" to ")[0].lstrip("<≥ ")
        place = 0 if name.startswith("<") else 1 if name != "missing" else 2
        return names.index(column), place, float(first) if place == 1 else 0.0, name

    return sorted(groups, key=rank)


def largest(found: Replay) -> list[Large]:
    """The largest changes, the largest first."""
    return sorted(found.tally.largest, reverse=True)


def moved(each: Large) -> Moved:
    return Moved(
        request_id=shortened(each.request_id),
        row=min(max(each.row, 0), 10**15),
        before=shortened(shown(each.before)),
        after=shortened(shown(each.after)),
        about=shortened(each.about),
        value_before=None if each.value_before is None else rounded(each.value_before),
        value_after=None if each.value_after is None else rounded(each.value_after),
    )


def shown_features(each: Large, settings: Settings) -> dict[str, Any]:
    """The features of a row as they were received, without what must not be shown."""
    log = settings.monitor.log
    hidden = {*log.leave_out, *log.pseudonymise, *settings.data.private}
    try:
        features = json.loads(each.features)
    except (ValueError, RecursionError):
        features = {}
    known = features if isinstance(features, dict) else {}
    return {
        "request_id": each.request_id,
        "row": each.row,
        "features": {name: value for name, value in known.items() if name not in hidden},
    }


def shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, bool) else str(value)


def rounded(value: float) -> float:
    """Six digits, so that a report does not depend on the last bits of a machine."""
    return float(f"{value:.6g}")
