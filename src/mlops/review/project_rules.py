"""Rules of the team's own: whose code decides, what it sees, and what it answers.

The code is main's, as the gate is, so that a change cannot loosen a rule that judges it. A rule that raises, returns
something else or takes too long fails.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from mlops.core import hooks
from mlops.core.errors import UserError
from mlops.core.git import changed_files, fork_point, show
from mlops.core.ruling import Compared, Estimate, Evidence, Slice
from mlops.review import rule_call
from mlops.review.compare import Paired, Resampled
from mlops.review.room import Room
from mlops.review.rule_call import FILE, Answer, failure
from mlops.review.rules.base import Case, Finding
from mlops.review.rules.project import ProjectRule

FOLDER = Path("build/review/rules")
SECONDS = 60.0


class Code(NamedTuple):
    """Whose rules decide.

    Attributes
    ----------
    folder : Path or None
        The folder that holds main's package `project`; None for this change's own.
    note : str
        What the reason of each verdict has to add.
    seconds : float
        How long a rule may take.
    """

    folder: Path | None = None
    note: str = ""
    seconds: float = SECONDS


def code_of(commit: str) -> Code:
    """The rules of a commit, or this change's where the commit has none."""
    if show(commit, FILE) is None:
        return Code(note=f"judged by this change's {FILE}, because main has none")
    return Code(Room(commit, FOLDER).folder)


def edited(rules: list[Any], commit: str) -> bool:
    """Whether a gate has rules of the team's own, and this change edits their code since it left a commit."""
    if not any(isinstance(rule, ProjectRule) for rule in rules):
        return False
    shared = f"{(hooks.ROOM / 'shared').as_posix()}/"
    names = changed_files(fork_point(commit))
    return any(name == FILE.as_posix() or name.startswith(shared) for name in names)


# -- evidence


def evidence(case: Case) -> Evidence:
    """What the functions see of the evidence."""
    found, judged = case.evidence, case.evidence.judged
    if judged is None:
        raise UserError("the evidence holds no predictions")
    here, main, classes = judged.candidate, judged.baseline, judged.classes
    return Evidence(
        rows=found.rows,
        metrics={name: _compared(pair, case.confidence) for name, pair in found.pairs.items()},
        slices=tuple(
            Slice(
                each.column,
                each.name,
                each.rows,
                {name: _compared(pair, case.confidence) for name, pair in each.pairs.items()},
            )
            for each in found.slices
        ),
        train_metrics=found.train,
        y_true=judged.y,
        y_pred=here.predicted,
        y_pred_main=None if main is None else main.predicted,
        y_prob=here.probabilities,
        y_prob_main=None if main is None else main.probabilities,
        classes=() if classes is None else tuple(classes.labels.tolist()),
        positive=judged.positive,
        columns={name: judged.table[name].to_numpy() for name in judged.table.column_names},
        calibration_error=found.calibration_error() if found.calibration else None,
        drift=None if found.drift is None else {each.column: each.change.effect for each in found.drift},
        validation=found.validation,
        leaked=found.leaked,
        model_bytes=found.model_bytes,
        latency_ms=found.latency_ms,
        main_problem=found.baseline_problem,
        confidence=case.confidence,
        recent={name: _compared(pair, case.confidence) for name, pair in found.recent.pairs.items()} or None,
    )


def _compared(pair: Paired, confidence: float) -> Compared:
    here = Estimate(pair.candidate, *pair.found.interval(confidence))
    if not np.isfinite(pair.baseline):
        return Compared(here, None, None, pair.sign > 0)
    theirs = Resampled(pair.baseline, pair.baseline_values[np.isfinite(pair.baseline_values)])
    main = Estimate(pair.baseline, *theirs.interval(confidence))
    difference = Estimate(pair.candidate - pair.baseline, *pair.difference(confidence))
    return Compared(here, main, difference, pair.sign > 0)


# -- the process


def find(rule: ProjectRule, case: Case) -> Finding:
    """Call the function of a row in a process of its own."""
    found = _answer(rule, evidence(case), case.code)
    why = f"{found.reason} ({case.code.note})" if case.code.note else found.reason
    return Finding(found.verdict, why, np.nan if found.value is None else found.value, limit=found.limit)


def _answer(rule: ProjectRule, seen: Evidence, code: Code) -> Answer:
    asked = pickle.dumps((rule.function, rule.parameters, seen))
    path = [str(code.folder)] if code.folder else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *filter(None, sys.path)])}
    command = [sys.executable, "-P", "-m", rule_call.__name__]
    try:
        done = subprocess.run(
            command, env=environment, input=asked, stdout=subprocess.PIPE, timeout=code.seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return failure(f"{rule.rule} took longer than {code.seconds:g} s")
    if done.returncode:
        return failure(f"{rule.rule} ended with exit code {done.returncode} and without a verdict")
    try:
        return Answer.model_validate_json(done.stdout)
    except ValidationError:
        return failure(f"{rule.rule} ended without a verdict")
