"""A Ray cluster of two nodes for the tests, backends that use it, and what their rounds are compared by."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everylabel.backend.bootstrap import Backend
from everylabel.backend.embedding.ray_executor import RayExecutor
from everylabel.backend.store import round_snapshot
from tests.everylabel_process import descendants


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Two nodes of one core each, with the environment of this moment."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - only where Ray is

    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,  # pytest's own are too long for a socket
        pytest.MonkeyPatch.context() as environment,
    ):
        # Not `temp_dir`: in spite of it `Cluster` writes its address into Ray's default folder, which is only there
        # where Ray has run before, and where it leads every other program's `ray.init("auto")` to this cluster.
        environment.setenv("RAY_TMPDIR", folder)
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        try:
            cluster.add_node(**node)
            yield cluster
        finally:
            cluster.shutdown()


@contextmanager
def backends_on(cluster: Any, make_services: Callable[..., Backend]) -> Iterator[Callable[..., Backend]]:
    """Makes backends that embed and score on the cluster, with a storage if one is given."""
    executors: list[RayExecutor] = []

    def make(storage: str = "") -> Backend:
        def on_the_cluster(*parts: Any) -> RayExecutor:
            executors.append(RayExecutor(*parts, cluster.address, storage))
            return executors[-1]

        return make_services(make_executor=on_the_cluster)

    yield make
    for executor in executors:
        executor.close()


def workers(what: str) -> list[int]:
    """The processes of the cluster that are at something now."""
    running = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(os.getpid())}
    return [pid for pid, command in running.items() if command.startswith(f"ray::{what}".encode())]


def what_a_round_left(services: Backend) -> dict[str, Any]:
    """Everything a project holds after a round but how long it took."""
    store, files = services.store, services.files(1)
    latest, model = store.latest_round(1), services.models.of(1)
    view = round_snapshot.load(files.folder)
    assert latest is not None
    assert model is not None
    assert view is not None
    return {
        "tasks": store.tasks(1),
        "embeddings": np.asarray(services.embeddings.read(1)).tobytes(),
        "round": replace(latest, seconds={}, finished_at=0.0),
        "queue": json.loads((files.folder / "queue.json").read_text()),
        "model": {name: part.tobytes() for name, part in model.state().items()},
        "confidence": view.confidence.tobytes(),
    }
