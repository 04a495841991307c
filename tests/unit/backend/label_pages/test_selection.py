"""Pages of crops that somebody has selected on the map: those, and only those, that may be labelled there."""

from __future__ import annotations

import numpy as np
import pytest

from everylabel.backend.store.pool_map import PoolMap


@pytest.fixture
def opened(services, taught):
    """The crops that nobody has labelled and that are no check crops."""
    closed = services.store.annotated_tasks(1) | {*services.store.project(1).check_tasks}
    return [task for task in taught if task not in closed]


def give(pages, person, tasks):
    return pages.give(1, person, "selection", selected=tasks)


def test_it_holds_what_was_selected_without_a_class(services, pages, ann, taught, opened):
    labelled, blind = next(iter(taught)), services.store.project(1).check_tasks[-1]
    page = give(pages, ann, [labelled, opened[3], blind, 10**6, opened[1], opened[3]])
    assert {*page.tasks} == {opened[3], opened[1]}
    assert (page.kind, page.class_name, dict(page.preset)) == ("selection", None, {})


def test_two_people_never_get_the_same(pages, ann, bob, opened, monkeypatch):
    monkeypatch.setattr("everylabel.backend.label_pages.choosing.beside_the_first.__defaults__", (4,))
    hers, his = give(pages, ann, opened), give(pages, bob, opened)
    assert len(hers.tasks) == len(his.tasks) == 4
    assert not {*hers.tasks} & {*his.tasks}


def test_it_ends_when_all_are_labelled(pages, ann, bob, opened):
    seen = []
    while (page := give(pages, ann, opened)) is not None:
        assert not {*page.tasks} & {*seen}
        seen += page.tasks
        pages.confirm(1, ann, page.id, dict.fromkeys(page.tasks, "0"), 60)
    assert {*seen} == {*opened}
    assert give(pages, bob, opened) is None
    assert give(pages, bob, []) is None


def test_what_is_asked_for_next_is_not_on_the_page_again(pages, ann, opened):
    page = give(pages, ann, opened[:3])
    pages.ask_next(1, ann, page.tasks[:2])
    pages.give_back(1, ann)
    assert give(pages, ann, opened[:3]).tasks == page.tasks[2:]


def test_the_first_and_those_beside_it_on_the_map_are_shown_together(
    services, pages, ann, opened, monkeypatch
):
    snapshot = services.labelling.pool_files.snapshot(1)
    positions = np.zeros((len(snapshot.tasks), 2), dtype=np.float32)
    far = {*opened[1::2]}
    positions[np.isin(snapshot.tasks, [*far])] = 100.0
    none = np.zeros((0, 2), dtype=np.int64)
    found = PoolMap("drawn", len(positions), positions, none, none[:, 0])
    monkeypatch.setattr(services.labelling.pool_files, "map", lambda _: found)
    near = [task for task in opened if task not in far]
    page = give(pages, ann, opened)
    assert {*page.tasks[: len(near)]} == {*near}
