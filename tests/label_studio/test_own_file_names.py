"""A person's own file names: the demo uploads crops under them, and they come back with the labels."""

from __future__ import annotations

import shutil
from dataclasses import replace

import httpx

from everylabel.backend.label_studio.client import LabelStudio as Client
from everylabel.scripts.image_projects import NUMBER, file_names, label_config, upload

NAMES = ("cats/naïve é (1).png", "cats/same.png", "dogs/same.png", "crop-000002.png", "100 % #1.png")


def test_own_file_names_are_in_the_tasks_and_their_pictures_can_be_read(label_studio, digits, tmp_path):
    for name, image in zip(NAMES, digits.images, strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / name)
    crops = replace(
        digits, images=tuple(tmp_path / name for name in NAMES), labels=digits.labels[: len(NAMES)]
    )
    assert file_names(crops) == list(NAMES)
    project = label_studio.create_project("own names", label_config(digits.classes))
    client = Client(label_studio.url, label_studio.token)

    some = replace(crops, images=crops.images[:3])
    upload(client, project, some, lambda *_: None)
    numbers = upload(client, project, crops, lambda *_: None)  # as after a run that was broken off
    tasks = {task["id"]: task["data"] for task in label_studio.tasks(project)}
    assert len(tasks) == len(NAMES), "what was there is not uploaded twice"
    assert {id_: NAMES[number] for id_, number in numbers.items()} == {
        id_: data["file_name"] for id_, data in tasks.items()
    }
    headers = {"Authorization": f"Token {label_studio.token}"}
    for id_, data in tasks.items():
        answer = httpx.get(label_studio.url + data["image"], headers=headers, trust_env=False, timeout=60)
        assert answer.content == crops.images[numbers[id_]].read_bytes()
    assert any("same" in data["image"] for data in tasks.values())


def test_crops_of_a_project_that_an_earlier_demo_made_are_known_by_their_number():
    assert NUMBER.search("/data/upload/1/0a1b2c3d-crop-000012.png").group(1) == "000012"
