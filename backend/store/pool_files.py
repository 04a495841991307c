"""Files of a project's pool that rounds and drawings write, read again only when they change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from everylabel.backend.store import round_snapshot
from everylabel.backend.store.round_snapshot import RoundSnapshot

if TYPE_CHECKING:
    from everylabel.backend.store.files import ProjectFiles
    from everylabel.backend.store.pool_map import PoolMap

Content = TypeVar("Content")


class PoolFiles:
    """The newest round's snapshot and the map of each project. Safe to share between threads.

    Args:
        files: Returns a project's files.
    """

    def __init__(self, files: Callable[[int], ProjectFiles]) -> None:
        self._files = files
        self._snapshots = _Cache(round_snapshot.written_at, round_snapshot.load)
        self._maps = _Cache(_drawn_at, _load_map)

    def snapshot(self, project_id: int) -> RoundSnapshot | None:
        """Return the newest round's predictions of the pool."""
        return self._snapshots.get(self._files(project_id).folder)

    def map(self, project_id: int) -> PoolMap | None:
        """Return the map as last drawn."""
        return self._maps.get(self._files(project_id).folder)

    def versions(self, project_id: int) -> tuple[int | None, int | None]:
        """Return two times that change whenever the snapshot or the map does."""
        folder = self._files(project_id).folder
        return round_snapshot.written_at(folder), _drawn_at(folder)


def _drawn_at(folder: Path) -> int | None:
    from everylabel.backend.store import pool_map  # noqa: PLC0415 - takes long to load

    return pool_map.drawn_at(folder)


def _load_map(folder: Path) -> PoolMap | None:
    from everylabel.backend.store import pool_map  # noqa: PLC0415 - takes long to load

    return pool_map.load(folder)


class _Cache(Generic[Content]):
    def __init__(
        self, changed_at: Callable[[Path], int | None], load: Callable[[Path], Content | None]
    ) -> None:
        self._changed_at = changed_at
        self._load = load
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[int | None, Content | None]] = {}

    def get(self, folder: Path) -> Content | None:
        with self._lock:
            # Before it is read: a file that changes meanwhile is read once more.
            now = self._changed_at(folder)
            known = self._known.get(folder)
            if known is None or known[0] != now:
                known = self._known[folder] = (now, self._load(folder))
            return known[1]
