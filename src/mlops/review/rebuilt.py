"""How far what a change has committed is from what the review has rebuilt, where `dvc.lock` differs.

Another processor or system gives other last bits, and so other hashes. This tells such a lock from one that is
outdated or forged. Everything committed is the change's own claim, so it is bounded, hashed and read as data: a table
of predictions or a file of metrics, never a model. A false claim only changes the words: the rule `lock` fails, and
what `relock` commits was rebuilt by the review.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core import madeon, paths
from mlops.core.errors import UserError
from mlops.core.git import show
from mlops.core.lock import Lock, hash_of, outputs
from mlops.data import tables
from mlops.review.baseline import FOLDER
from mlops.review.recorded import metrics_apart
from mlops.review.store import from_store

MD5 = re.compile(r"[0-9a-f]{32}")


class Rebuilt(NamedTuple):
    """What the review compared.

    Attributes
    ----------
    made_on : str or None
        The platform that the committed lock names.
    here : str
        The platform of the review.
    rows : int
        Test rows whose predictions were compared; 0 where the committed ones are neither in the cache nor in the
        remote, so that the recorded metrics were compared instead.
    difference : float
        The largest difference: of probabilities, or of numbers in standard deviations of the rebuilt ones, or of
        recorded metrics, which have six decimals. Infinite where a class, a row or a metric differs.
    """

    made_on: str | None
    here: str
    rows: int
    difference: float


def compare(committed: bytes, claimed: Lock, made: Lock) -> Rebuilt | None:
    """Compare the committed results with the rebuilt ones.

    Parameters
    ----------
    committed : bytes
        This change's `dvc.lock`.
    claimed, made : dict
        The stages in it, and those in the rebuilt one.

    Returns
    -------
    Rebuilt or None
        None if the committed lock is from other code, parameters or data, so that it is outdated.
    """
    if not same_recipe(claimed, made):
        return None
    named = madeon.read(committed)
    theirs = _predictions(hash_of(claimed, paths.PREDICTIONS))
    if theirs is not None:
        rows, difference = theirs.num_rows, apart(theirs, tables.read(paths.PREDICTIONS))
    else:
        rows, difference = 0, metrics_apart(show("HEAD", paths.EVALUATION), paths.EVALUATION.read_bytes())
    return Rebuilt(named, madeon.here(), rows, difference)


def same_recipe(claimed: Lock, made: Lock) -> bool:
    """Whether two locks differ in nothing but the hashes of what the stages wrote."""
    written = {*outputs(made)}

    def recipe(stage: dict[str, Any]) -> Any:
        read = {each["path"]: each.get("md5") for each in stage.get("deps", []) if each["path"] not in written}
        return stage.get("cmd"), stage.get("params"), read

    try:
        if {*outputs(claimed)} != written:
            return False
        return {name: recipe(claimed[name]) for name in claimed} == {name: recipe(made[name]) for name in made}
    except (AttributeError, KeyError, TypeError):  # it was written by hand
        return False


def apart(theirs: pa.Table, ours: pa.Table) -> float:
    """The largest difference between two tables of predictions; infinite where more than numbers differs."""
    if theirs.schema.names != ours.schema.names or theirs.schema.types != ours.schema.types:
        return math.inf
    if theirs.num_rows != ours.num_rows:
        return math.inf
    largest = 0.0
    for name in ours.schema.names:
        one, two = theirs[name].combine_chunks(), ours[name].combine_chunks()
        if one.equals(two):
            continue
        if name == "actual" or not pa.types.is_floating(two.type) or not one.is_null().equals(two.is_null()):
            return math.inf
        numbers = [np.asarray(each.drop_null(), float) for each in (one, two)]
        unit = (np.std(numbers[1]) or 1.0) if name == "predicted" else 1.0
        difference = float(np.max(np.abs(numbers[0] - numbers[1]) / unit))  # NaN where either is
        largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return largest


def _predictions(md5: str | None) -> pa.Table | None:
    """The committed predictions, if cache or remote have them; no larger than what predictions of these rows can be."""
    if not isinstance(md5, str) or not MD5.fullmatch(md5):
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    found, _ = from_store(md5, FOLDER / f"committed-{paths.PREDICTIONS.name}")
    if found is None or found.stat().st_size > 2 * paths.PREDICTIONS.stat().st_size + 1_000_000:
        return None
    try:
        return tables.read(Path(found))
    except (UserError, pa.ArrowException, OSError):
        return None
