"""The server that the demo and every other test stand on: real, alone, known, and private."""

import stat

import httpx


def test_uploaded_digits_become_tasks_in_order_and_can_be_labelled(label_studio, digits):
    project = label_studio.digits_project(digits, 103)  # more than one request may carry
    assert len(set(project.task_ids)) == 103
    task = label_studio.api("GET", f"/api/tasks/{project.task_ids[102]}/")
    assert task["data"]["image"].endswith(digits.images[102].name)
    image = label_studio.client.get(task["data"]["image"])
    assert image.content == digits.images[102].read_bytes()
    first = label_studio.next_task(project.id)
    label_studio.annotate(first, project.labels[first])
    assert label_studio.api("GET", f"/api/tasks/{first}/")["is_labeled"]
    assert label_studio.next_task(project.id) != first


def test_a_backend_on_loopback_is_not_refused_as_a_private_address(label_studio):
    """Both settings are needed: with one of them the webhook alone would be refused."""
    project = label_studio.create_project("loopback webhook")
    hook = {"project": project, "url": "http://127.0.0.1:9/webhook", "send_payload": True}
    assert label_studio.api("POST", "/api/webhooks/", json=hook)["url"] == hook["url"]


def test_a_stranger_gets_nothing_and_the_secrets_are_the_owners_alone(label_studio):
    assert httpx.get(f"{label_studio.url}/api/projects", trust_env=False).status_code == 401
    data_dir = label_studio.server.data_dir
    assert stat.S_IMODE((data_dir / "credentials.json").stat().st_mode) == 0o600
    assert label_studio.password not in label_studio.server.log_path.read_text()
