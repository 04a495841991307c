"""Crops of the real Label Studio read by other processes: its token goes with each request, and never stays with them."""

from __future__ import annotations

import numpy as np
import pytest

from everylabel.backend.embedding.pipeline import CropEmbedder
from everylabel.backend.embedding.reading_process import ReadingProcesses
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio.client import LabelStudio as Client
from everylabel.backend.store import Store, Task
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model import encoders


@pytest.fixture
def processes(monkeypatch):
    monkeypatch.setattr("everylabel.backend.embedding.pipeline.WORTH_IT", 1)
    with ReadingProcesses(2, 2) as made:
        assert made.wait(60)
        yield made
        made.end()


def test_uploads_are_read_with_the_token_and_rows_are_those_of_threads(
    label_studio, digits, tmp_path, processes
):
    project = label_studio.digits_project(digits, 80)
    addresses = {task["id"]: task["data"]["image"] for task in label_studio.tasks(project.id)}
    encoder = encoders.create("efficientnet-lite0", device="cpu")
    asked = []

    def embed(name, token, by):
        folder = tmp_path / name
        folder.mkdir()
        store = Store(f"sqlite:///{folder / 'everylabel.db'}")
        store.save_project(1)
        store.save_tasks(1, [Task(id_, address) for id_, address in addresses.items()])
        client = Client(label_studio.url, token)
        reader = ImageReader(label_studio.url, lambda: asked.append(name) or client.authorization())
        file = EmbeddingFile(folder / "rows", encoder.dim, encoder.dtype)
        try:
            found = CropEmbedder(store, reader, encoder, 2, processes=by).embed(
                1, store.tasks_to_embed(1), file
            )
            rows = {task.id: task.embedding_row for task in store.tasks(1) if task.embedding_row is not None}
            return found, {id_: np.array(file.read()[row]) for id_, row in rows.items()}
        finally:
            reader.close()
            store.close()

    found, rows = embed("by processes", label_studio.token, processes)
    assert (found.embedded, found.unreadable) == (80, 0)
    assert asked.count("by processes") < 80, "asked for once a request, not by this process for each crop"
    others = embed("by threads", label_studio.token, None)[1]
    assert all(np.array_equal(rows[id_], others[id_]) for id_ in others)

    refused, none = embed("with another token", "0" * 40, processes)
    assert (refused.embedded, none) == (0, {})
    assert "token" in str(refused.failure).lower()
