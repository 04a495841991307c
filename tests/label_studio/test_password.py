"""With BASIC_AUTH_USER and BASIC_AUTH_PASS set, strangers are kept out and Label Studio is not."""

import base64

import httpx
import pytest

from everylabel.backend.auth import webhook_headers
from tests.everylabel_process import EveryLabel

SECRET = "a-secret-of-more-than-sixteen"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/versions"),
        ("GET", "/metrics"),
        ("POST", "/setup"),
        ("POST", "/predict"),
        ("POST", "/webhook"),
    ],
)
def test_a_request_without_the_password_gets_nothing(guarded_backend, method, path):
    body = {"json": {"action": "START_TRAINING", "project": {"id": 1}}} if method == "POST" else {}
    url = f"{guarded_backend.settings.public_url}{path}"
    assert httpx.request(method, url, **body).status_code == 401
    assert httpx.request(method, url, auth=("label-studio", "guessed"), **body).status_code == 401


def test_health_is_for_everybody(guarded_backend):
    assert httpx.get(f"{guarded_backend.settings.public_url}/health").json()["status"] == "UP"


def test_the_loop_runs_with_a_password(label_studio, guarded_backend, digits):
    project = label_studio.digits_project(digits, 20, "with a password")
    connect = guarded_backend.command("connect", "--project", str(project.id))
    assert connect.returncode == 0, connect.stderr
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    assert hook["headers"] == webhook_headers(guarded_backend.settings)
    url = guarded_backend.settings.public_url
    assert httpx.get(f"{url}/versions", headers=hook["headers"]).status_code == 200
    for path in ("/", f"/projects/{project.id}", "/metrics"):
        assert httpx.get(f"{url}{path}", headers=hook["headers"]).status_code == 403, path
        assert httpx.get(f"{url}{path}", auth=("label-studio", "a: pass phrase")).status_code == 200, path
    (ml_backend,) = label_studio.api("GET", "/api/ml/", params={"project": project.id})
    assert ml_backend["basic_auth_user"] == "everylabel"
    told = connect.stdout + connect.stderr + str(hook) + str(ml_backend)
    assert "pass phrase" not in told
    assert base64.b64encode(b"label-studio:a: pass phrase").decode() not in told
    task = label_studio.next_task(project.id)
    label_studio.annotate(task, project.labels[task])
    latest = guarded_backend.wait_for_round(project.id, labels=1)
    assert label_studio.next_task(project.id) == latest.queue[0]
    doctor = guarded_backend.command("doctor", "--project", str(project.id))
    assert doctor.returncode == 0, doctor.stdout


def test_a_project_connected_with_the_peoples_key_goes_on_is_told_of_and_is_migrated(
    label_studio, guarded_backend, digits
):
    """As everylabel connected projects before it had two keys."""
    project = label_studio.digits_project(digits, 20, "connected with one key")
    guarded_backend.connect(project.id)
    old = {"Authorization": "Basic " + base64.b64encode(b"label-studio:a: pass phrase").decode()}
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    new = hook["headers"]
    label_studio.api("PATCH", f"/api/webhooks/{hook['id']}/", json={**hook, "headers": old})
    login = {"basic_auth_user": "label-studio", "basic_auth_pass": "a: pass phrase"}
    (ml_backend,) = label_studio.api("GET", "/api/ml/", params={"project": project.id})
    label_studio.api("PATCH", f"/api/ml/{ml_backend['id']}", json={**ml_backend, **login})
    label_studio.annotate(project.task_ids[0], project.labels[project.task_ids[0]])
    guarded_backend.wait_for_round(project.id, labels=1)
    doctor = guarded_backend.command("doctor", "--project", str(project.id))
    assert doctor.returncode == 1
    faults = [line for line in doctor.stdout.splitlines() if line.startswith("✗")]
    assert len(faults) == 2, doctor.stdout
    assert all("the key for people" in line and "everylabel connect" in line for line in faults)
    again = guarded_backend.command("connect", "--project", str(project.id))
    assert again.returncode == 0, again.stderr
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    assert hook["headers"] == new
    doctor = guarded_backend.command("doctor", "--project", str(project.id))
    assert doctor.returncode == 0, doctor.stdout
    label_studio.annotate(project.task_ids[1], project.labels[project.task_ids[1]])
    guarded_backend.wait_for_round(project.id, labels=2)


def test_a_password_label_studio_would_send_otherwise_is_refused_at_the_start(guarded_backend):
    said = guarded_backend.command("serve", BASIC_AUTH_PASS="pässword")
    assert said.returncode == 1
    assert "ASCII" in said.stderr
    assert "pässword" not in said.stderr


def test_label_studios_own_webhook_without_the_password_is_put_right(label_studio, guarded_backend, digits):
    """Connected by hand in Label Studio's settings: it makes a webhook whose calls are refused."""
    project = label_studio.digits_project(digits, 5, "connected by hand")
    by_hand = {
        "project": project.id,
        "url": guarded_backend.settings.public_url,
        "title": "by hand",
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "label-studio",
        "basic_auth_pass": "a: pass phrase",
    }
    label_studio.api("POST", "/api/ml/", json=by_hand)
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    assert hook["headers"] == {}
    guarded_backend.connect(project.id)
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    assert hook["headers"].keys() == {"Authorization"}
    assert len(label_studio.api("GET", "/api/ml/", params={"project": project.id})) == 1
    label_studio.annotate(project.task_ids[0], project.labels[project.task_ids[0]])
    guarded_backend.wait_for_round(project.id, labels=1)


@pytest.fixture
def secret_backend(label_studio, tmp_path):
    backend = EveryLabel(label_studio.url, label_studio.token, tmp_path, bearer_secret=SECRET)
    backend.start()
    yield backend
    backend.stop()


def test_the_loop_runs_with_a_bearer_secret(label_studio, secret_backend, digits):
    project = label_studio.digits_project(digits, 20, "with a secret")
    connect = secret_backend.command("connect", "--project", str(project.id))
    assert connect.returncode == 0, connect.stderr
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    assert hook["headers"] == webhook_headers(secret_backend.settings)
    assert SECRET not in str(hook)
    versions = f"{secret_backend.settings.public_url}/versions"
    assert httpx.get(versions).status_code == 401
    assert httpx.get(versions, headers=hook["headers"]).status_code == 200
    label_studio.annotate(project.task_ids[0], project.labels[project.task_ids[0]])
    secret_backend.wait_for_round(project.id, labels=1)
    # Label Studio's own call of an ML backend: with basic auth, which is all it knows.
    label_studio.api(
        "POST",
        "/api/dm/actions/",
        params={"id": "retrieve_tasks_predictions", "project": project.id},
        json={"selectedItems": {"all": True, "excluded": []}},
    )
    metrics = httpx.get(f"{secret_backend.settings.public_url}/metrics", auth=("everylabel", SECRET)).text
    assert 'everylabel_predictions_total{outcome="empty"} 20.0' in metrics
    doctor = secret_backend.command("doctor", "--project", str(project.id))
    assert doctor.returncode == 0, doctor.stdout
    said = secret_backend.log_path.read_text() + connect.stdout + connect.stderr + doctor.stdout
    assert SECRET not in said
