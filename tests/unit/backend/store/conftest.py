"""An empty store, on each of the databases that may hold it."""

from __future__ import annotations

import pytest

from everylabel.backend.settings import Settings
from everylabel.backend.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def path(request, tmp_path):
    """The address of an empty database: every test of the store holds on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'everylabel.db'}"
    return Settings(database_url=request.getfixturevalue("postgres").empty()).store_url


@pytest.fixture
def store(path):
    store = Store(path, clock=lambda: 100.0)
    store.save_project(1, label_config="<View/>")
    yield store
    store.close()
