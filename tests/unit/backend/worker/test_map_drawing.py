"""The map of the pool: it shows what is alike, keeps its places, and finds near-duplicates."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from filelock import FileLock

from everylabel.backend.store import pool_map, round_snapshot
from everylabel.backend.worker.map_drawing import MapDrawer
from everylabel.model.visualization import projection
from everylabel.model.visualization.near_duplicates import find_near_duplicates
from everylabel.model.visualization.projection import align, lay_out, place, principal_components


@pytest.fixture
def pool():
    """120 rows in three heaps, two of them the same, two nearly."""
    random = np.random.default_rng(0)
    heaps = random.normal(size=(3, 40)) * 3
    rows = (heaps[np.arange(120) % 3] + random.normal(size=(120, 40))).astype(np.float16)
    rows[7] = rows[4]
    rows[50] = rows[11] + np.float16(0.01)
    return rows


def spread_within(positions, heap):
    return np.mean(
        [np.linalg.norm(positions[heap == h] - positions[heap == h].mean(0), axis=1).mean() for h in range(3)]
    )


def distance_between(positions, heap):
    middles = np.array([positions[heap == h].mean(0) for h in range(3)])
    return min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.fixture
def drawn(tmp_path, pool):
    pool_map.draw(tmp_path, "rows", pool, np.arange(120))
    return pool_map.load(tmp_path)


def test_crops_that_are_alike_lie_together(drawn):
    heap = np.arange(120) % 3
    assert drawn.laid_out == 120
    assert distance_between(drawn.positions, heap) > 2 * spread_within(drawn.positions, heap)


def test_near_duplicates_are_found_the_most_alike_first(drawn):
    assert drawn.near_duplicates.tolist()[:2] == [[4, 7], [11, 50]]
    assert drawn.near_duplicate_similarity[0] == pytest.approx(1)


def test_near_duplicates_are_found_in_a_pool_too_large_to_compare_all(pool, monkeypatch):
    monkeypatch.setattr(projection, "SAMPLE", 50)
    keep = np.arange(120)
    found = find_near_duplicates(principal_components(pool, keep), keep)
    assert found.pairs.tolist()[:2] == [[4, 7], [11, 50]]


def test_rows_without_a_task_are_not_on_the_map(tmp_path, pool):
    rows = np.setdiff1d(np.arange(120), [3, 4, 5])
    pool_map.draw(tmp_path, "rows", pool, rows)
    found = pool_map.load(tmp_path)
    assert np.array_equal(np.flatnonzero(found.shows(np.arange(130))), rows)
    assert not (found.near_duplicates == 4).any()


def test_new_crops_are_placed_and_nothing_else_moves(tmp_path, pool):
    pool_map.draw(tmp_path, "rows", pool, np.arange(100))
    before = pool_map.load(tmp_path)
    assert pool_map.is_due(before, "rows", np.arange(120))
    pool_map.draw(tmp_path, "rows", pool, np.arange(120))
    after = pool_map.load(tmp_path)
    assert np.array_equal(after.positions[:100], before.positions[:100])
    assert not pool_map.is_due(after, "rows", np.arange(120))
    known, heap = after.positions[:100], np.arange(100) % 3
    for row in range(100, 120):
        away = np.linalg.norm(known - after.positions[row], axis=1)
        assert away[heap == row % 3].min() < away[heap != row % 3].min()


@pytest.fixture
def heaps():
    """Six heaps of 40 crops each, in random order, and which heap each crop belongs to."""
    rng = np.random.default_rng(3)
    heap = rng.permutation(240) % 6
    centres = rng.normal(size=(6, 40)) * 3
    return (centres[heap] + rng.normal(size=(240, 40))).astype(np.float16), heap


def middles(positions, heap):
    return np.array([positions[heap == number].mean(axis=0) for number in range(6)])


def resemblance(now, before, heap):
    """Cosine of where the heaps lie around the middle, then and now; a layout may spread out as it grows.

    Of all heaps together: one that lies in the middle lies in no direction.
    """
    now, before = middles(now, heap), middles(before, heap)
    now, before = now - now.mean(axis=0), before - before.mean(axis=0)
    return (now * before).sum() / (np.linalg.norm(now) * np.linalg.norm(before))


QUARTER_TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])
MIRROR = np.diag([-1.0, 1.0])


@pytest.mark.parametrize("turn", [QUARTER_TURN, MIRROR], ids=["turned", "mirrored"])
def test_a_layout_that_came_out_turned_or_mirrored_is_drawn_as_people_know_it(
    tmp_path, heaps, turn, monkeypatch
):
    pool, heap = heaps
    pool_map.draw(tmp_path, "rows", pool, np.arange(110))
    before = pool_map.load(tmp_path).positions[:110]
    # t-SNE may do so at any time; what it makes of this pool is a matter of how the processor rounds.
    monkeypatch.setattr(pool_map, "lay_out", lambda *given: (lay_out(*given) @ turn).astype(np.float32))
    pool_map.draw(tmp_path, "rows", pool, np.arange(240))
    assert resemblance(pool_map.load(tmp_path).positions[:110], before, heap[:110]) > 0.8


@pytest.mark.parametrize("turn", [QUARTER_TURN, MIRROR], ids=["turned", "mirrored"])
def test_a_layout_starts_from_the_places_that_are_known(heaps, turn):
    pool, heap = heaps
    components = principal_components(pool, np.arange(240))
    before = np.full((240, 2), np.nan, dtype=np.float32)
    # Where the principal components, the other start there is, would not lead.
    before[:110] = lay_out(components[:110]) @ turn
    assert resemblance(lay_out(components, before)[:110], before[:110], heap[:110]) > 0.8


def test_a_pool_that_has_doubled_is_laid_out_anew_from_the_map_people_know(tmp_path, heaps):
    pool, heap = heaps
    pool_map.draw(tmp_path, "rows", pool, np.arange(110))
    before = pool_map.load(tmp_path).positions[:110]
    pool_map.draw(tmp_path, "rows", pool, np.arange(240))
    after = pool_map.load(tmp_path)
    assert after.laid_out == 240
    assert resemblance(after.positions[:110], before, heap[:110]) > 0.8
    distance = np.linalg.norm(after.positions[:, None] - middles(after.positions, heap), axis=2)
    assert (distance.argmin(axis=1) == heap).mean() > 0.95, "the new crops lie with the heap they belong to"


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_layout_is_turned_and_mirrored_back_to_the_map_people_know(mirrored):
    rng = np.random.default_rng(0)
    before = rng.normal(size=(40, 2)).astype(np.float32)
    angle = 2.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        turn = turn * [1, -1]
    laid_out = (before @ turn + [5, -7]).astype(np.float32)
    known = before.copy()
    known[30:] = np.nan  # ten crops are new
    assert align(laid_out, known) == pytest.approx(before, abs=1e-4)
    known[2:] = np.nan
    assert align(laid_out, known) is laid_out, "two crops say nothing of which way is up"


def test_another_encoder_means_another_map(drawn):
    assert pool_map.is_due(drawn, "other rows", np.arange(120))
    assert not pool_map.is_due(drawn, "rows", np.arange(120))
    assert not pool_map.is_due(None, "rows", np.arange(0))


def test_a_damaged_map_is_drawn_again(tmp_path, drawn):
    (tmp_path / "pool-map.npz").write_bytes(b"PK\x03\x04 and no more")
    assert pool_map.load(tmp_path) is None


def test_few_crops_have_a_map_too():
    for n in (1, 2, 9):
        rows = np.random.default_rng(n).normal(size=(n, 8)).astype(np.float32)
        assert lay_out(principal_components(rows, np.arange(n))).shape == (n, 2)


def test_crops_that_are_all_the_same_have_a_map_too(tmp_path):
    pool_map.draw(tmp_path, "rows", np.ones((30, 8), np.float16), np.arange(30))
    assert np.isfinite(pool_map.load(tmp_path).positions).all()


@pytest.mark.parametrize("n", [1, 2, 30, 300])
def test_fewer_crops_than_dimensions_are_seen_as_from_all_dimensions(n):
    """The products of the rows give what the (d, d) matrix does, up to the sign that is fixed."""
    rows = np.random.default_rng(n).normal(size=(n, 320)).astype(np.float32)
    rows[:, 0] += np.arange(n)
    found = principal_components(rows, np.arange(n)).astype(float)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = (unit - unit.mean(axis=0)).astype(float)
    shown = min(n - 1, projection.COMPONENTS)
    values = np.linalg.svd(centred, compute_uv=False)[:shown]
    assert np.linalg.norm(found, axis=0)[:shown] == pytest.approx(values, rel=1e-3)
    assert (np.abs(np.linalg.norm(found, axis=0)[shown:]) < 1e-4).all()
    if n <= projection.COMPONENTS:
        assert found @ found.T == pytest.approx(centred @ centred.T, abs=1e-4)


def test_a_map_of_pixels_is_drawn_at_once_and_shows_what_is_alike(tmp_path):
    random = np.random.default_rng(0)
    heaps = random.integers(0, 200, (3, 12_288))
    pool = (heaps[np.arange(1500) % 3] + random.integers(0, 50, (1500, 12_288))).astype(np.uint8)
    components = principal_components(pool, np.arange(1500))
    assert components.shape == (1500, projection.COMPONENTS)
    heap = np.arange(1500) % 3
    assert distance_between(components, heap) > 2 * spread_within(components, heap)
    pool_map.draw(tmp_path, "rows", pool[:30], np.arange(30))
    assert pool_map.load(tmp_path).laid_out == 30


BOUNDED = """
from everylabel.backend.bounded_process import bound_resources
bound_resources(600_000_000, 60)
kept = bytearray(100_000_000)
try:
    bytearray(900_000_000)
except MemoryError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another system has no such limit")
def test_a_drawing_has_no_more_memory_than_its_own():
    done = subprocess.run([sys.executable, "-c", BOUNDED], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


PARENT = """
import os, subprocess, sys, time
child = "import os, sys, time; from everylabel.backend.bounded_process import end_with_parent; "
child += "end_with_parent(int(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child, str(os.getpid())])
time.sleep(60)
"""


def test_a_drawing_ends_with_the_trainer_that_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait(10)
    # The pipe is closed once the last of both has ended.
    began = time.monotonic()
    assert parent.stdout.read() == ""
    assert time.monotonic() - began < 20, f"process {child} went on"


def test_what_is_started_by_a_trainer_that_has_gone_ends_at_once():
    code = (
        "from everylabel.backend.bounded_process import end_with_parent; end_with_parent(1); print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    command = [sys.executable, "-m", "everylabel.backend.worker.map_drawing", ".", "rows", "8", "<f2", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, ""), "a drawing too, before it opens any file"


def test_a_crop_is_placed_beside_what_it_resembles():
    known = np.array([[0.0, 0], [1, 0], [0, 1], [10, 10], [11, 10], [10, 11]])
    placed = place(known, known * 2, np.array([[0.1, 0.1], [10.1, 10.1]]))
    assert np.linalg.norm(placed[0]) < np.linalg.norm(placed[1])


def test_a_map_another_machine_draws_is_not_drawn_twice(services, project):
    with services.files(1).drawing_lock():
        MapDrawer(services.store, services.files, services.embeddings).draw_due()
    assert pool_map.load(services.files(1).folder) is None


def test_the_drawer_draws_after_a_round_in_a_process_of_its_own(services, project):
    folder = services.files(1).folder
    assert round_snapshot.load(folder).number == 1
    drawer = MapDrawer(services.store, services.files, services.embeddings)
    drawer.draw_due()
    found = pool_map.load(folder)
    assert found.laid_out == len(project)
    written = pool_map.drawn_at(folder)
    drawer.draw_due()
    assert pool_map.drawn_at(folder) == written, "nothing new, nothing drawn"


KILLED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from everylabel.backend.store import pool_map, round_snapshot

write = np.savez


def killed(file, **arrays):
    write(file, **arrays)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


np.savez = killed
folder = Path(sys.argv[2])
if sys.argv[1] == "map":
    pool_map.draw(folder, "rows", np.eye(8, dtype=np.float16), np.arange(8))
outcome = SimpleNamespace(number=1, classes=(), threshold=0.9, probabilities=None, label_issues=())
round_snapshot.save(folder, outcome, np.array([1]))
"""


@pytest.mark.parametrize("what", ["map", "view"])
def test_whoever_is_killed_while_writing_leaves_one_file_that_the_next_takes_over(tmp_path, what):
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED, what, str(tmp_path)], timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [
        f"pool-{what}.npz.partial"
    ]
    assert pool_map.load(tmp_path) is None
    assert round_snapshot.load(tmp_path) is None
    pool_map.draw(tmp_path, "rows", np.eye(8, dtype=np.float16), np.arange(8))
    assert pool_map.load(tmp_path) is not None


def test_a_map_is_not_drawn_by_two_at_once(tmp_path):
    """As a drawing may be that a killed trainer has left behind."""
    drawing = threading.Thread(
        target=pool_map.draw, args=(tmp_path, "rows", np.eye(8, dtype=np.float16), np.arange(8))
    )
    with FileLock(tmp_path / "map.lock"):
        drawing.start()
        drawing.join(1)
        assert drawing.is_alive()
        assert pool_map.load(tmp_path) is None
    drawing.join(60)
    assert pool_map.load(tmp_path).laid_out == 8
