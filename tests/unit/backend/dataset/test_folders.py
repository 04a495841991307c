"""Exporting again into the folder of a data set: crops are added to the same labels, and nothing of anybody else is written over or deleted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from everylabel.backend.dataset.export import Options, export
from everylabel.backend.dataset.folders import DatasetError


@pytest.fixture
def labelled(stand_in, services, digit_crops):
    """Project 1, 8 digits that are all labelled."""
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:8]))
    for task, (_, label) in zip(ids, digit_crops, strict=False):
        stand_in.annotate(task, label)
    services.loop.sync(1)


def paths(folder):
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def test_copy_adds_the_crops_to_the_same_labels(services, labelled, tmp_path):
    folder = tmp_path / "cells"
    first = export(services, 1, folder, Options("certified"))
    assert not any(paths(folder))
    done = export(services, 1, folder, Options("certified", copy=True))
    assert (done.was_there, done.about["digest"]) == (False, first.about["digest"])
    assert all((folder / path).is_file() for path in paths(folder))
    assert all(paths(folder))


def test_copy_adds_the_crops_where_a_model_is_in_use(services, teach, tmp_path):
    teach(16)
    first = export(services, 1, tmp_path / "cells", Options("people"))
    assert first.about["model"]
    export(services, 1, tmp_path / "cells", Options("people", copy=True))
    assert all(paths(tmp_path / "cells"))


def test_crops_that_are_there_are_not_taken_away(services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified", copy=True))
    with pytest.raises(DatasetError, match=r"the same labels with the crops \(--copy\)"):
        export(services, 1, folder, Options("certified"))
    assert all((folder / path).is_file() for path in paths(folder))


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("own", ["notes.txt", "train/mine.png", "coco/pictures/mine.png", ".git/HEAD"])
def test_a_person_s_own_files_are_never_deleted(own, copied, services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified", copy=copied))
    (folder / own).parent.mkdir(parents=True, exist_ok=True)
    (folder / own).write_text("mine")
    with pytest.raises(DatasetError, match=f"not the data set's own.*: {own}. Move them out first"):
        export(services, 1, folder, Options("people", copy=True, replace=True))
    if not copied:
        with pytest.raises(DatasetError, match=f"not its own: {own}. Move them out first") as raised:
            export(services, 1, folder, Options("certified", copy=True))
        assert "--replace" not in str(raised.value)
    assert (folder / own).read_text() == "mine"


def test_a_file_manager_s_notes_are_nobody_s(services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified"))
    (folder / ".DS_Store").write_bytes(b"")
    export(services, 1, folder, Options("certified", copy=True))
    (folder / "train" / ".DS_Store").write_bytes(b"")
    export(services, 1, folder, Options("people", copy=True, replace=True))
    assert all(paths(folder))


@pytest.mark.parametrize(
    ("name", "was", "edit"),
    [
        ("README.md", "exported by", "of our microscope, exported by"),
        ("labels.csv", "annotator 1", "Ann"),
        ("dataset.json", '"suspected": 0', '"suspected": 1'),
    ],
)
def test_crops_are_not_added_where_an_edit_would_be_lost(name, was, edit, services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified"))
    edited = (folder / name).read_text().replace(was, edit)
    assert edit in edited
    (folder / name).write_text(edited)
    with pytest.raises(DatasetError, match=f"without the crops, edited since: {name}. .*--replace"):
        export(services, 1, folder, Options("certified", copy=True))
    assert (folder / name).read_text() == edited


def test_crops_are_not_added_where_nobody_can_tell_whether_it_was_edited(services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified"))
    about = json.loads((folder / "dataset.json").read_text())
    del about["files"]
    (folder / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(DatasetError, match=r"by an earlier version.*--replace"):
        export(services, 1, folder, Options("certified", copy=True))
    export(services, 1, folder, Options("certified", copy=True, replace=True))
    assert all(paths(folder))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_comes_while_crops_are_fetched_stays(replaced, services, labelled, tmp_path, monkeypatch):
    folder, read = tmp_path / "cells", services.reader.read_picture
    export(services, 1, folder, Options("certified"))

    def meanwhile(*given, **more):
        (folder / "notes.txt").write_text("mine")
        return read(*given, **more)

    monkeypatch.setattr(services.reader, "read_picture", meanwhile)
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        export(services, 1, folder, Options("certified", copy=True, replace=replaced))
    assert (folder / "notes.txt").read_text() == "mine"
    monkeypatch.setattr(services.reader, "read_picture", lambda *_, **__: pytest.fail("all are fetched"))
    (folder / "notes.txt").unlink()
    export(services, 1, folder, Options("certified", copy=True, replace=replaced))
    assert all((folder / path).is_file() for path in paths(folder))


@pytest.mark.parametrize("killed", [False, True])
def test_the_older_data_set_comes_back_if_the_new_one_cannot_take_its_place(
    killed, services, labelled, tmp_path, monkeypatch
):
    folder, rename = tmp_path / "cells", Path.rename
    export(services, 1, folder, Options("people"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(path, target):
        if path.name == "export" or (killed and path.name == "old"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails)
        with pytest.raises(DatasetError, match="No space left") as raised:
            export(services, 1, folder, Options("certified", replace=True))
    assert ("delete" in str(raised.value)) is not killed
    assert folder.exists() is not killed
    if killed:  # the next run, whatever is asked for, finds what was taken away
        with pytest.raises(DatasetError, match="asked for with --labels people"):
            export(services, 1, folder, Options("all"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_names_are_not_taken_away_where_the_crops_are_added(services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified", names=True))
    for options in (Options("certified", copy=True), Options("certified")):
        with pytest.raises(DatasetError, match="the same labels, asked for with --names"):
            export(services, 1, folder, options)
    export(services, 1, folder, Options("certified", copy=True, names=True))
    assert all(paths(folder))


def test_a_link_to_a_folder_stays_one(services, labelled, tmp_path):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "cells").symlink_to(tmp_path / "big disk")
    export(services, 1, tmp_path / "cells", Options("certified"))
    export(services, 1, tmp_path / "cells", Options("certified", copy=True))
    assert (tmp_path / "cells").is_symlink()
    assert all((tmp_path / "big disk" / path).is_file() for path in paths(tmp_path / "big disk"))
    assert sorted(path.name for path in tmp_path.iterdir() if "unfinished" in path.name) == []


def test_a_refusal_says_how_the_data_set_that_is_there_differs(stand_in, services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("people"))
    with pytest.raises(DatasetError, match=r"the same labels, asked for with --labels people\. .*--replace"):
        export(services, 1, folder, Options("certified"))
