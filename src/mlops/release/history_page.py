"""The history as a page: charts of the main metrics, what runs now, and a table that can be sorted and filtered.

The page loads nothing and sends nothing; its policy allows its own script and style by their hashes only. Every text of
Git is escaped.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2

from mlops.core import paths
from mlops.core.letters import visible
from mlops.core.markdown import number
from mlops.monitoring.findings import Findings

if TYPE_CHECKING:
    from mlops.release.history import Entry

FOLDER = Path(__file__).parent
TOP, BOTTOM = 14.0, 92.0  # of the curve, in percent of a chart's height; the names of releases are above
MANY = 80  # marks on a chart, above which they are drawn smaller
BETWEEN = 18.0  # percent of a chart's width between two names of releases, so that they do not cover each other


class Mark(NamedTuple):
    """A model or release on a chart; places are in percent."""

    x: float
    y: float
    low: float | None
    high: float | None
    release: str
    label: bool
    text: str


def page(
    entries: list[Entry],
    metrics: list[str],
    running: dict[str, list[str]],
    monitored: Findings | None,
    tip: str,
    address: str | None,
    model: bool = False,
) -> str:
    """The page of a history, of which entries are sorted by time.

    Parameters
    ----------
    metrics : list of str
        The main ones, which have charts and columns.
    running : dict of str to list of str
        Version, or digest of an unknown one → where it runs.
    monitored : Findings or None
        The monitor's last report.
    address : str or None
        Of the repository's page, for links.
    model : bool
        Whether the page of `make edge` is beside it.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_clean
    )
    style, script = ((FOLDER / f"history.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    template = environment.from_string((FOLDER / "history.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        charts=[chart(entries, metric) for metric in metrics],
        metrics=metrics,
        rows=[row(each, metrics, address) for each in reversed(entries)],
        running=sorted(running.items()),
        monitored=monitored,
        tip=tip,
        merged=sum(each.kind == "merged" for each in entries),
        releases=sum(each.kind == "release" for each in entries),
        first=entries[0].date[:10],
        last=entries[-1].date[:10],
        address=address,
        model=model,
    )


def row(each: Entry, metrics: list[str], address: str | None) -> dict[str, Any]:
    """What the table shows of an entry."""
    hashes = {
        "commit": each.commit.sha,
        "model": each.model,
        "table": each.hashes.get(str(paths.TABLE), ""),
        "training rows": each.hashes.get(str(paths.TRAIN), ""),
        "test rows": each.hashes.get(str(paths.TEST), ""),
        "estimator": each.estimator,
        "rows": ", ".join(f"{each.rows[key]} {key}" for key in ("train", "test") if key in each.rows),
    }
    number_ = each.commit.pull_request if each.kind == "merged" else None
    return {
        "entry": each,
        # without mail addresses: the page may be public
        "approvers": [re.sub(r"\s*<[^>]*>", "", name) for name in each.commit.approvers if each.kind == "merged"],
        "day": each.date[:10],
        "time": int(datetime.datetime.fromisoformat(each.date).timestamp()),
        "what": f"Release {each.name}" if each.kind == "release" else each.commit.subject,
        "pull": number_,
        "link": f"{address}/pull/{number_}" if address and number_ else None,
        "data": each.hashes.get(str(paths.TABLE), "")[:8],
        "cells": [_cell(each.metrics.get(name)) for name in metrics],
        "details": {name: value for name, value in hashes.items() if value},
        "others": {name: _words(value) for name, value in each.metrics.items() if name not in metrics},
    }


def _cell(each: dict[str, float | None] | None) -> dict[str, Any]:
    if each is None:
        return {"sort": "", "value": "–", "interval": ""}
    return {"sort": each["value"], "value": number(each["value"]), "interval": _interval(each)}


def _interval(each: dict[str, float | None]) -> str:
    return "" if each["low"] is None or each["high"] is None else f"{number(each['low'])} … {number(each['high'])}"


def _words(each: dict[str, float | None]) -> str:
    return " ".join(filter(None, [number(each["value"]), f"({inside})" if (inside := _interval(each)) else ""]))


def chart(entries: list[Entry], metric: str) -> dict[str, Any]:
    """A metric over time: marks with intervals, what main had as steps, and lines where the test rows changed."""
    shown = [each for each in entries if metric in each.metrics]
    times = [datetime.datetime.fromisoformat(each.date).timestamp() for each in shown]
    ends = [value for each in shown for value in each.metrics[metric].values() if value is not None]
    lowest, highest = min(ends), max(ends)
    span = (highest - lowest) or abs(highest) or 1.0
    duration = (times[-1] - times[0]) or 1.0

    def across(time: float) -> float:
        return round(2 + 96 * (time - times[0]) / duration, 2)

    def down(value: float | None) -> float | None:
        return None if value is None else round(BOTTOM - (BOTTOM - TOP) * (value - lowest) / span, 2)

    labelled = spaced({each.name: across(time) for each, time in zip(shown, times, strict=True) if each.name})
    marks = []
    for each, time in zip(shown, times, strict=True):
        value = each.metrics[metric]
        where = f"{each.date[:10]} {each.name or each.commit.subject}: {_words(value)}"
        height = down(value["value"])
        assert height is not None  # noqa: S101  `estimates` leaves out what has no value
        mark = Mark(
            across(time), height, down(value["low"]), down(value["high"]), each.name, each.name in labelled, where
        )
        marks.append(mark)
    on_main = [mark for mark in marks if not mark.release]
    return {
        "metric": metric,
        "dense": len(marks) > MANY,
        "marks": marks,
        "steps": list(_steps(on_main, marks[-1].x)),
        "changes": [
            mark.x
            for before, now, mark in zip(shown, shown[1:], marks[1:], strict=False)
            if before.hashes.get(str(paths.TEST)) != now.hashes.get(str(paths.TEST))
        ],
        "top": number(highest),
        "bottom": number(lowest),
        "top_y": down(highest),
        "bottom_y": down(lowest),
        "first": shown[0].date[:10],
        "last": shown[-1].date[:10],
    }


def spaced(places: dict[str, float]) -> set[str]:
    """The names that fit above a chart; the newest ones come first."""
    kept: dict[str, float] = {}
    for name, place in reversed(places.items()):
        middle = min(max(place, BETWEEN / 2), 100 - BETWEEN / 2)  # at an edge, a name begins or ends at its mark
        if all(abs(middle - other) >= BETWEEN for other in kept.values()):
            kept[name] = middle
    return set(kept)


def _steps(marks: list[Mark], end: float) -> Iterable[tuple[float, float, float, float]]:
    """Lines of a staircase: main keeps a model until the next one is merged."""
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        until = following.x if following else end
        yield mark.x, mark.y, until, mark.y
        if following:
            yield until, mark.y, until, following.y


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _clean(value: Any) -> Any:
    """Text without letters that nobody sees, which could turn the direction of what follows."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
