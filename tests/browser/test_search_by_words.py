"""From words to the crops they describe, in a real Chromium, with an encoder whose space is known."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.backend_fixtures import make_services, stand_in  # noqa: F401
from tests.browser.test_label_pages import SERIOUS, given, tasks
from tests.browser.test_page_alone import backend  # noqa: F401
from tests.worded_encoder import Worded, add_coloured

FIELD = "Search crops by words"


@pytest.fixture(scope="session")
def encoder():
    """The encoder of this file's backends."""
    return Worded()


@pytest.fixture
def services(make_services, encoder):  # noqa: F811
    return make_services(encoder="worded", encoder_object=encoder)


@pytest.fixture
def coloured_crops(services, stand_in):  # noqa: F811
    """Project 1 with 90 crops of three colours: colour by task."""
    stand_in.people |= {"anns-token": 7}
    return add_coloured(services, stand_in, 30)


@pytest.fixture
def window(browser, backend, coloured_crops):  # noqa: F811
    """Open a window of Ann's, signed in."""
    opened = []

    def make(**options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(30_000)
        opened.append(context)
        tab = context.new_page()
        tab.goto(f"{backend}/projects/1/label")
        expect(tab.get_by_label(FIELD)).to_have_count(0)
        tab.get_by_label("Your Label Studio token").fill("anns-token")
        tab.get_by_role("button", name="Sign in").click()
        tab.get_by_label(FIELD).wait_for()
        return tab

    yield make
    for context in opened:
        context.close()


def test_words_bring_the_crops_meant_and_the_keys_label_them(window, services, coloured_crops):
    addresses = []
    tab = window()
    tab.on("request", lambda request: addresses.append(request.url))
    tab.get_by_label(FIELD).fill("a green  thing")
    tab.keyboard.press("Enter")
    expect(tab.locator("#page-title")).to_have_text("24 crops found by words, the closest first")
    shown = tasks(tab)
    assert {coloured_crops[task] for task in shown} == {"green"}
    assert given(tab) == {}
    expect(tab.get_by_label("Show", exact=True).locator("option:checked")).to_have_text(
        "crops by the words “a green thing”"
    )
    expect(tab.locator("#grid .cell").first).to_be_focused()
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    assert tasks(tab) == shown
    expect(tab.get_by_label(FIELD)).to_have_value("a green thing")
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("2")  # the key of class 1
    tab.keyboard.press(".")
    assert {*given(tab).values()} == {"1"}
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text("24 confirmed")
    assert {a.task_id for a in services.store.annotations(1) if a.annotator == 7} == {*shown}
    tab.get_by_label(FIELD).fill("blue")
    tab.get_by_role("button", name="Search").click()
    expect(tab.locator("#grid .cell").first).to_be_focused()
    assert {coloured_crops[task] for task in tasks(tab)} == {"blue"}
    assert not [url for url in addresses if "green" in url or "blue" in url]


def test_keys_typed_into_the_field_are_words_and_nothing_is_done_without_any(window):
    tab = window()
    field = tab.get_by_label(FIELD)
    field.fill("blue")
    tab.keyboard.press("Enter")
    tab.locator("#grid .cell").first.wait_for()
    before = tasks(tab)
    field.click()
    field.fill("")
    tab.keyboard.type("1. /+,")
    expect(field).to_have_value("1. /+,")
    assert (given(tab), tasks(tab)) == ({}, before)
    expect(tab.get_by_role("dialog")).to_be_hidden()
    field.fill("   ")
    tab.keyboard.press("Enter")
    assert tasks(tab) == before


def test_an_undo_in_the_field_takes_back_what_was_typed_and_no_page(window, services):
    tab = window()
    field = tab.get_by_label(FIELD)
    field.fill("green")
    tab.keyboard.press("Enter")
    tab.locator("#grid .cell").first.wait_for()
    expect(tab.locator("#grid .cell").first).to_be_focused()
    shown = tasks(tab)
    tab.keyboard.press("2")  # the key of class 1
    tab.keyboard.press(".")
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text("24 confirmed")
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    field.click()
    tab.keyboard.press("End")
    tab.keyboard.type("x")
    expect(field).to_have_value("greenx")
    tab.keyboard.press("Control+z")
    expect(field).not_to_have_value("greenx")
    field.fill("blue")
    with tab.expect_response("**/label/pages"):  # answered after an undo would have been
        tab.keyboard.press("Enter")
    assert not [url for url in asked if url.endswith("/undo")]
    assert {a.task_id for a in services.store.annotations(1) if a.annotator == 7} == {*shown}
    tab.locator("#grid .cell").first.focus()
    with tab.expect_request("**/label/undo"):
        tab.keyboard.press("Control+z")


def test_the_field_waits_for_the_first_page(window):
    tab = window()
    held = []

    def hold(route):
        if held:
            route.continue_()
        else:
            held.append(route)

    tab.route("**/label/pages", hold)
    with tab.expect_request("**/label/pages"):
        tab.reload()
    expect(tab.locator("#search")).to_be_hidden()
    held[0].continue_()
    expect(tab.get_by_label(FIELD)).to_be_visible()


def test_they_are_asked_for_next(window, services):
    tab = window()
    tab.get_by_label(FIELD).fill("red")
    tab.keyboard.press("Enter")
    tab.locator("#grid .cell").first.wait_for()
    shown = tasks(tab)
    tab.get_by_role("button", name="Ask for these next").click()
    expect(tab.locator("#asked")).to_contain_text("24 crops asked for next")
    assert {*services.store.asked_next(1)} == {*shown}


def test_a_search_that_fails_says_why_and_one_without_a_crop_left_too(
    window, services, encoder, coloured_crops, monkeypatch
):
    tab = window()
    field = tab.get_by_label(FIELD)

    def fail(words):
        raise ValueError("Cannot load the tokenizer of hf:x.")

    monkeypatch.setattr(encoder, "encode_words", fail)
    field.fill("red")
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_have_text("Cannot load the tokenizer of hf:x.")
    monkeypatch.undo()
    for start in range(0, len(coloured_crops), 100):
        services.store.ask_next(1, 7, [*coloured_crops][start : start + 100])
    field.fill("red")
    tab.keyboard.press("Enter")
    expect(tab.locator("#empty")).to_contain_text("No open crop is left to find by words")
    expect(tab.locator("#problem")).to_be_empty()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_field_can_be_used_by_everybody(window, theme):
    tab = window(color_scheme=theme)
    tab.get_by_label(FIELD).fill("red")
    tab.keyboard.press("Enter")
    tab.locator("#grid .cell").first.wait_for()
    found = Axe().run(tab).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in SERIOUS]
    assert tab.get_by_role("search").count() == 1


def test_it_fits_a_phone(window):
    tab = window(viewport={"width": 360, "height": 740})
    tab.get_by_label(FIELD).fill("red " * 60)
    tab.keyboard.press("Enter")
    tab.locator("#grid .cell").first.wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = tab.get_by_label(FIELD).bounding_box()
    assert box["width"] > 150
    button = tab.get_by_role("button", name="Search").bounding_box()
    assert button["x"] + button["width"] <= 360
    assert abs(button["y"] - box["y"]) < 20, "beside the field"
