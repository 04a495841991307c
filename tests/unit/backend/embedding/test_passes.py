"""What is embedded anew, and what is left as it is."""

import numpy as np
import pytest


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_embedded_anew_and_the_project_learns_on(
    stand_in, make_services, services, project, value
):
    before = np.array(services.embeddings.read(1))
    rows = {task.id: task.embedding_row for task in services.store.tasks(1)}
    damaged = list(rows)[3:6]
    stored = np.memmap(services.embeddings.file(1).path, dtype=before.dtype, mode="r+", shape=before.shape)
    for task in damaged:
        stored[rows[task], 5] = value
    stored.flush()
    labelled = [*damaged[:1], *(task for task in list(rows)[8:16])]
    for task in labelled:
        stand_in.annotate(task, project[task])

    again = make_services()
    finished = again.loop.catch_up(1, compare=True)

    assert finished is not None
    assert finished.record.n_labels == len(labelled)
    after = np.asarray(again.embeddings.read(1))
    assert np.isfinite(after).all()
    now = {task.id: task.embedding_row for task in again.store.tasks(1)}
    assert all(now[task] != rows[task] for task in damaged), "their rows are new"
    assert all(now[task] == rows[task] for task in rows if task not in damaged), "the others are as they were"
    for task in rows:
        np.testing.assert_allclose(after[now[task]], before[rows[task]], atol=1e-2)


def test_a_sound_file_is_searched_once_and_left_alone(services, project, monkeypatch):
    file = type(services.embeddings.file(1))
    searched = []
    search = file.invalid_rows
    monkeypatch.setattr(file, "invalid_rows", lambda self: searched.append(1) or search(self))
    identity = services.embeddings.file(1).identity()
    for _ in range(3):
        services.loop.catch_up(1, compare=True)
    assert len(searched) <= 1
    assert services.embeddings.file(1).identity() == identity
