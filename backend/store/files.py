"""A project's files beside the store: the embedding file and the model of each round."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.store.locks import Locks, file_lock

if TYPE_CHECKING:
    from everylabel.model.evaluation.stopping import PoolPredictions

log = logging.getLogger(__name__)

CHECKED_ROWS = 4096
"""Rows that are in memory at once while a file is searched for invalid numbers."""
PREDICTIONS_STEP = 5
PREDICTIONS_KEPT = 60
CLASSIFIER = "everylabel.classifier"
"""The entry of a model file that says which encoder its classifier reads."""


class EmbeddingFile:
    """Fixed-size rows in one append-only file, readable as a memory map while it grows.

    A row counts only once the store points at it, so that a crash in the middle of an append costs nothing: the
    next append starts at the first complete row.

    Args:
        path: the file.
        dim: the length of a row.
        dtype: of its numbers.
        shared: other machines append too, under a lock that can be lost: no row is ever overwritten.
    """

    def __init__(self, path: Path, dim: int, dtype: np.dtype[Any], *, shared: bool = False) -> None:
        self.path, self.dim, self.dtype = path, dim, np.dtype(dtype)
        self._shared = shared
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=True)

    @property
    def _row_bytes(self) -> int:
        return self.dim * self.dtype.itemsize

    def __len__(self) -> int:
        # Opened, not just inspected: what another machine has appended is seen then, also on NFS.
        with self.path.open("rb") as file:
            return os.fstat(file.fileno()).st_size // self._row_bytes

    def append(self, rows: NDArray[Any], at: int | None = None) -> int:
        """Append rows; they are on disk when this returns.

        The file never gets shorter: a process that has it mapped would find nothing where rows were.

        Args:
            rows: (n, dim).
            at: overwrite the rows from here on, which no task has ever pointed at.

        Returns:
            The number of the first row.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"rows of shape {rows.shape} do not fit a file of (n, {self.dim})")
        with self.path.open("r+b") as file:
            # Beside the embedding lock, which is lost where PostgreSQL restarts: rows never overlap.
            fcntl.flock(file, fcntl.LOCK_EX)
            whole = os.fstat(file.fileno()).st_size // self._row_bytes
            first = whole if at is None or self._shared else min(at, whole)
            if first < whole or not whole:
                self._identity.unlink(missing_ok=True)
            file.seek(first * self._row_bytes)
            file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
            file.truncate(max(whole, first + len(rows)) * self._row_bytes)
            file.flush()
            os.fsync(file.fileno())
        return first

    def invalid_rows(self) -> list[int]:
        """Return the rows that hold a number that is not finite, as a fault of a disk or of an encoder leaves them."""
        rows = self.read()
        return [
            start + int(row)
            for start in range(0, len(rows), CHECKED_ROWS)
            for row in np.flatnonzero(~np.isfinite(rows[start : start + CHECKED_ROWS]).all(axis=1))
        ]

    def blank(self, rows: Sequence[int]) -> None:
        """Fill rows that no task points at with zeros: one number that is not finite spoils what is learned from all."""
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._identity.unlink(missing_ok=True)
            for row in rows:
                file.seek(row * self._row_bytes)
                file.write(bytes(self._row_bytes))
            file.flush()
            os.fsync(file.fileno())

    def identity(self) -> str:
        """Return a name that stays while rows are added, and changes once any row was overwritten.

        No other file ever has it, nor one of the same path that was deleted and created anew.
        """
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not self._identity.exists():
                self._identity.write_text(f"{self.path.stem}-{uuid4().hex}", encoding="ascii")
            return self._identity.read_text(encoding="ascii")

    @property
    def _identity(self) -> Path:
        return Path(f"{self.path}.id")

    def read(self) -> NDArray[Any]:
        """Return all rows as a read-only memory map, (n, dim)."""
        n = len(self)
        if n == 0:
            return np.empty((0, self.dim), dtype=self.dtype)
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=(n, self.dim))


class ProjectFiles:
    """The files of one project under `MODEL_DIR`, and the locks for writing them.

    Args:
        model_dir: shared by every machine that runs a backend on one store.
        project_id: the project.
        locks: excludes other processes; lock files if the store is on this machine.
    """

    def __init__(self, model_dir: Path, project_id: int, locks: Locks = file_lock) -> None:
        self.folder = model_dir / "projects" / str(project_id)
        self._locks = locks

    def lock(self, timeout: float = -1) -> AbstractContextManager[Any]:
        """Return the lock of a project's rounds: one process at a time runs one.

        Raises:
            filelock.Timeout: on entering, if another process holds it for longer than `timeout` seconds.
        """
        return self._lock("round", timeout)

    def embedding_lock(self, timeout: float = -1) -> AbstractContextManager[Any]:
        """Return the lock for appending embeddings, held only as long as an append takes.

        Raises:
            filelock.Timeout: as `lock`.
        """
        return self._lock("embedding", timeout)

    def pool_lock(self, timeout: float = -1) -> AbstractContextManager[Any]:
        """Return the lock for embedding a pool, held while crops are fetched.

        The trainer never waits for it. Crops that `/predict` waits for are embedded without it.

        Raises:
            filelock.Timeout: as `lock`.
        """
        return self._lock("pool", timeout)

    def drawing_lock(self) -> AbstractContextManager[Any]:
        """Return the lock for drawing the map; it raises `filelock.Timeout` at once if another process draws it."""
        return self._lock("drawing", 0)

    def _lock(self, name: str, timeout: float) -> AbstractContextManager[Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._locks(self.folder / f"{name}.lock", timeout)

    def embeddings(self, encoder: str, dim: int, dtype: np.dtype[Any]) -> EmbeddingFile:
        """Return the embedding file of one encoder."""
        path = self.folder / "embeddings" / f"{_slug(encoder)}.rows"
        return EmbeddingFile(path, dim, dtype, shared=self._locks is not file_lock)

    def keep_embeddings(self, encoders: Collection[str]) -> None:
        """Delete the embedding files of all other encoders."""
        kept = {f"{_slug(encoder)}.rows" for encoder in encoders}
        for path in (self.folder / "embeddings").glob("*.rows*"):
            if path.name.removesuffix(".id") not in kept:
                path.unlink(missing_ok=True)

    def save_model(self, number: int, state: dict[str, NDArray[Any]], classifier: str) -> None:
        """Write a round's model atomically, as arrays and never as a pickle."""
        folder = self.folder / "models"
        folder.mkdir(parents=True, exist_ok=True)
        path = self._model(number)
        temporary = path.with_suffix(".partial")
        with temporary.open("wb") as file:
            arrays: dict[str, Any] = {
                **state,
                CLASSIFIER: np.frombuffer(json.dumps(classifier).encode(), np.uint8),
            }
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def load_model(self, number: int, classifier: str) -> dict[str, NDArray[Any]] | None:
        """Load a round's model as arrays; None if it is missing, damaged, or of another kind of classifier."""
        path = self._model(number)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                state = {name: archive[name] for name in archive.files}
            saved_for = json.loads(state.pop(CLASSIFIER).tobytes().decode())
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            # A ValueError also is what a pickle inside gets. The next round writes a new file.
            log.error("%s cannot be read as a model (%s: %s)", path, type(error).__name__, error)
            return None
        return state if saved_for == classifier else None

    def predictions(self, encoder: str) -> list[PoolPredictions]:
        """Return earlier models' predictions of a sample of the pool, oldest first; none if the file is damaged."""
        from everylabel.model.evaluation.stopping import PoolPredictions  # noqa: PLC0415 - takes long to load

        try:
            found = json.loads(self._predictions(encoder).read_text(encoding="utf-8"))
            return [PoolPredictions(n, tuple(rows), tuple(labels)) for n, rows, labels in found]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            # Advice on stopping starts anew; nothing else rests on it.
            log.error("%s cannot be read (%s)", self._predictions(encoder), error)
            return []

    def save_predictions(self, encoder: str, history: Sequence[PoolPredictions]) -> None:
        """Write models' predictions atomically: one in `PREDICTIONS_STEP` labels, the newest."""
        kept: list[PoolPredictions] = []
        for found in history:
            if not kept or found.n_labels - kept[-1].n_labels >= PREDICTIONS_STEP:
                kept.append(found)
            elif found.n_labels < kept[-1].n_labels:  # labels were withdrawn: what came after is of no use
                kept = [one for one in kept if one.n_labels < found.n_labels] + [found]
        path = self._predictions(encoder)
        partial = path.with_suffix(".partial")
        rows = [[one.n_labels, one.indices, one.labels] for one in kept[-PREDICTIONS_KEPT:]]
        partial.write_text(json.dumps(rows), encoding="utf-8")
        partial.replace(path)

    def save_queue(self, number: int, queue: Mapping[str, Any]) -> None:
        """Write the crops that a round asks for atomically, until Label Studio has them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self._queue.with_suffix(".partial")
        partial.write_text(json.dumps({"number": number, **queue}), encoding="utf-8")
        partial.replace(self._queue)

    def queue(self, number: int) -> dict[str, Any] | None:
        """Load the crops that a round asks for; None once Label Studio has them, or if the file is damaged."""
        try:
            found = dict(json.loads(self._queue.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            log.error("%s cannot be read (%s)", self._queue, error)  # another round is run instead
            return None
        return found if found.pop("number", None) == number else None

    def forget_queue(self) -> None:
        """Delete the stored queue: Label Studio has it, or refuses it."""
        self._queue.unlink(missing_ok=True)

    @property
    def _queue(self) -> Path:
        return self.folder / "queue.json"

    def _predictions(self, encoder: str) -> Path:
        return self.folder / f"predictions-{_slug(encoder)}.json"

    def keep_models(self, newest: int, also: int | None = None) -> None:
        """Delete all but the newest models and the one in use."""
        for number in self.models()[:-newest]:
            if number != also:
                self._model(number).unlink(missing_ok=True)

    def models(self) -> list[int]:
        """Return the rounds whose model is stored, oldest first."""
        return sorted(
            int(path.stem.removeprefix("round-")) for path in self._model(0).parent.glob("round-*.npz")
        )

    def _model(self, number: int) -> Path:
        return self.folder / "models" / f"round-{number:06d}.npz"

    def delete(self) -> None:
        """Delete everything of this project."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
