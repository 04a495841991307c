"""`everylabel init` says what is wrong before it makes a project, and uploads in requests that Label Studio takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from typer.testing import CliRunner

from everylabel.scripts import cli, image_projects
from everylabel.scripts.replay.datasets import Dataset


@pytest.fixture
def run(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stand_in.token)

    def command(*arguments, **environment):
        answer = CliRunner().invoke(cli.app, ["init", *arguments], env=environment)
        assert answer.exit_code == 1, answer.output
        assert ("POST", "/api/projects/") not in stand_in.calls
        return " ".join(answer.output.split())

    return command


def picture(path: Path, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), "red").save(path)
    return path


def test_what_is_wrong_is_said_before_a_project_is_made(run, stand_in, tmp_path):
    crops = tmp_path / "crops"
    assert "is not a folder" in run(str(crops))
    crops.mkdir()
    assert "holds no image that can be read" in run(str(crops))
    (crops / "notes.txt").write_text("none")
    assert "1 unreadable files" in run(str(crops))
    picture(crops / "a.png")
    picture(crops / "b.png")
    assert "--classes a,b" in run(str(crops))
    assert "not distinct names" in run(str(crops), "--classes", "cat,cat")
    assert "Create a personal access token" in run(
        str(crops), "--classes", "cat,dog", LABEL_STUDIO_API_KEY=""
    )
    assert "refuse" in run(str(crops), "--classes", "cat,dog", LABEL_STUDIO_API_KEY="old")
    stand_in.down = True
    assert "Nothing answers behind" in run(str(crops), "--classes", "cat,dog")


def test_names_are_those_below_the_folder_whatever_else_comes_into_it(tmp_path):
    only = Dataset("x", (), (picture(tmp_path / "cats" / "1.png"),), None, "", names=("cats/1.png",))
    assert image_projects.file_names(only) == ["cats/1.png"]


def test_a_request_uploads_what_label_studio_takes(tmp_path, monkeypatch):
    small = [picture(tmp_path / f"{n}.png") for n in range(250)]
    large = picture(tmp_path / "large.png", 400)
    dataset = Dataset("x", (), (*small, large, large), None, "")
    assert [len(chunk) for chunk in image_projects._chunks(range(250), dataset)] == [100, 100, 50]
    monkeypatch.setattr(image_projects, "UPLOAD_BYTES", large.stat().st_size)
    chunks = list(image_projects._chunks([250, 0, 251], dataset))
    assert chunks == [[250], [0], [251]]


def test_a_file_that_is_gone_does_not_stand_for_another_by_its_number():
    """A demo of long ago told crops by the number in their address, and their tasks hold no file name."""
    addresses = ["/data/upload/1/0123abcd-crop-000001.jpg", "/data/upload/1/0123abcd-crop-000000.jpg"]
    tasks = [{"id": n, "data": {"image": address}} for n, address in enumerate(addresses, 7)]
    client = SimpleNamespace(tasks=lambda project_id: tasks)
    names = ["a.jpg", "b.jpg"]
    assert image_projects._numbers(client, 1, names) == {7: 1, 8: 0}
    tasks[0]["data"]["file_name"], tasks[1]["data"]["file_name"] = "crop-000001.jpg", "a.jpg"
    assert image_projects._numbers(client, 1, names) == {8: 0}, "b.jpg is still to be uploaded"
