"""The live loop: annotations become rounds, and nothing is lost when something is in the way."""

from __future__ import annotations

import base64
import http.server
import os
import threading
import time

import numpy as np
import pytest
from sqlalchemy import event

from everylabel.backend.embedding import passes
from everylabel.backend.label_studio.errors import (
    LabelStudioError,
    LabelStudioUnreachableError,
    TokenRefusedError,
)
from everylabel.backend.metrics import health
from everylabel.backend.ml_backend import ActiveLearningBackend
from everylabel.backend.rounds import round_lock
from everylabel.backend.store import Task
from everylabel.backend.store.files import ProjectFiles
from everylabel.backend.store.tables import ProjectRow
from tests.stand_in_label_studio import CLASSES, label_config


def test_an_annotation_becomes_a_new_queue_in_the_background(
    stand_in, services, trainer, project, send, wait
):
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    wait(lambda: stand_in.projects[1]["model_version"] == "round 2")
    wait(lambda: services.store.events(1) == [])
    assert task not in stand_in.queue(1)


def test_a_burst_of_annotations_is_a_few_rounds_and_no_label_is_lost(
    stand_in, services, trainer, project, send, wait
):
    for task in list(project)[:20]:
        send(stand_in.annotate(task, project[task]))
    wait(lambda: services.store.latest_round(1).n_labels == 20 and services.store.events(1) == [])
    assert services.store.latest_round(1).number < 15


def test_a_second_job_for_a_project_does_not_wait_for_its_round(stand_in, services, project, send):
    task = stand_in.queue(1)[0]
    with services.files(1).lock():
        send(stand_in.annotate(task, project[task]))
        services.trainer.learn(1)  # while the round goes on, which ends below
    assert len(services.store.events(1)) == 1, "the label waits on disk"


def test_what_comes_while_a_round_runs_gets_a_round_afterwards(
    stand_in, services, trainer, project, send, wait, monkeypatch
):
    first, second = stand_in.queue(1)[:2]
    publish, meanwhile = services.publisher.publish, []

    def slow(*args, **options):
        if not meanwhile:
            meanwhile.append(send(stand_in.annotate(second, project[second])))
            time.sleep(0.3)  # the watch has looked, and left it to the round that runs
        return publish(*args, **options)

    monkeypatch.setattr(services.publisher, "publish", slow)
    send(stand_in.annotate(first, project[first]))
    wait(lambda: services.store.latest_round(1).n_labels == 2)


def test_a_crash_in_the_middle_of_a_round_loses_neither_label_nor_round(
    stand_in, services, make_services, project, send, monkeypatch
):
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    monkeypatch.setattr(services.rounds, "run", _killed)
    with pytest.raises(KeyboardInterrupt):
        services.trainer.learn(1)
    again = make_services()
    assert again.trainer.overdue() == [1]
    again.trainer.learn(1)
    assert again.store.latest_round(1).n_labels == 1
    assert again.trainer.overdue() == []


def test_a_crash_after_a_reconcile_does_not_lose_the_round_it_asked_for(
    stand_in, services, make_services, project, monkeypatch
):
    stand_in.annotate(stand_in.queue(1)[0], "0")  # and its webhook is lost
    monkeypatch.setattr(services.rounds, "run", _killed)
    with pytest.raises(KeyboardInterrupt):
        services.loop.catch_up(1, compare=True)
    again = make_services()
    assert again.trainer.overdue() == [1]
    again.trainer.learn(1)
    assert again.store.latest_round(1).n_labels == 1


def _killed(*args, **kwargs):
    raise KeyboardInterrupt


def test_with_label_studio_down_the_label_is_kept_and_the_problem_shown_until_it_is_back(
    stand_in, services, project, send
):
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    stand_in.down = True
    services.trainer.learn(1)
    assert services.store.latest_round(1).n_labels == 1
    assert "503" in services.store.project(1).problem
    assert services.trainer.overdue() == [1], "it is tried again"

    stand_in.down = False
    services.trainer.learn(1)
    assert services.store.project(1).problem is None
    assert services.trainer.overdue() == []
    assert stand_in.projects[1]["model_version"] == services.store.latest_round(1).model_version
    assert task not in stand_in.queue(1)


def test_a_refused_token_is_shown_and_events_do_not_pile_up_behind_it(
    stand_in, services, make_services, project, send
):
    stand_in.token = "another"
    later = make_services(clock=lambda: time.time() + 3600)  # a reconcile is due
    for task in list(project)[:5]:
        send(stand_in.annotate(task, project[task]))
        later.trainer.learn(1)
    assert "token" in later.store.project(1).problem
    assert len(later.store.events(1)) == 1

    stand_in.token = "0123456789abcdef"
    later.trainer.learn(1)
    assert later.store.latest_round(1).n_labels == 5
    assert later.store.events(1) == []


def test_labels_worked_in_while_label_studio_was_away_at_the_start_get_their_round(
    stand_in, services, make_services, project, send
):
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    stand_in.down = True
    again = make_services()
    again.trainer.request_sync()
    for _ in range(3):
        again.trainer.learn(1)
    assert len(again.store.events(1)) == 1, "they do not pile up"

    stand_in.down = False
    again.trainer.learn(1)
    assert again.store.latest_round(1).n_labels == 1
    assert again.store.events(1) == []
    assert task not in stand_in.queue(1)


def test_a_label_that_came_while_the_web_server_was_away_and_a_look_was_under_way_is_found(
    stand_in, services, make_services, project, monkeypatch
):
    early, late = stand_in.queue(1)[:2]
    stand_in.annotate(early, project[early])
    read, back = services.label_studio.tasks, []

    def then_the_web_server_comes_back(*given, **options):
        yield from list(read(*given, **options))
        if not back:
            stand_in.annotate(late, project[late])  # and nobody takes its webhook
            back.append(make_services())
            back[0].trainer.request_sync()

    monkeypatch.setattr(services.label_studio, "tasks", then_the_web_server_comes_back)
    services.trainer.request_sync()
    services.trainer.learn(1)
    assert services.trainer.waiting() == [1]
    services.trainer.learn(1)
    assert services.store.latest_round(1).n_labels == 2


@pytest.mark.parametrize("rows_left", [0, 7])
def test_a_file_of_embeddings_that_lost_rows_is_made_anew(stand_in, services, project, send, rows_left):
    file = services.embeddings.file(1)
    before = np.array(services.embeddings.read(1))
    os.truncate(file.path, rows_left * before[0].nbytes)
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    services.trainer.learn(1)
    assert services.embedding_lanes.wait_until_idle(15)
    assert services.trainer.waiting() == [1]
    services.trainer.learn(1)
    assert services.trainer.waiting() == []
    assert services.store.project(1).problem is None
    assert services.store.latest_round(1).n_labels == 1
    tasks = services.store.tasks(1)
    found = services.embeddings.read(1)[[t.embedding_row for t in tasks]]
    np.testing.assert_array_equal(found, before)


def test_a_small_project_is_compared_with_label_studio_oftener(stand_in, make_services, project):
    now = [time.time()]
    services = make_services(clock=lambda: now[0])
    services.loop.catch_up(1, compare=True)
    services.loop.compare_seconds[1] = 0.01  # on a busy machine it may have taken longer
    now[0] += 29
    assert services.trainer.overdue() == []
    now[0] += 2
    assert services.trainer.overdue() == [1]
    services.loop.compare_seconds[1] = 2.0
    assert services.trainer.overdue() == [], "not, where that would take Label Studio's time"
    now[0] += 170
    assert services.trainer.overdue() == [1]
    services.loop.compare_seconds[1] = 60.0
    now[0] += 100
    assert services.trainer.overdue() == [1], "but as often as is set"


def test_a_round_label_studio_was_away_for_is_published_as_it_is_once_it_is_back(
    stand_in, services, make_services, project, send, monkeypatch
):
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    stand_in.down = True
    for _ in range(3):
        services.trainer.learn(1)
    (_, computed) = services.store.rounds(1)
    assert computed.published_at is None

    stand_in.down = False
    after_a_restart = make_services()
    monkeypatch.setattr(after_a_restart.rounds, "run", _killed)  # it would be computed anew
    after_a_restart.trainer.learn(1)
    assert services.store.latest_round(1).published_at is not None
    assert stand_in.projects[1]["model_version"] == computed.model_version
    assert stand_in.queue(1)[: len(computed.queue)] == list(computed.queue)


def test_a_round_whose_predictions_came_through_is_not_written_twice(
    stand_in, services, project, send, monkeypatch
):
    switch = services.label_studio.update_project

    def lost(*args, **fields):
        raise LabelStudioUnreachableError("the connection broke")

    monkeypatch.setattr(services.label_studio, "update_project", lost)
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    services.trainer.learn(1)
    written = list(stand_in.predictions)
    monkeypatch.setattr(services.label_studio, "update_project", switch)
    services.trainer.learn(1)
    assert stand_in.predictions == written
    assert stand_in.projects[1]["model_version"] == services.store.latest_round(1).model_version == "round 2"


def test_events_of_a_project_never_connected_do_not_pile_up_without_a_token(
    stand_in, make_services, digit_crops
):
    services = make_services(label_studio_api_key="")
    stand_in.add_project(3)
    (task,) = stand_in.add_tasks(3, digit_crops[0][0])
    for _ in range(5):
        body = stand_in.annotate(task, "0")
        ActiveLearningBackend(3, parts=services).fit(body["action"], body)
        services.trainer.learn(3)
    assert services.store.events(3) == []
    assert services.trainer.overdue() == []
    assert "LABEL_STUDIO_API_KEY" in services.store.project(3).problem


def test_a_project_label_studio_does_not_have_leaves_nothing_behind(stand_in, services):
    ActiveLearningBackend(404, parts=services).fit("START_TRAINING", {"project": {"id": 404}})
    services.trainer.learn(404)
    assert services.store.project(404) is None
    assert services.store.events(404) == []


def test_a_deleted_project_is_forgotten_with_its_files(stand_in, services, project, send):
    body = {"action": "PROJECT_DELETED", "project": {"id": 1}}
    del stand_in.projects[1]
    with services.files(1).lock():  # the webhook does not wait for a round that runs
        send(body)  # while the round goes on, which ends below
    services.trainer.learn(1)
    assert services.store.project(1) is None
    assert services.store.tasks(1) == []
    assert not ProjectFiles(services.settings.model_dir, 1).folder.exists()
    assert services.trainer.overdue() == []


def test_a_project_said_to_be_deleted_that_is_still_there_stays(stand_in, services, project, send):
    send({"action": "PROJECT_DELETED", "project": {"id": 1}})
    services.trainer.learn(1)
    assert len(services.store.tasks(1)) == len(project)
    assert services.store.events(1) == []


def test_tasks_deleted_unheard_of_hold_publishing_up_only_until_the_next_look(
    stand_in, services, project, send
):
    left = list(project)[:6]
    stand_in.tasks = {id_: stand_in.tasks[id_] for id_ in left}  # whatever is asked for, most of it is gone
    for id_ in left[:3]:
        send(stand_in.annotate(id_, project[id_]))
    services.trainer.learn(1)
    assert services.store.latest_round(1).published_at is None
    services.trainer.learn(1)
    latest = services.store.latest_round(1)
    assert latest.published_at is not None
    assert [task.id for task in services.store.tasks(1)] == left
    assert stand_in.projects[1]["model_version"] == latest.model_version


def test_a_changed_labeling_config_re_reads_what_was_labelled_under_the_old_one(
    stand_in, services, project, send
):
    ids = list(project)[:6]
    for task in ids:
        send(stand_in.annotate(task, project[task]))
    services.trainer.learn(1)
    gone = project[ids[0]]
    left = tuple(name for name in CLASSES if name != gone)
    stand_in.projects[1]["label_config"] = label_config(*left)
    ActiveLearningBackend(1, label_config(*left), services)  # as /setup shows it
    services.trainer.learn(1)
    latest = services.store.latest_round(1)
    assert gone not in latest.classes
    assert latest.n_labels == sum(project[task] != gone for task in ids)

    stand_in.projects[1]["label_config"] = label_config()
    send(stand_in.webhook("PROJECT_UPDATED"))
    services.trainer.learn(1)
    assert services.store.latest_round(1).n_labels == len(ids)


def test_new_tasks_come_into_the_pool(stand_in, services, project, send, digit_crops):
    new = stand_in.add_tasks(1, *(image for image, _ in digit_crops[60:63]))
    send(stand_in.webhook("TASKS_CREATED", tasks=[stand_in.plain(id_) for id_ in new]))
    services.trainer.learn(1)
    assert services.embedding_lanes.wait_until_idle(15)
    assert all(task.embedding_row is not None for task in services.store.tasks(1, new))
    assert services.trainer.waiting() == [1], "and another round is due"
    services.trainer.learn(1)
    assert services.trainer.waiting() == []
    assert services.store.latest_round(1).number == 2


@pytest.fixture
def image_host(digit_crops):
    """A host of images on loopback that can be away: it then answers 503."""
    content = base64.b64decode(digit_crops[0][0].partition(",")[2])

    class Handler(http.server.BaseHTTPRequestHandler):
        away = True

        def do_GET(self):
            self.send_response(503 if Handler.away else 200)
            self.send_header("Content-Length", str(0 if Handler.away else len(content)))
            self.end_headers()
            self.wfile.write(b"" if Handler.away else content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    Handler.url = f"http://127.0.0.1:{server.server_port}/crop.png"
    yield Handler
    server.shutdown()
    server.server_close()


def test_one_image_host_that_is_away_costs_its_own_crops_only_and_they_come_back(
    stand_in, make_services, digit_crops, image_host
):
    services = make_services(allow_private_addresses=True)
    stand_in.add_project(1)
    lost, *fine = stand_in.add_tasks(1, image_host.url, *(image for image, _ in digit_crops[:6]))
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    assert [t.id for t in services.store.tasks(1) if t.embedding_row is not None] == fine
    assert "503" in services.store.tasks(1, [lost])[0].problem
    assert set(stand_in.queue(1)) <= set(fine)

    image_host.away = False
    services.loop.catch_up(1, compare=True)
    (back,) = services.store.tasks(1, [lost])
    assert back.embedding_row is not None
    assert back.problem is None


def test_where_no_image_can_be_had_the_pass_ends_early_and_the_crops_at_hand_make_a_round(
    stand_in, make_services, digit_crops, image_host
):
    services = make_services(allow_private_addresses=True)
    stand_in.add_project(1)
    stand_in.add_tasks(1, *[image_host.url] * 200)
    services.store.save_project(1, connected=True)
    assert services.loop.catch_up(1) is None
    tried = [task for task in services.store.tasks(1) if task.problem]
    assert 0 < len(tried) < 200


def test_two_backends_on_one_folder_take_turns(stand_in, services, make_services, project, send):
    other = make_services()
    for task in list(project)[:6]:
        send(stand_in.annotate(task, project[task]))
    threads = [threading.Thread(target=each.loop.catch_up, args=(1,)) for each in (services, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rounds = services.store.rounds(1)
    assert [r.number for r in rounds] == [1, 2]
    assert rounds[-1].n_labels == 6


def test_embeddings_are_made_once_whoever_asks(stand_in, services, make_services, project):
    other = make_services()
    services.store.forget_embeddings(1, services.embeddings.encoder(1).signature)
    before = len(services.embeddings.read(1))
    threads = [threading.Thread(target=each.pool_embedding.embed, args=(1,)) for each in (services, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(services.embeddings.read(1)) == before + len(project)


def test_version_names_label_studio_knows_already_are_not_used_again(
    stand_in, services, make_services, project, tmp_path
):
    fresh = make_services(model_dir=tmp_path / "another state")
    fresh.store.save_project(1, connected=True)
    fresh.loop.catch_up(1)
    assert fresh.store.latest_round(1).model_version == "round 2"


def test_what_label_studio_refuses_reaches_the_person_who_asked(stand_in, services, project):
    stand_in.token = "another"
    with pytest.raises(TokenRefusedError, match="LABEL_STUDIO_API_KEY"):
        services.loop.catch_up(1, compare=True, force=True)
    stand_in.down = True
    with pytest.raises(LabelStudioError):
        services.loop.preview(1)


def test_the_version_label_studio_serves_stays_while_it_refuses_newer_ones(
    stand_in, services, make_services, project, send, monkeypatch
):
    def refuse(*args, **options):
        raise LabelStudioError("refused")

    monkeypatch.setattr(services.publisher, "publish", refuse)
    for task in list(project)[:3]:
        send(stand_in.annotate(task, project[task]))
        services.trainer.learn(1)
    assert [r.number for r in services.store.rounds(1) if r.published_at is None] == [2, 3, 4]
    served = stand_in.queue(1)
    make_services(clock=lambda: time.time() + 3600).trainer.run_maintenance()
    assert stand_in.projects[1]["model_version"] == "round 1"
    assert stand_in.queue(1) == served


def test_health_tells_a_dead_trainer_from_a_live_one(services, wait):
    assert health(services.heartbeat) == {
        "status": "UP",
        "model_class": "ActiveLearningBackend",
        "trainer": "not running",
    }
    services.trainer.start_heartbeat()
    wait(lambda: health(services.heartbeat)["trainer"] == "alive")


def test_who_waits_for_another_round_is_told_so(services, project, monkeypatch):
    monkeypatch.setattr(round_lock, "WAITING_SHOWN_SECONDS", 0.05)
    other = services.files(1).lock()
    told = []

    def progress(what, done, total):
        told.append(what)
        if len(told) == 1:
            other.__exit__(None, None, None)

    other.__enter__()
    services.loop.catch_up(1, compare=True, progress=progress)
    assert told[0] == "Waiting for the backend, which runs a round"


def test_who_waits_for_another_pass_is_shown_how_far_that_one_has_come(
    stand_in, services, project, digit_crops, monkeypatch
):
    stand_in.add_tasks(1, digit_crops[60][0])
    monkeypatch.setattr(passes, "WAITING_SHOWN_SECONDS", 0.05)
    other = services.files(1).pool_lock()
    told = []

    def progress(what, done, total):
        if what.startswith("Reading"):
            return
        told.append((what, done, total))
        if len(told) == 1:
            services.store.save_tasks(1, [Task(10**6, "http://images/1.png")])
        elif len(told) == 2:
            other.__exit__(None, None, None)

    other.__enter__()
    services.loop.catch_up(1, compare=True, progress=progress)
    what = "Waiting for the backend, which embeds crops"
    assert told[0][0] == told[1][0] == what
    assert told[1][2] == told[0][2] + 1
    assert services.store.latest_round(1) is not None


def test_a_sign_of_life_from_the_future_says_nothing(services):
    services.heartbeat._write({})
    assert services.heartbeat.alive()
    ahead = time.time() + 3600
    os.utime(services.settings.model_dir / "trainer.heartbeat", (ahead, ahead))
    assert not services.heartbeat.alive()
    assert health(services.heartbeat) == {
        "status": "UP",
        "model_class": "ActiveLearningBackend",
        "trainer": "not running",
    }


def test_a_clock_that_was_set_back_does_not_stop_comparing(services):
    now = services.clock()
    assert not services.loop.reconcile_due(1, now)
    assert services.loop.reconcile_due(1, now + 86_400), "a day ahead is no reason to wait a day"


def test_a_project_is_read_once_and_carried_through_its_round(stand_in, services, project, send):
    task = stand_in.queue(1)[0]
    send(stand_in.annotate(task, project[task]))
    read = []

    def count(row, _):
        read.append(row.id)

    event.listen(ProjectRow, "load", count)
    try:
        finished = services.loop.catch_up(1, wait=False, embed=False)
    finally:
        event.remove(ProjectRow, "load", count)
    assert finished.record.n_labels == 1
    # At the start; under the embedding lock, for another process may have changed its encoder; and by the write that
    # ends the publishing. No fewer, as long as the store has no write that reads nothing.
    assert read == [1, 1, 1]


def test_a_new_labeling_config_is_carried_to_the_round_that_it_asks_for(stand_in, services, project, send):
    for task in list(project)[:4]:
        send(stand_in.annotate(task, project[task]))
    services.loop.catch_up(1)
    config = label_config(*CLASSES, "none of these")
    stand_in.projects[1]["label_config"] = config
    send(stand_in.webhook("PROJECT_UPDATED"))
    finished = services.loop.catch_up(1, wait=False, embed=False)
    assert finished.control.classes == (*CLASSES, "none of these")
