"""The rows of encoders that are not in use: they change places with those in use, whole or not at all."""

from __future__ import annotations

import pytest

from everylabel.backend.store import Task, other_embeddings

CROPS = {id_: f"{id_}.png" for id_ in range(1, 6)}


@pytest.fixture
def rows(store):
    """Five crops, of which the fifth cannot be read, embedded by `old`; and what `new` is to make of them."""
    store.save_tasks(1, [Task(id_, image) for id_, image in CROPS.items()])
    store.save_project(
        1, encoder="old", model_round=3, model_pinned=True, next_encoder="new", next_signature="new"
    )
    store.save_embedded(1, {id_: 10 + id_ for id_ in (1, 2, 3, 4)}, digests={1: b"1" * 16})
    store.save_problems(1, {5: "no image"})
    return store.rows_with("new")


def embedded(store):
    return dict(zip(*(part.tolist() for part in store.embedding_rows(1)), strict=True))


def test_every_crop_that_can_be_read_is_to_be_embedded_once(store, rows):
    assert [task.id for task in rows.tasks_to_embed(1)] == [1, 2, 3, 4]
    assert not rows.is_complete(1)
    rows.save_embedded(1, {1: 0, 2: 1}, digests={1: b"a" * 16}, read_from={1: "1.png", 2: "2.png"})
    rows.save_problems(1, {3: "its numbers are not finite"})
    assert rows.rows_of(1, [b"a" * 16, b"b" * 16]) == {b"a" * 16: 0}
    assert rows.still_open(1, CROPS) == {4}
    assert len(rows.tasks_to_embed(1)) == 1
    assert (rows.end(1), rows.embedded_until(1, 7)) == (2, 7)
    rows.save_embedded(1, {4: 2})
    assert rows.is_complete(1)
    assert [part.tolist() for part in rows.embedding_rows(1)] == [[1, 2, 4], [0, 1, 2]]
    assert embedded(store) == {1: 11, 2: 12, 3: 13, 4: 14}, "the encoder in use is as it was"


def test_the_rows_change_places_and_back(store, rows, monkeypatch):
    monkeypatch.setattr(other_embeddings, "PORTION", 2)
    store.rows_with("older").save_embedded(1, {1: 9})
    rows.save_embedded(1, {1: 0, 2: 1, 4: 2}, digests={1: b"a" * 16})
    rows.save_problems(1, {3: "its numbers are not finite"})
    store.prepare_switch(1, "new")
    store.switch_encoder(1, "new", "a.b:New", 3, 4)
    project = store.project(1)
    assert (project.encoder, project.encoder_name, project.next_encoder) == ("new", "a.b:New", None)
    assert (project.model_round, project.model_pinned) == (4, False)
    assert store.known_rows(1) == 3
    assert embedded(store) == {1: 0, 2: 1, 4: 2}
    assert {task.id: task.problem for task in store.tasks(1) if task.problem} == {
        3: "its numbers are not finite",
        5: "no image",
    }
    assert store.rows_of(1, [b"a" * 16]) == {b"a" * 16: 0}
    assert store.rows_with("older").end(1) == 0, "only the last one is kept"
    store.forget_problems(1)
    assert [task.id for task in store.rows_with("old").tasks_to_embed(1)] == [5], "tried again with both"
    store.switch_encoder(1, "new", "a.b:New", 3, 4)
    assert embedded(store) == {1: 0, 2: 1, 4: 2}, "to what is in use nothing is switched"
    store.prepare_switch(1, "old")
    store.switch_encoder(1, "old", None, 15, None)
    assert embedded(store) == {1: 11, 2: 12, 3: 13, 4: 14}
    assert store.project(1).encoder_name is None


def test_a_crop_that_has_changed_or_is_gone_has_no_row_left(store, rows):
    rows.save_embedded(1, {1: 0, 2: 1, 3: 2}, read_from={1: "1.png", 2: "2.png", 3: "another.png"})
    assert rows.still_open(1, CROPS) == {3, 4}, "it was read from where it is no more"
    store.save_tasks(1, [Task(1, "new.png")])
    store.delete_tasks(1, [2])
    assert rows.still_open(1, CROPS) == {1, 3, 4}
    assert [part.tolist() for part in rows.embedding_rows(1)] == [[], []]
    rows.save_embedded(1, {2: 8})
    rows.save_problems(1, {2: "gone"})
    assert rows.end(1) == 0, "of a task that is gone nothing is kept"


def test_what_an_encoder_has_made_can_be_forgotten(store, rows):
    rows.save_embedded(1, {1: 0})
    store.rows_with("another").save_embedded(1, {1: 4})
    rows.forget(1)
    assert rows.end(1) == 0
    assert store.rows_with("another").end(1) == 5
    store.delete_project(1)
    assert store.rows_with("another").end(1) == 0


def test_a_project_that_is_gone_is_not_switched(store):
    store.prepare_switch(2, "new")
    store.switch_encoder(2, "new", None, 0, None)
    assert store.project(2) is None
