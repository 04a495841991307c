"""One crop that cannot be read costs that crop alone."""

import httpx
import pytest


@pytest.fixture(scope="module")
def project(label_studio, everylabel_backend, digits, tmp_path_factory):
    """Ten digits and three files that are no pictures, the broken ones first and last."""
    directory = tmp_path_factory.mktemp("broken")
    whole = digits.images[0].read_bytes()
    broken = []
    for name, content in (
        ("truncated.png", whole[: len(whole) // 2]),
        ("words.jpg", b"these are words"),
        ("empty.png", whole[:20]),
    ):
        broken.append(directory / name)
        broken[-1].write_bytes(content)
    project = label_studio.create_project("broken images")
    first = label_studio.upload(project, broken[:1])
    good = label_studio.upload(project, digits.images[:10])
    last = label_studio.upload(project, broken[1:])
    everylabel_backend.connect(project)
    return project, good, [*first, *last]


def test_the_others_are_asked_for_and_the_broken_never(label_studio, everylabel_backend, project):
    number, good, broken = project
    first = everylabel_backend.round(number)
    assert len(first.queue) == 5
    assert set(first.queue) <= set(good)
    known = {task.id: task for task in everylabel_backend.services.store.tasks(number)}
    assert all(known[task].embedding_row is not None for task in good)
    assert all(known[task].problem for task in broken)


def test_connect_says_which_crops_and_why(everylabel_backend, project):
    number, _, broken = project
    said = everylabel_backend.command("connect", "--project", str(number))
    assert said.returncode == 0, said.stderr
    assert "3 crops cannot be read" in said.stdout
    assert f"task {broken[0]}" in said.stdout


def test_predict_answers_every_task_in_order(label_studio, everylabel_backend, project, digits):
    number, good, broken = project
    for task, label in zip(good[:6], digits.labels, strict=False):
        label_studio.annotate(task, label)
    everylabel_backend.wait_for_round(number, labels=6)
    ids = [broken[0], *good, *broken[1:]]
    config = label_studio.api("GET", f"/api/projects/{number}/")["label_config"]
    answer = httpx.post(
        f"{everylabel_backend.settings.public_url}/predict",
        json={"tasks": [{"id": id_} for id_ in ids], "project": f"{number}.0", "label_config": config},
        timeout=60,
    )
    results = answer.raise_for_status().json()["results"]
    assert [bool(one["result"]) for one in results] == [id_ in good for id_ in ids]
    assert all(one["error"] for one in results if not one["result"])


def test_label_studio_can_retrieve_predictions_for_all_of_them(label_studio, everylabel_backend, project):
    number, good, broken = project
    label_studio.api(
        "POST",
        "/api/dm/actions/",
        params={"id": "retrieve_tasks_predictions", "project": number},
        json={"selectedItems": {"all": True, "excluded": []}},
    )
    stored = label_studio.predictions(number, f"{everylabel_backend.round(number).model_version} model")
    assert stored.keys() == {*good, *broken}
