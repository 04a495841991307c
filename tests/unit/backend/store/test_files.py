"""Embeddings and models on disk: torn writes cost nothing, nothing is unpickled."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from filelock import Timeout

from everylabel.backend.store.atomic_write import partial
from everylabel.backend.store.files import EmbeddingFile, ProjectFiles
from everylabel.model.evaluation.stopping import PoolPredictions

STATE = {"coef": np.arange(6.0).reshape(2, 3), "classes": np.array(["a", "b"])}


class Trap:
    """Says so when somebody unpickles it."""

    sprung = False

    def __reduce__(self):
        return (Trap.spring, ())

    @staticmethod
    def spring():
        Trap.sprung = True
        return "unpickled"


def rows(*values):
    return np.array([[value] * 3 for value in values], dtype=np.float16)


def test_rows_come_back_as_they_were_after_a_restart(tmp_path):
    file = EmbeddingFile(tmp_path / "e.rows", 3, np.dtype(np.float16))
    assert len(file.read()) == 0
    assert file.append(rows(1, 2)) == 0
    assert file.append(rows(3)) == 2
    again = EmbeddingFile(tmp_path / "e.rows", 3, np.dtype(np.float16))
    np.testing.assert_array_equal(again.read(), rows(1, 2, 3))


def test_an_append_torn_by_a_crash_is_written_over(tmp_path):
    file = EmbeddingFile(tmp_path / "e.rows", 3, np.dtype(np.float16))
    file.append(rows(1, 2))
    with file.path.open("ab") as torn:
        torn.write(b"\x01\x02\x03")  # half a row
    assert len(file) == 2
    np.testing.assert_array_equal(file.read(), rows(1, 2))
    assert file.append(rows(3)) == 2
    np.testing.assert_array_equal(file.read(), rows(1, 2, 3))


def test_what_is_being_read_stays_while_rows_are_appended(tmp_path):
    file = EmbeddingFile(tmp_path / "e.rows", 3, np.dtype(np.float16))
    file.append(rows(1))
    before = file.read()
    file.append(rows(2, 3))
    np.testing.assert_array_equal(before, rows(1))


def test_rows_of_another_width_are_refused(tmp_path):
    file = EmbeddingFile(tmp_path / "e.rows", 3, np.dtype(np.float16))
    with pytest.raises(ValueError, match="do not fit"):
        file.append(np.zeros((2, 4)))


def test_each_encoder_has_its_own_file_inside_the_projects_folder(tmp_path):
    files = ProjectFiles(tmp_path, 7)
    one = files.embeddings("hf:a/b 224px", 3, np.dtype(np.float16))
    other = files.embeddings("../../../outside", 3, np.dtype(np.float16))
    assert one.path != other.path
    assert {one.path.parent, other.path.parent} == {files.folder / "embeddings"}


def test_a_model_comes_back_for_its_own_encoder_only(tmp_path):
    files = ProjectFiles(tmp_path, 7)
    files.save_model(3, STATE, "lite0")
    state = files.load_model(3, "lite0")
    assert state.keys() == STATE.keys()
    np.testing.assert_array_equal(state["coef"], STATE["coef"])
    assert files.load_model(3, "another encoder") is None
    assert files.load_model(4, "lite0") is None


def test_a_write_that_was_cut_off_leaves_the_last_model_in_place(tmp_path):
    files = ProjectFiles(tmp_path, 7)
    files.save_model(3, STATE, "lite0")
    whole = (files.folder / "models" / "round-000003.npz").read_bytes()
    (files.folder / "models" / "round-000004.partial").write_bytes(whole[: len(whole) // 2])
    assert files.load_model(4, "lite0") is None
    assert files.load_model(3, "lite0") is not None


@pytest.mark.parametrize("damage", ["cut off", "a bit turned", "empty", "not a zip", "a plain array"])
def test_a_damaged_model_is_no_model_and_the_log_says_so(tmp_path, caplog, damage):
    files = ProjectFiles(tmp_path, 7)
    files.save_model(3, STATE, "lite0")
    path = files.folder / "models" / "round-000003.npz"
    whole = path.read_bytes()
    if damage == "a plain array":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    else:
        turned = bytearray(whole)
        turned[whole.index(b"NUMPY") + 130] ^= 0xFF
        broken = {"cut off": whole[:-40], "a bit turned": bytes(turned), "empty": b"", "not a zip": b"<html>"}
        path.write_bytes(broken[damage])
    assert files.load_model(3, "lite0") is None
    assert "round-000003.npz cannot be read" in caplog.text


@pytest.mark.parametrize("how", ["object array in a zip", "bare pickle"])
def test_a_pickle_is_refused_unopened(tmp_path, how):
    files = ProjectFiles(tmp_path, 7)
    path = files.folder / "models" / "round-000003.npz"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        if how == "bare pickle":
            pickle.dump(Trap(), file)
        else:
            np.savez(file, coef=np.array([Trap()], dtype=object))
    assert files.load_model(3, "lite0") is None
    assert not Trap.sprung


def test_only_the_newest_models_are_kept(tmp_path):
    files = ProjectFiles(tmp_path, 7)
    for number in range(1, 6):
        files.save_model(number, STATE, "lite0")
    files.keep_models(2)
    assert [n for n in range(1, 6) if files.load_model(n, "lite0")] == [4, 5]


def test_a_round_waits_for_the_round_of_another_process(tmp_path):
    with ProjectFiles(tmp_path, 7).lock():
        with pytest.raises(Timeout), ProjectFiles(tmp_path, 7).lock(timeout=0):
            pass
        with ProjectFiles(tmp_path, 8).lock(timeout=0):
            pass
        with ProjectFiles(tmp_path, 7).embedding_lock():
            pass


def test_what_models_said_is_kept_once_in_five_labels(tmp_path):
    files = ProjectFiles(tmp_path, 1)
    files.folder.mkdir(parents=True)
    said = [PoolPredictions(n, (1, 2), ("a", "b")) for n in range(10, 31)]
    files.save_predictions("encoder 1", said)
    assert [one.n_labels for one in files.predictions("encoder 1")] == [10, 15, 20, 25, 30]
    assert files.predictions("encoder 1")[0] == said[0]
    assert files.predictions("another encoder") == []


def test_damaged_predictions_start_anew(tmp_path):
    files = ProjectFiles(tmp_path, 1)
    files.folder.mkdir(parents=True)
    files.save_predictions("encoder", [PoolPredictions(10, (1,), ("a",))])
    (path,) = files.folder.glob("predictions-*.json")
    path.write_text('[[10, [1], ["a"]')
    assert files.predictions("encoder") == []


def test_machines_that_share_a_folder_write_under_names_of_their_own(tmp_path, monkeypatch):
    """In containers, process numbers are the same on every machine."""
    here = partial(tmp_path / "pool-map.npz")
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert partial(tmp_path / "pool-map.npz") != here
    assert here.parent == tmp_path


def test_a_file_keeps_its_identity_until_rows_are_written_over(tmp_path):
    rows = np.ones((3, 4))
    file, other = (EmbeddingFile(tmp_path / name, 4, np.dtype(np.float16)) for name in ("a.rows", "b.rows"))
    file.append(rows)
    first = file.identity()
    assert first != other.identity()
    file.append(rows)
    file.append(rows, at=6)
    assert EmbeddingFile(file.path, 4, file.dtype).identity() == first
    file.append(rows, at=4)
    written_over = file.identity()
    file.path.unlink()
    anew = EmbeddingFile(file.path, 4, file.dtype)
    anew.append(rows)
    assert len({first, written_over, anew.identity()}) == 3


def test_rows_of_two_that_append_at_once_never_overlap(tmp_path):
    """As where the database restarts, and with it the embedding lock is lost."""

    def append(worker):
        file = EmbeddingFile(tmp_path / "e.rows", 512, np.dtype(np.float16))
        return [file.append(np.full((8, 512), 100 * worker + n)) for n in range(40)]

    with ThreadPoolExecutor(4) as workers:
        firsts = list(workers.map(append, range(4)))
    rows = EmbeddingFile(tmp_path / "e.rows", 512, np.dtype(np.float16)).read()
    assert len(rows) == 4 * 40 * 8
    for worker, numbers in enumerate(firsts):
        for n, first in enumerate(numbers):
            assert (rows[first : first + 8] == 100 * worker + n).all()
