"""Exporting again into the folder of a data set: crops are added to the same labels, and nothing else is written over."""

from __future__ import annotations

import csv

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


def test_crops_that_are_there_are_not_taken_away(services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified", copy=True))
    with pytest.raises(DatasetError, match=r"the same labels with the crops \(--copy\)"):
        export(services, 1, folder, Options("certified"))
    assert all((folder / path).is_file() for path in paths(folder))


def test_crops_are_not_added_where_a_person_s_own_files_would_go(services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("certified"))
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="without the crops, and files of yours"):
        export(services, 1, folder, Options("certified", copy=True))
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_refusal_says_how_the_data_set_that_is_there_differs(stand_in, services, labelled, tmp_path):
    folder = tmp_path / "cells"
    export(services, 1, folder, Options("people"))
    with pytest.raises(DatasetError, match=r"the same labels, asked for with --labels people\. .*--replace"):
        export(services, 1, folder, Options("certified"))
