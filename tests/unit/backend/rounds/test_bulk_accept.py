"""What counts as accepted in bulk, and that it counts as nobody's label."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.acceptance_mark import is_accepted
from everylabel.backend.rounds import bulk_accept
from everylabel.backend.rounds.bulk_accept import accept, acceptable, undo
from everylabel.backend.rounds.labels import closed_tasks, resolve_labels
from everylabel.backend.store import Annotation, Store

MADE, LATER = "2026-03-01T10:00:00.000100Z", "2026-03-01T10:00:04.000000Z"


def body(*, origin="prediction", updated_at="2026-03-01T10:00:00.000131Z", **region):
    """An annotation as Label Studio tells it once it was accepted."""
    mark = {"text": ["accepted, round 3: in bulk by everylabel, 99.1% sure"]}
    choice = {"from_name": "kind", "type": "choices", "value": {"choices": ["a"]}, "meta": mark}
    result = [{**choice, "origin": origin, **region}]
    return {"id": 5, "task": 7, "result": result, "created_at": MADE, "updated_at": updated_at}


def test_the_mark_says_that_an_annotation_was_accepted():
    assert is_accepted(body())


def test_what_somebody_edits_is_theirs_whether_in_the_form_or_by_the_api():
    assert not is_accepted(body(origin="prediction-changed"))
    assert not is_accepted(body(updated_at=LATER))


def test_an_annotation_from_elsewhere_is_a_person_s_label():
    assert not is_accepted(body(meta={"text": ["blurred, but clear"]}))
    assert not is_accepted(body(meta={}))
    assert not is_accepted(body(meta="odd"))
    assert not is_accepted({**body(), "result": []})
    assert not is_accepted({**body(), "result": None})
    assert not is_accepted({**body(), "created_at": "yesterday"})


def test_a_webhook_keeps_what_tells_them_apart():
    def annotations(action, annotation):
        webhook = {"action": action, "project": {"id": 1}, "annotation": [annotation], "task": []}
        return webhooks.read(webhook).kept()["annotations"]

    for action in ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED"):
        (kept,) = annotations(action, body())
        assert kept["accepted"]
    (kept,) = annotations("ANNOTATION_UPDATED", body(updated_at=LATER))
    assert not kept["accepted"]


def test_an_accepted_crop_is_nobody_s_label_and_not_asked_for_until_a_person_labels_it():
    machine = Annotation(1, 7, 1, "a", False, MADE, accepted=True)
    assert resolve_labels([machine], ("a", "b"), {}) == {}
    assert closed_tasks([machine], {}) == {7}
    person = Annotation(2, 7, 1, "b", False, LATER)
    labels = resolve_labels([machine, person], ("a", "b"), {})
    assert labels == {7: "b"}
    assert closed_tasks([machine, person], labels) == set()


def test_the_store_remembers_it_also_one_that_an_earlier_version_made(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    made = Store(url)
    made.save_project(1)
    made.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        for column in ("accepted", "former", "opened_at"):
            connection.execute(text(f"ALTER TABLE annotations DROP COLUMN {column}"))
        connection.execute(
            text("INSERT INTO annotations VALUES (1, 4, 6, 1, 'a', 0, '2026-02-01T10:00:00Z')")
        )
    engine.dispose()
    store = Store(url)
    store.save_annotations(1, [Annotation(5, 7, 1, "a", False, MADE, accepted=True)])
    assert {a.id: a.accepted for a in store.annotations(1)} == {4: False, 5: True}
    store.close()


# --- people go on labelling meanwhile


@pytest.fixture
def taught(stand_in, services, digit_crops):
    """120 crops, 20 of them labelled; returns those a model would accept, whatever its confidence."""
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:120]))
    for task, (_, label) in list(zip(ids, digit_crops, strict=False))[:20]:
        stand_in.annotate(task, label)
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    crops, _ = acceptable(services, 1, 0.0, 1000)
    return crops


def test_nothing_is_accepted_of_a_class_that_has_one_label_left(services, taught):
    assert "3" in {crop.label for crop in taught}
    given = [annotation.id for annotation in services.store.annotations(1) if annotation.choice == "3"]
    services.store.delete_annotations(1, given[1:])
    crops, _ = acceptable(services, 1, 0.0, 1000)
    assert {crop.label for crop in crops} == {crop.label for crop in taught} - {"3"}


def after_the_first(services, monkeypatch, name, act):
    """Have `act` happen after the client's first call of this name."""
    call, pending = getattr(services.label_studio, name), [act]

    def and_then(*args, **options):
        call(*args, **options)
        if pending:
            pending.pop()()

    monkeypatch.setattr(services.label_studio, name, and_then)


@pytest.mark.parametrize("heard_of", [True, False])
def test_a_crop_somebody_labels_while_others_are_accepted_is_theirs(
    stand_in, services, taught, send, monkeypatch, heard_of
):
    monkeypatch.setattr(bulk_accept, "CHUNK", 4)
    crops = taught[:12]
    theirs = crops[6].task_id
    before = services.store.latest_round(1)

    def somebody_labels():
        body = stand_in.annotate(theirs, "0")
        if heard_of:
            send(body)

    after_the_first(services, monkeypatch, "create_annotations", somebody_labels)
    done = accept(services, 1, crops)
    assert theirs not in {crop.task_id for crop in done.crops}
    assert len(stand_in.tasks[theirs]["annotations"]) == 1
    assert all(len(stand_in.tasks[crop.task_id]["annotations"]) == 1 for crop in done.crops)
    after = services.store.latest_round(1)
    assert after.n_labels - before.n_labels == heard_of, "the live loop has its turn in between"
    asked = {*after.queue, *after.suspected} if heard_of else set()
    assert {crop.task_id for crop in crops[4:]} - {crop.task_id for crop in done.crops} <= {theirs, *asked}


def test_the_live_loop_has_its_turn_while_accepted_crops_are_taken_back(
    stand_in, services, taught, send, monkeypatch
):
    monkeypatch.setattr(bulk_accept, "DELETED_AT_ONCE", 4)
    accept(services, 1, taught[:12])
    person = next(task for task in services.store.latest_round(1).queue)
    before, left = services.store.latest_round(1), []
    after_the_first(services, monkeypatch, "delete_annotation", lambda: send(stand_in.annotate(person, "0")))
    run = services.rounds.run

    def running(*args, **options):
        left.append(sum(is_accepted(a) for task in stand_in.tasks.values() for a in task["annotations"]))
        return run(*args, **options)

    monkeypatch.setattr(services.rounds, "run", running)
    assert undo(services, 1).taken_back == 12
    assert left == [8]
    assert services.store.latest_round(1).n_labels == before.n_labels + 1
