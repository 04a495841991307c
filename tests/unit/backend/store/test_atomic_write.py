"""A file is the old one or the new one, and nothing is left of one that could not be written."""

from __future__ import annotations

import threading

import pytest

from everylabel.backend.store.atomic_write import taking_its_place


def test_a_file_takes_its_place_once_it_is_whole(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with taking_its_place(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), taking_its_place(path) as unfinished:
        unfinished.write_text("half of")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_two_threads_that_write_one_file_do_not_share_a_name(tmp_path):
    names = set()

    def write() -> None:
        with taking_its_place(tmp_path / "crop.webp") as unfinished:
            names.add(unfinished)
            both.wait(20)
            unfinished.write_text("whole")

    both = threading.Barrier(2)
    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 2
    assert (tmp_path / "crop.webp").read_text() == "whole"
