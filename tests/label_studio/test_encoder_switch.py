"""A project gets another encoder while somebody labels and everylabel is killed: nothing is lost, and the queue never ends."""

import json

import pytest

from tests.everylabel_process import wait_until

CROPS = 240
NEXT = "efficientnet-lite2"


@pytest.fixture(scope="module")
def project(label_studio, guarded_backend, digits):
    project = label_studio.digits_project(digits, CROPS, "another encoder")
    guarded_backend.connect(project.id)
    for task in project.task_ids[:12]:
        label_studio.annotate(task, project.labels[task])
    guarded_backend.wait_for_round(project.id, labels=12)
    return project


def status(backend, project):
    said = backend.command("status", "--project", str(project.id), "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)[0]


def switch(backend, project, name):
    said = backend.command("encoders", "--project", str(project.id), "--switch", name)
    assert said.returncode == 0, said.stderr
    return said.stdout


@pytest.mark.timeout(600)
def test_somebody_labels_on_while_the_encoder_is_switched_and_killed_twice(
    label_studio, guarded_backend, project
):
    services, given = guarded_backend.services, 12
    before = services.store.project(project.id)

    def label_the_next():
        task = label_studio.next_task(project.id)
        assert task is not None, "the queue never ends"
        label_studio.annotate(task, project.labels[task])
        return task

    said = switch(guarded_backend, project, NEXT)
    assert f"from efficientnet-lite0 to {NEXT}" in said
    assert "goes on answering" in said
    labelled = set()

    def embedded():
        return services.encoder_switch.progress(services.store.project(project.id))

    for part in (10, 60):
        wait_until(
            lambda part=part: (now := embedded()) is None or now.embedded >= part,
            "the crops are not embedded with the next encoder",
            120,
        )
        guarded_backend.kill()
        labelled.add(label_the_next())
        given += 1
        guarded_backend.start()
        labelled.add(label_the_next())
        given += 1
        now = services.store.project(project.id)
        assert (now.encoder == before.encoder) == (now.next_encoder is not None), "the old one until all are"
    wait_until(
        lambda: services.store.project(project.id).encoder != before.encoder,
        "the encoder has not changed",
        180,
    )
    latest = guarded_backend.wait_for_round(project.id, labels=given)
    labelled.add(label_the_next())
    latest = guarded_backend.wait_for_round(project.id, after=latest.number, labels=given + 1)
    held = guarded_backend.labels(project.id)
    assert len(held) == given + 1
    assert {task: held[task] for task in labelled} == {task: project.labels[task] for task in labelled}
    assert label_studio.next_task(project.id) in latest.queue
    figures = status(guarded_backend, project)
    assert (figures["encoder"], figures["switch"], figures["problem"]) == (NEXT, None, None)
    assert figures["crops"] == {"embedded": CROPS, "unreadable": 0, "missing": 0}


def test_the_way_back_is_one_command_and_short(label_studio, guarded_backend, project):
    services, number = guarded_backend.services, guarded_backend.number(project.id)
    assert "240 of 240 crops are embedded" in switch(guarded_backend, project, "efficientnet-lite0")
    after = guarded_backend.wait_for_round(project.id, after=number)
    assert services.store.project(project.id).encoder_name is None
    assert services.models.of(project.id) is not None
    assert after.queue
    assert label_studio.next_task(project.id) is not None


def test_a_switch_is_called_off_by_the_encoders_own_name(guarded_backend, project):
    guarded_backend.stop()
    wait_until(lambda: not guarded_backend.services.heartbeat.alive(), "its trainer seems alive", 60)
    assert "The trainer is not running" in switch(guarded_backend, project, NEXT)
    assert status(guarded_backend, project)["switch"]["encoder"] == NEXT
    said = switch(guarded_backend, project, "efficientnet-lite0")
    assert f"The switch to {NEXT} is called off" in said
    guarded_backend.start()
    assert status(guarded_backend, project)["switch"] is None
    said = guarded_backend.command("encoders", "--project", str(project.id), "--switch", "efficientnet-lite0")
    assert said.returncode == 1
    assert "has the encoder efficientnet-lite0 already" in said.stderr
