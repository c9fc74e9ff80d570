"""Markdown for GitHub with untrusted text escaped.

Names of columns, classes and slices are data, and a report may come from an untrusted person. Every text is escaped
here before it is used in a comment or a model card: it cannot add markup, mentions, links or table cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mlops.core.letters import visible

JOINER = "&#8288;"  # invisible; breaks a mention, reference or address


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; cells must be escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def details(summary: str, content: str) -> str:
    """A collapsed block."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:.4g}"


def one_line(text: Any, most: int) -> str:
    """Text in one line, without invisible characters, of limited length."""
    line = visible(" ".join(str(text).split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def verbatim(text: Any, most: int = 60) -> str:
    """Untrusted text as code that reads well in a diff: in backticks, unless its characters could end them."""
    line = one_line(text, most)
    return code(line) if not line or re.search(r"[`|\\]", line) else f"`{line}`"


def code(text: str) -> str:
    """Untrusted text as code, in which GitHub detects no mentions or references."""
    return f"<code>{_inert(text)}</code>"


def escaped(text: str) -> str:
    """Untrusted text, escaped for Markdown, HTML, tables, and GitHub's mentions and references."""
    # a possible commit hash; a non-ASCII letter beside it ends the word, as in a regular expression with ASCII \b
    commit = r"(?ai)\b[0-9a-f]{7,}\b"
    text = re.sub(commit, lambda match: JOINER.join(re.findall(".{1,6}", match[0])), _inert(text.strip()))
    return re.sub(r"^[-=0-9]", lambda match: f"&#{ord(match[0])};", text)  # the start of a list or a rule


def _inert(text: str) -> str:
    text = re.sub(r"""[!"#$&'()*+:<>@\[\\\]^_`{|}~]""", lambda match: f"&#{ord(match[0])};", text)
    text = text.replace(
        "&#36;", "<span>&#36;</span>"
    )  # GitHub's way to write a dollar sign that does not start mathematics
    text = re.sub(r"&#(35|64|58);", lambda match: f"{match[0]}{JOINER}", text)
    return re.sub(r"(?ai)\b(gh|www)([-.])", rf"\1{JOINER}\2", text)
