"""Label Studio on PostgreSQL and Redis, in two processes: rq workers send its webhooks, late and out of order."""

from types import SimpleNamespace

import pytest

from tests.conftest import choice, own_label_studio
from tests.everylabel_process import EveryLabel, wait_until
from tests.label_studio_setups import RqWorkers, postgresql_settings, redis_settings, second_process
from tests.measure import chaos

pytestmark = pytest.mark.timeout(600)

QUEUES = ("critical", "high", "default", "low")


@pytest.fixture(scope="module")
def team(label_studio_executable, postgres, redis_server, tmp_path_factory):
    """Two web processes and two rq workers of one Label Studio, and everylabel beside them."""
    home = tmp_path_factory.mktemp("team")
    settings = {**postgresql_settings(postgres), **redis_settings(redis_server, home / "settings")}
    backend = None
    with (
        own_label_studio(home / "label-studio", label_studio_executable, settings) as label_studio,
        second_process(label_studio.server, home / "second") as second,
    ):
        workers = RqWorkers(label_studio.server)
        workers.start()
        try:
            backend = EveryLabel(label_studio.url, label_studio.token, home)
            backend.start()
            yield SimpleNamespace(
                label_studio=label_studio,
                addresses=[label_studio.url, second.url],
                workers=workers,
                backend=backend,
                # Which of them a webhook waits in differs by version.
                jobs=lambda: sum(redis_server.length(f"rq:queue:{name}") for name in QUEUES),
            )
        finally:
            if backend is not None:
                backend.stop()
            workers.stop()


def test_annotators_of_two_processes_ask_at_once_and_nothing_is_lost(team, digits):
    project = team.label_studio.digits_project(digits, 80, "two processes")
    team.backend.connect(project.id)
    tokens = chaos.sign_up(team.label_studio, ["ada", "grace"])
    seen = chaos.run(
        team.label_studio,
        team.backend,
        project,
        tokens,
        annotations=20,
        kills=1,
        restarts=0,
        together=True,
        addresses=team.addresses,
    )
    chaos.check(team.label_studio, team.backend, project, seen)


def test_webhooks_that_lay_in_redis_come_late_and_out_of_order_and_bring_nothing_back(team, digits):
    label_studio, backend = team.label_studio, team.backend
    project = label_studio.digits_project(digits, 30, "late webhooks")
    backend.connect(project.id)
    wait_until(lambda: team.jobs() == 0, "the rq workers do not empty their queue", 120)
    team.workers.stop()
    changed, deleted, kept = project.task_ids[:3]
    annotation = label_studio.annotate(changed, "1")
    label_studio.api("PATCH", f"/api/annotations/{annotation}/", json={"result": choice("2")})
    label_studio.api("DELETE", f"/api/annotations/{label_studio.annotate(deleted, '3')}/")
    label_studio.annotate(kept, "4")
    assert team.jobs() >= 4, "Label Studio sends its webhooks itself: this tests nothing"
    team.workers.start()
    wait_until(lambda: team.jobs() == 0, "the rq workers do not empty their queue", 120)
    wait_until(lambda: backend.labels(project.id) == {changed: "2", kept: "4"}, "the labels differ", 60)
    settled = backend.wait_for_round(project.id, labels=2)
    assert backend.labels(project.id) == {changed: "2", kept: "4"}
    assert label_studio.next_task(project.id) in settled.queue
