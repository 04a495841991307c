"""How a pool is read: in chunks, on several cores, and without staying in memory."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
import torch

from everylabel.model.pool import chunk_rows, each_chunk, gather, release_pages, sample
from tests.memory_held import share_held

ROWS = np.random.default_rng(0).standard_normal((20_000, 96)).astype(np.float16)


def gathered(rows) -> np.ndarray:
    """What `each_chunk` hands out, put together again; twice the same row would show as a wrong sum."""
    found = np.zeros((len(rows), 96), dtype=np.float32)

    def gather(part: slice, chunk: np.ndarray) -> None:
        found[part] += chunk
        chunk[:] = np.nan  # a buffer: nobody else's rows may change

    each_chunk(rows, gather)
    return found


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ROWS[:1],
        ROWS[:0],
        ROWS[::-1],
        ROWS.astype(np.float32),
        ROWS.astype(">f2"),
        (ROWS * 10).astype(np.int8),
        ROWS.reshape(-1, 4, 24),
        torch.from_numpy(ROWS),
    ],
    ids=["float16", "one", "none", "backwards", "float32", "foreign", "int8", "images", "tensor"],
)
def test_every_row_comes_once_as_float32_and_the_pool_stays_as_it_is(rows):
    before = np.asarray(rows).copy()
    assert np.array_equal(gathered(rows), before.reshape(len(before), 96).astype(np.float32))
    assert np.array_equal(np.asarray(rows), before)


def test_a_memory_map_that_cannot_be_written_is_read_without_a_warning(tmp_path, recwarn):
    np.save(tmp_path / "pool.npy", ROWS)
    assert np.array_equal(gathered(np.load(tmp_path / "pool.npy", mmap_mode="r")), ROWS.astype(np.float32))
    # Another test's files, closed by the garbage collector meanwhile, may be warned of.
    assert [str(one.message) for one in recwarn if not issubclass(one.category, ResourceWarning)] == []


def test_where_chunks_lie_depends_on_the_width_alone(monkeypatch):
    def cut() -> set[tuple[int, int]]:
        found = set()
        lock = threading.Lock()

        def note(part: slice, chunk: np.ndarray) -> None:
            with lock:
                found.add((part.start, part.stop))

        each_chunk(ROWS, note)
        return found

    on_two = cut()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert cut() == on_two
    assert max(stop - start for start, stop in on_two) == chunk_rows(96) <= 4096


@pytest.mark.parametrize("width", [1, 96, 384, 1888, 150_528, 10**6])
def test_a_part_of_a_pool_can_be_scored_as_within_the_whole(width):
    assert 4096 % chunk_rows(width) == 0


def test_an_error_in_a_chunk_is_not_lost():
    def fail(part: slice, chunk: np.ndarray) -> None:
        raise ValueError("a chunk that cannot be judged")

    with pytest.raises(ValueError, match="cannot be judged"):
        each_chunk(ROWS, fail)


@pytest.mark.parametrize("start", [0, 1, 7])
def test_rows_let_go_of_are_still_there(tmp_path, start):
    np.save(tmp_path / "pool.npy", ROWS)
    rows = np.load(tmp_path / "pool.npy", mmap_mode="r")[start:]
    release_pages(rows)
    release_pages(rows, slice(3, 9_000))
    assert np.array_equal(rows, ROWS[start:])


@pytest.mark.parametrize("n", [0, 3, 2000])
def test_rows_gathered_from_a_memory_map_are_those_asked_for(tmp_path, n):
    np.save(tmp_path / "pool.npy", ROWS)
    asked = np.random.default_rng(1).integers(len(ROWS), size=n)
    found = gather(np.load(tmp_path / "pool.npy", mmap_mode="r"), asked)
    assert found.dtype == ROWS.dtype
    assert np.array_equal(found, ROWS[asked])


def test_a_draw_of_a_pool_is_that_of_a_shuffle_and_of_a_large_one_as_uniform():
    def drawn(n, at_most, seed=3):
        return sample(np.arange(n) * 2, at_most, np.random.default_rng(seed)).tolist()

    assert drawn(5000, 40) == (np.random.default_rng(3).permutation(5000)[:40] * 2).tolist()
    assert sorted(drawn(30, 40)) == list(range(0, 60, 2))
    assert drawn(150_000, 40) == drawn(150_000, 40) != drawn(150_000, 40, seed=4)
    assert len(set(drawn(150_000, 149_999))) == 149_999
    tenths = np.bincount(np.concatenate([drawn(150_000, 200, seed) for seed in range(100)]) // 30_000)
    assert abs(tenths - 2000).max() < 250


def test_changes_to_a_private_memory_map_are_not_let_go_of(tmp_path):
    np.save(tmp_path / "pool.npy", ROWS)
    rows = np.load(tmp_path / "pool.npy", mmap_mode="c")
    rows[5000:6000] = 1
    release_pages(rows)
    assert (rows[5000:6000] == 1).all()


SCORES = """
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.pool import gather, spread

labelled = np.random.default_rng(0).standard_normal((20, 256))
classifier = EmbeddingClassifier().fit(labelled, ["a", "b"] * 10)

def work(rows):
    classifier.predict_proba(rows)
    gather(rows, spread(len(rows), 5000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of a process's memory")
def test_scoring_a_file_does_not_bring_it_into_memory(tmp_path):
    assert share_held(tmp_path, 500_000, 256, SCORES) < 0.4
