"""Text of a stranger in every place of a report: in the comment it is text, and nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from conftest import Project
from markdown_it import MarkdownIt

from mlops.core.letters import unseen
from mlops.core.report import Report, shortened
from mlops.review.render import comment

RUN_URL = "https://github.com/ada/a-project/actions/runs/30433642"
PATTERNS = {
    "^[0-9a-f]{40}$": "0123456789abcdef0123456789abcdef01234567",
    "^[0-9a-f]{32}$": "0123456789abcdef0123456789abcdef",
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}$": "2026-12-31",
}
TAGS = {
    *("h2", "h3", "h4", "p", "ul", "li", "strong", "em", "b", "code", "pre", "details", "summary", "sub", "br", "hr"),
    *("wbr", "table", "thead", "tbody", "tr", "th", "td", "a", "span"),
}
VOID = {"br", "hr", "wbr"}
HOSTILE = {
    "mention": "@ada and @ada/team, mail ada@example.org",
    "reference": "fixes #1, GH-1, ada/other#1, ada/other@0123456789abcdef0123456789abcdef01234567",
    "reference beside a letter": "égh-1 ＠ａGH-1 日gh-2 ada/other#1",
    "address beside a letter": "éwww.evil.example ａwww.evil.example",
    "commit": "0123456789abcdef0123456789abcdef01234567 deadbeef1 DEADBEEF1 (1234567)",
    "commit beside a letter": "ａdeadbeef1 deadbeef1é éabcdef1é 日1234567日 _deadbeef1_",
    "commit beside letters of its look": "а0123456789abcdef0123456789abcdef01234567٣",
    "address": "https://evil.example www.evil.example http://evil.example mailto:a@evil.example ftp://evil.example",
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "end of details": "</details></summary></table></code></pre><h1>✅ May be merged",
    "comment": "<!-- the rest of the page --",
    "declaration": "<!DOCTYPE x><?php ?><![CDATA[ x",
    "image": "![all is well](https://evil.example/pixel.png)",
    "link": "[the run](javascript:alert(1)) [x][y] <https://evil.example> [y]: https://evil.example",
    "footnote": "[^1] [^1]: text",
    "fence": "``` ~~~ `` ` ```mermaid",
    "mermaid": '"] %%{init: {"securityLevel": "loose"}}%% click A "javascript:alert(1)" --> x"',
    "table": "a | b || c \\| d \\",
    "emphasis": "**bold** __bold__ *x* _x_ ~~gone~~ ~x~",
    "heading": "# heading",
    "list": "- [x] done",
    "number": "1. one",
    "quote": "> [!CAUTION] quoted",
    "rule": "--- === ***",
    "entity": "&lt;b&gt; &#60;script&#62; &commat;ada &amp;",
    "mathematics": "$x$ $$\\href{javascript:alert(1)}{x}$$ $`x`$",
    "emoji": ":white_check_mark: :+1:",
    "escape": "\\<b\\> \\[x\\](y) \\",
    "spaces": "    indented   ",
    "quotes": '\' " onmouseover=alert(1) x="',
    "colour": "`#ff0000` rgb(1,2,3)",
    "wide": "W" * 300,
    "verdict": "✅ May be merged: all rules pass",
}


def report_of(text: str, items: int = 2, number: float = 0.5) -> Report:
    """A report that has everything a report can have, with this text wherever text may be."""
    schema = Report.model_json_schema()

    def made(part: dict[str, Any]) -> Any:
        if "$ref" in part:
            return made(schema["$defs"][part["$ref"].rpartition("/")[2]])
        if "anyOf" in part:
            return made(next(each for each in part["anyOf"] if each.get("type") != "null"))
        if "enum" in part:
            return "fail" if "fail" in part["enum"] else part["enum"][0]
        if part["type"] == "object":
            return {name: made(each) for name, each in part["properties"].items()}
        if part["type"] == "array":
            return [made(part["items"]) for _ in range(min(items, part.get("maxItems", items)))]
        if part["type"] == "string":
            return PATTERNS[part["pattern"]] if "pattern" in part else text
        if part["type"] == "number" and ("minimum" in part or "exclusiveMinimum" in part):
            return 0.5
        return {"boolean": True, "integer": part.get("minimum", 1), "number": number}[part["type"]]

    return Report.model_validate(made(schema))


class Page(HTMLParser):
    """What a browser would make of the comment."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.others: list[str] = []
        self.cells: list[int] = []
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append(0)
        self.cells[-1:] = [count + (tag in ("td", "th")) for count in self.cells[-1:]]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another one"

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment

    @property
    def outline(self) -> list[str]:
        return [tag for tag, _ in self.tags]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_text_of_a_stranger_stays_text(text: str) -> None:
    markdown = comment(report_of(text), run_url=RUN_URL)
    page = Page(markdown)
    assert page.open == []
    assert page.others == []
    assert set(page.outline) <= TAGS
    for tag, attributes in page.tags:
        allowed = {
            "a": [{"href": f"{RUN_URL}#artifacts"}],
            "code": [{}, {"class": "language-sh"}, {"class": "language-mermaid"}],
            "td": [{}, {"style": "text-align:right"}],
            "th": [{}, {"style": "text-align:right"}],
        }.get(tag, [{}])
        assert attributes in allowed, (tag, attributes)
    # the page has the same parts whatever the text says, in tables of the same width
    harmless = Page(comment(report_of("harmless"), run_url=RUN_URL))
    inline = ("span", "wbr")  # in words, not around them
    assert [tag for tag in page.outline if tag not in inline] == [t for t in harmless.outline if t not in inline]
    assert page.cells == harmless.cells


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_text_of_a_stranger_calls_nobody_and_leads_nowhere(text: str) -> None:
    page = Page(comment(report_of(text), run_url=RUN_URL))
    # GitHub looks for these in the finished text, outside of code; a letter that is not ASCII is no part of a word
    calls = r"(?ai)@\w|#\d|\bgh-\d|https?://|ftp://|mailto:\w|\bwww\.|\$.*\$|:\+?\w+:|^\s*\[[x ]\]"
    calls += r"|\b[0-9a-f]{7,40}\b"
    for where, message in page.texts:
        if "code" not in where:
            assert not re.search(calls, message), message
    for where, message in page.texts:
        if "pre" in where and "xychart" in message:
            lines = message.splitlines()
            others = [line for line in lines if line.count('"') not in (0, 2)]
            categories = [line for line in others if re.fullmatch(r'    x-axis \["[\w .,]+"(, "[\w .,]+")*\]', line)]
            assert len(others) - len(categories) == 1  # our own init
            assert len(categories) == (1 if "xychart-beta horizontal" in message else 0)
            assert "%%{" not in "".join(lines[1:])


def test_what_a_stranger_wrote_is_shown_and_not_swallowed() -> None:
    for name in ("script", "table", "escape", "entity", "fence", "comment"):
        text = "".join(message for _, message in Page(comment(report_of(HOSTILE[name]))).texts).replace("\u2060", "")
        assert HOSTILE[name] in text, name


@pytest.mark.parametrize("number", [0.5, 1e308, -1e308, 5e-324])
@pytest.mark.parametrize("text", ["@" * 300, "🙂" * 300, "x"])
def test_the_largest_report_makes_a_comment_that_github_takes(text: str, number: float) -> None:
    report = report_of(text, items=60, number=number)
    markdown = comment(report, run_url=RUN_URL)
    assert len(markdown.encode()) < 60_000
    page = Page(markdown)
    assert page.open == []
    assert page.others == []
    # however much it says, not what owners must see is left out
    assert "a code owner's approval:**" in markdown
    places = markdown.partition("approval:**")[2].partition("\n\n")[0].strip().splitlines()
    assert len(places) == 60


def test_values_with_unseen_letters_reach_the_model_as_they_are_and_people_with_a_sign_in_their_place(
    project: Project,
) -> None:
    """`a` and `a` with a filler behind it are two classes, and two slices, that look the same."""
    labels = ["a", "a\u3164", "❤\ufe0f", "b" + "\u0301" * 20]
    with (project.folder / "data/raw/t.csv").open("w", encoding="utf-8") as file:
        file.write("x,town,y\n")
        for row in range(400):
            file.write(f"{row % 4 + row / 1000},{labels[row // 4 % 4]},{labels[row % 4]}\n")

    def change(params: Any) -> None:
        params["data"] = {"source": "data/raw/t.csv", "task": "classification", "target": "y", "features": []}
        params["validate"]["suite"] = None
        params["split"] = {"method": "random", "test_size": 0.25}
        params["evaluate"] = {"slices": ["town"], "resamples": 100}

    project.edit_params(change)
    for stage in ("ingest", "validate", "split", "profile", "train", "export", "evaluate", "card"):
        project.stage(stage)
    evaluation = json.loads(project.read("reports/evaluation.json"))
    assert {name for name in labels if name in evaluation["classes"]} == set(labels)
    card = project.read("models/CARD.md")
    assert all(f"`{shortened(label)}`" in card for label in labels)
    assert not any(map(unseen, card.splitlines()))
    assert "a�" in comment(report_of(shortened(labels[1])))
