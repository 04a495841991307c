"""Crops left open in two tabs of the browser are submitted long after their rounds were superseded."""

import time

import pytest

from everylabel.backend.label_studio.superseded import NEXT_SECONDS
from everylabel.backend.store.annotations import submitted_at
from tests.browser.conftest import CHOSEN, LabelForm, demo_choice, given

pytestmark = pytest.mark.timeout(600)

SUBMIT, UPDATE = "bottombar-submit-button", "bottombar-update-button"


@pytest.fixture
def second_tab(page):
    """The label form in another tab of the same browser."""
    return LabelForm(page.context.new_page())


def versions(label_studio, task):
    return {p["model_version"] for p in label_studio.api("GET", f"/api/tasks/{task}/")["predictions"]}


@pytest.mark.usefixtures("enter")
def test_crops_left_open_in_two_tabs_are_submitted_and_updated_after_their_rounds_are_gone(
    form, second_tab, label_studio, everylabel_backend, demo_project
):
    project = demo_project(100, "two tabs", labels=14)
    truth = project.labels
    form.open_stream(project.id)
    first = form.wait_for_task()
    latest = everylabel_backend.round(project.id)
    form.choose(truth[first])
    form.page.keyboard.press("Enter")
    in_stream = form.wait_for_next(first)  # stays open in the first tab
    latest = everylabel_backend.wait_for_round(project.id, after=latest.number)

    form.page.wait_for_timeout(1000 * NEXT_SECONDS)  # nobody finds a crop in another tab in less
    from_tab = next(task for task in latest.queue if task not in (first, in_stream))
    second_tab.page.goto(f"/projects/{project.id}/data?task={from_tab}")
    assert second_tab.wait_for_task() == from_tab
    third_tab = ThirdTab(label_studio, everylabel_backend, project, {in_stream, from_tab})
    for _ in range(2):
        latest = third_tab.label(latest)
    second_tab.choose(truth[from_tab])
    second_tab.page.get_by_test_id(SUBMIT).click()  # and stays open with its Update button
    second_tab.page.get_by_text("Annotation saved successfully", exact=True).wait_for()
    latest = everylabel_backend.wait_for_round(project.id, after=latest.number)
    opened_on = versions(label_studio, in_stream)

    for number in range(12):
        if number in (0, 6):  # rounds served within seconds of when a form was opened are kept
            form.page.wait_for_timeout(2000 * NEXT_SECONDS)
        latest = third_tab.label(latest)
    an_hour_later = everylabel_backend.services_later(3600)
    for _ in range(3):
        an_hour_later.trainer.run_maintenance()
    held = everylabel_backend.services.label_studio.model_versions(project.id)
    assert len(held) < latest.number, "superseded rounds are gone"
    assert opened_on & versions(label_studio, in_stream)

    form.choose(truth[in_stream])
    form.page.get_by_test_id(SUBMIT).click()
    form.wait_for_next(in_stream)
    assert given(label_studio, in_stream) == [[truth[in_stream]]]
    wrong = "1" if truth[from_tab] == "0" else "0"
    second_tab.page.keyboard.press(wrong)
    second_tab.page.wait_for_function(CHOSEN, arg=wrong)
    with second_tab.updating():
        second_tab.page.get_by_test_id(UPDATE).click()
    assert given(label_studio, from_tab) == [[wrong]]


class ThirdTab:
    """A label stream of the same person, in which a quick hand labels whatever is not open elsewhere."""

    def __init__(self, label_studio, everylabel_backend, project, but):
        self.label_studio, self.backend, self.project, self.but = (
            label_studio,
            everylabel_backend,
            project,
            but,
        )
        self.opened_at = time.time()

    def label(self, latest):
        """Label the first crop of a round and return the round after it."""
        task = next(task for task in (*latest.queue, *latest.pre_annotated) if task not in self.but)
        result, lead_time = demo_choice(self.project.labels[task]), max(0.0, time.time() - self.opened_at)
        annotation = self.label_studio.annotate(
            task, self.project.labels[task], result=result, lead_time=lead_time
        )
        # The stream loads the next crop in the instant of the submit, however slow the answers are here.
        made = self.label_studio.api("GET", f"/api/annotations/{annotation}/")
        self.opened_at = submitted_at(made["created_at"]) + 0.5
        return self.backend.wait_for_round(self.project.id, after=latest.number)
