"""`everylabel embed`: embed a project's new crops and score its pool, on this machine or on a Ray cluster."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from everylabel.backend.bootstrap import MakeExecutor, build
from everylabel.backend.embedding.executor import ExecutorError
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, fail, progress
from everylabel.scripts.project_errors import exit_on_errors

if TYPE_CHECKING:
    from everylabel.backend.embedding.executor import Executor
    from everylabel.backend.settings import Settings


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster, and the folder that all of it can read (empty: `MODEL_DIR`)."""

    address: str
    storage: str


def run(project: int, cluster: RayCluster | None) -> None:
    """Embed what is new, on a cluster or on this machine, and say how many crops are embedded."""
    settings = load_settings()
    try:
        with ExitStack() as held:
            make_executor = None if cluster is None else _on_ray(cluster, held)
            backend = build(settings, make_executor=make_executor)
            with exit_on_errors(backend, project), progress() as report:
                finished = backend.loop.catch_up(project, compare=True, progress=report)
    except ExecutorError as error:
        fail(error)
    counts = backend.store.count_tasks(project)
    console.print(
        f"{counts['embedded']} of {sum(counts.values())} crops are embedded, {counts['unreadable']} cannot be read."
    )
    if finished is not None:
        console.print(f"{finished.record.model_version}, from {finished.record.n_labels} labels.")


def _on_ray(cluster: RayCluster, held: ExitStack) -> MakeExecutor:
    """Return what makes an executor on a Ray cluster; it leaves the cluster when `held` is closed."""
    from everylabel.backend.embedding.ray_executor import RayExecutor  # noqa: PLC0415 - an extra

    def make(settings: Settings) -> Executor:
        return held.enter_context(closing(RayExecutor(settings, cluster.address, cluster.storage)))

    return make
