"""`everylabel sync` and `everylabel doctor`, as a person runs them."""

import pytest
from pydantic import SecretStr

from everylabel.backend.bootstrap import build
from everylabel.scripts.commands.doctor import examine
from tests.everylabel_process import free_port, wait_until

LABELS = 20


@pytest.fixture(scope="module")
def project(connected):
    return connected(60, "commands", labels=LABELS)


def seen_in_label_studio(label_studio, project):
    settings = label_studio.api("GET", f"/api/projects/{project}/")
    return (
        settings["model_version"],
        label_studio.api("GET", f"/api/projects/{project}/model-versions/"),
        label_studio.api("GET", "/api/dm/views/", params={"project": project}),
    )


def test_a_dry_run_shows_the_round_and_writes_nothing(label_studio, everylabel_backend, project):
    before, latest = (
        seen_in_label_studio(label_studio, project.id),
        everylabel_backend.round(project.id),
    )
    said = everylabel_backend.command("sync", "--project", str(project.id), "--dry-run")
    assert said.returncode == 0, said.stderr
    assert "Dry run: nothing was written." in said.stdout
    assert f"round {latest.number + 1}: {LABELS} labels" in said.stdout
    assert "next batch" in said.stdout
    assert seen_in_label_studio(label_studio, project.id) == before
    assert everylabel_backend.services.store.rounds(project.id)[-1] == latest


def test_sync_pushes_a_batch_of_the_size_asked_for(label_studio, everylabel_backend, project):
    before = everylabel_backend.round(project.id)
    said = everylabel_backend.command("sync", "--project", str(project.id), "--batch-size", "9")
    assert said.returncode == 0, said.stderr
    after = everylabel_backend.round(project.id)
    assert f"Pushed as {after.model_version}." in said.stdout
    assert after.number == before.number + 1
    assert len(after.batch) == 9
    pushed = label_studio.predictions(project.id, after.model_version)
    served = after.queue + after.pre_annotated + after.reserve
    assert pushed.keys() == {*served, *after.suspected}
    assert tuple(sorted(served, key=lambda task: pushed[task]["score"])) == served
    assert label_studio.next_task(project.id) == after.queue[0]


def test_sync_finds_what_no_webhook_has_told(label_studio, everylabel_backend, project):
    """A webhook that Label Studio sent in vain is never sent again."""
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    label_studio.api("PATCH", f"/api/webhooks/{hook['id']}/", json={"is_active": False})
    task = label_studio.next_task(project.id)
    label_studio.annotate(task, project.labels[task])
    label_studio.api("PATCH", f"/api/webhooks/{hook['id']}/", json={"is_active": True})
    assert task not in everylabel_backend.labels(project.id)
    said = everylabel_backend.command("sync", "--project", str(project.id))
    assert said.returncode == 0, said.stderr
    assert everylabel_backend.labels(project.id)[task] == project.labels[task]
    assert label_studio.next_task(project.id) == everylabel_backend.round(project.id).queue[0]


def test_status_calls_annotators_by_the_name_they_gave_themselves(label_studio, everylabel_backend, project):
    me = label_studio.api("GET", "/api/current-user/whoami")
    label_studio.api("PATCH", f"/api/users/{me['id']}/", json={"first_name": "Ada", "last_name": "Lovelace"})
    everylabel_backend.services.annotator_names.refresh()
    said = everylabel_backend.command("status", "--project", str(project.id))
    assert said.returncode == 0, said.stderr
    assert "Ada Lovelace 2" in said.stdout
    label_studio.api("PATCH", f"/api/users/{me['id']}/", json={"first_name": "", "last_name": ""})


def test_doctor_finds_a_connected_project_well(everylabel_backend, project):
    said = everylabel_backend.command("doctor", "--project", str(project.id))
    assert said.returncode == 0, said.stdout
    assert "All is well." in said.stdout
    for check in (
        *("Label Studio", "Token", "Backend", "Project", "Labeling config"),
        *("ML backend", "Webhook", "Sampling", "Media", "Rounds"),
    ):
        assert f"✓ {check}: " in said.stdout


def test_doctor_names_a_project_that_is_not_connected(label_studio, everylabel_backend, digits):
    project = label_studio.digits_project(digits, 2, "never connected")
    said = everylabel_backend.command("doctor", "--project", str(project.id))
    assert said.returncode == 1
    for check in ("ML backend", "Webhook", "Sampling", "Rounds"):
        assert f"✗ {check}: " in said.stdout
    assert f"everylabel connect --project {project.id}" in said.stdout
    assert "All is well" not in said.stdout


def faults(backend, project, **changes):
    """What doctor finds wrong, by check; ``changes`` are settings that differ from the backend's."""
    services = build(backend.settings.model_copy(update=changes)) if changes else backend.services
    return {finding.check: finding.problem for finding in examine(services, project) if finding.problem}


def test_doctor_finds_a_backend_that_is_down(everylabel_backend, project):
    found = faults(everylabel_backend, project.id, public_url=f"http://127.0.0.1:{free_port()}")
    assert "Start it with `everylabel serve`" in found["Backend"]


def test_doctor_finds_label_studio_away(everylabel_backend, project):
    found = faults(everylabel_backend, project.id, label_studio_url=f"http://127.0.0.1:{free_port()}")
    assert list(found) == ["Label Studio"]
    assert "Is it running" in found["Label Studio"]


def test_doctor_finds_a_wrong_token(everylabel_backend, project):
    found = faults(everylabel_backend, project.id, label_studio_api_key=SecretStr("0" * 40))
    assert list(found) == ["Token"]
    assert "Label Studio refused the token (401). Create a personal access token" in found["Token"]


def test_doctor_finds_a_deleted_webhook_and_connect_mends_it(label_studio, everylabel_backend, project):
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    label_studio.api("DELETE", f"/api/webhooks/{hook['id']}/")
    found = faults(everylabel_backend, project.id)
    assert list(found) == ["Webhook"]
    assert "training never fires" in found["Webhook"]
    assert f"everylabel connect --project {project.id}" in found["Webhook"]
    everylabel_backend.connect(project.id)
    assert faults(everylabel_backend, project.id) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_active": False}, "switched off"),
        ({"send_payload": False}, "no payload"),
        ({"headers": {"Authorization": "Basic b2xkOm9sZA=="}}, "another password"),
    ],
)
def test_doctor_finds_a_webhook_that_does_not_help(label_studio, everylabel_backend, project, change, said):
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    label_studio.api("PATCH", f"/api/webhooks/{hook['id']}/", json=change)
    found = faults(everylabel_backend, project.id)
    assert list(found) == ["Webhook"]
    assert said in found["Webhook"]
    everylabel_backend.connect(project.id)
    assert faults(everylabel_backend, project.id) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampling": "Sequential sampling"}, "'Sequential sampling', so the queue is not followed"),
        # What Label Studio's own settings page writes when a model is chosen there.
        ({"model_version": "everylabel"}, "uncertainty sampling is silently random"),
    ],
)
def test_doctor_finds_a_queue_that_is_not_followed_and_sync_mends_it(
    label_studio, everylabel_backend, project, change, said
):
    label_studio.api("PATCH", f"/api/projects/{project.id}/", json=change)

    def found():
        return faults(everylabel_backend, project.id)

    seen = found()
    assert list(seen) == ["Sampling"]
    assert said in seen["Sampling"]
    assert f"everylabel sync --project {project.id}" in seen["Sampling"]
    everylabel_backend.services.loop.catch_up(project.id, compare=True, force=True)
    wait_until(lambda: found() == {}, "the queue is not followed again")
    latest = everylabel_backend.round(project.id)
    assert label_studio.next_task(project.id) in {*latest.queue, *latest.pre_annotated}


def test_connect_mends_a_queue_that_is_not_followed(label_studio, everylabel_backend, project):
    label_studio.api("PATCH", f"/api/projects/{project.id}/", json={"model_version": "everylabel"})
    everylabel_backend.connect(project.id)
    assert faults(everylabel_backend, project.id) == {}
