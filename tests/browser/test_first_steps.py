"""What the tutorial tells an annotator to press, pressed key by key."""

from contextlib import suppress

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from tests.browser.conftest import CHOSEN, WARNING, given
from tests.everylabel_process import wait_until


@pytest.fixture(scope="module")
def project(demo_project):
    return demo_project(150, "first steps", labels=40, wrong=3)


@pytest.fixture(scope="module")
def reviewing(demo_project):
    return demo_project(150, "pseudo-labels to confirm", labels=40)


@pytest.mark.usefixtures("enter")
def test_two_keys_label_a_crop_and_a_second_enter_saves_nothing_empty(form, label_studio, project):
    form.open_stream(project.id)
    task = form.wait_for_task()
    labelled = []
    for number in range(10):
        form.choose(project.labels[task])
        form.page.keyboard.press("Enter")
        if number % 3 == 0:
            form.page.keyboard.press("Enter")
        labelled.append(task)
        task = form.wait_for_next(task)
    assert len(set(labelled)) == 10
    assert [given(label_studio, task) for task in labelled] == [[[project.labels[t]]] for t in labelled]


@pytest.mark.usefixtures("enter")
def test_a_choice_taken_back_is_refused_until_the_key_chooses_again(form, label_studio, project):
    form.open_stream(project.id)
    task = form.wait_for_task()
    form.choose(project.labels[task])
    form.page.keyboard.press(project.labels[task])
    form.page.wait_for_function(f"name => !({CHOSEN})(name)", arg=project.labels[task])
    form.page.keyboard.press("Enter")
    form.page.locator(WARNING, has_text="Choose a class, or skip the crop.").wait_for()
    assert given(label_studio, task) == []
    form.close_warning()
    form.choose(project.labels[task])
    form.page.keyboard.press("Enter")
    form.wait_for_next(task)
    assert given(label_studio, task) == [[project.labels[task]]]


def test_a_right_label_is_confirmed_by_its_key_twice_and_update(
    form, label_studio, everylabel_backend, project
):
    latest = everylabel_backend.round(project.id)
    task = latest.suspected[0]
    ((label,),) = given(label_studio, task)
    form.page.goto(f"/projects/{project.id}/data?task={task}")
    assert form.wait_for_task() == task
    form.page.wait_for_function(CHOSEN, arg=label)
    update = form.page.get_by_test_id("bottombar-update-button")
    assert update.is_disabled(), "nothing has changed"
    form.page.keyboard.press(label)
    form.page.keyboard.press(label)
    form.page.wait_for_function(CHOSEN, arg=label)
    with form.updating():
        update.click()
    assert given(label_studio, task) == [[label]]
    newer = everylabel_backend.wait_for_round(project.id, after=latest.number)
    assert newer.confirmed[task] == label
    assert task not in newer.suspected


def test_label_tasks_as_displayed_serves_the_tab(form, label_studio, everylabel_backend, project):
    tabs = label_studio.api("GET", "/api/dm/views/", params={"project": project.id})
    (tab,) = [tab["id"] for tab in tabs if tab["data"]["title"] == "Pseudo-labels"]
    shown = label_studio.api("GET", "/api/tasks/", params={"view": tab, "page_size": 100})["tasks"]
    form.page.goto(f"/projects/{project.id}/data?tab={tab}")
    form.page.get_by_role("button", name="Label All Tasks").wait_for()
    form.page.get_by_role("button", name="Toggle open").click()
    form.page.get_by_text("Label Tasks As Displayed").click()
    assert form.wait_for_task() == shown[0]["id"]
    form.page.wait_for_function("() => document.querySelector('.lsf-choices input:checked')")


@pytest.mark.usefixtures("enter")
def test_the_selected_pseudo_labels_come_pre_filled_and_enter_takes_each(
    form, label_studio, everylabel_backend, reviewing
):
    """*Select all*, *Label N Tasks*: N crops, each with its class chosen, and one key a crop."""
    latest = everylabel_backend.round(reviewing.id)
    predictions = label_studio.predictions(reviewing.id, latest.model_version)
    tabs = label_studio.api("GET", "/api/dm/views/", params={"project": reviewing.id})
    (tab,) = [tab["id"] for tab in tabs if tab["data"]["title"] == "Pseudo-labels"]
    shown = label_studio.api("GET", "/api/tasks/", params={"view": tab, "page_size": 100})["tasks"]
    waiting = {task["id"]: predictions[task["id"]]["result"][0]["value"]["choices"] for task in shown}
    assert len(waiting) > 2
    form.page.goto(f"/projects/{reviewing.id}/data?tab={tab}")
    form.page.get_by_label("Select all rows").click()
    form.page.get_by_role("button", name=f"Label {len(waiting)} Tasks").click()
    taken, blank = [], []
    for number in range(len(waiting)):
        task = form.wait_for_task() if number == 0 else form.wait_for_next(taken[-1])
        assert task in waiting, "only what was selected is served"
        if not comes_chosen(form, everylabel_backend, reviewing.id, task, waiting[task][0]):
            form.choose(waiting[task][0])
            blank.append(task)
        form.page.keyboard.press("Enter")
        taken.append(task)
    wait_until(lambda: given(label_studio, taken[-1]), "the last submit is saved")
    assert sorted(taken) == sorted(waiting)
    assert {task: given(label_studio, task) for task in taken} == {t: [waiting[t]] for t in waiting}
    assert len(blank) < len(waiting) / 2


def comes_chosen(form, backend, project, task, name):
    """Wait until the crop on show has its class; False for one that a newer round keeps blind or is not sure of."""
    wait_until(
        lambda: form.chosen() == [name] or task not in backend.round(project).pre_annotated,
        "a crop of the newest pseudo-labels has no class chosen",
    )
    with suppress(PlaywrightTimeoutError):  # it may still come with the class of the round before
        form.page.wait_for_function(CHOSEN, arg=name, timeout=3000)
    return form.chosen() == [name]
