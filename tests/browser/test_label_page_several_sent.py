"""A page of a project in which a crop may have several classes, beside a real Label Studio: sent whole, and undone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from everylabel.backend.label_pages.annotations import annotator_of
from everylabel.model import label_set
from tests.browser.test_label_pages import confirm, given, member, tasks
from tests.everylabel_process import wait_until
from tests.label_studio.test_kinds_of_crops import SEVERAL, label_at_once, said_of, things

KEYS = {"even": "1", "above four": "2", "odd": "3"}


@pytest.fixture(scope="module")
def project(label_studio, everylabel_backend, digits):
    """90 digits, 50 of them labelled before it is connected."""
    project = label_studio.digits_project(digits, 90, "several classes on the page", SEVERAL)
    labelled = {task: things(said_of(project.labels[task])) for task in project.task_ids[:50]}
    label_at_once(everylabel_backend, project.id, labelled)
    everylabel_backend.connect(project.id)
    return project


@pytest.fixture(scope="module")
def cleo(label_studio):
    """The number and the token of a person of their own."""
    return member(label_studio, "cleo")


@pytest.fixture
def tab(browser, everylabel_backend, project, cleo):
    """A window of Cleo's, signed in."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(f"{everylabel_backend.settings.public_url}/projects/{project.id}/label")
    tab.get_by_label("Your Label Studio token").fill(cleo[1])
    tab.get_by_role("button", name="Sign in").click()
    tab.locator("#grid .cell").first.wait_for()
    yield tab
    tab.goto("about:blank")
    context.close()


def test_a_page_comes_to_label_studio_with_all_its_classes_and_an_undo_takes_it_back(
    tab, label_studio, everylabel_backend, project, cleo
):
    def held(task):
        found = label_studio.api("GET", f"/api/tasks/{task}/")["annotations"]
        return [(annotator_of(one), sorted(one["result"][0]["value"]["choices"])) for one in found]

    def is_sent():
        return not everylabel_backend.services.store.labels_to_do(project.id)

    for task in tasks(tab):
        cell = tab.locator(f"[data-task='{task}']")
        cell.focus()
        has = label_set.split(given(tab).get(task, "")) if task in given(tab) else ()
        for name in {*has} ^ {*said_of(project.labels[task])}:
            tab.keyboard.press(KEYS[name])
        expect(cell.locator(".given")).to_have_text(label_set.join(said_of(project.labels[task])))
    wanted = given(tab)
    assert any(len(label_set.split(label)) == 2 for label in wanted.values())
    confirm(tab)
    wait_until(lambda: is_sent() and held([*wanted][-1]), "the page has not come to Label Studio", 120)
    assert {task: held(task) for task in wanted} == {
        task: [(cleo[0], sorted(label_set.split(label)))] for task, label in wanted.items()
    }
    assert everylabel_backend.labels(project.id).items() >= wanted.items()

    tab.keyboard.press("Control+z")
    tab.wait_for_function(
        f"() => document.querySelector('#grid .cell')?.dataset.task === '{next(iter(wanted))}'"
    )
    assert given(tab) == wanted
    wait_until(
        lambda: is_sent() and not any(held(task) for task in wanted), "the page is still in Label Studio", 120
    )
