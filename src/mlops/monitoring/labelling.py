"""`make label LOG=folder N=100`: choose the logged rows that are most worth a person's time.

A third is where the model is most uncertain, a third is least like the training rows, and a third is drawn at random
from all the rest. So a mean weighted by 1 / inclusion probability is unbiased for all rows of the log (Horvitz and
Thompson 1952). The log is read twice; of each row, eight bytes are kept. The same log gives the same rows.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mlops.core.errors import UserError, counted, errors_in_words
from mlops.data import project as projects
from mlops.data.project import Project
from mlops.monitoring import labels, reference
from mlops.monitoring.label_files import FOLDER, is_formula, write
from mlops.monitoring.labels import hashed
from mlops.monitoring.log import Reading, Rows
from mlops.monitoring.reference import Reference
from mlops.monitoring.unusual import Distance, Unlike, uncertainty

Array = np.ndarray[Any, Any]

RECENT = np.timedelta64(28, "D")  # rows that are compared with the training rows
MOST_ROWS = 5_000  # of which the classifier learns what is recent
MOST_CHOSEN = 10_000
UNCERTAIN, UNLIKE, RANDOM = "uncertain", "unlike the training rows", "random"


class Chosen(NamedTuple):
    """Rows to label.

    Attributes
    ----------
    rows : Rows
    why : list of str
    probability : ndarray of shape (n_chosen,)
        Of being chosen, among all rows that could be.
    left_out : dict of str to int
        Rows that could not be chosen, by reason.
    """

    rows: Rows
    why: list[str]
    probability: Array
    left_out: dict[str, int]


@dataclass
class Best:
    """The rows with the highest scores; of equal ones, those with the smallest hashes."""

    most: int
    scores: Array = field(default_factory=lambda: np.zeros(0))
    hashes: Array = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    rows: Rows | None = None

    def add(self, rows: Rows, hashes: Array, scores: Array) -> None:
        order = np.lexsort((hashes, -scores))[: self.most]
        rows, hashes, scores = rows.some(order), hashes[order], scores[order]
        if self.rows is not None:
            rows = both(self.rows, rows)
            hashes, scores = np.concatenate([self.hashes, hashes]), np.concatenate([self.scores, scores])
        self.keep(rows, hashes, scores, np.lexsort((hashes, -scores))[: self.most])

    def keep(self, rows: Rows, hashes: Array, scores: Array, which: Array) -> None:
        self.rows, self.hashes, self.scores = rows.some(which), hashes[which], scores[which]


def choose(reading: Reading, known: Reference, labelled: Array, count: int) -> Chosen:
    """Choose rows of a log.

    Parameters
    ----------
    labelled : ndarray of uint64
        Hashes of the rows that have a label.
    count : int
        How many; fewer come where the log has fewer.

    Raises
    ------
    UserError
        If no row can be chosen.
    """
    eligible, recent, left_out, last = survey(reading, labelled)
    if not len(eligible):
        reasons = "; ".join(f"{rows:,} {reason}" for reason, rows in left_out.items() if rows)
        raise UserError(
            f"{reading.folder} holds no row of the model {reading.model[:10]} that could be labelled"
            + (f": {reasons}" if reasons else ""),
            "the log of the release that is checked out here",
        )
    near = Distance(known)
    unlike = Unlike(known, recent, None if recent is None else salted(recent))
    third = count // 3
    uncertain, strange, drawn = Best(third), Best(2 * third), Best(count)
    for rows in reading:
        hashes = salted(rows)
        place = np.searchsorted(eligible, hashes).clip(max=len(eligible) - 1)
        usable = np.flatnonzero(eligible[place] == hashes)
        these, hashes = rows.some(usable), hashes[usable]
        if not len(these):
            continue
        uncertain.add(these, hashes, uncertainty(these, known.contract, near))
        young = np.flatnonzero(these.time > last - RECENT)
        if len(young):
            strange.add(these.some(young), hashes[young], unlike(these.some(young), hashes[young]))
        drawn.add(these, hashes, smallest(hashes))
    taken = set(uncertain.hashes.tolist())
    new = [place for place, each in enumerate(strange.hashes.tolist()) if each not in taken][:third]
    taken |= set(strange.hashes[new].tolist())
    free = [place for place, each in enumerate(drawn.hashes.tolist()) if each not in taken][: count - len(taken)]
    parts = [(UNCERTAIN, uncertain, range(len(uncertain.hashes))), (UNLIKE, strange, new), (RANDOM, drawn, free)]
    found = [
        (name, best.rows.some(np.array(which, dtype=np.int64)))
        for name, best, which in parts
        if best.rows is not None and len(which)
    ]
    chosen = found[0][1]
    for _, rows in found[1:]:
        chosen = both(chosen, rows)
    why = [name for name, rows in found for _ in range(len(rows))]
    drawn_share = len(free) / max(1, len(eligible) - len(taken))
    probability = np.array([drawn_share if name == RANDOM else 1.0 for name in why])
    return Chosen(chosen, why, probability, left_out)


def survey(reading: Reading, labelled: Array) -> tuple[Array, Rows | None, dict[str, int], Any]:
    """Go through the log once.

    Returns
    -------
    eligible : ndarray of uint64
        Sorted hashes of the rows that may be chosen.
    recent : Rows or None
        Some of the last rows.
    left_out : dict of str to int
    last : numpy.datetime64
        Time of the last row.
    """
    parts: list[Array] = []
    refused = 0
    last = np.datetime64(0, "us")
    sample = Best(MOST_ROWS)
    for rows in reading:
        hashes = salted(rows)
        named = np.array([not is_formula(each) for each in rows.request_id], dtype=bool)
        refused += int((~named).sum())
        parts.append(hashes[named])
        last = max(last, rows.time.max())
        if sample.rows is not None:
            sample.keep(sample.rows, sample.hashes, sample.scores, np.flatnonzero(sample.rows.time > last - RECENT))
        young = np.flatnonzero(rows.time > last - RECENT)
        if len(young):
            sample.add(rows.some(young), hashes[young], smallest(hashes[young]))
    single, times = np.unique(np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64), return_counts=True)
    repeated = int(times[times > 1].sum())
    single = single[times == 1]
    eligible = single[~np.isin(single, salt(labelled))]
    left_out = {
        "have a label": len(single) - len(eligible),
        "have a request id and row number that were logged more than once": repeated,
        "have a request id that a spreadsheet would take for a formula": refused,
    }
    return eligible, sample.rows, left_out, last


def salted(rows: Rows) -> Array:
    """A hash of each row, which is as good as a random number."""
    return salt(hashed(rows.request_id, rows.row))


def salt(hashes: Array) -> Array:
    """Hashes that are independent of those by which the monitor samples."""
    return np.asarray(pd.util.hash_array(hashes ^ np.uint64(0x1ABE1)))


def smallest(hashes: Array) -> Array:
    """Scores by which the smallest hashes are best: a random sample."""
    return -hashes.astype(np.float64)


def both(one: Rows, other: Rows) -> Rows:
    """The rows of both."""
    probabilities = None
    if one.probabilities is not None and other.probabilities is not None:
        probabilities = np.concatenate([one.probabilities, other.probabilities])
    return Rows(
        np.concatenate([one.time, other.time]),
        np.concatenate([one.request_id, other.request_id]),
        np.concatenate([one.row, other.row]),
        {name: np.concatenate([values, other.columns[name]]) for name, values in one.columns.items()},
        np.concatenate([one.predicted, other.predicted]),
        probabilities,
        np.concatenate([one.version, other.version]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mlops.monitoring.labelling", description=__doc__)
    parser.add_argument("log", type=Path, help="folder of the prediction log")
    parser.add_argument("--rows", type=int, default=100, help="how many rows to choose")
    given = parser.parse_args()
    if not 1 <= given.rows <= MOST_CHOSEN:
        raise UserError(f"N must be between 1 and {MOST_CHOSEN:,}, got {given.rows:,}")
    project = projects.open()
    known = reference.read(project)
    chosen = choose(Reading(given.log, known.contract, known.model), known, already(project), given.rows)
    write(chosen.rows, chosen.why, chosen.probability, known, project.settings)
    print("\n".join(ending(chosen)))


def already(project: Project) -> Array:
    """Hashes of the rows that have a label."""
    source = project.settings.monitor.labels
    if source is None:
        return np.zeros(0, dtype=np.uint64)
    return labels.read(source, project.settings, project.source[project.settings.data.target]).hashes


def ending(chosen: Chosen) -> list[str]:
    """The result for a terminal."""
    counts = {name: chosen.why.count(name) for name in (UNCERTAIN, UNLIKE, RANDOM)}
    parts = ", ".join(f"{rows:,} {name}" for name, rows in counts.items() if rows)
    return [
        f"{counted(len(chosen.rows), 'row')} to label: {parts}",
        *(f"  {rows:,} rows were left out because they {why}" for why, rows in chosen.left_out.items() if rows),
        f"  {FOLDER}/rows.csv           fill the last columns, and name the file in monitor.labels",
        f"  {FOLDER}/tasks.json         for Label Studio, with the interface in {FOLDER}/interface.xml",
    ]


if __name__ == "__main__":
    with errors_in_words():
        main()
