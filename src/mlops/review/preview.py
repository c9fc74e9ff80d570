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

WIDTH, HEIGHT = 640, 280


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
    """Draw a line chart in Mermaid's `xychart-beta` syntax, as `render` writes it, as SVG."""
    title, x, y = re.findall(r'"([^"{}]*)"(?: |$)', source, re.MULTILINE)[:3]
    (left, right), (low, high) = (
        tuple(map(float, found)) for found in re.findall(r"(-?[\d.]+) --> (-?[\d.]+)", source)
    )
    lines = [[float(value) for value in found.split(",")] for found in re.findall(r"line \[([^\]]*)\]", source)]
    box_left, box_right, top, bottom = 60, WIDTH - 20, 40, HEIGHT - 50
    paths = []
    for values, colour in zip(lines, [MAIN_COLOUR, HERE_COLOUR][-len(lines) :], strict=True):
        step = (box_right - box_left) / (len(values) - 1)
        points = " ".join(
            f"{box_left + i * step:.1f},{bottom - (value - low) / (high - low) * (bottom - top):.1f}"
            for i, value in enumerate(values)
        )
        paths.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    texts = [
        (WIDTH / 2, 22, "middle", title),
        (WIDTH / 2, HEIGHT - 8, "middle", x),
        (8, 22, "start", y),
        (box_left, HEIGHT - 30, "middle", f"{left:g}"),
        (box_right, HEIGHT - 30, "middle", f"{right:g}"),
        (box_left - 6, bottom, "end", f"{low:.3g}"),
        (box_left - 6, top + 10, "end", f"{high:.3g}"),
    ]
    labels = "".join(f'<text x="{a:.0f}" y="{b:.0f}" text-anchor="{c}">{html.escape(d)}</text>' for a, b, c, d in texts)
    axes = f'<path d="M{box_left} {top}V{bottom}H{box_right}" fill="none" stroke="var(--line)"/>'
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f"{axes}{''.join(paths)}{labels}</svg></figure>\n"
    )
