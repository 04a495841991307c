"""Opening a crop from a tab: a pseudo-label to check, a label that looks wrong."""

import pytest


@pytest.fixture(scope="module")
def fresh_project(demo_project, everylabel_backend):
    """One whose crops have the newest round alone: a superseded one stays while somebody may have a crop open."""
    project = demo_project(150, "to be opened", labels=40, wrong=3)
    latest = everylabel_backend.wait_for_round(project.id)
    client = everylabel_backend.services.label_studio
    # Where connecting was slow, the trainer has run a round meanwhile.
    for version in client.model_versions(project.id):
        if version != latest.model_version:
            client.delete_predictions(project.id, version)
    return project


def open_from_tab(form, label_studio, project, title, task):
    """Open a task of a tab, as the address of its row in the tab does."""
    tabs = label_studio.api("GET", "/api/dm/views/", params={"project": project.id})
    (tab,) = [tab["id"] for tab in tabs if tab["data"]["title"] == title]
    form.page.goto(f"/projects/{project.id}/data?tab={tab}&task={task}")
    assert form.wait_for_task() == task


def test_a_pseudo_label_opens_with_its_class_selected(form, label_studio, everylabel_backend, fresh_project):
    latest = everylabel_backend.round(fresh_project.id)
    task = latest.pre_annotated[-1]
    prediction = label_studio.prediction(task, latest.model_version)
    open_from_tab(form, label_studio, fresh_project, "Pseudo-labels", task)
    form.page.wait_for_function("() => document.querySelector('.lsf-choices input:checked')")
    assert form.chosen() == prediction["result"][0]["value"]["choices"]
    form.page.locator(".lsf-annotation-button", has_text=latest.model_version).wait_for()


def test_a_suspected_label_is_shown_beside_what_the_model_suggests(
    form, label_studio, everylabel_backend, fresh_project
):
    latest = everylabel_backend.round(fresh_project.id)
    task = latest.suspected[0]
    prediction = label_studio.prediction(task, latest.model_version)
    (annotation,) = label_studio.api("GET", f"/api/tasks/{task}/")["annotations"]
    given = annotation["result"][0]["value"]["choices"]
    suggested = prediction["result"][0]["value"]["choices"]
    assert given != suggested
    open_from_tab(form, label_studio, fresh_project, "Suspect labels", task)
    carousel = form.page.locator(".lsf-annotation-button")
    assert carousel.count() == 2, "the person's annotation and the model's prediction"
    form.page.wait_for_function("() => document.querySelector('.lsf-choices input:checked')")
    assert form.chosen() == given
    carousel.filter(has_text=latest.model_version).click()
    form.page.wait_for_function(
        "name => document.querySelector(`.lsf-choices input[name='${name}']`)?.checked", arg=suggested[0]
    )
    assert form.chosen() == suggested
