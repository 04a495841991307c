"""What an annotator sees who presses *Label All Tasks*."""

import pytest

from tests.browser.conftest import demo_choice

LABELS = 40


@pytest.fixture(scope="module")
def project(demo_project):
    return demo_project(150, "label stream", labels=LABELS)


def test_a_check_crop_comes_with_nothing_selected(form, everylabel_backend, project):
    latest = everylabel_backend.round(project.id)
    form.open_stream(project.id)
    assert form.wait_for_task() == latest.queue[0] == latest.check[0]
    form.page.wait_for_load_state("networkidle")
    assert form.chosen() == []


def test_a_key_and_submit_bring_the_next_crop_of_the_queue(form, label_studio, everylabel_backend, project):
    form.open_stream(project.id)
    task = form.wait_for_task()
    assert task == everylabel_backend.round(project.id).queue[0]
    for labels in range(LABELS + 1, LABELS + 4):
        form.page.keyboard.press(project.labels[task])
        form.page.wait_for_function(
            "name => document.querySelector(`.lsf-choices input[name='${name}']`).checked",
            arg=project.labels[task],
        )
        assert form.chosen() == [project.labels[task]]
        before = everylabel_backend.round(project.id)
        form.submit(task)
        following = form.wait_for_task()
        # The head of the queue: of the round before, or of a new one if it came in time.
        everylabel_backend.wait_for_round(project.id, labels=labels)
        rounds = [
            r for r in everylabel_backend.services.store.rounds(project.id) if r.number >= before.number
        ]
        assert following in {next(crop for crop in r.queue if crop != task) for r in rounds}
        assert everylabel_backend.labels(project.id)[task] == project.labels[task]
        (annotation,) = label_studio.api("GET", f"/api/tasks/{task}/")["annotations"]
        assert annotation["result"][0]["value"]["choices"] == [project.labels[task]]
        task = following


def test_a_crop_the_model_is_confident_of_comes_pre_filled_and_submit_is_enough(
    form, label_studio, everylabel_backend, project
):
    latest = everylabel_backend.round(project.id)
    given = latest.n_labels
    with everylabel_backend.busy_trainer():  # the queue stays as it is until its confident end is reached
        while (head := label_studio.next_task(project.id)) not in latest.pre_annotated:
            truth = project.labels[head]
            label_studio.annotate(head, truth, result=demo_choice(truth))
            given += 1
        pushed = label_studio.prediction(head, latest.model_version)
        (suggested,) = pushed["result"][0]["value"]["choices"]
        form.open_stream(project.id)
        assert form.wait_for_task() == head
        form.page.wait_for_function("() => document.querySelector('.lsf-choices input:checked')")
        assert form.chosen() == [suggested]
        form.submit(head)
        form.wait_for_task()
    (annotation,) = label_studio.api("GET", f"/api/tasks/{head}/")["annotations"]
    assert annotation["result"][0]["value"]["choices"] == [suggested]
    assert annotation["parent_prediction"] == pushed["id"]
    everylabel_backend.wait_for_round(project.id, labels=given + 1)
    assert everylabel_backend.labels(project.id)[head] == suggested
