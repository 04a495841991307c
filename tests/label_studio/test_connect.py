"""`everylabel connect` makes a project an active-learning project, and doing it again changes nothing."""

import pytest

from everylabel.backend.label_studio.errors import LabelStudioError
from tests.everylabel_process import free_port

OURS = {"Next batch", "Pseudo-labels", "Suspect labels"}


@pytest.fixture(scope="module")
def project(connected):
    return connected(150, "to be connected")


def seen_in_label_studio(label_studio, project):
    """Everything that connecting twice could do twice; what is left of superseded rounds goes in the background."""
    settings = label_studio.api("GET", f"/api/projects/{project}/")
    served = settings["model_version"]
    versions = label_studio.api("GET", f"/api/projects/{project}/model-versions/")
    predictions = [made for task in label_studio.tasks(project) for made in task["predictions"]]
    hooks = label_studio.api("GET", "/api/webhooks/", params={"project": project})
    return {
        "webhooks": [{k: v for k, v in hook.items() if k != "updated_at"} for hook in hooks],
        "backends": [b["id"] for b in label_studio.api("GET", "/api/ml/", params={"project": project})],
        "tabs": label_studio.api("GET", "/api/dm/views/", params={"project": project}),
        "versions": {name: made for name, made in versions.items() if round_of(name) >= round_of(served)},
        "settings": {
            name: settings[name] for name in ("model_version", "sampling", "show_collab_predictions")
        },
        "predictions": sum(round_of(made["model_version"]) >= round_of(served) for made in predictions),
    }


def round_of(version):
    return int(version.split()[1])


def test_label_studio_knows_the_backend_and_tells_it_what_happens(label_studio, everylabel_backend, project):
    url = everylabel_backend.settings.public_url
    (backend,) = label_studio.api("GET", "/api/ml/", params={"project": project.id})
    assert (backend["url"], backend["readable_state"]) == (url, "Connected")
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    assert hook["url"] == f"{url}/webhook"
    assert hook["is_active"]
    assert hook["send_payload"]
    assert hook["headers"] == {}, "no password is set, so none is sent"
    assert set(hook["actions"]) >= {
        *("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"),
        *("TASKS_CREATED", "TASKS_DELETED", "PROJECT_UPDATED"),
    }


def test_the_label_stream_follows_the_first_batch(label_studio, everylabel_backend, project):
    first = everylabel_backend.round(project.id)
    settings = label_studio.api("GET", f"/api/projects/{project.id}/")
    assert settings["sampling"] == "Uncertainty sampling"
    assert settings["model_version"] == first.model_version
    assert settings["show_collab_predictions"]
    assert len(set(first.queue)) == 5
    pushed = label_studio.predictions(project.id, first.model_version)
    assert sorted(pushed, key=lambda task: pushed[task]["score"]) == [*first.queue, *first.reserve]
    assert all(prediction["result"] == [] for prediction in pushed.values()), "nothing is known yet"
    assert label_studio.next_task(project.id) == first.queue[0]


def test_three_tabs_stand_beside_the_plain_one(label_studio, everylabel_backend, project):
    tabs = label_studio.api("GET", "/api/dm/views/", params={"project": project.id})
    by_title = {tab["data"]["title"]: tab for tab in tabs}
    assert by_title.keys() == {*OURS, "Default"}
    assert not by_title["Default"]["data"].get("filters", {}).get("items")
    shown = label_studio.api("GET", "/api/tasks/", params={"view": by_title["Next batch"]["id"]})["tasks"]
    assert [task["id"] for task in shown] == list(everylabel_backend.round(project.id).queue)
    for empty in OURS - {"Next batch"}:
        assert label_studio.api("GET", "/api/tasks/", params={"view": by_title[empty]["id"]})["total"] == 0


def test_connecting_twice_changes_nothing_twice(label_studio, everylabel_backend, project):
    before = seen_in_label_studio(label_studio, project.id)
    again = everylabel_backend.command("connect", "--project", str(project.id))
    assert again.returncode == 0, again.stderr
    assert "150 crops, 0 labels" in again.stdout
    assert seen_in_label_studio(label_studio, project.id) == before


def test_an_address_label_studio_cannot_reach_leaves_everything_as_it_was(
    label_studio, everylabel_backend, project
):
    before = seen_in_label_studio(label_studio, project.id)
    elsewhere = f"http://127.0.0.1:{free_port()}"
    refused = everylabel_backend.command("connect", "--project", str(project.id), "--backend-url", elsewhere)
    assert refused.returncode == 1
    assert elsewhere in refused.stderr
    assert seen_in_label_studio(label_studio, project.id) == before


def test_a_backend_that_has_moved_replaces_itself(label_studio, everylabel_backend, connected):
    """A second webhook would fail at every click, a second backend would slow down every page."""
    project = connected(3, "to be moved")
    here = everylabel_backend.settings.public_url
    there = here.replace("127.0.0.1", "localhost")
    moved = everylabel_backend.command("connect", "--project", str(project.id), "--backend-url", there)
    assert moved.returncode == 0, moved.stderr
    (hook,) = label_studio.api("GET", "/api/webhooks/", params={"project": project.id})
    (backend,) = label_studio.api("GET", "/api/ml/", params={"project": project.id})
    assert (hook["url"], backend["url"]) == (f"{there}/webhook", there)


def test_a_project_with_names_of_its_own_is_understood(label_studio, everylabel_backend, digits):
    """Another key in the data, other names of the tags: pre-annotations must carry the project's own."""
    config = (
        '<View><Image name="photo" value="$scan"/><Header value="Which?"/>'
        '<Choices name="verdict" toName="photo">'
        + "".join(f'<Choice value="digit {digit}"/>' for digit in range(10))
        + "</Choices></View>"
    )
    project = label_studio.digits_project(digits, 60, "names of its own", config)
    for task in project.task_ids[:30]:
        result = {"from_name": "verdict", "to_name": "photo", "type": "choices"}
        result["value"] = {"choices": [f"digit {project.labels[task]}"]}
        label_studio.api("POST", f"/api/tasks/{task}/annotations/", json={"result": [result]})
    latest = everylabel_backend.connect(project.id)
    assert latest.n_labels == 30
    assert latest.classes == tuple(f"digit {digit}" for digit in range(10))
    pushed = label_studio.predictions(project.id, latest.model_version)
    filled = [prediction["result"] for prediction in pushed.values() if prediction["result"]]
    assert filled, "30 labels of 60 digits leave some crops to be sure of"
    for (region,) in filled:
        assert (region["from_name"], region["to_name"], region["type"]) == ("verdict", "photo", "choices")
        assert region["value"]["choices"][0] in latest.classes


def test_a_project_that_classifies_no_image_says_so_in_label_studio(label_studio, everylabel_backend):
    audio = '<View><Audio name="a" value="$audio"/><Choices name="c" toName="a"><Choice value="a"/></Choices></View>'
    project = label_studio.create_project("sounds", audio)
    body = {"project": project, "url": everylabel_backend.settings.public_url, "title": "everylabel"}
    refused = label_studio.client.post("/api/ml/", json=body)
    assert refused.status_code == 400
    assert "The labeling config needs an <Image>" in refused.text
    connect = everylabel_backend.command("connect", "--project", str(project))
    assert connect.returncode == 1
    assert "The labeling config needs an <Image>" in connect.stderr
    assert "Traceback" not in connect.stderr


def test_a_project_that_does_not_exist_is_named(everylabel_backend):
    with pytest.raises(LabelStudioError, match="nothing at /api/projects/999999/"):
        everylabel_backend.connect(999999)


def test_labels_of_an_earlier_project_are_there_before_the_first_round(
    label_studio, everylabel_backend, digits, tmp_path
):
    project = label_studio.digits_project(digits, 40, "old labels")
    known = dict(zip(digits.images[:40], project.task_ids, strict=True))
    lines = [f"{image.name},{project.labels[task]}" for image, task in list(known.items())[:20]]
    table = tmp_path / "old.csv"
    table.write_text("\n".join(["file,label", *lines, "elsewhere.png,3"]), encoding="utf-8")
    for _ in range(2):
        done = everylabel_backend.command("connect", "--project", str(project.id), "--labels", str(table))
        assert done.returncode == 0, done.stderr
    assert "20 labels: its task is labelled already" in done.stdout
    assert "1 label: no task has this file" in done.stdout
    held = {task["id"]: task["annotations"] for task in label_studio.tasks(project.id)}
    said = {
        id_: [(one["result"][0]["value"]["choices"], one["completed_by"]) for one in given]
        for id_, given in held.items()
        if given
    }
    owner = label_studio.api("GET", "/api/current-user/whoami")["id"]
    assert said == {task: [([project.labels[task]], owner)] for task in project.task_ids[:20]}
    assert "imported labels" not in label_studio.api("GET", f"/api/projects/{project.id}/model-versions/")
    assert everylabel_backend.round(project.id).n_labels == 20
