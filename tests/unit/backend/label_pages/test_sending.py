"""Labels of pages on their way to Label Studio: whose they are, once each, never over anybody else's."""

from __future__ import annotations

import time

import pytest

from everylabel.backend.label_pages import sending
from everylabel.backend.store import LONG_WAIT_SECONDS, Person
from everylabel.scripts.background_checks import CheckFailedError, waiting
from tests.stand_in_label_studio import choice, label_config

ANN = Person(7, "ann")


@pytest.fixture
def confirmed(pages, ann):
    """A page of Ann's, confirmed and not sent yet."""
    page = pages.give(1, ann, "class")
    pages.confirm(1, ann, page.id, dict(page.preset), 12.0)
    return page


def written(stand_in, page, by=7):
    """The annotations by a person of each task of a page."""
    return {
        task: [a for a in stand_in.tasks[task]["annotations"] if a["completed_by"] == by]
        for task in page.tasks
    }


def states(services, page):
    return {label.task_id: label.state for label in services.store.labels_of_page(page.id)}


def test_each_label_becomes_an_annotation_of_the_person_with_a_share_of_the_time(
    services, stand_in, sender, confirmed
):
    assert sender.waiting() == [1]
    assert sender.send(1)
    for held in written(stand_in, confirmed).values():
        (annotation,) = held
        (region,) = annotation["result"]
        assert region["value"] == {"choices": [confirmed.class_name]}
        assert annotation["lead_time"] >= 0
    assert {*states(services, confirmed).values()} == {"sent"}
    assert sender.waiting() == []
    mirrored = {a.task_id: a.choice for a in services.store.mirrored_annotations(1) if a.annotator == 7}
    assert mirrored == dict(confirmed.preset), "no webhook has to come"


def test_no_round_waits_for_all_labels_to_be_sent(services, stand_in, sender, confirmed, monkeypatch):
    monkeypatch.setattr(sending, "SEND_SECONDS", 0.0)
    for count in range(1, len(confirmed.tasks) + 1):
        assert sender.waiting() == [1]
        assert sender.send(1), "nothing went wrong"
        assert sum(map(len, written(stand_in, confirmed).values())) == count
    assert sender.waiting() == []


def test_a_crash_at_any_point_of_sending_writes_nothing_twice(
    make_services, stand_in, confirmed, monkeypatch
):
    class PowerCutError(BaseException):
        pass

    def cut():
        raise PowerCutError

    backend = make_services()
    for name in ("begin_attempt", "save_annotations", "finish_label"):
        with monkeypatch.context() as patched, pytest.raises(PowerCutError):
            patched.setattr(backend.store, name, lambda *_, **__: cut())
            backend.labelling.sender.send(1)
        for held in written(stand_in, confirmed).values():
            assert len(held) <= 1
    assert make_services().labelling.sender.send(1)
    assert {len(found) for found in written(stand_in, confirmed).values()} == {1}


def test_a_request_that_label_studio_took_and_did_not_answer_is_not_repeated(
    services, stand_in, sender, confirmed
):
    stand_in.after_annotation = lambda: setattr(stand_in, "down", True)
    original = stand_in.answer

    def lost(*given):
        status, body = original(*given)
        return (503, {"detail": "cut off"}) if stand_in.down else (status, body)

    stand_in.answer = lost
    assert not sender.send(1), "it has to be tried again"
    assert sum(map(len, written(stand_in, confirmed).values())) == 1
    stand_in.answer, stand_in.down, stand_in.after_annotation = original, False, lambda: None
    assert sender.send(1)
    assert {len(found) for found in written(stand_in, confirmed).values()} == {1}
    assert {*states(services, confirmed).values()} == {"sent"}


def test_what_somebody_else_has_labelled_meanwhile_stays_and_the_person_is_told(
    services, stand_in, sender, confirmed
):
    taken = confirmed.tasks[0]
    stand_in.annotate(taken, "3", completed_by=9)
    assert sender.send(1)
    assert [a["completed_by"] for a in stand_in.tasks[taken]["annotations"]] == [9]
    assert states(services, confirmed)[taken] == "left out"
    (told,) = services.store.troubled_labels(1, 7, 0.0)
    assert (told.task_id, told.reason) == (taken, "Somebody else has labelled it meanwhile.")


def test_where_two_people_are_to_label_each_crop_the_second_label_is_written(stand_in, sender, confirmed):
    stand_in.projects[1]["maximum_annotations"] = 2
    taken = confirmed.tasks[0]
    stand_in.annotate(taken, "3", completed_by=9)
    assert sender.send(1)
    assert [a["completed_by"] for a in stand_in.tasks[taken]["annotations"]] == [9, 7]


def test_a_deleted_task_and_a_class_that_is_gone_leave_out_that_label_alone(
    services, stand_in, sender, confirmed
):
    gone = confirmed.tasks[0]
    del stand_in.tasks[gone]
    assert sender.send(1)
    assert {task for task, state in states(services, confirmed).items() if state == "left out"} == {gone}
    assert services.store.troubled_labels(1, 7, 0.0)[0].reason == "The task was deleted."


def test_a_class_that_has_left_the_config_before_it_was_sent_is_told(services, stand_in, sender, confirmed):
    services.store.save_project(1, label_config=label_config(*({*"0123"} - {confirmed.class_name})))
    assert sender.send(1)
    assert {*states(services, confirmed).values()} == {"left out"}
    assert sum(map(len, written(stand_in, confirmed).values())) == 0


def test_while_label_studio_is_down_everything_waits(services, stand_in, sender, confirmed):
    stand_in.down = True
    assert not sender.send(1)
    assert {*states(services, confirmed).values()} == {"unsent"}
    stand_in.down = False
    assert sender.send(1)
    assert {len(found) for found in written(stand_in, confirmed).values()} == {1}


def test_labels_of_a_refused_token_wait_for_the_person_and_hold_up_nobody(
    services, stand_in, sender, confirmed
):
    del stand_in.people["anns-token"]
    assert sender.send(1), "it need not be tried again"
    assert sender.waiting() == []
    assert {*states(services, confirmed).values()} == {"unsent"}
    stand_in.people["anns-new-token"] = 7
    services.labelling.sign_in.sign_in(1, "anns-new-token", "")
    assert sender.waiting() == [1]
    assert sender.send(1)
    assert {len(found) for found in written(stand_in, confirmed).values()} == {1}


def test_after_signing_out_what_was_confirmed_is_still_sent_and_then_the_token_goes(
    services, stand_in, sender, pages, taught
):
    signing = services.labelling.sign_in
    cookie = signing.sign_in(1, "anns-token", "")
    page = pages.give(1, ANN, "class")
    pages.confirm(1, ANN, page.id, dict(page.preset), 12.0)
    signing.sign_out(cookie)
    tokens = services.settings.model_dir / "tokens"
    assert [path.name for path in tokens.iterdir()] == ["7.token"]
    assert sender.send(1)
    sender.forget_tokens()
    assert [*tokens.iterdir()] == []


def test_undo_deletes_what_was_sent_except_what_somebody_has_edited(
    services, stand_in, sender, pages, confirmed
):
    assert sender.send(1)
    edited, *rest = confirmed.tasks
    (annotation,) = written(stand_in, confirmed)[edited]
    annotation["updated_at"] = "2099-01-01T00:00:00.000000Z"
    pages.undo(1, ANN)
    assert not {a.task_id for a in services.store.annotations(1) if a.annotator == 7} & {*rest}
    assert sender.send(1)
    left = written(stand_in, confirmed)
    assert [len(left[task]) for task in confirmed.tasks] == [1] + [0] * len(rest)
    assert states(services, confirmed)[edited] == "kept"


def test_undo_finds_what_a_killed_sender_has_written(services, stand_in, sender, pages, confirmed):
    label = services.store.labels_of_page(confirmed.id)[0]
    services.store.begin_attempt(1, label.id)
    mark = "page-" + label.unique_id.replace("-", "")[:20]
    now = "2026-01-01T00:00:00.000000Z"
    made = [{**choice(label.label)[0], "id": mark}]
    stand_in.annotate(label.task_id, None, completed_by=7, result=made, created_at=now, updated_at=now)
    pages.undo(1, ANN)
    assert sender.send(1)
    assert written(stand_in, confirmed)[label.task_id] == []


def test_the_trainer_sends_and_a_round_learns_from_it(services, stand_in, trainer, wait, pages, ann):
    page = pages.give(1, ann, "class")
    before = services.store.latest_round(1)
    pages.confirm(1, ann, page.id, dict(page.preset), 12.0)
    wait(lambda: {len(found) for found in written(stand_in, page).values()} == {1})
    wait(lambda: services.store.latest_round(1).n_labels == before.n_labels + len(page.tasks))


def test_doctor_tells_whose_labels_wait_for_them_to_sign_in_again(
    make_services, services, stand_in, sender, confirmed
):
    del stand_in.people["anns-token"]
    sender.send(1)
    assert waiting(services, None).startswith(("no webhook", "1 webhook")), "they wait since now"
    later = make_services(clock=lambda: time.time() + LONG_WAIT_SECONDS + 1)
    services.store.forget_events(1)
    with pytest.raises(
        CheckFailedError,
        match=rf"{len(confirmed.tasks)} labels of confirmed pages .*annotator 7.*/projects/1/label",
    ):
        waiting(later, 1)
    stand_in.people["anns-token"] = 7
    assert make_services().labelling.sender.send(1)
    assert "labels" not in waiting(later, 1)
