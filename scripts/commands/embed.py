"""`everylabel embed`: embed a project's new crops and score its pool, on this machine or on a Ray cluster."""

from __future__ import annotations

from contextlib import ExitStack, closing
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from everylabel.backend.bootstrap import MakeExecutor, build
from everylabel.backend.embedding.executor import ExecutorError
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.scripts.console import ProjectNumber, console, fail, load_settings, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from everylabel.backend.embedding.executor import Executor
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Store
    from everylabel.model.encoders import Encoder


class Engine(str, Enum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


def embed(
    project: ProjectNumber,
    engine: Annotated[Engine, typer.Option(help="`local`, or `ray` for a Ray cluster (the extra `ray`).")] = (
        Engine.LOCAL
    ),
    address: Annotated[
        str,
        typer.Option(
            help="Where the Ray cluster is: `auto` for the one this machine belongs to, `local` for one of its own, or "
            "`host:6379`."
        ),
    ] = "auto",
    storage: Annotated[
        str,
        typer.Option(
            help="A folder the whole cluster can read, as fsspec names it, such as `s3://bucket/everylabel`. Without it, "
            "`MODEL_DIR` must lie under the same name on every machine."
        ),
    ] = "",
) -> None:
    """Read a project, embed every crop that is not embedded yet, and run a round if one is due."""
    settings = load_settings()
    try:
        with ExitStack() as held:
            make_executor = _on_ray(address, storage, held) if engine is Engine.RAY else None
            backend = build(settings, make_executor=make_executor)
            report = held.enter_context(progress())
            finished = backend.loop.catch_up(project, compare=True, progress=report)
    except (LabelStudioError, LabelConfigError, ImageError, ExecutorError) as error:
        fail(error)
    counts = backend.store.count_tasks(project)
    console.print(
        f"{counts['embedded']} of {sum(counts.values())} crops are embedded, {counts['unreadable']} cannot be read."
    )
    if finished is not None:
        console.print(f"{finished.record.model_version}, from {finished.record.n_labels} labels.")


def _on_ray(address: str, storage: str, held: ExitStack) -> MakeExecutor:
    """Return what makes an executor on a Ray cluster; it leaves the cluster when `held` is closed."""
    from everylabel.backend.embedding.ray_executor import RayExecutor  # noqa: PLC0415 - an extra

    def make(settings: Settings, store: Store, encoder: Callable[[], Encoder]) -> Executor:
        return held.enter_context(closing(RayExecutor(settings, store, encoder, address, storage)))

    return make
