"""What counts as a right answer of a spot check, and how many crops wait for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from everylabel.backend.rounds import spot_check
from everylabel.backend.store import CertificateRecord, Store, Task, frozen_labels
from everylabel.backend.store.certificates import CERTIFIED, CHECKING
from everylabel.backend.store.frozen_labels import FrozenLabels

NAMES = ("a", "a + b")


def _store(tmp_path: Path, state: str, looks: tuple[int, ...]) -> Store:
    """A project of 300 crops whose frozen label is `a + b`, in two strata; those of the first are looked at."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.save_project(1)
    store.save_tasks(1, [Task(id_, f"/{id_}.png") for id_ in range(1, 301)])
    record = CertificateRecord(
        1, state, 0.1, 0.95, 4, ("a", "b"), (200, 100), (0.01, 0.05), 0.0, looks, (0,) * len(looks)
    )
    store.save_certificate(1, record)
    tasks = np.arange(1, 301)
    frozen = FrozenLabels(tasks, np.ones(300, np.int64), np.full(300, 0.9, np.float32), NAMES)
    frozen_labels.save(tmp_path, 1, frozen)
    return store


def test_of_several_classes_on_a_crop_any_difference_is_wrong(tmp_path: Path) -> None:
    store = _store(tmp_path, CHECKING, (1, 2, 3))
    (record,) = store.certificates(1)
    check = spot_check.read(store, tmp_path, 1, record, [], {1: "a + b", 2: "a"})
    assert check.answers == (True, False, None)
    assert (check.tally.looks.tolist(), check.tally.wrong.tolist()) == ([2, 0], [1, 0])
    store.close()


def test_crops_are_sampled_in_their_frozen_order_until_enough_wait(tmp_path: Path) -> None:
    store = _store(tmp_path, CHECKING, ())
    asked = spot_check.serve(store, tmp_path, 1, [], {}, save=True)
    assert len(asked) == spot_check.SERVED
    assert sorted(task for task in asked if task <= 200) == list(range(1, 1 + sum(t <= 200 for t in asked)))
    assert spot_check.serve(store, tmp_path, 1, [], {}, save=True) == asked, (
        "nothing changes while nobody answers"
    )
    answered = {asked[0]: "a + b"}
    after = spot_check.serve(store, tmp_path, 1, [], answered, save=True)
    assert after[:-1] == asked[1:]
    store.close()


def test_a_preview_stores_nothing_and_a_certified_set_asks_nobody(tmp_path: Path) -> None:
    store = _store(tmp_path, CHECKING, ())
    spot_check.serve(store, tmp_path, 1, [], {}, save=False)
    assert store.certificates(1)[0].looks == ()
    store.close()
    (tmp_path / "other").mkdir()
    store = _store(tmp_path / "other", CERTIFIED, (1, 2))
    assert spot_check.serve(store, tmp_path / "other", 1, [], {}, save=True) == ()
    store.close()
