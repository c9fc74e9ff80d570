"""Run the pipeline of a change from main's `dvc.lock`, and say where the result differs from the committed lock."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

from mlops.core import dvcfiles, git, paths
from mlops.core.errors import UserError
from mlops.core.lock import parse_lock
from mlops.core.paths import LOCK
from mlops.core.report import Expensive
from mlops.review import believed, changes, evidence, rebuilt
from mlops.review.rebuilt import Rebuilt


class Reproduced(NamedTuple):
    """What running the pipeline gave.

    Attributes
    ----------
    moved : list of str
        Where the result differs from this change's `dvc.lock`.
    rebuilt : Rebuilt or None
        How far both are apart, where only their bits can explain it.
    believed : list of {'tune', 'train'}
        Stages that did not run, because their outputs are the author's.
    """

    moved: list[str]
    rebuilt: Rebuilt | None
    believed: list[Expensive]


def reproduce(base: str, *, recompute: bool) -> Reproduced:
    """Run `dvc repro`, list where the result differs from this change's `dvc.lock`, and compare both where it does.

    It starts from main's lock, not from this change's. So a stage that main has not run is run here: a lock that
    names another model's hash would otherwise be believed where a cache has that model. Only `tune` and `train` may be
    taken from this change, where main's gate says so.

    Parameters
    ----------
    base : str
        Main's commit.
    recompute : bool
        Whether `tune` and `train` run.
    """
    claimed = LOCK.read_bytes() if LOCK.exists() else b""
    committed = parse_lock(claimed) or {}
    trusted = git.show(base, LOCK)
    if trusted is None:
        LOCK.unlink(missing_ok=True)
    else:
        LOCK.write_bytes(trusted)
    taken: list[Expensive] = []
    try:
        dvcfiles.fetch(dvcfiles.present())
        if not recompute:
            run(*believed.read_before())
            taken = believed.take(committed, base)
        run()
        made = LOCK.read_bytes() if LOCK.exists() else b""
    except BaseException:
        LOCK.write_bytes(claimed)
        raise
    lock = parse_lock(made) or {}
    corrupt = evidence.check_outputs(lock)
    moved = changes.lock_changes(committed, lock)
    if committed == lock:  # it may name another platform, or none
        LOCK.write_bytes(claimed)
    if moved and not corrupt:
        return Reproduced(moved, rebuilt.compare(claimed, committed, lock), taken)
    # even with a correct lock, other files in Git may have been edited by hand
    return Reproduced(corrupt + moved or evidence.left_behind(lock), None, taken)


def run(*stages: str) -> None:
    """Run the pipeline, or these stages and what they need.

    Raises
    ------
    UserError
        If a stage fails.
    """
    paths.FAILURE.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "mlops.core.repro", *stages]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        failed = paths.FAILURE.read_text(encoding="utf-8") if paths.FAILURE.exists() else "the log has the error"
        raise UserError(f"the pipeline failed: {failed}")
