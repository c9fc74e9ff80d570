"""Which decisions change: this change's predictions beside main's, row by row.

A metric may stay the same while many rows change sides, and each of them is somebody whose decision changes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mlops.core.report import Decisions, Example, Flip, Value, shortened
from mlops.inference.contract import label_name
from mlops.model.metrics import Array
from mlops.review.gate import Judged

MOST_FLIPS, MOST_KEYS = 6, 5
# A smaller change of a number, relative to it, is not counted
SMALLEST = 1e-6


def compare(judged: Judged | None, key: list[str], examples: int) -> Decisions | None:
    """Count the test rows whose prediction differs between both models.

    Parameters
    ----------
    key : list of str
        Columns that identify a row.
    examples : int
        How many rows to name by their key.

    Returns
    -------
    Decisions or None
        None where there is no model of main to compare with.
    """
    if judged is None or judged.baseline is None or not len(judged.y):
        return None
    before, after = judged.baseline.predicted, judged.candidate.predicted
    if judged.classes is None:
        return _of_numbers(judged, before, after, key, examples)
    changed = np.flatnonzero(before != after)
    groups: dict[tuple[str, str], Array] = {}
    for row in changed.tolist():
        pair = (_shown(before[row]), _shown(after[row]))
        groups[pair] = np.append(groups.get(pair, np.array([], dtype=int)), row)
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    flips = [
        Flip(
            before=pair[0],
            after=pair[1],
            rows=len(rows),
            right=int((judged.y[rows] == after[rows]).sum()),
            wrong=int((judged.y[rows] == before[rows]).sum()),
        )
        for pair, rows in largest[:MOST_FLIPS]
    ]
    # rows that main predicts correctly come first
    order = sorted(changed.tolist(), key=lambda row: (judged.y[row] != before[row], row))
    return Decisions(
        rows=len(before),
        changed=len(changed),
        flips=flips,
        left_out=sum(len(rows) for _, rows in largest[MOST_FLIPS:]),
        examples=_examples(judged, order[:examples], key),
    )


def _of_numbers(judged: Judged, before: Array, after: Array, key: list[str], examples: int) -> Decisions:
    distance = np.abs(after - before)
    changed = np.flatnonzero(~np.isclose(after, before, rtol=SMALLEST, atol=0))
    order = sorted(changed.tolist(), key=lambda row: (-distance[row], row))
    median, most = (round(float(each), 9) for each in np.quantile(distance, [0.5, 0.95]))
    return Decisions(
        rows=len(before),
        changed=len(changed),
        median=median,
        most=most,
        higher=int((after[changed] > before[changed]).sum()),
        examples=_examples(judged, order[:examples], key),
    )


def _examples(judged: Judged, rows: list[int], key: list[str]) -> list[Example]:
    names = [name for name in key if name in judged.table.column_names][:MOST_KEYS]
    if not names or judged.baseline is None:
        return []
    table = judged.table.select(names).take(pa.array(rows, pa.int64())).to_pylist()
    return [
        Example(
            key=[Value(column=shortened(name), value=shortened(values[name])) for name in names],
            before=_shown(judged.baseline.predicted[row]),
            after=_shown(judged.candidate.predicted[row]),
            actual=_shown(judged.y[row]),
        )
        for row, values in zip(rows, table, strict=True)
    ]


def _shown(value: object) -> str:
    """A class by its name, a number in six digits."""
    found = value.item() if isinstance(value, np.generic) else value
    return f"{found:.6g}" if isinstance(found, float) else shortened(label_name(found))  # type: ignore[arg-type]
