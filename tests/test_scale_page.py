"""The costs from which `docs/scale.md` plans are those that the benchmarks have measured."""

from __future__ import annotations

import re

from conftest import ROOT


def test_each_cost_is_in_the_section_that_the_page_names() -> None:
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    benchmarks = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", benchmarks, re.M))
    costs = re.findall(r"^\| .+ \| ([\d.,]+)[^|]* \| \[(.+)\]\(\.\./benchmarks/README\.md#(.+)\) \|$", page, re.M)
    assert len(costs) == 14
    for figure, title, anchor in costs:
        assert anchor == re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-")
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", sections[title]), (figure, title)
