"""`everylabel init` on a real Label Studio: from a folder to the label stream; and the data set that comes back."""

from __future__ import annotations

import csv
import shutil

import pytest
from PIL import Image

from everylabel.backend.label_studio.label_config import parse
from everylabel.scripts.image_projects import label_config
from tests.conftest import choice

NAMES = [
    f"{kind}/{name}" for kind in ("no crack", "crack/fine") for name in ("1.png", "naïve é (2).png", "3.png")
]


@pytest.fixture(scope="module")
def crops(digits, tmp_path_factory):
    """Six images in two subfolders, one of them as TIFF, and a file that is none."""
    folder = tmp_path_factory.mktemp("own") / "ab"
    for name, image in zip(NAMES, digits.images, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / name)
    with Image.open(digits.images[7]) as image:
        image.save(folder / "no crack" / "scan.tiff")
    (folder / "crack" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def project(label_studio, everylabel_backend, crops):
    """The project that `init` has made of them."""
    done = everylabel_backend.command("init", str(crops))
    assert done.returncode == 0, done.stderr
    assert "Left out" in done.stdout
    assert "no crop is labelled by them" in done.stdout
    return int(done.stdout.split("/projects/")[1].split("/")[0])


def test_one_command_leads_to_the_label_stream(label_studio, everylabel_backend, project):
    made = label_studio.api("GET", f"/api/projects/{project}/")
    assert made["title"] == "ab: crops", "Label Studio takes no title of two letters"
    assert made["label_config"] == label_config(("crack", "no crack"))
    assert parse(made["label_config"]).classes == ("crack", "no crack")
    tasks = label_studio.tasks(project)
    assert sorted(task["data"]["file_name"] for task in tasks) == sorted([*NAMES, "no crack/scan.tiff"])
    assert all(not task["annotations"] for task in tasks)
    assert label_studio.next_task(project) is not None
    assert everylabel_backend.round(project).queue


def test_run_again_it_goes_on_with_what_is_new(label_studio, everylabel_backend, project, crops, digits):
    (crops / "third").mkdir(exist_ok=True)
    shutil.copy(digits.images[20], crops / "third" / "1.png")
    done = everylabel_backend.command("init", str(crops))
    assert done.returncode == 0, done.stderr
    assert f"/projects/{project}/" in done.stdout
    assert "Not in its labeling config: third" in done.stdout
    names = [task["data"]["file_name"] for task in label_studio.tasks(project)]
    assert sorted(names) == sorted([*NAMES, "no crack/scan.tiff", "third/1.png"])


def test_the_data_set_holds_the_files_as_they_were(
    label_studio, everylabel_backend, project, crops, tmp_path
):
    tasks = {task["data"]["file_name"]: task["id"] for task in label_studio.tasks(project)}
    for name in NAMES:
        result = [{**choice(name.split("/")[0])[0], "from_name": "label"}]
        label_studio.api("POST", f"/api/tasks/{tasks[name]}/annotations/", json={"result": result})
    done = everylabel_backend.command(
        "dataset", "--project", str(project), "-o", str(tmp_path / "d"), "--copy"
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "d" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["file_name"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(NAMES)
    for name, row in rows.items():
        assert row["label"] == name.split("/")[0]
        assert (tmp_path / "d" / row["path"]).read_bytes() == (crops / name).read_bytes()
    check_tasks = {*everylabel_backend.services.store.project(project).check_tasks}
    assert {int(row["task_id"]) for row in rows.values() if row["split"] == "test"} == {
        *tasks.values()
    } & check_tasks & {int(row["task_id"]) for row in rows.values()}
    assert rows[NAMES[0]]["link"].startswith(f"{label_studio.url}/data/upload/")
