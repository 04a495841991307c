"""Requests that wait for a trainer."""

from sqlalchemy import event
from sqlalchemy.engine import Engine

from everylabel.backend.store.database import CHUNK
from everylabel.backend.store.requests import Requests


def test_however_many_gathered_while_no_trainer_ran_they_are_taken(tmp_path):
    """No statement may hold more values than a database takes: the trainer would fail at it for ever."""
    requests = Requests(f"sqlite:///{tmp_path / 'jobs.db'}")
    for _ in range(3):
        requests.add(7, [1])
    values = []

    def seen(connection, cursor, statement, parameters, *others):
        values.append(len(parameters))

    event.listen(Engine, "before_cursor_execute", seen)
    try:
        taken = requests.take(range(1, 3 * CHUNK))
    finally:
        event.remove(Engine, "before_cursor_execute", seen)
    requests_left = requests.count()
    requests.close()

    assert taken == {1, 2, 3}
    assert requests_left == 0
    assert max(values) <= CHUNK
