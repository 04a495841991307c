"""Tasks and rows of the embedding file, either from the other."""

from __future__ import annotations

import numpy as np

from everylabel.backend.store.task_rows import CropRows


def test_a_task_is_found_by_its_row_and_a_row_by_its_task():
    crops = CropRows(np.array([3, 5, 9]), np.array([1, 2, 0]), 5)
    assert crops.task_at.tolist() == [9, 3, 5, 0, 0]
    assert crops.row_of([9, 4, 3, 100, 0]) == {9: 0, 3: 1}
    assert crops.row_of([]) == {}


def test_a_row_that_two_tasks_share_is_either_ones():
    crops = CropRows(np.array([3, 5]), np.array([1, 1]), 2)
    assert crops.task_at.tolist() == [0, 5]
    assert crops.row_of([3, 5]) == {3: 1, 5: 1}


def test_no_task_at_all():
    assert CropRows(np.zeros(0, np.int64), np.zeros(0, np.int64), 0).row_of([1]) == {}
