"""Line charts for GitHub's Markdown, in Mermaid; their texts keep letters, digits and spaces only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlops.core.letters import visible

# distinct in light and dark mode, and for colour-blind readers
MAIN_COLOUR, HERE_COLOUR = "#8c8c8c", "#d9730d"


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
    decimals = 4 if high - low >= 0.01 else 9
    if high - low < 1e-8:
        low, high = low - 0.5, high + 0.5
    theme = f'%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{", ".join(colours)}"}}}}}}}}%%'
    return "\n".join(
        [
            "```mermaid",
            theme,
            "xychart-beta",
            f'    title "{plain(title)}"',
            f'    x-axis "{plain(x)}" {at[0]:.4f} --> {at[-1]:.4f}',
            f'    y-axis "{plain(y)}" {low:.{decimals}f} --> {high:.{decimals}f}',
            *(f"    line [{', '.join(f'{value:.{decimals}f}' for value in line)}]" for line in series),
            "```",
        ]
    )


def plain(text: str) -> str:
    """Keep the letters, digits, spaces, dots and commas that a chart may hold."""
    return re.sub(r"[^\w .,]", " ", visible(text))[:80]
