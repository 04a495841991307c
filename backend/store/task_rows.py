"""The tasks of the embedding file's rows, as arrays: a project may have a million tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CropRows:
    """The tasks of a project that have an embedding, and the row of each.

    Args:
        tasks: (m,) task ids, ascending.
        rows: (m,) the row of each one's crop in the embedding file.
        n_rows: rows of the file; some may belong to no task any more.
    """

    def __init__(self, tasks: NDArray[Any], rows: NDArray[Any], n_rows: int) -> None:
        self._tasks, self._rows = tasks, rows
        self.task_at: NDArray[Any] = np.zeros(n_rows, dtype=np.int64)
        """(n_rows,) the task whose crop the row is, 0 where it is none's."""
        self.task_at[rows] = tasks

    def row_of(self, task_ids: Iterable[int]) -> dict[int, int]:
        """Return the rows of these tasks' crops; those without one are left out."""
        wanted = np.fromiter(task_ids, dtype=np.int64)
        if not len(self._tasks):
            return {}
        place = np.minimum(np.searchsorted(self._tasks, wanted), len(self._tasks) - 1)
        known = self._tasks[place] == wanted
        return dict(zip(wanted[known].tolist(), self._rows[place[known]].tolist(), strict=True))
