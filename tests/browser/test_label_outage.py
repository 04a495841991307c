"""What a person has chosen on a page of crops outlives an outage of the backend, and a reload in it."""

from __future__ import annotations

import pytest
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
from tests.browser.test_label_pages import given, tasks
from tests.browser.test_more_like import home, window  # noqa: F401
from tests.browser.test_page_alone import backend, taught  # noqa: F401


def labels_of(services, annotator=7):  # noqa: F811
    return {a.task_id: a.choice for a in services.store.annotations(1) if a.annotator == annotator}


def test_a_page_that_was_confirmed_in_an_outage_is_sent_after_a_reload(window, services):  # noqa: F811
    tab = window()
    tab.wait_for_load_state("networkidle")  # the next page is here
    wanted = given(tab)
    intercept(tab, "**/confirm", lambda route: route.abort())
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_contain_text("The backend does not answer")
    tab.unroute("**/confirm")
    tab.reload()
    expect(tab.locator("#counts")).to_contain_text(f"{len(wanted)} confirmed")
    assert labels_of(services) == wanted
    assert not {*tasks(tab)} & {*wanted}


@pytest.mark.parametrize("next_is_here", [True, False])
def test_a_page_that_was_refused_is_on_show_after_a_reload(window, services, next_is_here):  # noqa: F811
    tab = window()
    asked = []

    def only_the_first(route):
        asked.append(route)
        route.continue_() if next_is_here or len(asked) == 1 else route.abort()

    intercept(tab, "**/pages", only_the_first)
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    tab.wait_for_load_state("networkidle")
    wanted = given(tab)
    intercept(tab, "**/confirm", lambda route: route.fulfill(status=400, json={"error": "Refused."}))
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_contain_text("Refused.")
    tab.unroute_all()
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    assert given(tab) == wanted
    assert labels_of(services) == {}, "only what is confirmed again counts"


def test_a_page_on_its_way_is_given_to_nobody_else(window, services):  # noqa: F811
    tab = window()
    asked = []

    def only_the_first(route):
        asked.append(route)
        route.continue_() if len(asked) == 1 else route.abort()

    intercept(tab, "**/pages", only_the_first)  # so no next page takes its place
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    on_its_way = tasks(tab)
    intercept(tab, "**/confirm", lambda route: route.abort())
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_contain_text("The backend does not answer")
    tab.goto("about:blank")
    tab.wait_for_timeout(1000)  # what the window says as it is left is here
    assert on_its_way in [list(page.tasks) for page in services.store.reserved_pages(1, 7)]


def test_a_page_that_was_confirmed_and_not_answered_is_counted_once(window, services):  # noqa: F811
    tab = window()
    tab.wait_for_load_state("networkidle")
    wanted = given(tab)

    def taken_in_and_not_answered(route):
        route.fetch()
        route.abort()

    intercept(tab, "**/confirm", taken_in_and_not_answered)
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_contain_text("The backend does not answer")
    tab.unroute("**/confirm")
    expect(tab.locator("#counts")).to_contain_text(f"{len(wanted)} confirmed")
    assert labels_of(services) == wanted


def test_a_page_that_does_not_come_is_asked_for_again(window):  # noqa: F811
    tab = window()
    tab.wait_for_load_state("networkidle")
    intercept(tab, "**/pages", lambda route: route.abort())
    tab.get_by_label("Show", exact=True).select_option("next-batch")
    expect(tab.locator("#problem")).to_contain_text("The backend does not answer")
    tab.unroute("**/pages")
    tab.locator("#grid .cell").first.wait_for()
    expect(tab.locator("#problem")).to_be_empty()


def test_crops_that_were_left_out_stay_so_after_a_reload(window):  # noqa: F811
    tab = window(query="?show=none")
    tab.get_by_label("Show", exact=True).select_option("next-batch")
    expect(tab.locator("#page-title")).to_contain_text("without a class")
    first, second = tasks(tab)[:2]
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("Backspace")
    tab.keyboard.press("4")  # the key of class 3, for the second
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    expect(tab.locator(f"[data-task='{first}']")).to_have_attribute("data-state", "left-out")
    tab.get_by_role("button", name="Same class for the rest").click()
    assert first not in given(tab)
    assert given(tab)[second] == "3"


def test_an_undo_in_the_same_breath_waits_until_the_page_is_confirmed(window, services):  # noqa: F811
    tab = window()
    tab.wait_for_load_state("networkidle")
    wanted = tasks(tab)

    def after_a_while(route):
        tab.keyboard.press("Control+z")  # pressed while the page is on its way
        route.continue_()

    intercept(tab, "**/confirm", after_a_while)
    with tab.expect_response("**/undo"):
        tab.keyboard.press("Enter")
    expect(tab.locator("#grid .cell").first).to_have_attribute("data-task", str(wanted[0]))
    expect(tab.locator("#counts")).to_contain_text("Nothing confirmed")
    assert tasks(tab) == wanted
    assert labels_of(services) == {}


def test_an_undo_of_a_page_that_was_refused_takes_no_other_back(window, services):  # noqa: F811
    tab = window()
    tab.wait_for_load_state("networkidle")
    first = given(tab)
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text(f"{len(first)} confirmed")
    tab.wait_for_load_state("networkidle")
    undone = []
    tab.on("request", lambda request: undone.append(request) if request.url.endswith("/undo") else None)

    def refuse(route):
        tab.keyboard.press("Control+z")
        route.fulfill(status=400, json={"error": "The page is refused."})

    intercept(tab, "**/confirm", refuse)
    tab.keyboard.press("Enter")
    expect(tab.locator("#problem")).to_contain_text("The page is refused.")
    tab.wait_for_timeout(500)
    assert not undone
    assert labels_of(services) == first


def test_an_undo_whose_answer_is_lost_takes_one_page_back(window, services):  # noqa: F811
    tab = window()
    labelled = []
    for _ in range(2):
        tab.wait_for_load_state("networkidle")
        labelled.append(given(tab))
        tab.keyboard.press("Enter")
        expect(tab.locator("#counts")).to_contain_text(f"{sum(map(len, labelled))} confirmed")

    def taken_back_and_not_answered(route):
        route.fetch()
        route.abort()

    intercept(tab, "**/undo", taken_back_and_not_answered)
    tab.locator("#undo").click()
    expect(tab.locator("#problem")).to_contain_text("The backend does not answer")
    tab.unroute("**/undo")
    expect(tab.locator("#counts")).to_contain_text(f"{len(labelled[0])} confirmed")
    assert {*tasks(tab)} >= {*labelled[1]}
    assert labels_of(services) == labelled[0]
