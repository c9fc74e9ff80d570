"""The section of the model card about explanations: what contributes to the score, and partial dependence."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from mlops.core import mermaid
from mlops.core.markdown import details, escaped, number, table, verbatim
from mlops.pipeline.card_sections import IMPORTANT, Evaluation, cut, interval

CHARTS = 3


def explanation_section(evaluation: Evaluation) -> str:
    """The largest mean contributions, and the mean prediction at different values of the columns."""
    return "\n\n".join([contributions(evaluation["explanation"], confidence(evaluation)), *depends(evaluation)])


def confidence(evaluation: Evaluation) -> str:
    return f"{evaluation['interval']['confidence']:.0%}"


def contributions(found: dict[str, Any], level: str) -> str:
    """How far each column moves the score, on average."""
    if "why" in found:
        return f"Contributions (SHAP values): none, because {escaped(found['why'])}."
    of = f" of {verbatim(found['of'])}" if found["of"] is not None else ""
    caption = (
        f"How far each column moves the score ({found['unit']}{of}) of a row, on average: the mean absolute SHAP value "
        f"on {found['rows']:,} test rows, with {level} intervals over rows. "
        "[One prediction](../docs/explanations.md) is explained by `explain=true`."
    )
    rows = [
        [verbatim(each["column"]), number(each["mean"]), f"{number(each['low'])} … {number(each['high'])}"]
        for each in found["columns"]
        if each["mean"] > 0
    ]
    return f"{caption}\n\n{cut(['column', 'mean', 'interval'], rows, IMPORTANT, 'smaller')}"


def depends(evaluation: Evaluation) -> list[str]:
    """Charts of the first columns, and tables of all."""
    found = evaluation["dependence"]
    if not found:
        return []
    what = "prediction" if evaluation["task"] == "regression" else "probability"
    caption = (
        f"**Partial dependence**: the mean {what} if a column had the same value in all of {found[0]['rows']:,} test "
        f"rows, with {confidence(evaluation)} intervals over rows. Combinations that never occur are included."
    )
    drawn = [chart(each, what) for each in found if evenly_spaced(each["points"])][:CHARTS]
    legend = "<sub>Orange: the mean. Grey: its interval.</sub>"
    tables = "\n\n".join(points(each, what) for each in found)
    return [caption, *drawn, *([legend] if drawn else []), details("Partial dependence as tables", tables)]


def chart(found: dict[str, Any], what: str) -> str:
    """The mean and its interval as lines."""
    at = [each["at"] for each in found["points"]]
    series = [[each[key] for each in found["points"]] for key in ("low", "high", "mean")]
    colours = [mermaid.MAIN_COLOUR, mermaid.MAIN_COLOUR, mermaid.HERE_COLOUR]
    title = found["column"] if found["of"] is None else f"{found['column']}, {found['of']}"
    return mermaid.lines(title, found["column"], f"mean {what}", at, series, colours)


def points(found: dict[str, Any], what: str) -> str:
    """The same numbers as a table."""
    header = [verbatim(found["column"]), f"mean {what}{of(found)}", "interval"]
    rows = [[value(each["at"]), number(each["mean"]), interval(each)] for each in found["points"]]
    return table(header, rows)


def value(at: str | float) -> str:
    return verbatim(at) if isinstance(at, str) else number(at)


def of(found: dict[str, Any]) -> str:
    return "" if found["of"] is None else f" of {verbatim(found['of'])}"


def evenly_spaced(points: list[dict[str, Any]]) -> bool:
    """Whether a line over an axis of numbers shows the values at their places."""
    at = [each["at"] for each in points]
    if len(at) < 3 or isinstance(at[0], str):
        return False
    steps = [after - before for before, after in pairwise(at)]
    return bool(max(steps) - min(steps) <= 0.01 * max(steps))
