"""The charts of a comment in the real Mermaid, which GitHub draws them with, in headless Chromium."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from mlops.core.report import Bars, Chart, Series
from mlops.review.render import bars, chart

MERMAID = ROOT / "build/tools/node_modules/mermaid/dist/mermaid.min.js"

PAGE = """<!doctype html><meta charset="utf-8"><body><script src="{mermaid}"></script>
<pre id="out"></pre>
<script>
(async () => {{
  const message = [];
  mermaid.initialize({{ startOnLoad: false }});
  for (const [number, source] of {sources}.entries()) {{
    try {{
      const drawn = await mermaid.render("chart" + number, source);
      message.push({{ type: mermaid.detectType(source), svg: drawn.svg }});
    }} catch (error) {{ message.push({{ error: String(error) }}); }}
  }}
  document.getElementById("out").textContent = JSON.stringify(message);
}})();
</script>
"""


def draw(sources: list[str], folder: Path) -> list[dict[str, str]]:
    """What Mermaid makes of each source: its type and SVG, or its error."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; run .ci/services"
    assert MERMAID.exists(), "mermaid is not installed; run .ci/services"
    page = folder / "page.html"
    page.write_text(PAGE.format(mermaid=MERMAID.as_uri(), sources=json.dumps(sources)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--disable-quic"]
    flags += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [chromium, *flags, "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[:2000]
    message: list[dict[str, str]] = json.loads(html.unescape(found[1]))
    return message


def source(title: str, *lines: list[float]) -> str:
    series = [Series(name=f"line {number}", values=values) for number, values in enumerate(lines)]
    at = [float(number) for number in range(len(lines[0]))]
    block = chart(Chart(title=title, x=title, y=title, at=at, series=series))
    return block.split("```mermaid\n")[1].split("```")[0]


@pytest.mark.parametrize(
    "title",
    [
        "ROC curve",
        'a" --> x',
        "%%{init: {}}%%",
        "```\n# x".replace("\n", " "),
        "größe 東京",
        "<script>alert(1)</script>",
    ],
)
def test_mermaid_draws_each_chart_and_nothing_else(title: str, tmp_path: Path) -> None:
    lines = [[0.1, 0.5, 0.9], [0.2, 0.4, 1.0]]
    (drawn,) = draw([source(title, *lines)], tmp_path)
    assert drawn.get("error") is None
    assert drawn["type"] == "xychart"
    svg = drawn["svg"]
    assert "<script" not in svg
    # main's line in grey, this change's in orange
    assert "#8c8c8c" in svg.lower()
    assert "#d9730d" in svg.lower()


def test_mermaid_draws_a_bar_of_each_model_for_each_category(tmp_path: Path) -> None:
    names = ["radius, below 12", "a-b", "a b", "<script>", "größe 東京", "x" * 300]
    shown = Bars(title="by slice", y="recall", names=names, main=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], here=[0.5] * 6)
    (drawn,) = draw([bars(shown).split("```mermaid\n")[1].split("```")[0]], tmp_path)
    assert drawn.get("error") is None
    svg = drawn["svg"]
    for place, colour in enumerate(("#8c8c8c", "#d9730d")):
        group = svg.split(f'class="bar-plot-{place}"')[1].split("</g>")[0]
        lengths = [float(each) for each in re.findall(r'width="(-?[\d.]+)"', group)]
        assert len([each for each in lengths if each > 0]) == len(names)
        assert colour in group.lower()
    assert "radius, below 12" in svg
    assert "<script" not in svg


def test_odd_numbers_are_drawn_too(tmp_path: Path) -> None:
    odd = [[[1.0, 1.0]], [[-5.0, 0.0]], [[1e9, -1e9]], [[0.123456, 0.123457]], [[0.0] * 50]]
    for drawn in draw([source("t", *lines) for lines in odd], tmp_path):
        assert drawn.get("error") is None
        assert "<path" in drawn["svg"]


def test_what_is_no_chart_is_reported_by_mermaid(tmp_path: Path) -> None:
    """The two tests above would pass with a drawer that takes anything."""
    (drawn,) = draw(["xychart-beta\n    line [one, two]"], tmp_path)
    assert "error" in drawn
