"""What is pre-filled, what comes blind, and what is flagged."""

import pytest

from tests.conftest import choice

LABELS = 40


@pytest.fixture(scope="module")
def project(connected):
    """150 crops, 40 of them labelled."""
    return connected(150, "pre-annotations", labels=LABELS)


def test_crops_the_model_is_sure_of_come_pre_filled_and_mostly_right(
    label_studio, everylabel_backend, project
):
    latest = everylabel_backend.round(project.id)
    assert latest.pre_annotated, "40 labels leave crops to be sure of"
    pushed = label_studio.predictions(project.id, latest.model_version)
    for task in latest.pre_annotated:
        (region,) = pushed[task]["result"]
        assert (region["from_name"], region["to_name"], region["type"]) == ("choice", "image", "choices")
        assert pushed[task]["score"] >= latest.threshold
    right = [
        pushed[task]["result"][0]["value"]["choices"] == [project.labels[task]]
        for task in latest.pre_annotated
    ]
    assert sum(right) >= 0.7 * len(right)
    assert not set(latest.pre_annotated) & set(project.task_ids[:LABELS]), "labelled crops are not pre-filled"


def test_nothing_below_the_threshold_is_pre_filled(label_studio, everylabel_backend, project):
    latest = everylabel_backend.round(project.id)
    pushed = label_studio.predictions(project.id, latest.model_version)
    unsure = {task for task in latest.batch if pushed[task]["score"] < latest.threshold}
    assert unsure, "the batch is made of crops the model is unsure of"
    for task in unsure:
        assert pushed[task]["result"] == [], "a guess pulls the annotator's hand"


def test_check_crops_come_first_and_blind(label_studio, everylabel_backend, project):
    latest = everylabel_backend.round(project.id)
    assert latest.check, "about one label in ten is to be a check label"
    pushed = label_studio.predictions(project.id, latest.model_version)
    for task in latest.check:
        assert pushed[task]["result"] == []
        assert pushed[task]["score"] == pytest.approx(0, abs=1e-3)
    assert label_studio.next_task(project.id) == latest.check[0]


def test_the_tabs_show_what_is_in_the_round(label_studio, everylabel_backend, project):
    latest = everylabel_backend.round(project.id)
    shown = {}
    for tab in label_studio.api("GET", "/api/dm/views/", params={"project": project.id}):
        params = {"view": tab["id"], "page_size": 200}
        tasks = label_studio.api("GET", "/api/tasks/", params=params)["tasks"]
        shown[tab["data"]["title"]] = {task["id"] for task in tasks}
    assert shown["Next batch"] == set(latest.queue)
    assert shown["Pseudo-labels"] == set(latest.pre_annotated)
    assert shown["Suspect labels"] == set(latest.suspected)
    assert shown["Default"] == set(project.task_ids)


def test_a_crop_opened_in_an_old_round_can_still_be_submitted_rounds_later(
    label_studio, everylabel_backend, project
):
    """With its prediction deleted, Label Studio would refuse the submit and the label would be lost."""
    old = everylabel_backend.round(project.id)
    opened = old.pre_annotated[-1]
    prediction = label_studio.prediction(opened, old.model_version)
    latest = old
    for _ in range(4):
        task = label_studio.next_task(project.id)
        label_studio.annotate(task, project.labels[task])
        latest = everylabel_backend.wait_for_round(project.id, after=latest.number)
    everylabel_backend.services.trainer.run_maintenance()  # the clean-up that comes by once a minute
    assert prediction["model_version"] in label_studio.api(
        "GET", f"/api/projects/{project.id}/model-versions/"
    )
    label_studio.annotate(
        opened,
        project.labels[opened],
        parent_prediction=prediction["id"],
        result=choice(project.labels[opened]),
    )
    everylabel_backend.wait_for_round(project.id, after=latest.number, labels=LABELS + 5)
    assert everylabel_backend.labels(project.id)[opened] == project.labels[opened]


def test_a_version_nobody_can_have_open_any_more_is_cleaned_out(label_studio, everylabel_backend, project):
    latest = everylabel_backend.round(project.id)
    # A day: Label Studio keeps a crop that long for whoever opened it.
    everylabel_backend.services_later(90_000).trainer.run_maintenance()
    left = label_studio.api("GET", f"/api/projects/{project.id}/model-versions/")
    assert [version for version in left if version.startswith("round ")] == [latest.model_version]
    assert label_studio.next_task(project.id) == latest.queue[0]


def test_wrong_labels_are_flagged_for_review(label_studio, everylabel_backend, digits):
    project = label_studio.digits_project(digits, 100, "wrong labels")
    labelled = project.task_ids[:60]
    wrong = [task for task in labelled if project.labels[task] in "046"][:4]
    for task in labelled:
        truth = project.labels[task]
        label_studio.annotate(task, str(9 - int(truth)) if task in wrong else truth)
    latest = everylabel_backend.connect(project.id)
    assert latest.n_labels == 60
    assert set(latest.suspected) <= set(labelled)
    assert set(latest.suspected) & set(wrong), "none of the wrong labels is flagged"
    assert len(latest.suspected) <= 20
    pushed = label_studio.predictions(project.id, latest.model_version)
    assert any(
        pushed[task]["result"][0]["value"]["choices"] == [project.labels[task]]
        for task in set(latest.suspected) & set(wrong)
    ), "no suggested label is the right one"
    tabs = label_studio.api("GET", "/api/dm/views/", params={"project": project.id})
    (tab,) = [tab["id"] for tab in tabs if tab["data"]["title"] == "Suspect labels"]
    shown = label_studio.api("GET", "/api/tasks/", params={"view": tab, "page_size": 200})["tasks"]
    assert {task["id"] for task in shown} == set(latest.suspected)
    assert label_studio.next_task(project.id) not in labelled, "flagged crops do not come up again unasked"

    # One is right as it is: submitted again unchanged, as *Update* does. Another is corrected.
    kept, corrected = latest.suspected[:2]
    for task, label in ((kept, None), (corrected, project.labels[corrected])):
        (annotation,) = label_studio.api("GET", f"/api/tasks/{task}/")["annotations"]
        body = {"result": annotation["result"] if label is None else choice(label)}
        label_studio.api("PATCH", f"/api/annotations/{annotation['id']}/", json=body)
        latest = everylabel_backend.wait_for_round(project.id, after=latest.number)
    assert not {kept, corrected} & set(latest.suspected)
    shown = label_studio.api("GET", "/api/tasks/", params={"view": tab, "page_size": 200})["tasks"]
    assert not {kept, corrected} & {task["id"] for task in shown}


def test_of_the_crops_label_studio_serves_every_tenth_comes_pre_filled_and_a_check_crop_never(
    label_studio, everylabel_backend, connected
):
    """The stream begins anew with every label, and the promised crops come all the same."""
    project = connected(110, "promised pre-filled", labels=60)
    latest = everylabel_backend.round(project.id)
    for _ in range(30):
        assert latest.pre_annotated, "there are crops to be sure of"
        task = label_studio.next_task(project.id)
        assert task == latest.queue[0], "what is served is the newest round's first crop"
        result = label_studio.prediction(task, latest.model_version)["result"]
        blind = {*everylabel_backend.services.store.project(project.id).check_tasks}
        before = len(everylabel_backend.labels(project.id).keys() - blind)
        assert not (result and task in blind)
        if (before + 1) % 10 == 0 and task not in blind:
            assert result, f"the crop after {before} that were no check crops comes pre-filled"
            return
        label_studio.annotate(task, project.labels[task])
        latest = everylabel_backend.wait_for_round(project.id, after=latest.number)
    raise AssertionError("no tenth crop came")
