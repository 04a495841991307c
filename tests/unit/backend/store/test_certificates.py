"""Certificates are kept as they were, and go with their project; so are the labels they have frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from everylabel.backend.store import CertificateRecord, Store, frozen_labels
from everylabel.backend.store.certificates import CANCELLED, CHECKING
from everylabel.backend.store.frozen_labels import FrozenLabels

RECORD = CertificateRecord(
    1, CHECKING, 0.02, 0.95, 4, ("a", "b"), (30, 20), (0.01, 0.05), 100.0, (7, 9), (1, 0)
)


def test_a_certificate_is_kept_as_it_was_and_one_is_under_way_at_a_time(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.save_project(1)
    store.save_project(2)
    store.save_certificate(1, RECORD)
    assert store.certificate_under_way(1) == RECORD
    assert store.certificate_under_way(2) is None
    ended = replace(RECORD, state=CANCELLED, finished_at=200.0, result={"wrong": 3})
    store.save_certificate(1, ended)
    store.save_certificate(1, replace(RECORD, number=2))
    assert store.certificates(1) == [ended, replace(RECORD, number=2)]
    store.delete_project(1)
    assert store.certificates(1) == []
    store.close()


def test_frozen_labels_are_read_as_they_were_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    frozen = FrozenLabels(
        np.array([9, 7]), np.array([1, 0]), np.array([0.9, 0.6], np.float32), ("ä + b", "c")
    )
    assert frozen_labels.load(tmp_path, 3) is None
    frozen_labels.save(tmp_path, 3, frozen)
    held = frozen_labels.load(tmp_path, 3)
    assert held is not None
    assert held.tasks.tolist() == [9, 7]
    assert [held.label(0), held.label(1)] == ["c", "ä + b"]
    (tmp_path / "certificates" / "3.npz").write_bytes(b"PK\x03\x04 no longer")
    assert frozen_labels.load(tmp_path, 3) is None
