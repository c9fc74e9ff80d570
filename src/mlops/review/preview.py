"""Renders the comment as an HTML page, roughly as GitHub shows it, to preview it before a push."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from jinja2 import Template
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

from mlops.core.mermaid import HERE_COLOUR, MAIN_COLOUR

WIDTH, HEIGHT, THICK = 640, 280, 18


def page(comment: str) -> str:
    """Render the Markdown of a comment as an HTML page without scripts."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    fence = RendererHTML.fence

    def drawn(self: RendererHTML, tokens: Any, place: int, options: Any, env: Any) -> str:
        token = tokens[place]
        return chart(token.content) if token.info == "mermaid" else fence(self, tokens, place, options, env)

    markdown.add_render_rule("fence", drawn)
    template = Template(Path(__file__).with_name("preview.html.jinja").read_text(encoding="utf-8"))
    return str(template.render(content=markdown.render(comment)))


def chart(source: str) -> str:
    """Draw a chart in Mermaid's `xychart-beta` syntax, as `mermaid` writes it, as SVG."""
    title = re.findall(r'title "([^"{}]*)"', source)[0]
    y = re.findall(r'y-axis "([^"{}]*)"', source)[0]
    low, high = map(float, re.findall(r'y-axis "[^"{}]*" (-?[\d.]+) --> (-?[\d.]+)', source)[0])
    series = [
        [float(value) for value in found.split(",")] for found in re.findall(r"(?:line|bar) \[([^\]]*)\]", source)
    ]
    colours = [MAIN_COLOUR, HERE_COLOUR][-len(series) :]
    if "xychart-beta horizontal" in source:
        names = re.findall(r'"([^"]*)"', re.findall(r"x-axis \[(.*)\]", source)[0])
        height, drawn = bars(y, names, series, colours, (low, high))
    else:
        height, drawn = HEIGHT, lines(source, y, series, colours, (low, high))
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">'
        f"{drawn}{text(WIDTH / 2, 22, 'middle', title)}</svg></figure>\n"
    )


def lines(source: str, y: str, series: list[list[float]], colours: list[str], limits: tuple[float, float]) -> str:
    """The lines and their axes."""
    ((x, left, right),) = re.findall(r'x-axis "([^"{}]*)" (-?[\d.]+) --> (-?[\d.]+)', source)
    low, high = limits
    box_left, box_right, top, bottom = 60, WIDTH - 20, 40, HEIGHT - 50
    paths = []
    for values, colour in zip(series, colours, strict=True):
        step = (box_right - box_left) / (len(values) - 1)
        points = " ".join(
            f"{box_left + i * step:.1f},{bottom - (value - low) / (high - low) * (bottom - top):.1f}"
            for i, value in enumerate(values)
        )
        paths.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    labels = [
        text(WIDTH / 2, HEIGHT - 8, "middle", x),
        text(8, 22, "start", y),
        text(box_left, HEIGHT - 30, "middle", f"{float(left):g}"),
        text(box_right, HEIGHT - 30, "middle", f"{float(right):g}"),
        text(box_left - 6, bottom, "end", f"{low:.3g}"),
        text(box_left - 6, top + 10, "end", f"{high:.3g}"),
    ]
    axes = f'<path d="M{box_left} {top}V{bottom}H{box_right}" fill="none" stroke="var(--line)"/>'
    return "".join([axes, *paths, *labels])


def bars(
    y: str, names: list[str], series: list[list[float]], colours: list[str], limits: tuple[float, float]
) -> tuple[int, str]:
    """The height of a chart of horizontal bars, and the bars with their axes."""
    low, high = limits
    left, right, top = 200, WIDTH - 40, 60
    bottom = top + THICK * len(names)
    drawn = [
        text(left, 52, "middle", f"{low:.3g}"),
        text(right, 52, "middle", f"{high:.3g}"),
        text((left + right) / 2, 52, "middle", y),
        f'<path d="M{right} {top}H{left}V{bottom}" fill="none" stroke="var(--line)"/>',
    ]
    for place, name in enumerate(names):
        across = top + THICK * place
        if name.strip("."):
            drawn.append(text(left - 8, across + THICK, "end", name))
        for values, colour in zip(series, colours, strict=True):
            length = (values[place] - low) / (high - low) * (right - left)
            if length >= 0:
                size = f'width="{length:.1f}" height="{THICK - 4}"'
                drawn.append(f'<rect x="{left}" y="{across + 4}" {size} fill="{colour}"/>')
    return bottom + 12, "".join(drawn)


def text(x: float, y: float, anchor: str, content: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(content)}</text>'
