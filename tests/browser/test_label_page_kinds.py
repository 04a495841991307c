"""Every kind of page under /label, as someone sees it who cannot see well, and on a screen of any width."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.backend_fixtures import (  # noqa: F401
    digit_crops,
    encoder,
    make_services,
    project,
    send,
    services,
    stand_in,
    teach,
)
from tests.browser.conftest import intercept
from tests.browser.test_label_pages import SERIOUS
from tests.browser.test_more_like import home, suspect, window  # noqa: F401
from tests.browser.test_page_alone import backend, taught  # noqa: F401
from tests.everylabel_process import wait_until

WIDTHS = ((360, 740), (768, 900), (1280, 900), (3840, 2160))


def assert_good(tab):
    found = Axe().run(tab).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []


def assert_fits(tab):
    for width, height in WIDTHS:
        tab.set_viewport_size({"width": width, "height": height})
        assert tab.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["class", "next-batch", "suspects"])
def test_nothing_serious_keeps_anyone_from_a_kind_of_page(suspect, window, kind, theme):  # noqa: F811
    tab = window(color_scheme=theme)
    tab.get_by_label("Show", exact=True).select_option(kind)
    tab.locator("#grid .cell").first.wait_for()
    assert_good(tab)
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("Backspace")
    expect(tab.locator("#grid .cell").first).to_have_attribute("data-state", "left-out")
    if kind == "suspects":
        tab.keyboard.press(".")
    tab.keyboard.press(" ")
    expect(tab.locator("#zoom")).to_be_visible()
    assert_good(tab)
    assert_fits(tab)


def test_another_kind_takes_the_place_of_a_page_at_once(suspect, window):  # noqa: F811
    """However long the page ahead and its pictures take: what is pressed meanwhile is for no page."""
    tab = window()
    held = []
    intercept(tab, "**/crops/*", lambda route: None)  # no picture comes any more
    intercept(tab, "**/give-back", lambda route: held.append(route))  # noqa: PLW0108 - Playwright takes no list's method
    with tab.expect_request("**/crops/*"):
        tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    tab.get_by_label("Show", exact=True).select_option("class")
    expect(tab.locator("#grid .cell")).to_have_count(0)
    tab.keyboard.press("Backspace")
    wait_until(lambda: tab.evaluate("1") and held, "no page is given back")
    for route in held:
        route.continue_()
    tab.unroute("**/give-back")
    expect(tab.locator("#page-title")).to_contain_text("predicted:")
    expect(tab.locator("#grid .cell[data-state='left-out']")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_from_a_page_where_nothing_is_left(suspect, window, theme):  # noqa: F811
    tab = window(color_scheme=theme)
    tab.get_by_label("Show", exact=True).select_option("suspects")
    expect(tab.locator("#page-title")).to_have_text("2 crops with a suspect label")
    tab.keyboard.press("Enter")
    expect(tab.locator("#empty")).to_contain_text("No label is suspect just now")
    assert_good(tab)
    assert_fits(tab)


def test_a_suggestion_is_read_whole_on_a_phone(suspect, window):  # noqa: F811
    tab = window()
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.get_by_label("Show", exact=True).select_option("suspects")
    shown = tab.locator("#grid .cell .given").first
    expect(shown).to_have_text(f"{suspect[0].given} → {suspect[0].suggested}?")
    shown.evaluate("one => { one.textContent = 'short-haired cat → long-haired cat?'; }")
    hidden = shown.evaluate("one => [one.scrollWidth - one.clientWidth, one.scrollHeight - one.clientHeight]")
    assert max(hidden) <= 0
