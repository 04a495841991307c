"""`ActiveLearningBackend`, the class: one prediction a task in order, always; a label on disk before `fit` returns."""

from __future__ import annotations

import inspect
import threading
import time

import numpy as np
import pytest

from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.label_studio.request_bodies import project_number
from everylabel.backend.ml_backend import UNTRAINED, ActiveLearningBackend
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.encoders import Encoder
from tests.stand_in_label_studio import CLASSES, label_config


@pytest.fixture
def backend(services, project):
    return ActiveLearningBackend(1, parts=services)


@pytest.fixture
def taught(stand_in, services, project, backend):
    """The project after 16 labels and a round."""
    for task in list(project)[:16]:
        body = stand_in.annotate(task, project[task])
        backend.fit(body["action"], body)
    services.loop.catch_up(1)
    return backend


class Pixels(Encoder):
    """Another encoder: the crop itself, very small."""

    name, dim, dtype, crop_size = "pixels", 3 * 8 * 8, np.dtype(np.float16), 8

    def _encode_batch(self, crops):
        return crops.reshape(len(crops), -1) / 255.0

    def make_classifier(self):
        return EmbeddingClassifier()


def tasks(stand_in, ids):
    return [stand_in.plain(id_) for id_ in ids]


def chosen(answer):
    return answer["result"][0]["value"]["choices"][0] if answer["result"] else None


def test_it_keeps_the_class_contract_of_label_studio_ml_2(services, project):
    """`label_studio_ml.api` makes it with these names, reads these properties, and calls these methods."""
    made = ActiveLearningBackend(project_id="1.1700000000", label_config=label_config(), parts=services)
    made.setup()
    assert made.project_id == "1"
    assert made.label_config == label_config()
    assert isinstance(made.model_version, str)
    assert list(inspect.signature(made.predict).parameters) == ["tasks", "context", "kwargs"]
    assert list(inspect.signature(made.fit).parameters) == ["event", "data", "kwargs"]
    assert made.predict(tasks=[], context=None, login="", password="") == []
    assert made.fit("LABEL_LINK_CREATED", {}, some_option=1)["status"] == "ignored"


def test_predictions_are_in_the_order_of_the_tasks_and_mostly_right(stand_in, taught, project):
    ids = list(project)[16:][::-1]
    answers = taught.predict(tasks(stand_in, ids))
    assert len(answers) == len(ids)
    assert sum(chosen(a) == project[id_] for a, id_ in zip(answers, ids, strict=True)) >= 0.7 * len(ids)
    for answer in answers:
        assert answer["model_version"] == taught.model_version
        assert 0 < answer["score"] <= 1
        region = answer["result"][0]
        assert (region["from_name"], region["to_name"], region["type"]) == ("digit", "image", "choices")
    # one by one and in another order: the same
    alone = [taught.predict(tasks(stand_in, [id_]))[0] for id_ in ids[:3]]
    assert [chosen(a) for a in alone] == [chosen(a) for a in answers[:3]]
    assert [a["score"] for a in alone] == pytest.approx([a["score"] for a in answers[:3]], abs=1e-4)


def test_its_version_is_never_the_one_the_queue_is_served_by(stand_in, taught):
    assert taught.model_version.startswith("round ")
    assert taught.model_version != stand_in.projects[1]["model_version"]


def test_before_anything_is_learned_each_answer_says_so(stand_in, backend, project):
    answers = backend.predict(tasks(stand_in, list(project)[:2]))
    assert backend.model_version == UNTRAINED
    assert [(a["result"], a["score"]) for a in answers] == [([], 0.0)] * 2
    assert "label crops of two classes" in answers[0]["error"]


def test_every_task_is_answered_however_broken_its_neighbours(
    stand_in, services, taught, trainer, project, digit_crops
):
    good, other = list(project)[20:22]
    cut_off = digit_crops[0][0][:402]
    call = [
        stand_in.plain(good),
        {"id": 9001, "data": {"image": cut_off}},
        {"id": 9002, "data": {"text": "no image"}},
        {"id": 9003, "data": [1, 2]},
        {"id": 9004, "data": {"image": 7}},
        {"id": 9005, "data": {"image": {"url": "x"}}},
        {"id": 9006, "data": {"image": "http://169.254.169.254/latest/meta-data"}},
        {"id": 9007, "data": {"image": "file:///etc/passwd"}},
        {"id": 9008, "data": {"image": digit_crops[100][0]}},  # a task never heard of, but a fine one
        {"id": "9009", "data": {"image": digit_crops[0][0]}},
        {"id": True, "data": {"image": digit_crops[0][0]}},
        {"id": -9, "data": {"image": digit_crops[0][0]}},
        {"id": 2**70, "data": {"image": digit_crops[0][0]}},
        {},
        stand_in.plain(good),  # asked for twice in one call
        stand_in.plain(other),
    ]
    answers = taught.predict(call)
    assert len(answers) == len(call)
    assert [bool(a["result"]) for a in answers] == [True, *[False] * 7, True, *[False] * 5, True, True]
    assert answers[0] == answers[14]
    assert all(a["error"] and a["score"] == 0 for a in answers if not a["result"])
    told = {t.get("id"): a.get("error", "") for t, a in zip(call, answers, strict=True)}
    assert "damaged or cut-off" in told[9001]
    assert "lacks the text 'image'" in told[9002]
    assert "private or reserved" in told[9006]
    assert "scheme 'file'" in told[9007]
    assert "no id" in told["9009"]


def test_a_crop_that_changed_is_looked_at_anew(stand_in, taught, trainer, project, digit_crops):
    task = stand_in.plain(next(id_ for id_ in list(project)[16:] if project[id_] == "0"))
    a_two = next(image for image, digit in digit_crops if digit == "2")
    before = taught.predict([task])[0]
    stand_in.tasks[task["id"]]["data"] = {"image": a_two}
    after = taught.predict([stand_in.plain(task["id"])])[0]
    assert (chosen(before), chosen(after)) == ("0", "2")


@pytest.mark.parametrize("foreign", ["http://10.0.0.7/secret.png", "file:///etc/passwd", "", None])
def test_a_crop_that_only_the_request_has_changes_nothing(
    stand_in, taught, services, trainer, project, foreign
):
    task = stand_in.plain(list(project)[16])
    before = services.store.tasks(1, [task["id"]])
    answer = taught.predict([task])[0]
    assert taught.predict([task | {"data": {"image": foreign}}])[0] == answer
    assert services.store.tasks(1, [task["id"]]) == before
    stand_in.down = True
    assert taught.predict([task | {"data": {"image": foreign}}])[0] == answer
    assert services.store.tasks(1, [task["id"]]) == before


def test_a_project_that_has_a_config_but_no_tasks_yet_answers(stand_in, services, trainer, digit_crops):
    stand_in.add_project(5)
    backend = ActiveLearningBackend(5, label_config(), services)
    answers = backend.predict([{"id": 70, "data": {"image": digit_crops[0][0]}}])
    assert len(answers) == 1
    assert "label crops of two classes" in answers[0]["error"]


def test_without_a_labeling_config_the_way_out_is_named(services):
    with pytest.raises(LabelConfigError, match="Labeling Interface"):
        ActiveLearningBackend(6, parts=services).predict([{"id": 1, "data": {}}])


def test_without_a_trainer_predict_gives_up_in_time_and_says_why(make_services, project, taught, digit_crops):
    impatient = make_services(predict_seconds=0.2)
    started = time.monotonic()
    answers = ActiveLearningBackend(1, parts=impatient).predict(
        [{"id": 80, "data": {"image": digit_crops[9][0]}}]
    )
    assert time.monotonic() - started < 15, "by default it waits longer"
    assert "not embedded yet" in answers[0]["error"]


def test_a_damaged_model_file_is_no_crash(stand_in, services, make_services, taught, project):
    for path in (services.files(1).folder / "models").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    answers = ActiveLearningBackend(1, parts=make_services()).predict(tasks(stand_in, project))
    assert len(answers) == len(project)
    assert all(answer["result"] == [] for answer in answers)


def test_with_another_encoder_than_last_time_nothing_fails_and_the_loop_goes_on(
    stand_in, make_services, taught, project
):
    pixels = Pixels()
    services = make_services(encoder_object=pixels)
    backend = ActiveLearningBackend(1, parts=services)
    assert [a["result"] for a in backend.predict(tasks(stand_in, project))] == [[]] * len(project)

    assert services.pool_embedding.embed(1).embedded == len(project)
    assert services.store.project(1).encoder == pixels.signature
    assert len(services.embeddings.read(1)) == len(project)
    assert services.rounds.run(services.store.project(1)).record.n_labels == 16
    assert all(answer["result"] for answer in backend.predict(tasks(stand_in, project)))


def test_fit_returns_before_training_with_the_label_on_disk(
    stand_in, services, make_services, project, backend
):
    task = next(iter(project))
    body = stand_in.annotate(task, project[task])
    with services.files(1).lock():  # as while a round runs
        started = time.monotonic()
        assert backend.fit(body["action"], body) == {"status": "queued"}
        assert time.monotonic() - started < 15, "the round does not end before it returns"
    after_a_restart = make_services()
    (event,) = after_a_restart.store.events(1)
    assert event.payload["annotations"][0]["task"] == task
    assert after_a_restart.trainer.waiting() == [1]
    assert services.store.latest_round(1).n_labels == 0


@pytest.mark.parametrize("action", ["LABEL_LINK_CREATED", "PROJECT_CREATED", "ANNOTATION_DELETED", ""])
def test_events_of_no_use_are_dropped(services, backend, action):
    assert backend.fit(action, {"project": {"id": 1}})["status"] == "ignored"
    assert services.store.events(1) == []


def test_a_config_shown_before_every_prediction_is_one_event_until_the_trainer_has_it(services, backend):
    wider = label_config(*CLASSES, "4")
    for _ in range(5):
        ActiveLearningBackend(1, wider, services)
    assert [e.action for e in services.store.events(1)] == ["PROJECT_UPDATED"]


@pytest.mark.parametrize(
    ("given", "number"), [(7, 7), ("7", 7), ("7.1700000000", 7), (str(2**63 - 1), 2**63 - 1)]
)
def test_a_projects_number_is_read_in_every_way_label_studio_writes_it(given, number):
    assert project_number(given) == number


@pytest.mark.parametrize(
    "given", [None, "", 0, "0", -1, "-1", True, "x", "7.x", "7.1.1", "²", " 7", 2**63, "9" * 5000, "1e3"]
)
def test_what_is_no_projects_number_is_refused(given):
    with pytest.raises(ValueError, match="is not a project"):
        project_number(given)


def test_a_task_deleted_while_predict_waits_for_its_crop_is_not_waited_for(services, backend, digit_crops):
    deletion = threading.Timer(0.3, services.store.delete_tasks, (1, [81]))
    deletion.start()
    started = time.monotonic()
    (answer,) = backend.predict([{"id": 81, "data": {"image": digit_crops[8][0]}}])
    assert answer["result"] == []
    assert time.monotonic() - started < 10


def test_waiting_for_crops_never_takes_all_threads(stand_in, services, project):
    """Nobody embeds here, so whoever waits, waits; webhooks still find a thread."""
    services.store.forget_embeddings(1, "another")
    first, *others = tasks(stand_in, project)
    ask = ActiveLearningBackend("1", parts=services).predict
    waiters = [threading.Thread(target=ask, args=([task],), daemon=True) for task in others[:3]]
    for waiter in waiters:
        waiter.start()
    limit = time.monotonic() + 60
    while services.jobs.waiting() < len(waiters) and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.1)
    started = time.monotonic()
    (answer,) = ask([first])
    assert time.monotonic() - started < 15
    assert answer["error"] == "The crop is not embedded yet."
    services.store.save_problems(1, dict.fromkeys(project, "let go"))
    for waiter in waiters:
        waiter.join(5)
