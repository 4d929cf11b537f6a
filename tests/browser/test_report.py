"""The report in a real browser: silent, sound for axe, whole on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import IMAGE, NAMES, SCRIPT


WIDTHS = {"phone": 390, "desktop": 1280}


class Opened:
    """A page with what it said and asked for."""

    def __init__(self, page: Any, file: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(file.as_uri())

    def unfold(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=WIDTHS)
def opened(request, browser, report_file, scheme) -> Iterator[Opened]:
    size = {"width": WIDTHS[request.param], "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    yield Opened(context.new_page(), report_file)
    context.close()


def test_it_says_nothing_and_asks_for_nothing(opened, report_file):
    opened.unfold()
    assert opened.said == []
    assert opened.asked == [report_file.as_uri()]


def test_nothing_stands_out_of_the_page(opened):
    opened.unfold()
    page = opened.page
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide == page.viewport_size["width"]
    hidden = """[...document.querySelectorAll('svg text')].filter(one => {
        const at = one.getBoundingClientRect(), box = one.closest('svg').getBoundingClientRect();
        return at.width && (at.left < box.left - 2 || at.right > box.right + 2);
    }).map(one => one.textContent)"""
    assert page.evaluate(hidden) == []


def test_axe_finds_nothing_serious(opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened.unfold()
    found = [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in axe.run(opened.page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert found == []


def test_names_stay_text(opened):
    page = opened.page
    assert page.evaluate("window.injected") is None
    assert page.locator("script, img, iframe, link, object, embed").count() == 0
    opened.unfold()
    text = page.locator("body").inner_text()
    for name in (SCRIPT, IMAGE, *NAMES[2:5]):
        assert name in text


def test_the_keyboard_reaches_and_opens_every_fold(opened):
    page = opened.page
    folds = page.locator("summary").count()
    assert folds
    reached = set()
    for _ in range(4 * folds + 20):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "[...document.querySelectorAll('summary')].indexOf(document.activeElement)"
        )
        if at >= 0 and at not in reached:
            reached.add(at)
            page.keyboard.press("Enter")
    assert len(reached) == folds
    assert page.locator("details:not([open])").count() == 0


def test_every_picture_has_a_name_and_a_table(opened):
    page = opened.page
    unnamed = """[...document.querySelectorAll('figure svg')].filter(one =>
        one.getAttribute('aria-hidden') !== 'true' && !one.closest('.legend') &&
        !(one.getAttribute('aria-label') || one.querySelector('title'))).length"""
    assert page.evaluate(unnamed) == 0
    without = "document.querySelectorAll('figure:not(:has(table))').length"
    assert page.locator("figure").count() >= 3
    assert page.evaluate(without) == 0


def test_it_prints_on_paper(browser, report_file):
    context = browser.new_context(viewport={"width": 794, "height": 1123})
    page = Opened(context.new_page(), report_file).page
    page.emulate_media(media="print")
    wide = page.evaluate("document.documentElement.scrollWidth")
    printed = page.pdf(format="A4")
    context.close()
    assert wide <= 794
    assert printed.startswith(b"%PDF")


def test_it_is_small(report_file):
    assert report_file.stat().st_size < 3_000_000
