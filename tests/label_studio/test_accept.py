"""Pre-annotations accepted in bulk: marked as the machine's, counted as nobody's label, and taken back exactly."""

import pytest

from everylabel.backend.label_studio.acceptance_mark import accepted_version, is_accepted, is_accepted_version
from everylabel.backend.rounds.bulk_accept import ACCEPTED, Undone, accept, acceptable, undo
from tests.conftest import choice

LABELS = 60
SURE = 0.6
AT_MOST = 12  # a deletion costs Label Studio 150 ms


@pytest.fixture(scope="module")
def project(connected):
    """160 crops, 60 of them labelled: the model is sure of a good part of the rest."""
    return connected(160, "accepted in bulk", labels=LABELS)


def annotations(label_studio, project):
    """Every annotation in Label Studio by its id, without the words that say how long ago it was made."""
    found = (a for task in label_studio.tasks(project) for a in task["annotations"])
    return {a["id"]: {key: value for key, value in a.items() if key != "created_ago"} for a in found}


def accepted(label_studio, project):
    """Those that carry the mark and that nobody has touched, by task."""
    return {a["task"]: a for a in annotations(label_studio, project).values() if is_accepted(a)}


def run(backend, command, project, *options):
    said = backend.command(command, "--project", str(project.id), *options)
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_a_dry_run_says_what_would_be_accepted_and_writes_nothing(label_studio, everylabel_backend, project):
    before = annotations(label_studio, project.id)
    sure, _ = acceptable(everylabel_backend.services, project.id, SURE, 1000)
    said = run(everylabel_backend, "accept", project, "--min-confidence", str(SURE), "--dry-run")
    assert "Dry run: nothing was written." in said
    assert f"{len(sure)} crops at 60% and above" in said
    assert "expected wrong" in said
    assert annotations(label_studio, project.id) == before


def test_accepted_crops_are_marked_and_count_as_nobody_s_label(label_studio, everylabel_backend, project):
    services = everylabel_backend.services
    before = everylabel_backend.round(project.id)
    people = annotations(label_studio, project.id)
    sure, _ = acceptable(services, project.id, SURE, 1000)
    assert len(sure) > AT_MOST
    sure = sure[:AT_MOST]
    run(everylabel_backend, "accept", project, "--min-confidence", str(SURE), "--at-most", str(AT_MOST))

    made = accepted(label_studio, project.id)
    assert made.keys() == {crop.task_id for crop in sure}
    assert all(crop.confidence >= SURE for crop in sure)
    check = set(services.store.project(project.id).check_tasks)
    assert not made.keys() & {*check, *before.queue, *before.suspected}
    for crop in sure:
        (region,) = made[crop.task_id]["result"]
        assert region["value"]["choices"] == [crop.label]
        assert region["origin"] == "prediction"
        assert region["meta"]["text"][0].startswith("accepted, round ")
    right = sum(project.labels[crop.task_id] == crop.label for crop in sure)
    assert right / len(sure) > 0.7

    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert after.n_labels == LABELS, "the machine's labels are not counted"
    assert not set(after.queue + after.pre_annotated + after.suspected) & made.keys()
    held = {a.id: a for a in services.store.annotations(project.id)}
    assert {id_ for id_, a in held.items() if a.accepted} == {a["id"] for a in made.values()}
    held = annotations(label_studio, project.id)
    assert all(held[id_]["updated_at"] == a["updated_at"] for id_, a in people.items()), (
        "theirs are as they were"
    )
    tabs = {
        tab["data"]["title"]: tab for tab in label_studio.api("GET", f"/api/dm/views/?project={project.id}")
    }
    shown = label_studio.api("GET", "/api/tasks/", params={"view": tabs[ACCEPTED]["id"], "page_size": 500})
    assert {task["id"] for task in shown["tasks"]} == made.keys()


def test_what_is_accepted_cannot_be_accepted_again(label_studio, everylabel_backend, project):
    sure, _ = acceptable(everylabel_backend.services, project.id, 0.0, 1000)
    assert not {crop.task_id for crop in sure} & accepted(label_studio, project.id).keys()


def test_an_accepted_crop_somebody_corrects_becomes_their_label(label_studio, everylabel_backend, project):
    task, annotation = next(iter(accepted(label_studio, project.id).items()))
    before = everylabel_backend.round(project.id)
    truth = project.labels[task]
    # What Label Studio's form sends: the mark stays in `meta`, and the origin says it was changed.
    changed = [{**annotation["result"][0], "origin": "prediction-changed", "value": {"choices": [truth]}}]
    label_studio.api("PATCH", f"/api/annotations/{annotation['id']}/", json={"result": changed})
    everylabel_backend.wait_for_round(project.id, after=before.number, labels=LABELS + 1)
    assert task not in accepted(label_studio, project.id)


def test_undo_takes_back_what_was_accepted_and_nothing_else(label_studio, everylabel_backend, project):
    services = everylabel_backend.services
    held = annotations(label_studio, project.id)
    machine = {id_ for id_, annotation in held.items() if is_accepted(annotation)}
    edited = next(id_ for id_ in machine)
    label_studio.api("PATCH", f"/api/annotations/{edited}/", json={"result": held[edited]["result"]})
    machine.discard(edited)
    assert undo(services, project.id, dry_run=True) == Undone(taken_back=len(machine), kept=2)
    assert annotations(label_studio, project.id).keys() == held.keys()

    before = everylabel_backend.round(project.id)
    said = run(everylabel_backend, "undo", project)
    assert f"Took back {len(machine)} annotations; their crops are open again. 2 that" in said
    left = annotations(label_studio, project.id)
    assert left.keys() == held.keys() - machine
    after = everylabel_backend.wait_for_round(project.id, after=before.number, labels=LABELS + 2)
    assert not any(annotation.accepted for annotation in services.store.annotations(project.id))
    open_again = {held[id_]["task"] for id_ in machine}
    assert open_again & set(after.queue + after.pre_annotated), "they can be asked for again"
    for task in label_studio.tasks(project.id):
        shown = [p for p in task["predictions"] if is_accepted_version(p["model_version"])]
        assert not (shown and task["id"] in open_again), "no prediction says they are accepted"
    assert undo(services, project.id) == Undone(taken_back=0, kept=2)


def test_accepting_goes_on_where_it_was_cut_off(label_studio, everylabel_backend, project):
    """Killed between its two calls, it has left predictions without annotations, perhaps of a model before."""
    services = everylabel_backend.services
    sure, _ = acceptable(services, project.id, SURE, 6)
    first = accept(services, project.id, sure[:2])
    cut_off = [(sure[2], first.version), (sure[3], first.version), (sure[4], accepted_version(1))]
    predictions = [
        {
            "task": crop.task_id,
            "result": choice(crop.label),
            "score": crop.confidence,
            "model_version": version,
        }
        for crop, version in cut_off
    ]
    label_studio.api("POST", f"/api/projects/{project.id}/import/predictions", json=predictions)
    second = accept(services, project.id, sure[2:])  # a round may have given the project a newer model by now
    written = {
        **{crop.task_id: first.version for crop in first.crops},
        **{crop.task_id: second.version for crop in second.crops},
    }
    latest = everylabel_backend.round(project.id)
    # A round may have asked a person for one of them in between.
    assert {crop.task_id for crop in sure} - written.keys() <= {*latest.queue, *latest.suspected}
    assert written.keys() & {crop.task_id for crop, _ in cut_off}, (
        "those with a prediction only were taken up"
    )
    for task in label_studio.tasks(project.id):
        if task["id"] in written:
            assert len(task["annotations"]) == 1
            held = [p["model_version"] for p in task["predictions"]]
            assert [name for name in held if is_accepted_version(name)] == [written[task["id"]]]
