"""A lasso around crops of the map, and the pages of what is inside, in a real Chromium."""

from __future__ import annotations

import json
import math

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
from tests.browser.test_label_pages import given, tasks
from tests.browser.test_more_like import home, window  # noqa: F401
from tests.browser.test_page_alone import backend, taught  # noqa: F401
from tests.everylabel_process import wait_until

POINTS = """() => {
  const map = window.everylabelMap;
  return JSON.stringify({
    at: Array.from(map.points.tasks, (task, i) => [task, ...map.at(i)]),
    size: [map.width, map.height],
  });
}"""

FETCH_ANEW = "() => ((everylabelMap.place.dataset.mapVersion += '+'), everylabelMap.refresh())"


@pytest.fixture
def pool(browser, home):  # noqa: F811
    """The project's page with its map in sight."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(home)
    page.locator("#map.drawn").wait_for()
    page.locator("#map canvas").scroll_into_view_if_needed()
    page.wait_for_function("() => window.everylabelMap?.scale")
    yield page
    page.close()


def points(page):
    """Where each crop lies in the view, by task."""
    found = json.loads(page.evaluate(POINTS))
    return {int(task): (x, y) for task, x, y in found["at"]}, found["size"]


def draw(page, corners, *, shift=False):
    box = page.locator("#map canvas").bounding_box()
    if shift:
        page.keyboard.down("Shift")
    x, y = corners[0]
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.down()
    for x, y in (*corners[1:], corners[0]):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.mouse.up()
    if shift:
        page.keyboard.up("Shift")


def around(x, y, reach, size):
    """The corners of a circle, kept within the view."""
    turns = [2 * math.pi * k / 16 for k in range(16)]
    round_it = [(x + reach * math.cos(turn), y + reach * math.sin(turn)) for turn in turns]
    return [(min(max(cx, 2), size[0] - 2), min(max(cy, 2), size[1] - 2)) for cx, cy in round_it]


def test_what_a_lasso_holds_is_labelled_page_by_page(pool, window, services, project):  # noqa: F811
    at, size = points(pool)
    everywhere = [(9, 9), (size[0] - 9, 9), (size[0] - 9, size[1] - 9), (9, size[1] - 9)]
    labelled = services.store.annotated_tasks(1)
    pool.get_by_role("button", name="Lasso", exact=True).click()
    draw(pool, everywhere)
    said = pool.locator(".map-selected")
    expect(said).to_contain_text(f"{len(at)} crops selected, {len(at) - len(labelled)} without a label")
    expect(pool.locator(".map-said")).to_contain_text(f"{len(at)} crops selected")
    expect(pool.get_by_role("button", name="Lasso", exact=True)).to_have_attribute("aria-pressed", "false")
    link = said.get_by_role("link", name="Label them")
    assert link.get_attribute("target") == "_blank"
    address = link.get_attribute("href")
    wanted = {int(task) for task in address.split("#selection=")[1].split(",")}
    assert wanted == {*at} - labelled

    with pool.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_url("**/label#selection=*")  # it stays there until somebody has signed in
    opened.value.close()
    tab = window(query=f"#{address.split('#')[1]}")
    expect(tab.locator("#page-title")).to_contain_text("selected on the map")
    offered = wanted - {*services.store.project(1).check_tasks}
    first = tasks(tab)
    assert {*first} <= offered
    assert not given(tab)
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    assert tasks(tab) == first, "they are kept by this window"
    tab.keyboard.press("1")
    tab.keyboard.press(".")
    tab.keyboard.press("Enter")
    expect(tab.locator(f"#grid [data-task='{first[0]}']")).to_have_count(0)
    rest = offered - {*first}
    assert rest
    assert {*tasks(tab)} <= rest
    wait_until(lambda: len(services.store.annotated_tasks(1)) >= len(labelled) + len(first), "not stored", 30)


def test_a_line_drawn_twice_around_holds_all_that_is_shaded(pool):
    at, size = points(pool)
    around_all = [(9, 9), (size[0] - 9, 9), (size[0] - 9, size[1] - 9), (9, size[1] - 9)]
    draw(pool, around_all * 2, shift=True)
    expect(pool.locator(".map-selected")).to_contain_text(f"{len(at)} crops selected")


def test_escape_in_the_middle_of_a_line_ends_it_and_opens_nothing(pool):
    at, size = points(pool)
    x, y = min(at.values(), key=lambda place: math.dist(place, (size[0] / 2, size[1] / 2)))
    box = pool.locator("#map canvas").bounding_box()
    pool.get_by_role("button", name="Lasso", exact=True).click()
    pool.mouse.move(box["x"] + x - 50, box["y"] + y)
    pool.mouse.down()
    pool.mouse.move(box["x"] + x - 25, box["y"] + y + 30, steps=4)
    pool.locator("#map canvas").focus()
    pool.keyboard.press("Escape")
    pool.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    pool.mouse.up()
    pool.locator("#map canvas").hover(position={"x": 5, "y": size[1] / 2})
    expect(pool.locator(".map-selected")).to_be_hidden()
    assert pool.context.pages == [pool]
    with pool.context.expect_page():  # and the next click does what it did before
        pool.mouse.click(box["x"] + x, box["y"] + y)


def test_a_drag_with_shift_takes_what_is_near_and_the_lasso_stays_on_it(pool):
    at, size = points(pool)
    task, (x, y) = min(at.items(), key=lambda one: math.dist(one[1], (size[0] / 2, size[1] / 2)))
    corners = around(x, y, 60, size)
    inside = {t for t, (px, py) in at.items() if math.dist((px, py), (x, y)) < 56}
    near = {t for t, (px, py) in at.items() if math.dist((px, py), (x, y)) < 64}
    draw(pool, corners, shift=True)
    said = pool.locator(".map-selected")
    expect(said).to_be_visible()
    number = int(said.locator("span").inner_text().split()[0])  # "7 crops selected"
    assert len(inside) <= number <= len(near)
    assert task in inside
    pool.locator("#map canvas").hover(position={"x": 5, "y": size[1] / 2})
    assert pool.context.pages == [pool], "no crop was opened"
    before = pool.locator(".map-lasso polygon").bounding_box()
    pool.get_by_role("button", name="Zoom in").click()
    outline = pool.locator(".map-lasso polygon")
    wait_until(
        lambda: outline.bounding_box()["width"] > 1.3 * before["width"],
        "it lies on the window, not on the map",
        20,
    )

    link = said.get_by_role("link").get_attribute("href")
    pool.evaluate(FETCH_ANEW)
    expect(outline).not_to_have_attribute("points", "")
    pool.evaluate("() => (everylabelMap.points.x = everylabelMap.points.x.map((x) => 65535 - x))")
    pool.evaluate(FETCH_ANEW)
    expect(pool.locator(".map-lasso polygon")).to_have_attribute("points", "")
    expect(said).to_contain_text(f"{number} crop")
    assert said.get_by_role("link").get_attribute("href") == link, "what is selected outlasts a new layout"

    pool.locator("#map canvas").focus()
    pool.keyboard.press("Escape")
    expect(said).to_be_hidden()
    pool.get_by_role("button", name="Lasso", exact=True).click()
    pool.keyboard.press("Escape")
    expect(pool.get_by_role("button", name="Lasso", exact=True)).to_have_attribute("aria-pressed", "false")
