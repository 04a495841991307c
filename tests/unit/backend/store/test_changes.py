"""Whether anybody has written into a database, without a query."""

from __future__ import annotations

from everylabel.backend.store import Store
from everylabel.backend.store.changes import Changes
from everylabel.backend.store.requests import Requests


def test_what_others_write_is_seen_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    watching, asking = Requests(url), Requests(url)
    assert watching.has_changed(), "at the first look nobody knows"
    assert not watching.has_changed()
    asking.add(1)
    assert watching.has_changed()
    assert not watching.has_changed()
    watching.take([request.id for request in watching.waiting()])
    assert watching.has_changed(), "also what another connection of the same process has written"


def test_a_webhook_and_a_label_of_a_page_are_changes(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    watching, other = Store(url), Store(url)
    watching.has_changed()
    assert not watching.has_changed()
    other.add_event(1, "ANNOTATION_CREATED", {})
    assert watching.has_changed()
    other.save_project(1)
    assert watching.has_changed()
    assert not watching.has_changed()


def test_where_the_database_does_not_tell_something_may_always_have_changed(tmp_path):
    there = Changes("postgresql+psycopg://somewhere/everylabel")
    gone = Changes(f"sqlite:///{tmp_path / 'no' / 'such.db'}")
    assert all(changes.since_last_look() for changes in (there, there, gone, gone))
