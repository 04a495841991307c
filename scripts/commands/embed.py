"""`everylabel embed`: embed a project's new crops and score its pool, on this machine or on a Ray cluster."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from everylabel.backend.embedding.executor import EngineError
from everylabel.backend.images.decode import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.services import Services
from everylabel.scripts.console import ProjectNumber, console, fail, load_settings, progress


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
    services = Services(load_settings())
    leave = None
    try:
        if engine is Engine.RAY:
            from everylabel.backend.embedding.ray_executor import RayEngine  # noqa: PLC0415 - an extra

            services.engine = on_ray = RayEngine(services, address, storage)
            leave = on_ray.close
        with progress() as report:
            finished = services.loop.catch_up(project, compare=True, progress=report)
    except (LabelStudioError, LabelConfigError, ImageError, EngineError) as error:
        fail(error)
    finally:
        if leave is not None:
            leave()
    counts = services.store.count_tasks(project)
    console.print(
        f"{counts['embedded']} of {sum(counts.values())} crops are embedded, {counts['unreadable']} cannot be read."
    )
    if finished is not None:
        console.print(f"{finished.record.model_version}, from {finished.record.n_labels} labels.")
