"""A switch to another encoder: the old one answers until the new one's first round is there, and nothing is lost."""

from __future__ import annotations

import base64
import threading

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.backend.classify import CropClassifier, SentCrops
from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.embedding.pipeline import Embedded
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.ml_backend import ActiveLearningBackend
from everylabel.backend.rounds.encoder_switch import SwitchError
from everylabel.model.session import ActiveLearningSession
from everylabel.scripts import cli
from tests.coarse_encoder import Coarse

NAME = "tests.coarse_encoder:Coarse"
LABELS = 16


@pytest.fixture
def switch(services, teach):
    """Project 1 with 16 of its 40 digits labelled."""
    teach(LABELS)
    Coarse.encoded = 0
    return services.encoder_switch


@pytest.fixture
def predict(services, stand_in):
    """The answer of /predict about one task."""

    def one(task):
        backend = ActiveLearningBackend(1, parts=services)
        return backend.predict([{"id": task, "data": stand_in.tasks[task]["data"]}])[0]

    return one


def known(services):
    return services.store.project(1)


def is_ready(services):
    """Whether the next round would change over."""
    switch = services.encoder_switch
    return switch.is_embedded(1) and switch.obstacle(known(services)) is None


def accuracy(project, predict):
    """The share of the unlabelled crops that /predict is right about."""
    left = list(project)[LABELS:]
    said = [predict(task)["result"] for task in left]
    return np.mean(
        [
            bool(result) and result[0]["value"]["choices"] == [project[task]]
            for task, result in zip(left, said, strict=True)
        ]
    )


def embed(services, seconds=60):
    services.embedding_lanes.request(1)
    assert services.embedding_lanes.wait_until_idle(seconds)


def test_the_old_encoder_answers_until_the_new_ones_round_is_stored(services, project, switch, predict):
    before, version = known(services), services.store.latest_round(1).model_version
    old = accuracy(project, predict)
    assert old > 0.5
    switch.begin(before, NAME)
    assert switch.progress(known(services)).embedded == 0
    embed(services)
    assert switch.progress(known(services)).embedded == len(project)
    assert Coarse.encoded == len(project)
    assert known(services).encoder == before.encoder, "not before a round"
    assert accuracy(project, predict) == old
    assert services.loop.has_grown_enough(1)

    finished = services.loop.catch_up(1, embed=False)
    after = known(services)
    assert (after.encoder_name, after.next_encoder, after.encoder) == (NAME, None, Coarse().signature)
    assert finished.record.model_version != version
    assert after.model_round == finished.record.number, "the old model cannot stay in use"
    assert services.embeddings.read(1).shape == (len(project), 64)
    assert accuracy(project, predict) > 0.5
    assert services.store.latest_round(1).n_labels == LABELS
    assert switch.progress(after) is None
    assert services.loop.catch_up(1, embed=False) is None, "nothing asks for another round"


def test_the_trainer_switches_by_itself(services, project, switch, trainer, wait):
    switch.begin(known(services), NAME)
    wait(lambda: known(services).encoder_name == NAME)
    wait(lambda: services.models.of(1) is not None)
    wait(lambda: known(services).model_round == services.store.latest_round(1).number)
    assert known(services).problem is None


def test_the_way_back_embeds_only_what_came_since(services, stand_in, project, switch, digit_crops, encoder):
    first = known(services).encoder
    switch.begin(known(services), NAME)
    embed(services)
    services.loop.catch_up(1)
    (new,) = stand_in.add_tasks(1, digit_crops[100][0])
    services.loop.catch_up(1, compare=True)
    back = known(services)
    assert services.embeddings.read(1).shape == (len(project) + 1, 64)
    switch.begin(back, encoder.name)
    assert switch.progress(known(services)).embedded == len(project), (
        "all but the new one are embedded already"
    )
    embed(services)
    services.loop.catch_up(1)
    after = known(services)
    assert (after.encoder, after.encoder_name) == (first, None), "the encoder of the settings again"
    (row,) = services.store.tasks(1, [new])
    assert row.embedding_row == len(project), "appended to what was there"


def test_a_switch_that_was_killed_goes_on_where_it_was(services, make_services, project, switch, monkeypatch):
    switch.begin(known(services), NAME)
    missing = list(services.pool_embedding.missing_next(1))
    services.pool_embedding.embed_next(1, missing[:15])
    again = make_services()
    assert again.encoder_switch.progress(again.store.project(1)).embedded == 15
    assert not is_ready(again)
    embed(again)
    assert Coarse.encoded == len(project), "each once"

    # Killed between the change and the round that is stored after it: the next start runs that round.
    with monkeypatch.context() as patched:
        patched.setattr(type(again.store), "save_round", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            again.loop.catch_up(1)
    assert again.store.project(1).encoder_name == NAME
    last = make_services()
    assert last.loop.catch_up(1) is not None
    assert last.models.of(1) is not None
    assert last.store.project(1).model_round == last.store.latest_round(1).number


def test_a_crop_that_changes_meanwhile_is_read_anew(services, stand_in, project, switch, digit_crops):
    switch.begin(known(services), NAME)
    embed(services)
    task = next(iter(project))
    stand_in.tasks[task]["data"]["image"] = digit_crops[200][0]
    services.loop.reconcile(1, whole=True)
    services.pool_embedding.embed(1)
    assert not is_ready(services)
    embed(services)
    assert is_ready(services)
    assert Coarse.encoded == len(project) + 1


def test_new_crops_come_before_those_of_a_switch(
    services, stand_in, project, switch, digit_crops, monkeypatch
):
    order = []
    for name in ("embed_some", "embed_next"):
        method = getattr(services.pool_embedding, name)

        def noted(*args, _name=name, _method=method, **options):
            order.append(_name)
            return _method(*args, **options)

        monkeypatch.setattr(services.pool_embedding, name, noted)
    switch.begin(known(services), NAME)
    stand_in.add_tasks(1, digit_crops[101][0])
    services.loop.reconcile(1)
    embed(services)
    assert order[0] == "embed_some"
    assert "embed_next" in order
    assert services.store.count_tasks(1)["missing"] == 0
    assert is_ready(services)


def test_a_switch_is_called_off(services, project, switch, predict):
    before = known(services)
    switch.begin(before, NAME)
    embed(services)
    switch.call_off(1)
    assert not is_ready(services)
    services.loop.catch_up(1)
    assert known(services).encoder == before.encoder
    assert accuracy(project, predict) > 0.5
    switch.begin(known(services), NAME)
    assert is_ready(services), "what it had made is kept"


def test_pictures_that_are_sent_are_measured_by_the_new_rows(services, project, switch, digit_crops):
    classifier = CropClassifier(services)
    picture = base64.b64decode(digit_crops[150][0].partition(",")[2])
    before = classifier.classify(1, SentCrops("image", [picture]))["results"][0]
    assert before["novelty"] is not None
    switch.begin(known(services), NAME)
    embed(services)
    services.loop.catch_up(1)
    after = classifier.classify(1, SentCrops("image", [picture]))["results"][0]
    assert after["class"] in {"0", "1", "2", "3"}
    assert after["novelty"] != before["novelty"]


def test_crops_that_come_while_the_next_encoder_is_at_work_make_a_round(
    services, stand_in, project, switch, digit_crops, monkeypatch
):
    entered, go_on = threading.Event(), threading.Event()
    embed_next = services.pool_embedding.embed_next

    def waits(*args, **options):
        entered.set()
        go_on.wait(60)
        return embed_next(*args, **options)

    monkeypatch.setattr(services.pool_embedding, "embed_next", waits)
    switch.begin(known(services), NAME)
    services.embedding_lanes.request(1)
    try:
        assert entered.wait(60)
        stand_in.add_tasks(1, *(image for image, _ in digit_crops[100:120]))
        services.loop.reconcile(1)
        services.pool_embedding.embed(1, [task.id for task in services.store.tasks_to_embed(1)])
        assert services.loop.has_grown_enough(1)
        assert services.loop.catch_up(1, embed=False).record.embedded_until == len(project) + 20
    finally:
        go_on.set()
    assert services.embedding_lanes.wait_until_idle(60)


def label_one(services, stand_in, project, send, number):
    """A person labels one crop more; the round that learns from it."""
    task = list(project)[number]
    send(stand_in.annotate(task, project[task]))
    return services.loop.catch_up(1, embed=False)


def test_a_storage_that_lets_nobody_in_leaves_a_project_its_encoder(
    services, stand_in, project, switch, send
):
    switch.begin(known(services), NAME)
    services.store.delete_events([event.id for event in services.store.events(1)])  # asks for a comparison
    rows = services.store.rows_with(known(services).next_signature)
    some = list(rows.tasks_to_embed(1))
    services.pool_embedding.embed_next(1, some[:30])
    rows.save_problems(1, {task.id: "403 Forbidden" for task in some[30:]})
    assert rows.is_complete(1)
    assert not is_ready(services)
    assert label_one(services, stand_in, project, send, LABELS).record.n_labels == LABELS + 1
    problem = known(services).problem
    assert "10 crops can no longer be read" in problem, "the round that was published does not clear it"
    assert "--switch efficientnet-lite0" in problem
    services.loop.catch_up(1, compare=True, embed=False)
    embed(services)
    assert is_ready(services), "they were tried again"


def test_a_host_that_does_not_answer_is_told_and_tried_again(
    services, stand_in, project, switch, monkeypatch
):
    class SilentError(ImageError):
        retry = True

        def __init__(self):
            Exception.__init__(self, "the host does not answer")
            self.reason, self.way_out = "the host does not answer", ""

    def fails(project_id, tasks, hosts):
        list(tasks)
        hosts.failure = SilentError()
        return Embedded(0, 0)

    switch.begin(known(services), NAME)
    with monkeypatch.context() as patched:
        patched.setattr(services.pool_embedding, "embed_next", fails)
        embed(services)
    assert switch.is_embedded(1)
    assert "40 crops can no longer be read" in switch.obstacle(known(services))
    services.loop.catch_up(1, compare=True, embed=False)
    services.embedding_lanes._hosts.clear()  # as after half a minute
    embed(services)
    assert is_ready(services)


def test_an_encoder_that_fails_at_work_stops_neither_growth_nor_rounds(
    services, stand_in, project, switch, digit_crops, monkeypatch, send
):
    switch.begin(known(services), NAME)

    def fails(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(services.pool_embedding, "embed_next", fails)
        stand_in.add_tasks(1, *(image for image, _ in digit_crops[100:120]))
        services.loop.reconcile(1)
        embed(services)
        assert "It is not switched yet" in known(services).problem
        assert services.loop.has_grown_enough(1)
        assert services.loop.catch_up(1, embed=False).record.embedded_until == len(project) + 20
    switch.call_off(1)
    services.loop.catch_up(1, compare=True)
    assert known(services).problem is None


def test_where_the_new_encoders_round_fails_the_old_ones_is_run(
    services, stand_in, project, switch, monkeypatch, send
):
    switch.begin(known(services), NAME)
    embed(services)
    run_round = ActiveLearningSession.run_round

    def fails(session):
        if session.pool.shape[1] == 64:
            raise MemoryError
        return run_round(session)

    with monkeypatch.context() as patched:
        patched.setattr(ActiveLearningSession, "run_round", fails)
        for number in (LABELS, LABELS + 1):
            found = label_one(services, stand_in, project, send, number)
            assert found.record.n_labels == number + 1
        assert "The round with tests.coarse_encoder:Coarse failed (MemoryError)" in known(services).problem
        assert not services.store.events(1)
    services.loop.catch_up(1, compare=True)
    assert known(services).encoder_name == NAME
    assert known(services).problem is None


def test_a_labeling_config_that_the_next_encoder_cannot_learn_stops_no_round(
    services, stand_in, project, switch, send
):
    switch.begin(known(services), "siamese")
    embed(services)
    assert is_ready(services)
    several = stand_in.projects[1]["label_config"].replace("<Choices ", '<Choices choice="multiple" ')
    stand_in.projects[1]["label_config"] = several
    send(stand_in.webhook("PROJECT_UPDATED"))
    assert services.loop.catch_up(1, embed=False) is not None
    assert not is_ready(services)
    assert "--switch efficientnet-lite0" in known(services).problem
    assert known(services).encoder_name is None


def test_the_setting_may_come_first(services, make_services, project, switch):
    """EVERYLABEL_ENCODER is set to what a switch is under way to: no row is written over by another's."""
    switch.begin(known(services), NAME)
    embed(services)
    again = make_services(encoder=NAME, encoder_object=None)
    assert again.loop.catch_up(1, compare=True) is not None
    after = again.store.project(1)
    assert (after.encoder, after.encoder_name, after.next_encoder) == (Coarse().signature, None, None)
    tasks, rows = again.store.embedding_rows(1)
    assert len(set(rows.tolist())) == len(tasks) == len(project)
    assert not is_ready(again)
    with pytest.raises(SwitchError, match="already"):
        again.encoder_switch.begin(after, "tests.coarse_encoder:Renamed")


def test_a_rollback_waits_for_the_switch(services, project, switch, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", services.settings.label_studio_url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", services.settings.label_studio_api_key.get_secret_value())
    old = known(services).model_round

    def rollback():
        answer = CliRunner().invoke(cli.app, ["rollback", "--project", "1", "--to", str(old)])
        assert answer.exit_code == 1
        return " ".join(answer.output.split())

    switch.begin(known(services), NAME)
    assert "is being switched to the encoder" in rollback()
    embed(services)
    services.loop.catch_up(1)
    assert "was trained for another encoder" in rollback()


def test_a_project_without_crops_is_switched_with_its_first_ones(services, stand_in, digit_crops):
    stand_in.add_project(2)
    services.store.save_project(2, connected=True)
    services.loop.catch_up(2)
    services.encoder_switch.begin(services.store.project(2), NAME)
    services.loop.catch_up(2)
    assert services.store.project(2).problem is None, "nothing is lost, for nothing was there"
    stand_in.add_tasks(2, *(image for image, _ in digit_crops[:20]))
    services.loop.catch_up(2, compare=True)
    services.embedding_lanes.request(2)
    assert services.embedding_lanes.wait_until_idle(60)
    services.loop.catch_up(2)
    assert services.store.project(2).encoder_name == NAME


def test_a_project_that_is_deleted_meanwhile_does_not_come_back(services, project, switch, monkeypatch):
    switch.begin(known(services), NAME)

    def deleted(*_, **__):
        services.store.delete_project(1)
        raise MemoryError

    monkeypatch.setattr(services.pool_embedding, "embed_next", deleted)
    embed(services)
    assert known(services) is None


def test_what_cannot_be_switched_is_said_with_the_way_out(services, project, switch):
    with pytest.raises(SwitchError, match="has the encoder efficientnet-lite0 already"):
        switch.begin(known(services), "efficientnet-lite0")
    with pytest.raises(EncoderError, match="Unknown encoder 'resnet-9000'"):
        switch.begin(known(services), "resnet-9000")
    with pytest.raises(LabelConfigError, match="reads texts"):
        switch.begin(known(services), "all-minilm-l6-v2")
    services.store.save_project(1, model_pinned=True)
    with pytest.raises(SwitchError, match="rollback --project 1 --newest"):
        switch.begin(known(services), NAME)
    assert known(services).next_encoder is None


def test_an_encoder_that_cannot_be_loaded_any_more_stops_no_round(
    services, make_services, project, switch, stand_in, send, wait
):
    switch.begin(known(services), NAME)
    embed(services)
    services.store.save_project(1, next_encoder="gone_plugin:Gone")
    again = make_services()
    task = list(project)[LABELS]
    send(stand_in.annotate(task, project[task]))
    finished = again.loop.catch_up(1, embed=False)
    assert finished.record.n_labels == LABELS + 1
    again.embedding_lanes.request(1)
    wait(lambda: again.store.project(1).problem)
    assert "Install its package" in again.store.project(1).problem
    assert "--switch efficientnet-lite0" in again.store.project(1).problem
    again.embedding_lanes.stop()
