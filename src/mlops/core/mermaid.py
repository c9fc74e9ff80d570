"""Charts for GitHub's Markdown, in Mermaid; their texts keep letters, digits and spaces only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlops.core.letters import visible

# distinct in light and dark mode, and for colour-blind readers
MAIN_COLOUR, HERE_COLOUR = "#8c8c8c", "#d9730d"
# of a category, so that a bar keeps most of the width of a phone
MOST_LETTERS = 24


def lines(
    title: str, x: str, y: str, at: Sequence[float], series: Sequence[Sequence[float]], colours: Sequence[str]
) -> str:
    """Lines over a common axis, whose values are evenly spaced.

    Parameters
    ----------
    at : sequence of float
        At least two values.
    series : sequence of sequences of float
        One value of each line for each value of the axis.
    colours : sequence of str
        Of each line.
    """
    values = [value for line in series for value in line]
    low, high = min(values), max(values)
    axis = f'x-axis "{plain(x)}" {at[0]:.4f} --> {at[-1]:.4f}'
    return _chart("xychart-beta", title, axis, y, (low, high), "line", series, colours)


def bars(title: str, y: str, names: Sequence[str], series: Sequence[Sequence[float]], colours: Sequence[str]) -> str:
    """Horizontal bars, one of each series for each category.

    Mermaid draws the bars of all series at the same place, so each bar gets a place of its own; the first one of a
    category has its name.

    Parameters
    ----------
    names : sequence of str
        Of the categories.
    series : sequence of sequences of float
        One value of each series for each category.
    colours : sequence of str
        Of each series.
    """
    values = [value for line in series for value in line]
    low, high = min(0.0, *values), max(0.0, *values)
    hidden = low - 0.1 * (high - low)  # left of the axis, where Mermaid draws nothing
    places, spaced = [], [[] for _ in series]  # type: ignore[var-annotated]
    for category, name in enumerate(names):
        label = plain(name)[:MOST_LETTERS].strip() or "empty"
        while label in places:  # Mermaid would draw two categories of one name at one place
            label += " ."
        for number, line in enumerate(series):
            places.append(label if number == 0 else "." * (category + 1))
            for other, found in enumerate(spaced):
                found.append(line[category] if other == number else hidden)
    axis = "x-axis [" + ", ".join(f'"{each}"' for each in places) + "]"
    return _chart("xychart-beta horizontal", title, axis, y, (low, high), "bar", spaced, colours)


def _chart(
    kind: str,
    title: str,
    axis: str,
    y: str,
    limits: tuple[float, float],
    drawn: str,
    series: Sequence[Sequence[float]],
    colours: Sequence[str],
) -> str:
    low, high = limits
    decimals = 4 if high - low >= 0.01 else 9
    if high - low < 1e-8:
        low, high = low - 0.5, high + 0.5
    theme = f'%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{", ".join(colours)}"}}}}}}}}%%'
    return "\n".join(
        [
            "```mermaid",
            theme,
            kind,
            f'    title "{plain(title)}"',
            f"    {axis}",
            f'    y-axis "{plain(y)}" {low:.{decimals}f} --> {high:.{decimals}f}',
            *(f"    {drawn} [{', '.join(f'{value:.{decimals}f}' for value in line)}]" for line in series),
            "```",
        ]
    )


def plain(text: str) -> str:
    """Keep the letters, digits, spaces, dots and commas that a chart may hold."""
    return re.sub(r"[^\w .,]", " ", visible(text))[:80]
