"""The preview: a page without scripts that shows the comment about as GitHub does."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from test_hostile_text import HOSTILE, report_of
from test_render import drawn, report, ruled

from mlops.core.report import Bars
from mlops.review.preview import chart, page
from mlops.review.render import comment

VOID = {"meta", "br", "hr", "wbr"}


class Elements(HTMLParser):
    """Elements of a page, in order, with their attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    content = page(comment(report(ruled("floor", "recall", "fail")), run_url="https://example.org/runs/1"))
    elements = Elements(content)
    assert elements.open == []
    names = {name for name, _ in elements.found}
    assert not names & {"script", "iframe", "object", "embed", "img", "link", "form", "base", "audio", "video"}
    policies = [
        each["content"] for each in elements.named("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    # before anything that it could forbid
    assert content.index("Content-Security-Policy") < content.index("<style>")
    assert elements.named("a") == [{"href": "https://example.org/runs/1#artifacts"}]
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert "javascript:" not in content


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_a_stranger_s_text_adds_no_element_to_the_page(text: str) -> None:
    elements = Elements(page(comment(report_of(text))))
    assert elements.open == []
    harmless = Elements(page(comment(report_of("harmless"))))
    # a dollar sign stands in a span without attributes, and a long name may break after an underscore
    inline = [("span", {}), ("wbr", {})]
    found, expected = (
        [(name, sorted(attributes)) for name, attributes in each.found if (name, attributes) not in inline]
        for each in (elements, harmless)
    )
    assert found == expected


def test_a_reader_of_screens_and_a_phone_find_their_way() -> None:
    elements = Elements(page(comment(report())))
    assert elements.named("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in elements.named("meta")
    assert elements.named("svg")[0]["role"] == "img"
    assert elements.named("svg")[0]["aria-label"] == "ROC curve"
    assert "width" not in elements.named("svg")[0]
    names = [name for name, _ in elements.found]
    assert names.count("h2") == 1
    assert names.count("thead") == names.count("table")
    assert names.count("summary") == names.count("details")


def test_a_chart_is_drawn_with_each_line_from_edge_to_edge() -> None:
    content = page(comment(report(charts=[drawn([0.0, 0.5, 1.0], [1.0, 1.0, 1.0])])))
    assert "```" not in content
    assert "xychart" not in content
    lines = re.findall(r'<polyline points="([^"]*)"', content)
    assert lines == ["60.0,230.0 340.0,135.0 620.0,40.0", "60.0,40.0 340.0,40.0 620.0,40.0"]
    colours = re.findall(r'stroke="(#\w+)"', content)
    assert colours == ["#8c8c8c", "#d9730d"]
    alone = page(comment(report(charts=[drawn([0.0, 1.0])])))
    assert re.findall(r'stroke="(#\w+)"', alone) == ["#d9730d"]


@pytest.mark.parametrize(
    "line", [[0.5, 0.5], [1e-6, 2e-6], [0.0, 1e-12], [-1e300, 1e300], [1e15, 1e15], [-3.5, -0.5], [1e5, 2e7]]
)
def test_lines_of_any_size_are_drawn_inside_the_picture(line: list[float]) -> None:
    content = page(comment(report(charts=[drawn(line)])))
    (points,) = re.findall(r'<polyline points="([^"]*)"', content)
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert all(40 <= height <= 230 for height in heights)


def test_bars_are_drawn_beside_their_names() -> None:
    found = Bars(title="by sex", y="accuracy", names=["f", "m"], main=[0.5, 1.0], here=[0.25, 0.0])
    content = page(comment(report(charts=[], bars=[found])))
    assert "xychart" not in content
    drawn = re.findall(r'<rect x="200" y="(\d+)" width="([\d.]+)" height="14" fill="(#\w+)"/>', content)
    assert drawn == [
        ("64", "200.0", "#8c8c8c"),
        ("82", "100.0", "#d9730d"),
        ("100", "400.0", "#8c8c8c"),
        ("118", "0.0", "#d9730d"),
    ]
    assert re.findall(r'text-anchor="end">([^<]*)<', content) == ["f", "m"]


def test_words_in_a_picture_are_words() -> None:
    source = '    title "<b>a</b>"\n    x-axis "<x>" 0.0 --> 1.0\n    y-axis "&amp;" 0.0 --> 1.0\n    line [0.0, 1.0]\n'
    drawing = chart(source)
    assert 'aria-label="&lt;b&gt;a&lt;/b&gt;"' in drawing
    assert ">&lt;x&gt;</text>" in drawing
    assert ">&amp;amp;</text>" in drawing


def test_code_of_other_languages_is_shown_as_it_is() -> None:
    content = page("```sh\nmake review <b>\n```")
    assert '<pre><code class="language-sh">make review &lt;b&gt;\n</code></pre>' in content
