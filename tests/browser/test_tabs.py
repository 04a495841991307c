"""The tabs of a connected project really open, as grids of the right pictures.

Label Studio's page is not its API: a filter that the API takes can keep the page from ever finishing to load.
"""

import re

from playwright.sync_api import expect

from tests.browser.conftest import OPEN_TAB, given, open_tab

OURS = ("Next batch", "Pseudo-labels", "Suspect labels")
GRID = ".lsf-grid-view__cell"
ROW = ".lsf-table__row-wrapper"


def chosen(label):
    """A result that chooses this label, as a row tells it: with a space from SQLite, without one from PostgreSQL."""
    return re.compile(rf"choices: ?\[{re.escape(label)}\]")


def is_whole(page):
    """Whether all of the open tab's title is seen: Label Studio lays a button beside it, or over its end."""
    tab = page.locator(OPEN_TAB)
    tab.hover()
    return tab.evaluate(
        """tab => {
          const title = document.createRange();
          title.selectNodeContents(tab.querySelector("span").firstChild);
          const button = tab.parentElement.querySelector("button");
          return title.getBoundingClientRect().right <= button.getBoundingClientRect().left;
        }"""
    )


def expected(label_studio, project, title):
    """The tasks of a tab, in order, with the address of each one's picture."""
    tabs = label_studio.api("GET", "/api/dm/views/", params={"project": project.id})
    (tab,) = [tab["id"] for tab in tabs if tab["data"]["title"] == title]
    tasks = label_studio.api("GET", "/api/tasks/", params={"view": tab, "page_size": 100})["tasks"]
    return [(task["id"], task["data"]["image"]) for task in tasks]


def test_the_next_batch_is_a_grid_of_its_crops(page, label_studio, reviewed_project):
    title = "Next batch"
    tasks = expected(label_studio, reviewed_project, title)
    assert tasks, f"nothing to see in {title!r}"
    page.goto(f"/projects/{reviewed_project.id}/data")
    open_tab(page, title)
    first = tasks[:5]  # a row; rows out of sight are not drawn
    for task, picture in first:
        cell = page.locator(GRID, has=page.get_by_label(f"Select Task {task}", exact=True))
        image = cell.locator(f"img[src='{picture}']")
        image.wait_for()
        page.wait_for_function(
            "image => image.complete && image.naturalWidth > 0", arg=image.element_handle()
        )
    drawn = page.locator(GRID).evaluate_all(
        "cells => cells.sort((a, b) => a.offsetTop - b.offsetTop || a.offsetLeft - b.offsetLeft)"
        ".map(cell => Number(cell.innerText.trim().split('\\n')[0]))"
    )
    assert drawn == [task for task, _ in tasks][: len(drawn)]
    page.get_by_text(f"Tasks: {len(tasks)} / 150").wait_for()
    assert is_whole(page), "the title of the open tab is cut off"


def test_the_pseudo_labels_are_a_list_of_crops_with_the_class_of_each(
    page, label_studio, everylabel_backend, reviewed_project
):
    tasks = expected(label_studio, reviewed_project, "Pseudo-labels")
    latest = everylabel_backend.round(reviewed_project.id)
    suggested = label_studio.predictions(reviewed_project.id, latest.model_version)
    page.goto(f"/projects/{reviewed_project.id}/data")
    open_tab(page, "Pseudo-labels")
    for task, picture in tasks[:5]:
        row = page.locator(ROW, has=page.locator(f"img[src='{picture}']"))
        (label,) = suggested[task]["result"][0]["value"]["choices"]
        expect(row).to_contain_text(chosen(label))
        expect(row).to_contain_text(str(task))
    assert page.locator(GRID).count() == 0
    page.get_by_text(f"Tasks: {len(tasks)} / 150").wait_for()
    assert is_whole(page), "the title of the open tab is cut off"


def test_a_suspect_label_stands_beside_the_suggestion_and_a_click_opens_both(
    form, label_studio, everylabel_backend, reviewed_project
):
    page = form.page
    tasks = expected(label_studio, reviewed_project, "Suspect labels")
    latest = everylabel_backend.round(reviewed_project.id)
    suggested = label_studio.predictions(reviewed_project.id, latest.model_version)
    page.goto(f"/projects/{reviewed_project.id}/data")
    open_tab(page, "Suspect labels")
    for task, picture in tasks:
        row = page.locator(ROW, has=page.locator(f"img[src='{picture}']"))
        classes = [*given(label_studio, task)[0], *suggested[task]["result"][0]["value"]["choices"]]
        assert len({*classes}) == 2
        for name in classes:
            expect(row).to_contain_text(chosen(name))
    assert is_whole(page), "the title of the open tab is cut off"
    task, picture = tasks[0]
    page.locator(ROW, has=page.locator(f"img[src='{picture}']")).get_by_text(str(task), exact=True).click()
    assert form.wait_for_task() == task
    icon = page.get_by_label("Compare all annotations", exact=True)  # before 1.21 it has no words
    page.get_by_text("Compare All").or_(icon).first.wait_for()


def test_the_plain_tab_shows_every_crop(page, reviewed_project):
    page.goto(f"/projects/{reviewed_project.id}/data")
    open_tab(page, "Default")
    page.get_by_text("Tasks: 150 / 150").wait_for()
    expect(page.locator("img[src*='/data/upload/']").first).to_be_in_viewport()


def test_tabs_with_nothing_in_them_open_too(page, demo_project):
    """Before the first label there are no pseudo-labels and no label errors."""
    project = demo_project(8, "nothing labelled")
    page.goto(f"/projects/{project.id}/data")
    for title in OURS[1:]:
        open_tab(page, title)
        page.get_by_text("Tasks: 0 / 8").wait_for()
        assert page.locator(GRID).count() == 0
    open_tab(page, "Next batch")
    page.get_by_text("Tasks: 5 / 8").wait_for()
