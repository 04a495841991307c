"""Embed and score pools on a Ray cluster (Ray Data): the crops of a hundred million tasks, on many machines.

The cluster's processes fetch and encode crops and score slices of the pool; this process writes the results into the
same file and the same store as the local executor does, in the same order. So the rounds are the same bit for bit, as
long as all machines have the same kind of processor: different kinds round a sum differently.

Ray passes code and arguments as pickles, so a cluster is trusted as much as the machine that uses it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from everylabel.backend.embedding.clients import make_label_studio, make_reader
from everylabel.backend.embedding.crop_loader import CropReader
from everylabel.backend.embedding.encoding import encode_each
from everylabel.backend.embedding.executor import ExecutorError
from everylabel.backend.embedding.hosts import Hosts
from everylabel.backend.embedding.pipeline import Embedded
from everylabel.backend.embedding.prepared import Prepared
from everylabel.backend.embedding.ray_storage import RowCopy, RowSlice, read_rows
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.store import Task
from everylabel.model import encoders
from everylabel.model.pool import MOST_CHUNK_ROWS

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Target
    from everylabel.backend.embedding.executor import Scorer
    from everylabel.backend.settings import Settings
    from everylabel.backend.store.files import EmbeddingFile
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.pool import Rows

CHUNK = 64
"""How many crops one call reads and encodes."""
SCORED_ROWS = 16 * MOST_CHUNK_ROWS
"""How many rows one call scores: whole chunks of `each_chunk`, so that every product has the same shape."""
CALLS = 100_000
"""How many calls Ray gets at a time: their arguments are in memory."""
SLICE_CALLS = 128
"""How many calls a process that embeds gets, a minute's or two: then it ends, and a command that waits for it has its turn."""
BLOCKS = 2000
"""How many blocks the calls are divided into; if a process dies, its whole block is run again."""


class RayExecutor:
    """An executor that embeds and scores on a Ray cluster.

    Args:
        settings: The settings that a process of the cluster needs to fetch and encode crops.
        address: The address of the cluster, as `ray.init` takes it: `auto` for the one this machine belongs to,
            `local` for a new one on this machine, or `host:6379`.
        storage: A folder that every machine of the cluster can read, as fsspec names it (`s3://bucket/everylabel`). The
            embeddings are copied there to be scored. Empty: each machine has `MODEL_DIR` under the same name.

    Raises:
        ExecutorError: Ray is not installed, or no cluster answers.
    """

    def __init__(
        self,
        settings: Settings,
        address: str = "auto",
        storage: str = "",
    ) -> None:
        self._settings = settings
        self._storage = storage
        try:
            self._ray: Any = import_module("ray")
            self._data: Any = import_module("ray.data")
        except ImportError as error:
            raise ExecutorError("`--engine ray` needs Ray Data: pip install 'everylabel[ray]'") from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # our own cluster sends no usage data
        if address == "local":
            # Ray would make a token too, and write it into the home folder, which a container's user may not have.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            self._ray.init(
                address=address, log_to_driver=False, logging_level=logging.WARNING, ignore_reinit_error=True
            )
        except self._ray.exceptions.RayError as error:
            raise ExecutorError(
                f"The Ray cluster at {address!r} lets nobody in without its token ({type(error).__name__}). Set "
                "RAY_AUTH_TOKEN_PATH to a file on this machine that holds it."
            ) from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ExecutorError(
                f"No Ray cluster answers at {address!r} ({error}). Start one with `ray start --head` and give "
                "`--address host:6379`, or `--address local` for one on this machine."
            ) from error
        except OSError as error:
            raise ExecutorError(
                f"Ray cannot keep its files on this machine ({error}). Set RAY_TMPDIR to a folder it may write to."
            ) from error
        log = logging.getLogger("ray.data")
        log.setLevel(logging.WARNING)
        for handler in log.handlers:
            if handler.name == "console":  # the same is raised, and is in Ray's own log file
                handler.setLevel(logging.CRITICAL)
        context = self._data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def embed(
        self,
        project_id: int,
        tasks: Collection[Task],
        target: Target,
        progress: Callable[[int, int], None] | None = None,
        *,
        appending: Callable[[], AbstractContextManager[Any]] = nullcontext,
        hosts: Hosts | None = None,
    ) -> Embedded:
        """Embed the crops of `tasks` in their order into `target`, as `CropEmbedder.embed` does."""
        del hosts  # each process of the cluster finds out for itself
        store, embedded, unreadable = target.rows, 0, 0
        for chunk in self._embedded(target, tasks):
            with appending():
                if chunk.readable:
                    first = target.file.append(chunk.rows)
                    rows = {id_: first + i for i, id_ in enumerate(chunk.readable)}
                    store.save_embedded(project_id, rows, digests=chunk.readable, read_from=chunk.read_from)
                still_open = store.still_open(project_id, chunk.problems)
                problems = {id_: why.text for id_, why in chunk.problems.items() if id_ in still_open}
                store.save_problems(project_id, problems)
            embedded, unreadable = embedded + len(chunk.readable), unreadable + len(chunk.problems)
            if progress is not None:
                progress(embedded + unreadable, len(tasks))
            if all(why.retry for why in chunk.problems.values()) and not chunk.readable:
                failure = ClusterImageError(next(iter(chunk.problems.values())).text)
                return Embedded(embedded, unreadable, failure)
        return Embedded(embedded, unreadable)

    def scorer(self, file: EmbeddingFile) -> Scorer:
        """Return a function that scores the pool in this embedding file; a classifier trained as a whole scores here."""

        def score(classifier: Classifier, pool: Rows) -> NDArray[Any]:
            if not classifier.closed_form or not len(pool):
                return classifier.predict_proba(pool)
            slices = RowCopy(file, self._storage).slices(len(pool), SCORED_ROWS)
            calls = ({"slice": json.dumps(asdict(part))} for part in slices)
            found = np.empty((len(pool), len(classifier.classes_)), dtype=np.float32)
            for answer in self._map(calls, partial(_score, classifier, file.dim, file.dtype.str)):
                part = np.frombuffer(answer["probabilities"], dtype=np.float32)
                first = int(answer["first"])
                rows = part.reshape(-1, found.shape[1])
                found[first : first + len(rows)] = rows
            return found

        return score

    def _embedded(self, target: Target, tasks: Collection[Task]) -> Iterator[_Chunk]:
        encoder = target.encoder
        # Only what a process of the cluster needs to fetch and encode crops.
        settings = self._settings.model_copy(
            update={"database_url": SecretStr(""), "redis_url": SecretStr(""), "encoder": target.name}
        )
        resources = self._ray.cluster_resources()
        on_cards = settings.device != "cpu" and resources.get("GPU", 0) >= 1
        each = {"num_gpus": 1} if on_cards else {"num_cpus": 1}
        size = max(1, int(resources.get("GPU" if on_cards else "CPU", 1)))
        asked: deque[dict[int, str | None]] = deque()

        def calls() -> Iterator[dict[str, Any]]:
            remaining = iter(tasks)
            while chunk := list(islice(remaining, CHUNK)):
                asked.append({task.id: task.image_url for task in chunk})
                yield {"tasks": json.dumps([(task.id, task.image_url) for task in chunk])}

        size = min(size, -(-len(tasks) // CHUNK))
        for answer in self._map(
            calls(),
            _Embedder,
            at_a_time=SLICE_CALLS * size,
            compute=self._data.ActorPoolStrategy(size=size),
            fn_constructor_args=(settings, encoder.signature, on_cards),
            **each,
        ):
            about = json.loads(answer["about"])
            rows = np.frombuffer(answer["rows"], dtype=encoder.dtype).reshape(-1, encoder.dim)
            problems = {id_: _Problem(text, retry) for id_, text, retry in about["problems"]}
            readable = {id_: bytes.fromhex(digest) for id_, digest in about["readable"]}
            yield _Chunk(rows, readable, problems, asked.popleft())

    def _map(
        self, calls: Iterable[dict[str, Any]], function: Any, *, at_a_time: int = CALLS, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Have the cluster run every call, and yield the answers in the order of the calls.

        Args:
            calls: The arguments of the calls; a call whose process dies is made again.
            function: The function, or the class whose instances are called.
            at_a_time: How many calls Ray gets before others that use the cluster have their turn.
            options: Further options of `Dataset.map`.

        Yields:
            One answer for each call.

        Raises:
            ExecutorError: A call has failed for good.
        """
        calls = iter(calls)
        while some := list(islice(calls, at_a_time)):
            dataset = self._data.from_items(some, override_num_blocks=min(len(some), BLOCKS))
            try:
                yield from dataset.map(function, **options).iter_rows()
            except self._ray.exceptions.RayError as error:
                raise ExecutorError(f"The Ray cluster failed: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        """Return the line with the reason from the text of Ray's errors, which quote whole tracebacks."""
        errors = str(error).split("\nThe above exception was the direct cause of the following exception:\n")
        by_our_code = isinstance(error, self._ray.exceptions.UserCodeException) and len(errors) > 1
        why = errors[-2 if by_our_code else -1].strip().splitlines()[-1]
        return why.removeprefix(f"{ExecutorError.__module__}.{ExecutorError.__name__}: ")


class ClusterImageError(ImageError):
    """The reason why a pass ended early, as a process of the cluster reported it."""

    retry = True

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)
        self.reason, self.way_out = text, ""


@dataclass(frozen=True)
class _Problem:
    text: str
    retry: bool


@dataclass(frozen=True)
class _Chunk:
    rows: NDArray[Any]
    readable: dict[int, bytes]
    """The digest of each crop's pixels by its task, in the order of the rows."""
    problems: dict[int, _Problem]
    read_from: dict[int, str | None]


class _Embedder:
    """A process of the cluster that fetches and encodes crops."""

    def __init__(self, settings: Settings, signature: str, on_card: bool) -> None:
        self._reader = make_reader(settings, make_label_studio(settings))
        device = settings.device if on_card else "cpu"
        self._encoder = encoders.create(settings.encoder, device=device, threads=None if on_card else 1)
        if self._encoder.signature != signature:
            raise ExecutorError(
                f"This machine of the cluster has the encoder {self._encoder.signature!r}, not {signature!r}: "
                "install the same version of everylabel everywhere."
            )
        self._threads = settings.download_threads

    def __call__(self, call: dict[str, Any]) -> dict[str, Any]:
        tasks = [Task(id_, url) for id_, url in json.loads(call["tasks"])]
        read = CropReader(self._reader, self._encoder, self._threads).read(tasks, len(tasks))
        crops: list[NDArray[Any]] = []
        readable: list[tuple[int, str]] = []
        problems: list[tuple[int, str, bool]] = []
        for crop in read:
            if isinstance(crop.prepared, Prepared):
                crops.append(crop.prepared.pixels)
                readable.append((crop.task.id, crop.prepared.digest.hex()))
            else:
                problems.append((crop.task.id, str(crop.prepared), crop.prepared.retry))
        rows = b""
        if crops:
            encoded, failed = encode_each(self._encoder, np.stack(crops))
            rows = encoded[[i for i in range(len(crops)) if i not in failed]].tobytes()
            problems += [(readable[i][0], str(why), why.retry) for i, why in failed.items()]
            readable = [one for i, one in enumerate(readable) if i not in failed]
        return {"rows": rows, "about": json.dumps({"readable": readable, "problems": problems})}


def _score(classifier: Classifier, dim: int, dtype: str, call: dict[str, Any]) -> dict[str, Any]:
    part = RowSlice(**json.loads(call["slice"]))
    rows = read_rows(part, dim, np.dtype(dtype))
    return {"first": part.first, "probabilities": classifier.predict_proba(rows).tobytes()}
