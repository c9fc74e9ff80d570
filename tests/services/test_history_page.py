"""The page of `make history` in headless Chromium, from a file: it sorts, filters, escapes, and fits a phone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from release.past import Past
from services.browser import Page, chromium

from mlops.release import history

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("history")
    past = Past(folder / "clone")
    past.model("Regularise more (#1)", "first", author="Zoe", metrics={"recall": (0.95, 0.9, 0.99)})
    past.tag("v1.0.0")
    past.deploy("v1.0.0", 1)
    past.model(f"{HOSTILE} (#2)", "second", author="Ada", rows="new", metrics={"recall": (0.1, 0.05, 0.2)})
    past.model("Add a feature (#3)", "third", author="Linus", metrics={"recall": (0.9, 0.85, 0.95)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(past.write())
        history.main()
    with chromium(folder) as found:
        yield found


@pytest.fixture(autouse=True)
def opened(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page anew; nothing it does may break its policy or ask for anything."""
    page.problems.clear()
    page.size(1280)
    page.dark(False)
    page.open(next(tmp_path_factory.getbasetemp().glob("history*/clone")) / history.PAGE)
    yield
    page.ask("1")
    assert page.problems == []


def shown(page: Page) -> list[str]:
    rows = "[...document.querySelectorAll('tbody tr')].filter((row) => row.offsetHeight)"
    found: list[str] = page.ask(f"{rows}.map((row) => row.cells[2].innerText)")
    return found


def sort(page: Page, column: str) -> None:
    page.ask(f"[...document.querySelectorAll('th button')].find((each) => each.innerText === '{column}').click()")


def filter_by(page: Page, text: str = "", kind: str = "") -> None:
    for name, value, event in (("filter", text, "input"), ("kind", kind, "change")):
        page.ask(f"document.getElementById('{name}').value = '{value}'")
        page.ask(f"document.getElementById('{name}').dispatchEvent(new Event('{event}'))")


def test_a_click_on_a_header_sorts_and_a_second_one_turns_the_order(page: Page) -> None:
    assert shown(page) == ["Linus", "Ada", "Grace", "Zoe"]
    sort(page, "recall")
    assert shown(page)[-1] == "Ada", "by number, the largest first"
    sort(page, "recall")
    assert shown(page)[0] == "Ada"
    sort(page, "Who")
    sort(page, "Who")
    assert shown(page) == ["Ada", "Grace", "Linus", "Zoe"]
    assert page.ask("document.querySelectorAll('th[aria-sort]').length") == 1


def test_the_filter_looks_for_all_words_in_all_that_a_row_holds(page: Page) -> None:
    filter_by(page, "feature linus")
    assert shown(page) == ["Linus"]
    assert page.ask("document.getElementById('count').innerText") == "1 of 4"
    filter_by(page, "training rows")
    assert len(shown(page)) == 4, "details count, too"
    filter_by(page, kind="release")
    assert shown(page) == ["Grace"]
    filter_by(page, "nothing of that kind")
    assert shown(page) == []


def test_a_hostile_subject_is_text(page: Page) -> None:
    assert HOSTILE in page.ask("document.querySelector('tbody').innerText")
    assert page.ask("document.querySelectorAll('img').length") == 0
    assert page.ask("document.scripts.length") == 1


def test_it_follows_the_dark_mode(page: Page) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.ask(colour) == "rgb(255, 255, 255)"
    page.dark()
    assert page.ask(colour) == "rgb(20, 24, 29)"


def test_on_a_phone_only_the_table_scrolls_sideways(page: Page) -> None:
    page.size(390)
    assert page.ask("document.documentElement.scrollWidth") == 390
    assert page.ask("document.querySelector('.scroll').scrollWidth") > 390
    assert page.ask("document.querySelector('figure').getBoundingClientRect().width") > 300


def test_an_interval_is_drawn_around_its_value(page: Page) -> None:
    found = page.ask(
        """[...document.querySelectorAll("figure svg[role=img] g.merged")].map((mark) => {
            const interval = mark.querySelector(".interval").getBoundingClientRect();
            const value = mark.querySelector("circle").getBoundingClientRect();
            return interval.top <= value.top + value.height / 2 && interval.bottom >= value.bottom - value.height / 2;
        })"""
    )
    assert len(found) >= 3
    assert all(found)
