"""Pages of the crops most like one: nearest first, open ones alone, and on to the next nearest."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from everylabel.backend.label_pages.choosing import PAGE
from everylabel.backend.label_pages.likeness import Likeness
from everylabel.backend.label_pages.pages import PageError
from everylabel.backend.label_pages.sketches import Sketches
from everylabel.backend.store import Task
from everylabel.model.similarity import Sketch, similarity_to


@pytest.fixture
def similarity(services, taught):
    """How similar each crop is to a task's, by task, worked out anew."""
    tasks, rows = services.store.embedding_rows(1)
    row_of = dict(zip(tasks.tolist(), rows.tolist(), strict=True))
    pool = np.asarray(services.embeddings.read(1))

    def to(task):
        space = services.embeddings.encoder(1).make_classifier().space
        found = similarity_to(pool, row_of[task], space)
        return {other: float(found[row]) for other, row in row_of.items()}

    return to


def blind(services):
    return {*services.store.project(1).check_tasks}


def test_the_nearest_open_crops_come_first_whatever_is_predicted_of_them(
    services, pages, ann, taught, similarity
):
    seed = next(iter(taught))  # labelled, so that it is not on the page
    page = pages.give(1, ann, "like", like=seed)
    near = similarity(seed)
    closed = services.store.annotated_tasks(1) | blind(services)
    wanted = sorted((task for task in near if task not in closed), key=lambda task: -near[task])
    assert list(page.tasks) == wanted[:PAGE]
    assert (page.kind, page.like, page.class_name, page.preset) == ("like", seed, None, {})
    assert seed not in page.tasks


def test_a_crop_that_is_open_stands_first_among_those_like_it(services, pages, ann, taught):
    seed = next(t for t in taught if t not in services.store.annotated_tasks(1) | blind(services))
    assert pages.give(1, ann, "like", like=seed).tasks[0] == seed


def test_the_next_page_goes_on_with_the_next_nearest_and_nobody_gets_a_crop_twice(
    services, pages, ann, bob, taught, similarity, monkeypatch
):
    monkeypatch.setattr("everylabel.backend.label_pages.crops.PAGE", 6)
    seed = next(iter(taught))
    first, second = pages.give(1, ann, "like", like=seed), pages.give(1, bob, "like", like=seed)
    pages.confirm(1, ann, first.id, dict.fromkeys(first.tasks[:2], "1"), 9.0)
    third = pages.give(1, ann, "like", like=seed)
    found = [*first.tasks, *second.tasks, *third.tasks]
    assert len({*found}) == len(found) == 18
    near = similarity(seed)
    assert [near[task] for task in found] == sorted((near[task] for task in found), reverse=True)
    again = pages.undo(1, ann)
    assert (again.tasks, again.like) == (first.tasks, seed)


def test_where_none_is_left_there_is_no_page(services, pages, ann, taught):
    seed = next(iter(taught))
    shown = set()
    while page := pages.give(1, ann, "like", like=seed):
        shown |= {*page.tasks}
        pages.confirm(1, ann, page.id, {}, 9.0)
    assert shown == {*taught} - services.store.annotated_tasks(1) - blind(services)


def test_a_crop_embedded_since_the_round_is_compared_too(services, stand_in, pages, ann, taught, digit_crops):
    (new,) = stand_in.add_tasks(1, digit_crops[60][0])
    services.loop.reconcile(1)
    services.pool_embedding.embed(1)
    assert new not in services.labelling.pool_files.snapshot(1).tasks
    assert pages.give(1, ann, "like", like=new).tasks[0] == new


def test_a_crop_that_cannot_be_compared_says_why_and_the_way_out(services, pages, ann, taught):
    gone, unread, new = 10**6, 10**6 + 1, 10**6 + 2
    services.store.save_tasks(
        1, [Task(unread, "a.png", problem="the image answered 404"), Task(new, "b.png")]
    )
    for task, why in (
        (gone, "is not in this project any more"),
        (unread, "answered 404"),
        (new, "not embedded yet"),
    ):
        with pytest.raises(PageError, match=why):
            pages.give(1, ann, "like", like=task)
    seed = next(iter(taught))
    services.store.delete_tasks(1, [seed])
    with pytest.raises(PageError, match="not in this project any more"):
        pages.give(1, ann, "like", like=seed)
    for kind, like in (("like", None), ("class", seed)):
        with pytest.raises(PageError, match="no such kind"):
            pages.give(1, ann, kind, like=like)


def test_a_crop_deleted_or_labelled_since_the_round_is_on_no_page(
    services, stand_in, pages, ann, taught, send
):
    seed = next(iter(taught))
    before = pages.give(1, ann, "like", like=seed)
    pages.give_back(1, ann)
    first, second = before.tasks[:2]
    services.store.delete_tasks(1, [first])
    send(stand_in.annotate(second, "1"))
    services.loop.reconcile(1)
    assert not {first, second} & {*pages.give(1, ann, "like", like=seed).tasks}


@pytest.fixture
def sketches(services, taught, monkeypatch):
    """The sketches of a backend for whom every pool is large, made of some crops and a shortlist of a few."""
    monkeypatch.setattr("everylabel.backend.label_pages.sketches.LARGE", 1)
    monkeypatch.setattr("everylabel.model.similarity.SHORTLIST", 24)
    made = Sketches(services.store, services.embeddings)
    made.prepare(1)
    made.wait(1)
    return made


def test_a_large_pool_is_compared_by_its_sketch_and_gives_the_same_page(
    services, sketches, pages, ann, taught, similarity
):
    seed = next(iter(taught))
    likeness = Likeness(services.store, services.labelling.pool_files, services.embeddings, sketches)
    by_sketch = likeness.to(1, seed)
    exact = similarity(seed)
    compared = by_sketch.similarity > -1.01
    assert compared.sum() == 24
    assert {
        int(task): pytest.approx(exact[int(task)], abs=1e-3) for task in by_sketch.tasks[compared]
    } == dict(zip(by_sketch.tasks[compared].tolist(), by_sketch.similarity[compared].tolist(), strict=True))
    assert max(exact, key=lambda task: exact[task]) in by_sketch.tasks[compared]


def test_what_is_embedded_later_is_in_the_sketch_too(services, stand_in, sketches, taught, digit_crops):
    before = len(sketches.of(1, services.embeddings.read(1)))
    (new,) = stand_in.add_tasks(1, digit_crops[60][0])
    services.loop.reconcile(1)
    services.pool_embedding.embed(1)
    assert len(sketches.of(1, services.embeddings.read(1))) == before + 1
    likeness = Likeness(services.store, services.labelling.pool_files, services.embeddings, sketches)
    found = likeness.to(1, new)
    assert found.tasks[found.similarity.argmax()] == new


def test_a_small_pool_has_no_sketch_and_a_large_one_is_waited_for_by_nobody(services, taught, monkeypatch):
    sketches = Sketches(services.store, services.embeddings)
    sketches.prepare(1)
    sketches.wait(1)
    assert sketches.of(1, services.embeddings.read(1)) is None
    monkeypatch.setattr("everylabel.backend.label_pages.sketches.LARGE", 1)
    go_on = threading.Event()
    monkeypatch.setattr(Sketch, "of", classmethod(lambda *_: go_on.wait(30)))
    sketches.prepare(1)
    sketches.prepare(1)
    assert sketches.of(1, services.embeddings.read(1)) is None
    go_on.set()
    sketches.wait(1)


def test_a_pool_that_was_read_before_it_grew_is_compared_as_far_as_it_goes(services, sketches, taught):
    pool = np.asarray(services.embeddings.read(1))
    short = pool[: len(pool) - 3]
    for row in range(0, len(short), 5):
        assert len(sketches.of(1, pool).similarity_to(short, row)) == len(short)


def test_a_sketch_of_a_file_that_was_made_anew_is_forgotten(services, sketches, taught):
    file = services.embeddings.file(1)
    content = file.path.read_bytes()
    for path in file.path.parent.glob(f"{file.path.stem}*"):
        path.unlink()
    file.path.write_bytes(content)
    assert sketches.of(1, services.embeddings.read(1)) is None


def test_what_could_not_be_made_is_not_begun_again_at_every_page(services, taught, monkeypatch):
    monkeypatch.setattr("everylabel.backend.label_pages.sketches.LARGE", 1)
    now, begun = [0.0], []

    def broken(*_):
        begun.append(now[0])
        raise OSError

    monkeypatch.setattr(Sketch, "of", classmethod(broken))
    sketches = Sketches(services.store, services.embeddings, lambda: now[0])
    for now[0] in (0.0, 1.0, 599.0, 601.0):
        sketches.prepare(1)
        sketches.wait(1)
    assert begun == [0.0, 601.0]
