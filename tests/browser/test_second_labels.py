"""Second labels in a real Chromium: offered once people disagree, without the label that the others gave."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from everylabel.backend.store import Annotation
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
from tests.browser.test_more_like import home, window  # noqa: F401
from tests.browser.test_page_alone import backend, taught  # noqa: F401


@pytest.fixture
def disputed(services, taught, project):  # noqa: F811
    """Thirty crops that two people have labelled, every fourth differently; their labels by task."""
    tasks = list(project)[:30]
    services.store.save_annotations(
        1,
        [
            Annotation(
                10_000 * who + task,
                task,
                who,
                project[task] if who == 5 or at % 4 else str((int(project[task]) + 1) % 4),
                False,
                "2026-01-01T00:00:00.000000Z",
            )
            for at, task in enumerate(tasks)
            for who in (5, 6)
        ],
    )
    services.loop.catch_up(1, force=True)
    return tasks


def test_they_are_offered_and_confirmed_without_what_others_said(window, services, disputed, project):  # noqa: F811
    tab = window(query="?show=second-labels")
    shown = tasks(tab)
    expect(tab.locator("#page-title")).to_have_text(f"{len(shown)} crops that others have labelled")
    assert {*shown} <= {*disputed}
    assert given(tab) == {}
    assert set(tab.eval_on_selector_all("#grid .given", "cells => cells.map(cell => cell.textContent)")) == {
        "no class"
    }
    expect(tab.get_by_role("button", name="Take the suggestion")).to_be_hidden()
    found = Axe().run(tab).response["violations"]
    assert [one["id"] for one in found if one["impact"] in SERIOUS] == []
    for task in shown[:3]:
        tab.locator(f"[data-task='{task}']").focus()
        tab.keyboard.press(str(int(project[task]) + 1))  # the keys are 1 to 4, the classes 0 to 3
    wanted = given(tab)
    assert wanted == {task: project[task] for task in shown[:3]}
    tab.keyboard.press("Enter")
    expect(tab.locator("#counts")).to_contain_text("3 confirmed")
    mine = {a.task_id: a.choice for a in services.store.annotations(1) if a.annotator == 7}
    assert mine == wanted
    first = f"() => document.querySelector('#grid .cell')?.dataset.task !== '{shown[0]}'"
    tab.wait_for_function(first)
    assert not {*tasks(tab)} & {*shown}, "what was left out is not asked for again today"


def test_the_page_of_the_project_leads_there(window, home, disputed):  # noqa: F811
    tab = window(query="?show=second-labels")
    tab.goto(home)
    tab.get_by_role("tab", name="Second labels").click()
    tab.get_by_role("link", name="Label them a page at a time").click()
    tab.locator("#grid .cell").first.wait_for()
    expect(tab.get_by_label("Show", exact=True)).to_have_value("second-labels")
