"""From one crop to those most like it, in a real Chromium: on the page, from the galleries and from the map."""

from __future__ import annotations

from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from everylabel.backend.store.round_snapshot import SuspectedLabel
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
from tests.browser.test_label_pages import SERIOUS, given, tasks
from tests.browser.test_page_alone import backend, taught  # noqa: F401
from tests.everylabel_process import wait_until

BACK = "Back to the page before"


@pytest.fixture
def home(backend, taught, stand_in):  # noqa: F811
    """The address of project 1 after 12 labels and a round, where Ann and Bob may label."""
    stand_in.people |= {"anns-token": 7, "bobs-token": 8}
    return f"{backend}/projects/1"


@pytest.fixture
def window(browser, home):
    """Open a window of a person's, signed in."""
    opened = []

    def make(name="ann", query="", **options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(30_000)
        opened.append(context)
        tab = context.new_page()
        tab.goto(f"{home}/label{query}")
        tab.get_by_label("Your Label Studio token").fill(f"{name}s-token")
        tab.get_by_role("button", name="Sign in").click()
        tab.locator("#grid .cell").first.wait_for()
        return tab

    yield make
    for context in opened:
        context.close()


def test_a_key_gives_the_crops_like_one_its_class(window, services, project):  # noqa: F811
    seed = next(iter(project))
    tab = window(query=f"?like={seed}")
    shown = tasks(tab)
    expect(tab.locator("#page-title")).to_have_text(f"{len(shown)} crops like task {seed}")
    expect(tab.locator("#seed")).to_contain_text(f"Task {seed}, labelled {project[seed]}")
    assert given(tab) == {}
    assert tab.url.endswith("/label"), "asked for once"
    others = [task for task in shown if project[task] != project[seed]]
    for task in others:
        tab.locator(f"[data-task='{task}']").focus()
        tab.keyboard.press("Backspace")
    tab.keyboard.press(".")
    wanted = {task: project[task] for task in shown if task not in others}
    assert given(tab) == wanted
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    assert (tasks(tab), {*given(tab)}) == (shown, {*wanted})
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text(f"{len(wanted)} confirmed")
    assert {a.task_id: a.choice for a in services.store.annotations(1) if a.annotator == 7} == wanted


def test_the_class_given_last_is_what_the_rest_is_given(window, project):  # noqa: F811
    tab = window(query=f"?like={next(iter(project))}")
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("2")  # the key of class 1
    tab.get_by_role("button", name="Same class for the rest").click()
    assert {*given(tab).values()} == {"1"}
    tab.get_by_label("Show", exact=True).select_option("class")
    expect(tab.locator("#page-title")).to_contain_text("predicted")
    expect(tab.get_by_role("button", name="Same class for the rest")).to_be_hidden()


def test_a_page_waits_while_its_crop_leads_to_those_like_it(window):
    tab = window("bob")
    before = tasks(tab)
    tab.locator("#grid .cell").nth(1).focus()
    tab.keyboard.press("4")
    chosen = given(tab)
    tab.keyboard.press("+")
    expect(tab.locator("#page-title")).to_contain_text(f"like task {before[1]}")
    assert not {*tasks(tab)} & {*before}
    tab.keyboard.press(".")
    assert {*given(tab).values()} == {"3"}, "the class that it was given"
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    tab.get_by_role("button", name=BACK).click()
    expect(tab.locator("#grid .cell").first).to_have_attribute("data-task", str(before[0]))
    assert (tasks(tab), given(tab)) == (before, chosen)
    expect(tab.get_by_role("button", name=BACK)).to_be_hidden()
    tab.locator("#grid .cell").first.click()
    tab.get_by_role("dialog").get_by_role("button", name="More like this").click()
    expect(tab.locator("#page-title")).to_contain_text(f"like task {before[0]}")
    tab.get_by_label("Show", exact=True).select_option("class")
    expect(tab.locator("#page-title")).to_contain_text("predicted")
    assert given(tab) == chosen, "it waited for its kind to be chosen again"


def test_a_crop_that_is_gone_is_told(window, home):
    tab = window()
    tab.goto(f"{home}/label?like=99999999")
    expect(tab.locator("#problem")).to_contain_text("Task 99999999 is not in this project any more")
    expect(tab.locator("#empty")).to_be_hidden()
    tab.get_by_label("Show", exact=True).select_option("next-batch")
    tab.locator("#grid .cell").first.wait_for()
    expect(tab.locator("#problem")).to_be_empty()


def test_where_no_crop_is_left_to_show_it_says_so(window, project):  # noqa: F811
    tab = window(query=f"?like={next(iter(project))}")

    def is_over():
        tab.keyboard.press("Enter")  # until the page before is stored, it is passed over
        return tab.locator("#empty").is_visible()

    wait_until(is_over, "crops are still shown")
    expect(tab.locator("#empty")).to_contain_text("No open crop is left to show")


@pytest.fixture
def few(monkeypatch):
    """Pages of six crops."""
    monkeypatch.setattr("everylabel.backend.label_pages.crops.PAGE", 6)


def test_one_button_asks_for_the_others_next(few, window, stand_in, services, project):  # noqa: F811
    tab = window(query=f"?like={next(iter(project))}")
    first, *rest = tasks(tab)
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("1")
    tab.get_by_role("button", name="Ask for these next").click()
    expect(tab.locator("#asked")).to_contain_text(f"{len(rest)} crops asked for next")
    expect(tab.locator("#counts")).to_contain_text("1 confirmed")
    assert not {*tasks(tab)} & {first, *rest}, "the next nearest"
    services.loop.catch_up(1)
    assert stand_in.queue(1)[: len(rest)] == rest
    tab.get_by_role("button", name="Take that back").click()
    expect(tab.locator("#asked")).to_contain_text("in the model's own order again")
    services.loop.catch_up(1)
    assert stand_in.queue(1)[: len(rest)] != rest


@pytest.fixture
def suspect(services, taught, project, monkeypatch):  # noqa: F811
    """Two labels that the newest round suspects, and what it suggests instead."""
    first, second = list(project)[:2]
    suspected = tuple(
        SuspectedLabel(task, project[task], "3" if project[task] != "3" else "2", 0.1)
        for task in (first, second)
    )
    found = replace(services.labelling.pool_files.snapshot(1), suspected=suspected)
    monkeypatch.setattr(services.labelling.pool_files, "snapshot", lambda _: found)
    return suspected


def test_suspect_labels_are_kept_or_changed_with_a_key_each(suspect, window, home, services):  # noqa: F811
    tab = window()
    tab.goto(home)
    tab.get_by_role("tab", name="Suspect labels").click()
    tab.get_by_role("link", name="Review them a page at a time").click()
    expect(tab.locator("#page-title")).to_have_text("2 crops with a suspect label")
    first, second = suspect
    shown = tab.locator("#grid .cell .given")
    expect(shown).to_have_text([f"{one.given} → {one.suggested}?" for one in suspect])
    label = tab.locator("#grid .cell").first.get_attribute("aria-label")
    assert label.endswith(f": given {first.given}, suggested {first.suggested}")
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press(",")
    tab.keyboard.press(".")
    expect(shown).to_have_text([f"{first.given}, kept", second.suggested])
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text("2 confirmed")
    expect(tab.locator("#empty")).to_contain_text("No label is suspect just now")
    mine = {a.task_id: a.choice for a in services.store.annotations(1) if a.annotator == 7}
    assert mine == {first.task_id: first.given, second.task_id: second.suggested}


def test_galleries_and_the_map_lead_to_the_crops_most_like_one(browser, home):
    page = browser.new_page()
    page.goto(home)
    card = page.locator("#next-batch-list li").first
    task = card.get_attribute("id").removeprefix("next-")
    assert card.locator("a.like").get_attribute("href").endswith(f"/projects/1/label?like={task}")
    page.locator("#map.drawn").wait_for()
    page.locator("#map canvas").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".map-card")).to_be_visible()
    shown = page.locator(".map-card strong").text_content().removeprefix("Task ")
    with page.expect_popup() as opened:
        page.keyboard.press("m")
    opened.value.wait_for_url(f"**/label?like={shown}")
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_from_the_crops_like_one(window, project, theme):  # noqa: F811
    tab = window(query=f"?like={next(iter(project))}", color_scheme=theme)
    found = Axe().run(tab).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []
    for width, height in ((360, 740), (768, 900), (3840, 2160)):
        tab.set_viewport_size({"width": width, "height": height})
        assert tab.evaluate("document.documentElement.scrollWidth") == width
