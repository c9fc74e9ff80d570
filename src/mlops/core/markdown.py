"""Markdown for GitHub, in which foreign text stays text.

Names of columns, classes and slices are data, and a report may come from a stranger. So each text goes through here
before it stands in a comment or a model card: it brings no markup, mention, link or cell of a table with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mlops.core.letters import visible

JOINER = "&#8288;"  # invisible; takes a mention, reference or address apart


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; cells are rendered already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def details(summary: str, content: str) -> str:
    """A block that opens on demand."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:.4g}"


def one_line(text: Any, most: int) -> str:
    """Text in one line, nothing in it unseen, of at most so many characters."""
    line = visible(" ".join(str(text).split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def verbatim(text: Any, most: int = 60) -> str:
    """Foreign text as code that also reads well in a diff: between backticks, unless something in it could end them."""
    line = one_line(text, most)
    return code(line) if not line or re.search(r"[`|\\]", line) else f"`{line}`"


def code(text: str) -> str:
    """Foreign text as code, where GitHub looks for no mention and no reference."""
    return f"<code>{_inert(text)}</code>"


def escaped(text: str) -> str:
    """Foreign text that stays text: in Markdown, in HTML, in a table, and for GitHub's mentions and references."""
    # what may be the name of a commit; beside an é it counts as a word of its own, as it does where \b knows ASCII only
    commit = r"(?ai)\b[0-9a-f]{7,}\b"
    text = re.sub(commit, lambda match: JOINER.join(re.findall(".{1,6}", match[0])), _inert(text.strip()))
    return re.sub(r"^[-=0-9]", lambda match: f"&#{ord(match[0])};", text)  # what begins a list or a rule


def _inert(text: str) -> str:
    text = re.sub(r"""[!"#$&'()*+:<>@\[\\\]^_`{|}~]""", lambda match: f"&#{ord(match[0])};", text)
    text = text.replace("&#36;", "<span>&#36;</span>")  # GitHub's own way to a dollar sign that is no mathematics
    text = re.sub(r"&#(35|64|58);", lambda match: f"{match[0]}{JOINER}", text)
    return re.sub(r"(?ai)\b(gh|www)([-.])", rf"\1{JOINER}\2", text)
