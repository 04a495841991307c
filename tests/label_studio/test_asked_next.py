"""Crops that a person asks for on the page, in a real Label Studio: served first, also after a kill."""

import pytest

from everylabel.backend.store import Person

LABELS = 12


@pytest.fixture(scope="module")
def project(connected):
    """50 crops, 12 of them labelled."""
    return connected(50, "asked for", labels=LABELS)


def test_label_all_tasks_begins_with_them_though_the_backend_was_killed(
    label_studio, everylabel_backend, project
):
    services = everylabel_backend.services
    latest = everylabel_backend.wait_for_round(project.id, labels=LABELS)
    closed = {*latest.queue, *services.store.project(project.id).check_tasks}
    wanted = [task for task in reversed(project.task_ids[LABELS:]) if task not in closed][:3]
    assert services.labelling.pages.ask_next(project.id, Person(1, "owner"), wanted) == 3
    everylabel_backend.kill()
    everylabel_backend.start()

    # Label Studio keeps a crop for whoever asked for the next one: it is asked once a round alone.
    everylabel_backend.wait_for_round(project.id, after=latest.number)
    served = []
    for count, task in enumerate(wanted, start=1):
        served.append(label_studio.next_task(project.id))
        label_studio.annotate(task, project.labels[task])
        everylabel_backend.wait_for_round(project.id, labels=LABELS + count)
    assert served == wanted
    assert services.store.asked_next(project.id) == []
    assert label_studio.next_task(project.id) not in wanted
