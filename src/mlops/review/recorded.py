"""How far the recorded metrics of two evaluations are apart, where their predictions cannot be compared.

A file of metrics may be anybody's claim, so it is bounded and read as data.
"""

from __future__ import annotations

import json
import math

MOST_BYTES = 5_000_000  # of evaluation.json; that of the default project has 30 kB
NUMBERS = ("value", "low", "high", "train", "dummy")
# recorded metrics have six decimals, the last one rounded
RECORDED = 1.5e-6


def metrics_apart(theirs: bytes | None, ours: bytes) -> float:
    """The largest difference between the metrics of two evaluations; infinite where they have others."""
    numbers = [_numbers(content) for content in (theirs, ours)]
    if not numbers[1] or numbers[0].keys() != numbers[1].keys():
        return math.inf
    pairs = [(numbers[0][key], numbers[1][key]) for key in numbers[1]]
    if any((one is None) != (two is None) for one, two in pairs):
        return math.inf
    return max(abs(one - two) for one, two in pairs if one is not None and two is not None)


def _numbers(content: bytes | None) -> dict[tuple[str, str], float | None]:
    """The recorded numbers of each metric, and of rows; empty if they cannot be read."""
    if content is None or len(content) > MOST_BYTES:
        return {}
    try:
        document = json.loads(content)
        found = {(name, key): each.get(key) for name, each in document["metrics"].items() for key in NUMBERS}
        found |= {("rows", key): number for key, number in document["rows"].items()}
        return {key: None if number is None else float(number) for key, number in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
