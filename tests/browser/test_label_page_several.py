"""Pages of a project in which a crop may have several classes, in a real Chromium: sets by key, by click and by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from everylabel.backend.store.round_snapshot import SuspectedLabel
from everylabel.model import label_set
from tests.backend_fixtures import (  # noqa: F401
    digit_crops,
    encoder,
    make_services,
    send,
    services,
    stand_in,
)
from tests.browser.test_label_outage import labels_of
from tests.browser.test_label_page_kinds import assert_fits, assert_good
from tests.browser.test_label_pages import given, tasks
from tests.browser.test_more_like import window  # noqa: F401
from tests.browser.test_page_alone import backend  # noqa: F401
from tests.several_classes import CONFIG, NAMES, several, ticked  # noqa: F401
from tests.stand_in_label_studio import label_config

EVEN, ODD, ABOVE, STROKE = "1", "2", "3", "4"
"""The keys of the classes."""


@pytest.fixture
def home(backend, several, services, monkeypatch):  # noqa: F811
    """The address of project 1, whose trainer lives."""
    monkeypatch.setattr(services.heartbeat, "alive", lambda: True)
    return f"{backend}/projects/1"


def open_kind(tab, kind, title="without a class"):
    tab.get_by_label("Show", exact=True).select_option(kind)
    expect(tab.locator("#page-title")).to_contain_text(title)
    tab.locator("#grid .cell").first.focus()


def cell(tab, at=0):
    return tab.locator("#grid .cell").nth(at)


def pressed(tab):
    """The classes below the grid that are pressed."""
    found = tab.locator("#key-list button[aria-pressed=true]")
    return found.evaluate_all("buttons => buttons.map(button => button.dataset.name)")


def test_a_page_of_a_class_comes_with_whole_sets_and_one_key_takes_a_class_out(window, services):  # noqa: F811
    tab = window()
    open_kind(tab, "class:even", "predicted: even")
    wanted = given(tab)
    assert {*wanted.values()} == {"even", "above one + even"}
    at = next(at for at, task in enumerate(tasks(tab)) if wanted[task] == "above one + even")
    cell(tab, at).focus()
    assert pressed(tab) == ["even", "above one"]
    tab.keyboard.press(ABOVE)
    expect(cell(tab, at)).to_be_focused()
    expect(cell(tab, at).locator(".given")).to_have_text("even")
    expect(cell(tab, at)).to_have_attribute("data-state", "changed")
    tab.keyboard.press(STROKE)
    wanted[tasks(tab)[at]] = "even + one stroke"
    assert given(tab) == wanted
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text(f"{len(wanted)} confirmed")
    assert labels_of(services) == wanted


def test_keys_give_a_crop_its_classes_and_arrows_go_on(window, services):  # noqa: F811
    tab = window()
    open_kind(tab, "next-batch")
    first, second, third, *_ = tasks(tab)
    for key in (ODD, ABOVE):
        tab.keyboard.press(key)
        expect(cell(tab)).to_be_focused()
    expect(cell(tab).locator(".given")).to_have_text("above one + odd")
    assert cell(tab).get_attribute("aria-label").endswith(f"task {first}: above one, odd")
    expect(tab.locator("#set-said")).to_have_text("above one, odd")
    tab.keyboard.press("ArrowRight")
    assert pressed(tab) == []
    tab.keyboard.press(EVEN)
    tab.keyboard.press("ArrowRight")
    for key in (ODD, ODD):
        tab.keyboard.press(key)
    expect(cell(tab, 2)).to_have_attribute("data-state", "left-out")
    tab.keyboard.press("Backspace")
    expect(cell(tab, 3)).to_be_focused()  # what is left out needs no more
    tab.keyboard.press("End")
    tab.locator("#key-list").get_by_role("button", name="odd").click()
    wanted = {first: "above one + odd", second: "even"}
    assert given(tab).items() >= wanted.items()
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    expect(cell(tab, 2)).to_have_attribute("data-state", "left-out")
    chosen = given(tab)
    assert chosen.items() >= wanted.items()
    assert third not in chosen
    cell(tab).focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text(f"{len(chosen)} confirmed")
    assert labels_of(services) == chosen


def test_enter_goes_on_after_a_click_of_the_mouse(window, services):  # noqa: F811
    tab = window()
    open_kind(tab, "next-batch")
    first, second, *_ = tasks(tab)
    cell(tab, 1).focus()
    tab.keyboard.press("/")
    tab.locator("#chooser").get_by_role("button", name="even").click()
    tab.keyboard.press("Enter")  # nothing is typed: the list is closed
    expect(tab.locator("#chooser")).to_be_hidden()
    cell(tab).focus()
    tab.locator("#key-list").get_by_role("button", name="odd").click()
    tab.keyboard.press("Enter")  # the page is confirmed
    expect(tab.locator("#counts")).to_contain_text("2 confirmed")
    assert labels_of(services) == {first: "odd", second: "even"}


def test_a_key_held_down_gives_a_class_once(window):  # noqa: F811
    tab = window()
    open_kind(tab, "next-batch")
    for _ in range(4):
        tab.keyboard.down(ODD)
    tab.keyboard.up(ODD)
    assert [*given(tab).values()] == ["odd"]


def test_undo_brings_the_sets_back(window, services):  # noqa: F811
    tab = window()
    open_kind(tab, "next-batch")
    page = tasks(tab)
    for key in (ODD, STROKE, "ArrowRight", EVEN):
        tab.keyboard.press(key)
    wanted = {page[0]: "odd + one stroke", page[1]: "even"}
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text("2 confirmed")
    tab.keyboard.press("Control+z")
    expect(tab.locator("#counts")).to_contain_text("Nothing confirmed")
    expect(cell(tab)).to_have_attribute("data-task", str(page[0]))
    assert given(tab) == wanted
    assert labels_of(services) == {}
    expect(cell(tab)).to_have_attribute("data-state", "")


def test_the_rest_is_given_the_set_of_the_current_crop(window, several):  # noqa: F811
    tab = window(query=f"?like={next(iter(several))}")
    expect(tab.locator("#seed")).to_contain_text(f"labelled {several[next(iter(several))]}")
    cell(tab).focus()
    tab.keyboard.press("Backspace")
    cell(tab, 1).focus()
    for key in (ABOVE, ODD, "ArrowRight", EVEN, "ArrowLeft", "."):
        tab.keyboard.press(key)
    shown = tasks(tab)
    rest = dict.fromkeys(shown[3:], "above one + odd")
    assert given(tab) == {shown[1]: "above one + odd", shown[2]: "even", **rest}


def test_where_nothing_is_given_yet_the_rest_is_given_what_the_first_crop_has(window, several):  # noqa: F811
    seed = next(iter(several))
    tab = window(query=f"?like={seed}")
    cell(tab).focus()
    tab.keyboard.press(".")
    assert {*given(tab).values()} == {several[seed]}


def test_by_name_classes_are_given_and_taken_until_it_is_closed(window):  # noqa: F811
    tab = window()
    open_kind(tab, "next-batch")
    tab.keyboard.press("/")
    dialog = tab.get_by_role("dialog")
    for text in ("abo", "stroke", "odd"):
        tab.keyboard.type(text)
        tab.keyboard.press("Enter")
        expect(dialog.get_by_role("searchbox")).to_have_value("")
    expect(dialog.get_by_role("heading")).to_contain_text(": above one, odd, one stroke")
    assert_good(tab)
    stroke = dialog.get_by_role("button", name="one stroke")
    expect(stroke).to_have_attribute("aria-pressed", "true")
    stroke.click()
    expect(stroke).to_have_attribute("aria-pressed", "false")
    tab.keyboard.press("Shift+Tab")
    dialog.get_by_role("searchbox").focus()
    tab.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(cell(tab)).to_be_focused()
    expect(cell(tab).locator(".given")).to_have_text("above one + odd")
    cell(tab).click()
    dialog.get_by_role("button", name="Leave it out").click()
    expect(cell(tab)).to_have_attribute("data-state", "left-out")
    expect(dialog).to_be_hidden()


def test_a_class_that_has_left_the_labeling_config_is_told_and_the_rest_stays(window, services):  # noqa: F811
    tab = window()
    open_kind(tab, "next-batch")
    page = tasks(tab)
    for key in (ODD, ABOVE, "ArrowRight", EVEN):
        tab.keyboard.press(key)
    services.store.save_project(1, label_config=CONFIG.replace('<Choice value="above one"/>', ""))
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_contain_text("no class 'above one' any more")
    expect(cell(tab)).to_have_attribute("data-state", "open")
    assert given(tab) == {page[1]: "even"}
    assert tab.locator("#key-list button").count() == len(NAMES) - 1


@pytest.mark.parametrize("now_several", [True, False])
def test_a_project_that_changes_over_meanwhile_is_told(window, services, now_several):  # noqa: F811
    configs = (CONFIG, label_config(*NAMES))
    services.store.save_project(1, label_config=configs[now_several])
    tab = window(query="?show=none")
    open_kind(tab, "next-batch")
    page = tasks(tab)
    for key in (EVEN, "Home", "End", ODD) if now_several else (EVEN, "End", ODD, ABOVE):
        tab.keyboard.press(key)
    services.store.save_project(1, label_config=configs[not now_several])
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_contain_text("by now")
    expect(tab.locator("#key-list button[aria-pressed]")).to_have_count(len(NAMES) if now_several else 0)
    wanted = {page[0]: "even", page[-1]: "odd"} if now_several else {page[0]: "even"}
    assert given(tab) == wanted
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text(f"{len(wanted)} confirmed")
    assert labels_of(services) == wanted


@pytest.fixture
def suspect(services, several, monkeypatch):  # noqa: F811
    """Three labels that the newest round suspects, and what it suggests instead."""
    suspected = tuple(
        SuspectedLabel(task, label, "even + one stroke", 0.1) for task, label in list(several.items())[:3]
    )
    found = replace(services.labelling.pool_files.snapshot(1), suspected=suspected)
    monkeypatch.setattr(services.labelling.pool_files, "snapshot", lambda _: found)
    return suspected


def test_a_suspect_set_is_kept_changed_or_corrected_class_by_class(window, suspect, services):  # noqa: F811
    tab = window()
    open_kind(tab, "suspects", "3 crops with a suspect label")
    first, second, third = suspect
    given_in_words = ", ".join(label_set.split(first.given))
    assert (
        cell(tab)
        .get_attribute("aria-label")
        .endswith(f": given {given_in_words}, suggested even, one stroke")
    )
    assert label_set.join(pressed(tab)) == first.given
    tab.keyboard.press(",")
    tab.keyboard.press(".")
    tab.keyboard.press(STROKE)  # to or from what it has
    names = {*label_set.split(third.given)} ^ {"one stroke"}
    wanted = [f"{first.given}, kept", "even + one stroke", label_set.join(names)]
    expect(tab.locator("#grid .cell .given")).to_have_text(wanted)
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text("3 confirmed")
    assert labels_of(services) == {
        first.task_id: first.given,
        second.task_id: second.suggested,
        third.task_id: label_set.join(names),
    }


def test_a_suggested_set_is_read_whole_on_a_phone(window, suspect):  # noqa: F811
    tab = window()
    tab.set_viewport_size({"width": 360, "height": 740})
    open_kind(tab, "suspects", "3 crops with a suspect label")
    shown = cell(tab).locator(".given")
    expect(shown).to_have_text(f"{suspect[0].given} → even + one stroke?")
    shown.evaluate(
        "one => { one.textContent = 'crack + dirt + hot spot + snail trail → crack + broken glass?'; }"
    )
    hidden = shown.evaluate("one => [one.scrollWidth - one.clientWidth, one.scrollHeight - one.clientHeight]")
    assert max(hidden) <= 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["class", "next-batch", "suspects"])
def test_nothing_serious_keeps_anyone_from_a_page(suspect, window, kind, theme):  # noqa: F811
    tab = window(color_scheme=theme)
    tab.get_by_label("Show", exact=True).select_option(kind)
    tab.locator("#grid .cell").first.wait_for()
    assert_good(tab)
    cell(tab).focus()
    for key in (EVEN, ABOVE):
        tab.keyboard.press(key)
    assert label_set.join(pressed(tab)) == given(tab)[tasks(tab)[0]]
    assert_good(tab)
    assert_fits(tab)


def test_a_long_set_is_cut_and_its_title_holds_it(window):  # noqa: F811
    tab = window()
    tab.set_viewport_size({"width": 360, "height": 740})
    open_kind(tab, "next-batch")
    for key in (EVEN, ODD, ABOVE, STROKE):
        tab.keyboard.press(key)
    whole = " + ".join(sorted(NAMES))
    expect(cell(tab).locator(".given")).to_have_attribute("title", whole)
    expect(cell(tab).locator(".given")).to_have_text(whole)
    hidden = cell(tab).locator(".given").evaluate("one => one.scrollWidth - one.clientWidth")
    assert hidden <= 0
    cell(tab).locator(".given").evaluate("one => { one.textContent = 'long name + '.repeat(40); }")
    assert cell(tab).bounding_box()["height"] < 300


def test_a_name_that_no_class_has_gives_and_takes_nothing(window):  # noqa: F811
    tab = window()
    open_kind(tab, "next-batch")
    for key in (EVEN, "/"):
        tab.keyboard.press(key)
    tab.keyboard.type("evne")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("dialog")).to_be_visible()
    expect(cell(tab).locator(".given")).to_have_text("even")


def test_second_labels_are_given_as_sets_without_what_others_said(window, services, stand_in, several, send):  # noqa: F811
    for task in list(several)[:6]:
        send(stand_in.annotate(task, None, result=ticked("odd", "one stroke"), completed_by=8))
    services.loop.catch_up(1)
    tab = window(query="?show=second-labels")
    expect(tab.locator("#page-title")).to_contain_text("that others have labelled")
    assert given(tab) == {}
    first = tasks(tab)[0]
    cell(tab).focus()
    for key in (EVEN, ABOVE):
        tab.keyboard.press(key)
    assert given(tab) == {first: "above one + even"}
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text("1 confirmed")
    assert labels_of(services) == {first: "above one + even"}
