"""Garbage where a database was: what can be made again is, and of the store it is said what to do."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.backend.bootstrap import build
from everylabel.backend.embedding.encoding import encode_each
from everylabel.backend.images.addresses import shown as shown_address
from everylabel.backend.settings import Settings
from everylabel.backend.store import StorageError, Store
from everylabel.backend.store.damaged_files import REBUILT, found_aside, set_aside_damaged
from everylabel.model import encoders, query
from everylabel.scripts.background_checks import CheckFailedError
from everylabel.scripts.background_checks import files as check_files
from everylabel.scripts.cli import app

GARBAGE = bytes(range(256)) * 64


@pytest.fixture
def settings(tmp_path):
    return Settings(model_dir=tmp_path / "backend", label_studio_api_key="x")


@pytest.fixture
def services(settings):
    made = build(settings)
    made.jobs.learn(1)
    made.store.add_event(1, "ANNOTATION_CREATED", {"project": {"id": 1}})
    made.store.close()
    return made


@pytest.mark.parametrize("name", REBUILT)
def test_jobs_and_webhooks_that_are_damaged_are_set_aside_and_made_anew(services, settings, name):
    path = settings.model_dir / name
    for suffix in ("-wal", "-shm"):
        path.with_name(name + suffix).unlink(missing_ok=True)
    path.write_bytes(GARBAGE)
    again = build(settings)
    (aside,) = found_aside(settings.model_dir)
    assert aside.read_bytes() == GARBAGE
    again.jobs.learn(1)
    again.store.add_event(1, "ANNOTATION_CREATED", {})
    with pytest.raises(CheckFailedError, match=aside.name):
        check_files(again)
    aside.unlink()
    assert check_files(again) == "no database was damaged"


def test_what_is_sound_or_locked_is_left_alone(services, settings):
    with closing(sqlite3.connect(settings.model_dir / "jobs.db")) as held:
        held.execute("BEGIN EXCLUSIVE")
        assert set_aside_damaged(settings.model_dir) == []
    assert set_aside_damaged(settings.model_dir) == []


def test_a_damaged_store_is_one_sentence_with_the_way_out(services, settings, monkeypatch):
    for suffix in ("-wal", "-shm"):
        (settings.model_dir / f"everylabel.db{suffix}").unlink(missing_ok=True)
    (settings.model_dir / "everylabel.db").write_bytes(GARBAGE)
    with pytest.raises(StorageError, match=r"damaged.*backup.*everylabel connect"):
        build(settings)
    monkeypatch.setenv("MODEL_DIR", str(settings.model_dir))
    for command in (["serve"], ["trainer"], ["doctor"]):
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, StorageError), "which `main` prints, and no traceback"
    assert (settings.model_dir / "everylabel.db").read_bytes() == GARBAGE


def test_a_damaged_webhook_is_left_out_and_counted(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'everylabel.db'}")
    for number in range(4):
        store.add_event(1, "ANNOTATION_CREATED", {"number": number})
    with closing(sqlite3.connect(tmp_path / "everylabel-inbox.db")) as inbox:
        table = inbox.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%payload%'").fetchone()[0]
        for id_, payload in ((2, '{"number": 1'), (3, json.dumps([1]))):
            inbox.execute(f"UPDATE {table} SET payload = ? WHERE id = ?", (payload, id_))
        inbox.commit()
    assert [event.payload["number"] for event in store.events(1)] == [0, 3]
    assert store.damaged_events == 2
    assert store.events_waiting(1)[0] == 2, "and does not wait for ever"
    store.close()


@pytest.mark.parametrize(
    "command", [["serve"], ["trainer"], ["connect", "--project", "1"], ["sync", "--project", "1"]]
)
def test_an_encoder_that_does_not_exist_is_refused_at_start(command, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("EVERYLABEL_ENCODER", "nonsense")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "Unknown encoder 'nonsense'" in done.output
    assert all(name in done.output for name in encoders.names())


@pytest.mark.parametrize("command", [["serve"], ["sync", "--project", "1"]])
def test_a_query_strategy_that_does_not_exist_is_refused_at_start(command, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("EVERYLABEL_STRATEGY", "nonsense")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "unknown query strategy 'nonsense'" in " ".join(done.output.split())
    assert all(name in done.output for name in query.names())


def test_an_embedding_that_is_no_number_is_the_fault_of_its_crop():
    class Half:
        dim, dtype = 4, np.dtype(np.float32)

        def encode(self, crops):
            rows = np.ones((len(crops), 4), dtype=np.float32)
            rows[crops[:, 0] == 7, 2] = np.nan
            rows[crops[:, 0] == 9, 1] = np.inf
            return rows

    rows, failed = encode_each(Half(), np.array([[1], [7], [2], [9]]))
    assert sorted(failed) == [1, 3]
    assert "not finite" in str(failed[1])
    assert np.isfinite(rows[[0, 2]]).all()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://s.org/t/9f8e7d6c5b4a39281706/a.png?sig=1", "https://s.org/t/…/a.png"),
        ("https://s.org/token=abc/a.png", "https://s.org/…/a.png"),
        ("https://s.org/photos/2024/cell_0001.png", "https://s.org/photos/2024/cell_0001.png"),
        ("https://s.org/eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0NTY3ODkw.SflKxwRJSM", "https://s.org/…"),
        ("/data/upload/1/0a1b2c3d-cell.png", "/data/upload/1/0a1b2c3d-cell.png"),
    ],
)
def test_a_secret_in_the_path_is_not_shown(address, shown):
    assert shown_address(address) == shown
