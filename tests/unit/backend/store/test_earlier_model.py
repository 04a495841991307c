"""The model that a project began with is kept beside the store, as arrays."""

import numpy as np
import pytest
from sqlalchemy import inspect, text

from everylabel.backend.store import Store
from everylabel.backend.store import earlier_model as files_of
from everylabel.backend.store.database import make_engine
from everylabel.backend.store.earlier_model import EarlierModel, stored_model

MODEL = EarlierModel("model.onnx", "ab12", "coarse 32px", "EmbeddingClassifier", ("é", "b"), {"round": 3})
STATE = {"weights": np.arange(6, dtype=np.float32).reshape(3, 2), "classes": np.asarray(["b", "é"])}


def test_arrays_come_back_as_they_were_and_the_older_file_goes(tmp_path):
    files_of.save(tmp_path, "ab12", STATE)
    files_of.save(tmp_path, "cd34", STATE)
    found = files_of.load(tmp_path, "ab12")
    assert {name: array.tolist() for name, array in found.items()} == {
        n: a.tolist() for n, a in STATE.items()
    }
    files_of.keep(tmp_path, "cd34")
    assert files_of.load(tmp_path, "ab12") is None
    assert files_of.load(tmp_path, "cd34") is not None
    files_of.keep(tmp_path, None)
    assert files_of.load(tmp_path, "cd34") is None


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_none(tmp_path, content):
    files_of.save(tmp_path, "ab12", STATE)
    next(tmp_path.rglob("*.npz")).write_bytes(content)
    assert files_of.load(tmp_path, "ab12") is None


def test_a_pickle_in_its_place_is_not_loaded(tmp_path):
    files_of.save(tmp_path, "ab12", STATE)
    with next(tmp_path.rglob("*.npz")).open("wb") as file:
        np.savez(file, weights=np.asarray([{"a": 1}], dtype=object))
    assert files_of.load(tmp_path, "ab12") is None


def test_the_project_remembers_it_over_a_restart(tmp_path):
    url = f"sqlite:///{tmp_path / 'everylabel.db'}"
    store = Store(url)
    store.save_project(7, earlier_model=MODEL.stored())
    store.close()
    store = Store(url)
    assert stored_model(store.project(7).earlier_model) == MODEL
    store.save_project(7, earlier_model=None)
    assert stored_model(store.project(7).earlier_model) is None
    store.close()


def test_a_store_of_an_earlier_version_gets_the_column(tmp_path):
    url = f"sqlite:///{tmp_path / 'everylabel.db'}"
    store = Store(url)
    store.save_project(7, connected=True)
    store.close()
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE projects DROP COLUMN earlier_model"))
    engine.dispose()
    store = Store(url)
    assert "earlier_model" in {one["name"] for one in inspect(store._engine).get_columns("projects")}
    assert store.project(7).earlier_model is None
    store.close()
